//! Objects: structs, maps, and what a variant is wrapped in.

use serde::{
    Serialize,
    ser::{SerializeMap, SerializeStruct, SerializeStructVariant},
};

use super::Writer;
use crate::{
    value::{JsString, ToValueError, array_index, key_of},
    wire::v8::tag,
};

/// An object that is being written.
pub(super) struct Object<'a> {
    pub(super) writer: &'a mut Writer,
    count: usize,
    /// Where the last key stands in JavaScript's order: array indices come first and ascend.
    rank: u64,
    in_variant: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(writer: &'a mut Writer) -> Self {
        writer.other().tag(tag::OBJECT);
        Self { writer, count: 0, rank: 0, in_variant: false }
    }

    /// It is the one member of another object, which ends with it.
    pub(super) fn in_variant(self) -> Self {
        Self { in_variant: true, ..self }
    }

    pub(super) fn key(&mut self, key: &str) {
        let index = array_index(key);
        self.ranked(index);
        match index {
            Some(index) => self.writer.out.number(index.into()),
            None => self.writer.out.text(key),
        };
    }

    fn js_key(&mut self, key: &JsString) {
        match key.as_str() {
            Some(key) => self.key(key),
            None => {
                self.ranked(None);
                self.writer.out.string(key);
            }
        }
    }

    fn ranked(&mut self, index: Option<u32>) {
        let rank = index.map_or(u64::MAX, u64::from);
        self.writer.out_of_order |= rank < self.rank;
        self.rank = rank;
        self.count += 1;
    }

    pub(super) fn finish(self) {
        self.writer.other().tag(tag::OBJECT_END).length(self.count);
        if self.in_variant {
            self.writer.end_variant();
        }
    }
}

impl Writer {
    /// The object around what a variant holds.
    pub(super) fn end_variant(&mut self) {
        self.out.tag(tag::OBJECT_END).length(1);
    }
}

impl SerializeMap for Object<'_> {
    type Ok = ();
    type Error = ToValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ToValueError> {
        self.js_key(&key_of(key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ToValueError> {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), ToValueError> {
        self.finish();
        Ok(())
    }
}

impl SerializeStruct for Object<'_> {
    type Ok = ();
    type Error = ToValueError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), ToValueError> {
        self.key(key);
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), ToValueError> {
        self.finish();
        Ok(())
    }
}

impl SerializeStructVariant for Object<'_> {
    type Ok = ();
    type Error = ToValueError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), ToValueError> {
        SerializeStruct::serialize_field(self, key, value)
    }

    fn end(self) -> Result<(), ToValueError> {
        self.finish();
        Ok(())
    }
}
