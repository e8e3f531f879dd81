//! Arrays: sequences and tuples.

use serde::{
    Serialize,
    ser::{Error, SerializeSeq, SerializeTuple, SerializeTupleStruct, SerializeTupleVariant},
};

use super::Writer;
use crate::{value::ToValueError, wire::v8::tag};

/// An array that is being written.
pub(super) struct Array<'a> {
    writer: &'a mut Writer,
    /// Where its length stands.
    at: usize,
    claimed: u32,
    count: usize,
    in_variant: bool,
}

impl<'a> Array<'a> {
    pub(super) fn begin(writer: &'a mut Writer, length: Option<usize>) -> Self {
        let claimed = length.and_then(|length| u32::try_from(length).ok()).unwrap_or(0);
        let out = writer.other().tag(tag::ARRAY);
        let at = out.len();
        out.varint(claimed);
        writer.begin_numbers();
        Self { writer, at, claimed, count: 0, in_variant: false }
    }

    /// It is the one member of an object, which ends with it.
    pub(super) fn in_variant(self) -> Self {
        Self { in_variant: true, ..self }
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.count += 1;
        value.serialize(&mut *self.writer)
    }

    fn finish(self) -> Result<(), ToValueError> {
        let too_long = |_| ToValueError::custom("an array of JavaScript has fewer than 2³² elements");
        let length = u32::try_from(self.count).map_err(too_long)?;
        self.writer.end_numbers();
        if length != self.claimed {
            // Whatever is aligned behind it may have moved.
            self.writer.out_of_order |= self.writer.out.set_varint(self.at, self.claimed, length);
        }
        self.writer.out.tag(tag::ARRAY_END).varint(0).varint(length);
        if self.in_variant {
            self.writer.end_variant();
        }
        Ok(())
    }
}

impl SerializeSeq for Array<'_> {
    type Ok = ();
    type Error = ToValueError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.push(value)
    }
    fn end(self) -> Result<(), ToValueError> {
        self.finish()
    }
}

impl SerializeTuple for Array<'_> {
    type Ok = ();
    type Error = ToValueError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.push(value)
    }
    fn end(self) -> Result<(), ToValueError> {
        self.finish()
    }
}

impl SerializeTupleStruct for Array<'_> {
    type Ok = ();
    type Error = ToValueError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.push(value)
    }
    fn end(self) -> Result<(), ToValueError> {
        self.finish()
    }
}

impl SerializeTupleVariant for Array<'_> {
    type Ok = ();
    type Error = ToValueError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        self.push(value)
    }
    fn end(self) -> Result<(), ToValueError> {
        self.finish()
    }
}
