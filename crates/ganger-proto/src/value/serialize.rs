//! Rust's types as values, through serde.

use std::fmt::Display;

use serde::{
    Serialize, Serializer,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::{Heap, Item, JsString, Ref, Slot, Value, ViewKind};

/// A Rust value that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ToValueError(String);

/// Makes a value of whatever serde knows, in the same shapes as `serde_json`: structs and maps become objects
/// (keys are strings, numbers, booleans or unit variants), sequences and tuples arrays, `None` and `()` become
/// `null`, an enum's variant its name or an object with that one property.
///
/// Where JSON has less than JavaScript: bytes (`serialize_bytes`) become a `Buffer`; integers beyond
/// ±(2⁵³ - 1), which a number would round, become bigints; NaN and the infinities stay what they are.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, ToValueError> {
    let mut heap = Heap::default();
    let root = value.serialize(&mut heap)?;
    Ok(Value { root, heap })
}

impl Error for ToValueError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'a> Serializer for &'a mut Heap {
    type Ok = Slot;
    type Error = ToValueError;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    fn serialize_bool(self, bool: bool) -> Result<Slot, ToValueError> {
        Ok(Slot::Bool(bool))
    }

    fn serialize_i8(self, number: i8) -> Result<Slot, ToValueError> {
        Ok(Slot::Number(number.into()))
    }

    fn serialize_i16(self, number: i16) -> Result<Slot, ToValueError> {
        Ok(Slot::Number(number.into()))
    }

    fn serialize_i32(self, number: i32) -> Result<Slot, ToValueError> {
        Ok(Slot::Number(number.into()))
    }

    fn serialize_i64(self, number: i64) -> Result<Slot, ToValueError> {
        Ok(self.take(number.into()))
    }

    fn serialize_i128(self, number: i128) -> Result<Slot, ToValueError> {
        Ok(self.take(number.into()))
    }

    fn serialize_u8(self, number: u8) -> Result<Slot, ToValueError> {
        Ok(Slot::Number(number.into()))
    }

    fn serialize_u16(self, number: u16) -> Result<Slot, ToValueError> {
        Ok(Slot::Number(number.into()))
    }

    fn serialize_u32(self, number: u32) -> Result<Slot, ToValueError> {
        Ok(Slot::Number(number.into()))
    }

    fn serialize_u64(self, number: u64) -> Result<Slot, ToValueError> {
        Ok(self.take(number.into()))
    }

    fn serialize_u128(self, number: u128) -> Result<Slot, ToValueError> {
        match i128::try_from(number) {
            Ok(number) => self.serialize_i128(number),
            Err(_) => Ok(self.add_bigint(number.into())),
        }
    }

    fn serialize_f32(self, number: f32) -> Result<Slot, ToValueError> {
        Ok(Slot::Number(number.into()))
    }

    fn serialize_f64(self, number: f64) -> Result<Slot, ToValueError> {
        Ok(Slot::Number(number))
    }

    fn serialize_char(self, char: char) -> Result<Slot, ToValueError> {
        self.serialize_str(char.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<Slot, ToValueError> {
        Ok(Slot::String(self.add_string(text)))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Slot, ToValueError> {
        Ok(self.add(Item::View { kind: ViewKind::Buffer, bytes: bytes.to_vec() }))
    }

    fn serialize_none(self) -> Result<Slot, ToValueError> {
        Ok(Slot::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Slot, ToValueError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Slot, ToValueError> {
        Ok(Slot::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Slot, ToValueError> {
        Ok(Slot::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Slot, ToValueError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Slot, ToValueError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Slot, ToValueError> {
        let value = value.serialize(&mut *self)?;
        Ok(self.variant(variant, value))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<List<'a>, ToValueError> {
        Ok(List { heap: self, slots: Vec::with_capacity(length.unwrap_or(0)), variant: None })
    }

    fn serialize_tuple(self, length: usize) -> Result<List<'a>, ToValueError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<List<'a>, ToValueError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<List<'a>, ToValueError> {
        Ok(List { heap: self, slots: Vec::with_capacity(length), variant: Some(variant) })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Members<'a>, ToValueError> {
        Ok(Members { heap: self, slots: Vec::with_capacity(length.unwrap_or(0) * 2), variant: None })
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Members<'a>, ToValueError> {
        self.serialize_map(Some(length))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Members<'a>, ToValueError> {
        Ok(Members { heap: self, slots: Vec::with_capacity(length * 2), variant: Some(variant) })
    }
}

impl Heap {
    fn variant(&mut self, name: &str, value: Slot) -> Slot {
        let name = Slot::String(self.add_string(name));
        self.add(Item::Object(vec![name, value]))
    }

    /// Adds an object, inside of a variant if it is one's.
    fn finish(&mut self, item: Item, variant: Option<&str>) -> Slot {
        let slot = self.add(item);
        match variant {
            Some(variant) => self.variant(variant, slot),
            None => slot,
        }
    }
}

/// A key of an object: strings, and what has a text.
pub(crate) fn key_of<T: Serialize + ?Sized>(key: &T) -> Result<JsString, ToValueError> {
    let mut heap = Heap::default();
    match key.serialize(&mut heap)? {
        Slot::String(number) => Ok(heap.strings.swap_remove(number as usize)),
        slot @ (Slot::Bool(_) | Slot::Number(_) | Slot::BigInt(_)) => {
            let text = Ref::new(&heap, slot).to_text();
            text.map(JsString::from).ok_or_else(|| ToValueError("a key out of range".into()))
        }
        _ => Err(ToValueError("a key has to be a string".into())),
    }
}

/// An array that is being made.
#[derive(Debug)]
pub(crate) struct List<'a> {
    heap: &'a mut Heap,
    slots: Vec<Slot>,
    variant: Option<&'static str>,
}

impl List<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        let slot = value.serialize(&mut *self.heap)?;
        self.slots.push(slot);
        Ok(())
    }

    fn finish(self) -> Result<Slot, ToValueError> {
        let too_long = |_| ToValueError("an array of JavaScript has fewer than 2³² elements".into());
        let length = u32::try_from(self.slots.len()).map_err(too_long)?;
        Ok(self.heap.finish(Item::Array { length, slots: self.slots }, self.variant))
    }
}

impl SerializeSeq for List<'_> {
    type Ok = Slot;
    type Error = ToValueError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.push(value)
    }
    fn end(self) -> Result<Slot, ToValueError> {
        self.finish()
    }
}

impl SerializeTuple for List<'_> {
    type Ok = Slot;
    type Error = ToValueError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.push(value)
    }
    fn end(self) -> Result<Slot, ToValueError> {
        self.finish()
    }
}

impl SerializeTupleStruct for List<'_> {
    type Ok = Slot;
    type Error = ToValueError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.push(value)
    }
    fn end(self) -> Result<Slot, ToValueError> {
        self.finish()
    }
}

impl SerializeTupleVariant for List<'_> {
    type Ok = Slot;
    type Error = ToValueError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.push(value)
    }
    fn end(self) -> Result<Slot, ToValueError> {
        self.finish()
    }
}

/// An object that is being made.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    heap: &'a mut Heap,
    slots: Vec<Slot>,
    variant: Option<&'static str>,
}

impl Members<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), ToValueError> {
        let key = Slot::String(self.heap.add_string(key));
        let value = value.serialize(&mut *self.heap)?;
        self.slots.extend([key, value]);
        Ok(())
    }

    fn finish(self) -> Slot {
        self.heap.finish(Item::Object(self.slots), self.variant)
    }
}

impl SerializeMap for Members<'_> {
    type Ok = Slot;
    type Error = ToValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ToValueError> {
        let key = self.heap.add_string(key_of(key)?);
        self.slots.push(Slot::String(key));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        let slot = value.serialize(&mut *self.heap)?;
        self.slots.push(slot);
        Ok(())
    }

    fn end(self) -> Result<Slot, ToValueError> {
        Ok(self.finish())
    }
}

impl SerializeStruct for Members<'_> {
    type Ok = Slot;
    type Error = ToValueError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), ToValueError> {
        self.field(key, value)
    }
    fn end(self) -> Result<Slot, ToValueError> {
        Ok(self.finish())
    }
}

impl SerializeStructVariant for Members<'_> {
    type Ok = Slot;
    type Error = ToValueError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), ToValueError> {
        self.field(key, value)
    }
    fn end(self) -> Result<Slot, ToValueError> {
        Ok(self.finish())
    }
}
