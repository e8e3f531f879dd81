//! Values as Rust's types, through serde.

mod access;

use std::{cell::Cell, fmt::Display};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use self::access::{Elements, Members, Named, Pairs, Variant};
use super::{JsString, Kind, Ref, Value, ViewKind, date, json, number};

/// How many values are looked at; eight bytes of text or of a buffer are another one. A few bytes of a peer can
/// name the same object again and again.
const MAX_STEPS: usize = 64 << 20;

/// A value of another shape than the type that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FromValueError(String);

/// Reads whatever serde knows out of a value, as `serde_json` does with the JSON that Node would have sent:
/// `undefined` and `null` are `None` or `()`, a property that is `undefined` is not there, a date is its ISO
/// text, and a `Map` or an object is a struct or map alike.
///
/// Where JSON has less than JavaScript: an integer may be a number or a bigint; a `Set` is a sequence; buffers
/// and views of bytes are bytes, and a sequence where one is asked for, typed arrays are sequences; a date is
/// its milliseconds where a number is asked for; an error has the fields `name`, `message`, `stack`, `cause`.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, FromValueError> {
    value.root().deserialize()
}

impl<'de> Ref<'de> {
    /// The twin of [`from_value`] for a part of a value, which may be borrowed from.
    pub fn deserialize<T: Deserialize<'de>>(self) -> Result<T, FromValueError> {
        let steps = Cell::new(0);
        T::deserialize(From { value: self, depth: 0, steps: &steps })
    }
}

impl Error for FromValueError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// A value on its way into a type.
#[derive(Clone, Copy)]
struct From<'de, 's> {
    value: Ref<'de>,
    depth: usize,
    steps: &'s Cell<usize>,
}

impl<'de, 's> From<'de, 's> {
    /// A value inside of this one.
    fn inner(self, value: Ref<'de>) -> Result<Self, FromValueError> {
        let depth = self.depth + 1;
        if depth > json::MAX_DEPTH {
            return Err(Error::custom("nested too deep, or in itself"));
        }
        let text = |string: Option<&JsString>| string.map_or(0, JsString::size) / 8;
        self.count(match value.kind() {
            Kind::String(string) | Kind::RegExp { source: string, .. } => 1 + text(Some(string)),
            Kind::ArrayBuffer { bytes, .. } | Kind::View { bytes, .. } => 1 + bytes.len() / 8,
            Kind::Error { message, stack, .. } => 1 + text(message) + text(stack),
            _ => 1 + value.properties_walked(),
        })?;
        Ok(Self { value, depth, ..self })
    }

    fn count(self, more: usize) -> Result<(), FromValueError> {
        let steps = self.steps.get() + more;
        if steps > MAX_STEPS {
            return Err(Error::custom("too long"));
        }
        self.steps.set(steps);
        Ok(())
    }

    fn elements(self) -> Result<Option<Elements<'de, 's>>, FromValueError> {
        if let Kind::View { kind, bytes } = self.value.kind() {
            return Ok(Some(Elements::of_view(self, kind, bytes)));
        }
        if let Kind::ArrayBuffer { bytes, .. } = self.value.kind() {
            return Ok(Some(Elements::of_view(self, ViewKind::Uint8, bytes)));
        }
        match self.value.elements() {
            None if matches!(self.value.kind(), Kind::Array { .. }) => {
                Err(Error::custom("an array of very many holes"))
            }
            elements => Ok(elements.map(|elements| Elements::of_values(self, elements))),
        }
    }
}

impl<'de> Deserializer<'de> for From<'de, '_> {
    type Error = FromValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        match self.value.kind() {
            Kind::Undefined | Kind::Null => visitor.visit_unit(),
            Kind::Bool(bool) => visitor.visit_bool(bool),
            Kind::Number(number) => visit_number(number, visitor),
            Kind::BigInt(_) => match self.value.as_i128() {
                Some(integer) => visit_integer(integer, visitor),
                None => visitor.visit_u128(self.value.as_u128().ok_or_else(too_large)?),
            },
            Kind::String(string) => match string.as_str() {
                Some(text) => visitor.visit_borrowed_str(text),
                None => Err(Error::custom("a string with a lone surrogate")),
            },
            Kind::Boxed(primitive) => self.inner(primitive)?.deserialize_any(visitor),
            Kind::Date(_) | Kind::RegExp { .. } => match self.value.to_text() {
                Some(text) => visitor.visit_string(text),
                None => visitor.visit_unit(),
            },
            Kind::Object => visitor.visit_map(Members::new(self)),
            Kind::Map => visitor.visit_map(Pairs::new(self)),
            Kind::Error { .. } => visitor.visit_map(Named::new(self)),
            Kind::ArrayBuffer { bytes, .. } => visitor.visit_borrowed_bytes(bytes),
            Kind::View { kind, bytes } if kind.is_bytes() => visitor.visit_borrowed_bytes(bytes),
            Kind::Array { .. } | Kind::Set | Kind::View { .. } => match self.elements()? {
                Some(elements) => visitor.visit_seq(elements),
                None => visitor.visit_unit(),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        match self.value.kind() {
            Kind::Undefined | Kind::Null => visitor.visit_none(),
            // As JSON has it: an invalid date is null.
            Kind::Date(milliseconds) if date::to_iso(milliseconds).is_none() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FromValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FromValueError> {
        if let Some(name) = self.value.as_str() {
            return visitor.visit_enum(IntoDeserializer::<FromValueError>::into_deserializer(name));
        }
        let mut entries = self.value.entries().into_iter().flatten();
        match (entries.next(), entries.next()) {
            (Some((name, value)), None) => visitor.visit_enum(Variant::new(name, self.inner(value)?)),
            _ => Err(Error::custom("a variant is its name or an object with one property")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        match self.elements()? {
            Some(elements) => visitor.visit_seq(elements),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, FromValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, FromValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        match self.value.as_i128() {
            Some(integer) => visitor.visit_i128(integer),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        match self.value.as_u128() {
            Some(integer) => visitor.visit_u128(integer),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        match self.value.kind() {
            Kind::Date(milliseconds) => visit_number(milliseconds, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 u8 u16 u32 char str string bytes byte_buf unit unit_struct map struct identifier
    }
}

/// An integer as one, so that it fits every type of number; the others as they are.
fn visit_number<'de, V: Visitor<'de>>(number: f64, visitor: V) -> Result<V::Value, FromValueError> {
    let integer = number as i64;
    let is_exact = integer.unsigned_abs() <= number::MAX_SAFE.unsigned_abs();
    if is_exact && (integer as f64).to_bits() == number.to_bits() {
        visit_integer(integer.into(), visitor)
    } else {
        visitor.visit_f64(number)
    }
}

fn visit_integer<'de, V: Visitor<'de>>(integer: i128, visitor: V) -> Result<V::Value, FromValueError> {
    match (u64::try_from(integer), i64::try_from(integer)) {
        (Ok(integer), _) => visitor.visit_u64(integer),
        (_, Ok(integer)) => visitor.visit_i64(integer),
        _ => visitor.visit_i128(integer),
    }
}

fn too_large() -> FromValueError {
    Error::custom("a bigint of more than 128 bits")
}

#[cfg(test)]
mod tests;
