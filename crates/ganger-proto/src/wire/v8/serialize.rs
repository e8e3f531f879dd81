//! Rust's types in V8's format, through serde and without a [`Value`](crate::Value) between.
//!
//! What is written is what [`write`](super::write) writes for [`to_value`](crate::value::to_value). Two things about an
//! array or object are known only when it is over: whether all elements are numbers, one of them no integer of 32 bits,
//! and whether the keys came in JavaScript's order. Numbers are therefore held back for as long as an array has nothing
//! else. A key out of order, and a length that turns out to be of another size, are rare: they are left as they are, and
//! all is read and written once more at the end.

mod array;
mod object;

use serde::{Serialize, Serializer, ser::Error};

use array::Array;
use object::Object;

use super::{
    VERSION, read, tag,
    write::{self, Output},
};
use crate::value::{BigInt, MAX_SAFE, ToValueError, ViewKind, as_int32};

/// Writes whatever serde knows, in the shapes of [`to_value`](crate::value::to_value).
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ToValueError> {
    let mut writer = Writer::default();
    writer.out.tag(tag::VERSION).varint(VERSION);
    value.serialize(&mut writer)?;
    let bytes = writer.out.into_bytes();
    if !writer.out_of_order {
        return Ok(bytes);
    }
    let value = read(&bytes).map_err(ToValueError::custom)?;
    Ok(write::write(value.root()))
}

#[derive(Default)]
struct Writer {
    out: Output,
    /// The innermost array has had nothing but numbers so far: these.
    only_numbers: bool,
    numbers: Vec<f64>,
    /// Something is not where V8 would write it.
    out_of_order: bool,
}

impl Writer {
    fn begin_numbers(&mut self) {
        self.only_numbers = true;
    }

    /// An array has ended.
    fn end_numbers(&mut self) {
        let doubles = self.numbers.iter().any(|number| as_int32(*number).is_none());
        self.write_numbers(doubles);
    }

    /// What comes next is no number.
    fn other(&mut self) -> &mut Output {
        self.write_numbers(false);
        &mut self.out
    }

    fn write_numbers(&mut self, doubles: bool) {
        self.only_numbers = false;
        for number in self.numbers.drain(..) {
            if doubles {
                self.out.double(number)
            } else {
                self.out.number(number)
            };
        }
    }

    fn number(&mut self, number: f64) {
        if self.only_numbers {
            self.numbers.push(number);
        } else {
            self.out.number(number);
        }
    }

    fn integer(&mut self, integer: i128) {
        if integer.unsigned_abs() <= MAX_SAFE.unsigned_abs().into() {
            self.number(integer as f64);
        } else {
            self.bigint(integer);
        }
    }

    fn bigint(&mut self, integer: impl Into<BigInt>) {
        self.other().tag(tag::BIGINT).bigint(&integer.into());
    }

    fn variant(&mut self, name: &'static str) -> Object<'_> {
        let mut object = Object::begin(self);
        object.key(name);
        object
    }
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = ToValueError;
    type SerializeSeq = Array<'a>;
    type SerializeTuple = Array<'a>;
    type SerializeTupleStruct = Array<'a>;
    type SerializeTupleVariant = Array<'a>;
    type SerializeMap = Object<'a>;
    type SerializeStruct = Object<'a>;
    type SerializeStructVariant = Object<'a>;

    fn serialize_bool(self, bool: bool) -> Result<(), ToValueError> {
        self.other().tag(if bool { tag::TRUE } else { tag::FALSE });
        Ok(())
    }

    fn serialize_i8(self, number: i8) -> Result<(), ToValueError> {
        self.serialize_f64(number.into())
    }

    fn serialize_i16(self, number: i16) -> Result<(), ToValueError> {
        self.serialize_f64(number.into())
    }

    fn serialize_i32(self, number: i32) -> Result<(), ToValueError> {
        self.serialize_f64(number.into())
    }

    fn serialize_i64(self, number: i64) -> Result<(), ToValueError> {
        self.serialize_i128(number.into())
    }

    fn serialize_i128(self, number: i128) -> Result<(), ToValueError> {
        self.integer(number);
        Ok(())
    }

    fn serialize_u8(self, number: u8) -> Result<(), ToValueError> {
        self.serialize_f64(number.into())
    }

    fn serialize_u16(self, number: u16) -> Result<(), ToValueError> {
        self.serialize_f64(number.into())
    }

    fn serialize_u32(self, number: u32) -> Result<(), ToValueError> {
        self.serialize_f64(number.into())
    }

    fn serialize_u64(self, number: u64) -> Result<(), ToValueError> {
        self.serialize_i128(number.into())
    }

    fn serialize_u128(self, number: u128) -> Result<(), ToValueError> {
        match i128::try_from(number) {
            Ok(number) => self.integer(number),
            Err(_) => self.bigint(number),
        }
        Ok(())
    }

    fn serialize_f32(self, number: f32) -> Result<(), ToValueError> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), ToValueError> {
        self.number(number);
        Ok(())
    }

    fn serialize_char(self, char: char) -> Result<(), ToValueError> {
        self.serialize_str(char.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), ToValueError> {
        self.other().text(text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), ToValueError> {
        self.other().view(ViewKind::Buffer, bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), ToValueError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), ToValueError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), ToValueError> {
        self.other().tag(tag::NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), ToValueError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), ToValueError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), ToValueError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), ToValueError> {
        let object = self.variant(variant);
        value.serialize(&mut *object.writer)?;
        object.finish();
        Ok(())
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Array<'a>, ToValueError> {
        Ok(Array::begin(self, length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Array<'a>, ToValueError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Array<'a>, ToValueError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Array<'a>, ToValueError> {
        let object = self.variant(variant);
        Ok(Array::begin(object.writer, Some(length)).in_variant())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Object<'a>, ToValueError> {
        Ok(Object::begin(self))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object<'a>, ToValueError> {
        Ok(Object::begin(self))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Object<'a>, ToValueError> {
        let object = self.variant(variant);
        Ok(Object::begin(object.writer).in_variant())
    }
}
