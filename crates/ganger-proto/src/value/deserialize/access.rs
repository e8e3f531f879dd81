//! What is inside of arrays, objects, maps, errors and variants.

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::BorrowedStrDeserializer,
    },
};

use super::{From, FromValueError, visit_integer, visit_number};
use crate::value::{self, JsString, Kind, Ref, ViewKind, view};

/// The elements of an array, a set or a view.
pub(super) struct Elements<'de, 's> {
    of: From<'de, 's>,
    from: ElementsOf<'de>,
}

enum ElementsOf<'de> {
    Values(value::Elements<'de>),
    View(ViewKind, &'de [u8]),
}

impl<'de, 's> Elements<'de, 's> {
    pub(super) fn of_values(of: From<'de, 's>, values: value::Elements<'de>) -> Self {
        Self { of, from: ElementsOf::Values(values) }
    }

    pub(super) fn of_view(of: From<'de, 's>, kind: ViewKind, bytes: &'de [u8]) -> Self {
        Self { of, from: ElementsOf::View(kind, bytes) }
    }
}

impl<'de> SeqAccess<'de> for Elements<'de, '_> {
    type Error = FromValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, FromValueError> {
        match &mut self.from {
            ElementsOf::Values(values) => match values.next() {
                Some(value) => seed.deserialize(self.of.inner(value)?).map(Some),
                None => Ok(None),
            },
            ElementsOf::View(kind, bytes) => {
                let Some((element, rest)) = bytes.split_at_checked(kind.element_size()) else {
                    return Ok(None);
                };
                *bytes = rest;
                self.of.count(1)?;
                match view::elements(*kind, element).next() {
                    Some(view::Element::Number(number)) => seed.deserialize(Leaf::Number(number)).map(Some),
                    Some(view::Element::BigInt(integer)) => seed.deserialize(Leaf::BigInt(integer)).map(Some),
                    None => Ok(None),
                }
            }
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(match &self.from {
            ElementsOf::Values(values) => values.len(),
            ElementsOf::View(kind, bytes) => bytes.len() / kind.element_size(),
        })
    }
}

/// The properties of an object; what is `undefined` is not there.
pub(super) struct Members<'de, 's> {
    of: From<'de, 's>,
    entries: Option<value::Entries<'de>>,
    value: Option<Ref<'de>>,
}

impl<'de, 's> Members<'de, 's> {
    pub(super) fn new(of: From<'de, 's>) -> Self {
        Self { of, entries: of.value.entries(), value: None }
    }
}

impl<'de> MapAccess<'de> for Members<'de, '_> {
    type Error = FromValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, FromValueError> {
        for (key, value) in self.entries.iter_mut().flatten() {
            self.of.count(1 + key.size() / 8)?;
            if !value.is_undefined() {
                self.value = Some(value);
                return seed.deserialize(Key(text(key)?)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, FromValueError> {
        let value = self.value.take().ok_or_else(|| FromValueError::custom("a value without a key"))?;
        seed.deserialize(self.of.inner(value)?)
    }
}

/// The keys and values of a `Map`.
pub(super) struct Pairs<'de, 's> {
    of: From<'de, 's>,
    pairs: Option<value::Pairs<'de>>,
    value: Option<Ref<'de>>,
}

impl<'de, 's> Pairs<'de, 's> {
    pub(super) fn new(of: From<'de, 's>) -> Self {
        Self { of, pairs: of.value.pairs(), value: None }
    }
}

impl<'de> MapAccess<'de> for Pairs<'de, '_> {
    type Error = FromValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, FromValueError> {
        let Some((key, value)) = self.pairs.as_mut().and_then(Iterator::next) else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(self.of.inner(key)?).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, FromValueError> {
        let value = self.value.take().ok_or_else(|| FromValueError::custom("a value without a key"))?;
        seed.deserialize(self.of.inner(value)?)
    }
}

/// The fields of an error.
pub(super) struct Named<'de, 's> {
    of: From<'de, 's>,
    fields: std::vec::IntoIter<(&'static str, Field<'de>)>,
    value: Option<Field<'de>>,
}

enum Field<'de> {
    Text(&'de str),
    Value(Ref<'de>),
}

impl<'de, 's> Named<'de, 's> {
    pub(super) fn new(of: From<'de, 's>) -> Self {
        let mut fields = Vec::new();
        if let Kind::Error { kind, message, stack, cause } = of.value.kind() {
            fields.push(("name", Field::Text(kind.name())));
            let text = |string: Option<&'de JsString>| string.and_then(JsString::as_str).map(Field::Text);
            // An error always has a message, if only an empty one.
            fields.push(("message", text(message).unwrap_or(Field::Text(""))));
            fields.extend(text(stack).map(|stack| ("stack", stack)));
            fields.extend(cause.map(|cause| ("cause", Field::Value(cause))));
        }
        Self { of, fields: fields.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Named<'de, '_> {
    type Error = FromValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, FromValueError> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(BorrowedStrDeserializer::<FromValueError>::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, FromValueError> {
        match self.value.take() {
            Some(Field::Text(text)) => seed.deserialize(Leaf::Text(text)),
            Some(Field::Value(value)) => seed.deserialize(self.of.inner(value)?),
            None => Err(Error::custom("a value without a key")),
        }
    }
}

/// Something that is no value of its own: an element of a typed array, a field of an error.
enum Leaf<'de> {
    Number(f64),
    BigInt(i128),
    Text(&'de str),
}

impl<'de> Deserializer<'de> for Leaf<'de> {
    type Error = FromValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        match self {
            Self::Number(number) => visit_number(number, visitor),
            Self::BigInt(integer) => visit_integer(integer, visitor),
            Self::Text(text) => visitor.visit_borrowed_str(text),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FromValueError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A property's key: a text, and a number or boolean where one is asked for.
struct Key<'de>(&'de str);

impl<'de> Key<'de> {
    /// Lets the text be read as what it says, as `serde_json` does.
    fn parsed<V: Visitor<'de>, T: std::str::FromStr>(
        self,
        visitor: V,
        visit: impl FnOnce(V, T) -> Result<V::Value, FromValueError>,
    ) -> Result<V::Value, FromValueError> {
        match self.0.parse() {
            Ok(parsed) => visit(visitor, parsed),
            Err(_) => visitor.visit_borrowed_str(self.0),
        }
    }
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = FromValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_bool)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_i64)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_i64)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_i64)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_i64)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_u64)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_u64)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_u64)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        self.parsed(visitor, V::visit_u64)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FromValueError> {
        visitor.visit_some(self)
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
        visitor.visit_enum(IntoDeserializer::<FromValueError>::into_deserializer(self.0))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// A variant with something in it.
pub(super) struct Variant<'de, 's> {
    name: &'de JsString,
    value: From<'de, 's>,
}

impl<'de, 's> Variant<'de, 's> {
    pub(super) fn new(name: &'de JsString, value: From<'de, 's>) -> Self {
        Self { name, value }
    }
}

impl<'de> EnumAccess<'de> for Variant<'de, '_> {
    type Error = FromValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), FromValueError> {
        Ok((seed.deserialize(Key(text(self.name)?))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = FromValueError;

    fn unit_variant(self) -> Result<(), FromValueError> {
        if self.value.value.is_nullish() {
            Ok(())
        } else {
            Err(Error::custom("a variant without content has some"))
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, FromValueError> {
        seed.deserialize(self.value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, FromValueError> {
        self.value.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FromValueError> {
        self.value.deserialize_map(visitor)
    }
}

fn text(key: &JsString) -> Result<&str, FromValueError> {
    key.as_str().ok_or_else(|| Error::custom("a key with a lone surrogate"))
}
