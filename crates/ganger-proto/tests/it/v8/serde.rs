//! Rust's types are written as by way of the value that they are.

use std::collections::BTreeMap;

use ganger_proto::{
    value::to_value,
    wire::v8::{self, to_bytes},
};
use proptest::prelude::*;
use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// Whatever a type can say to a serializer.
#[derive(Clone, Debug)]
enum Any {
    Bool(bool),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    I128(i128),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    U128(u128),
    F32(f32),
    F64(f64),
    Char(char),
    Str(String),
    Bytes(Vec<u8>),
    None,
    Some(Box<Any>),
    Unit,
    UnitStruct,
    UnitVariant(&'static str),
    NewtypeStruct(Box<Any>),
    NewtypeVariant(&'static str, Box<Any>),
    /// What it says of its length, and what it has.
    Seq(Option<usize>, Vec<Any>),
    Tuple(Vec<Any>),
    TupleStruct(Vec<Any>),
    TupleVariant(&'static str, Vec<Any>),
    Map(Vec<(Any, Any)>),
    Struct(Vec<(&'static str, Any)>),
    StructVariant(&'static str, Vec<(&'static str, Any)>),
}

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(bool) => to.serialize_bool(*bool),
            Self::I8(number) => to.serialize_i8(*number),
            Self::I16(number) => to.serialize_i16(*number),
            Self::I32(number) => to.serialize_i32(*number),
            Self::I64(number) => to.serialize_i64(*number),
            Self::I128(number) => to.serialize_i128(*number),
            Self::U8(number) => to.serialize_u8(*number),
            Self::U16(number) => to.serialize_u16(*number),
            Self::U32(number) => to.serialize_u32(*number),
            Self::U64(number) => to.serialize_u64(*number),
            Self::U128(number) => to.serialize_u128(*number),
            Self::F32(number) => to.serialize_f32(*number),
            Self::F64(number) => to.serialize_f64(*number),
            Self::Char(char) => to.serialize_char(*char),
            Self::Str(text) => to.serialize_str(text),
            Self::Bytes(bytes) => to.serialize_bytes(bytes),
            Self::None => to.serialize_none(),
            Self::Some(inner) => to.serialize_some(&**inner),
            Self::Unit => to.serialize_unit(),
            Self::UnitStruct => to.serialize_unit_struct("T"),
            Self::UnitVariant(variant) => to.serialize_unit_variant("T", 0, variant),
            Self::NewtypeStruct(inner) => to.serialize_newtype_struct("T", &**inner),
            Self::NewtypeVariant(variant, inner) => to.serialize_newtype_variant("T", 0, variant, &**inner),
            Self::Seq(length, elements) => {
                let mut seq = to.serialize_seq(*length)?;
                elements.iter().try_for_each(|element| seq.serialize_element(element))?;
                seq.end()
            }
            Self::Tuple(elements) => {
                let mut tuple = to.serialize_tuple(elements.len())?;
                elements.iter().try_for_each(|element| tuple.serialize_element(element))?;
                tuple.end()
            }
            Self::TupleStruct(elements) => {
                let mut tuple = to.serialize_tuple_struct("T", elements.len())?;
                elements.iter().try_for_each(|element| tuple.serialize_field(element))?;
                tuple.end()
            }
            Self::TupleVariant(variant, elements) => {
                let mut tuple = to.serialize_tuple_variant("T", 0, variant, elements.len())?;
                elements.iter().try_for_each(|element| tuple.serialize_field(element))?;
                tuple.end()
            }
            Self::Map(entries) => {
                let mut map = to.serialize_map(None)?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
            Self::Struct(fields) => {
                let mut object = to.serialize_struct("T", fields.len())?;
                fields.iter().try_for_each(|(key, value)| object.serialize_field(key, value))?;
                object.end()
            }
            Self::StructVariant(variant, fields) => {
                let mut object = to.serialize_struct_variant("T", 0, variant, fields.len())?;
                fields.iter().try_for_each(|(key, value)| object.serialize_field(key, value))?;
                object.end()
            }
        }
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "B", "10", "9", "0", "07", "é", "日本", "a long name"])
}

fn number() -> impl Strategy<Value = Any> {
    prop_oneof![
        any::<i8>().prop_map(Any::I8),
        any::<i16>().prop_map(Any::I16),
        any::<i32>().prop_map(Any::I32),
        any::<i64>().prop_map(Any::I64),
        any::<i128>().prop_map(Any::I128),
        any::<u8>().prop_map(Any::U8),
        any::<u16>().prop_map(Any::U16),
        any::<u32>().prop_map(Any::U32),
        any::<u64>().prop_map(Any::U64),
        any::<u128>().prop_map(Any::U128),
        any::<f32>().prop_map(Any::F32),
        any::<f64>().prop_map(Any::F64),
        (-1i64 << 54..1 << 54).prop_map(Any::I64),
    ]
}

fn leaf() -> impl Strategy<Value = Any> {
    prop_oneof![
        4 => number(),
        3 => "[a-z]{0,5}|[a-zé]{0,5}|.{0,5}".prop_map(Any::Str),
        1 => any::<bool>().prop_map(Any::Bool),
        1 => any::<char>().prop_map(Any::Char),
        1 => any::<Vec<u8>>().prop_map(Any::Bytes),
        1 => prop::sample::select(vec![Any::None, Any::Unit, Any::UnitStruct]),
        1 => name().prop_map(Any::UnitVariant),
    ]
}

/// Mostly what may be a key.
fn key() -> impl Strategy<Value = Any> {
    prop_oneof![
        4 => (0u32..20).prop_map(Any::U32),
        4 => name().prop_map(|name| Any::Str(name.into())),
        1 => leaf(),
        1 => leaf().prop_map(|inner| Any::Some(inner.into())),
    ]
}

fn any_value() -> impl Strategy<Value = Any> {
    leaf().prop_recursive(4, 60, 6, |inner| {
        let list = || prop::collection::vec(inner.clone(), 0..5);
        let numbers = || prop::collection::vec(number(), 0..150);
        let fields = || prop::collection::vec((name(), inner.clone()), 0..5);
        prop_oneof![
            inner.clone().prop_map(|inner| Any::Some(inner.into())),
            inner.clone().prop_map(|inner| Any::NewtypeStruct(inner.into())),
            (name(), inner.clone()).prop_map(|(name, inner)| Any::NewtypeVariant(name, inner.into())),
            list().prop_map(|list| Any::Seq(Some(list.len()), list)),
            numbers().prop_map(|list| Any::Seq(Some(list.len()), list)),
            (any::<Option<u8>>(), list()).prop_map(|(length, list)| Any::Seq(length.map(usize::from), list)),
            (any::<Option<u8>>(), numbers())
                .prop_map(|(length, list)| Any::Seq(length.map(usize::from), list)),
            list().prop_map(Any::Tuple),
            list().prop_map(Any::TupleStruct),
            (name(), list()).prop_map(|(name, list)| Any::TupleVariant(name, list)),
            prop::collection::vec((key(), inner.clone()), 0..4).prop_map(Any::Map),
            fields().prop_map(Any::Struct),
            (name(), fields()).prop_map(|(name, fields)| Any::StructVariant(name, fields)),
        ]
    })
}

fn by_way_of_a_value(value: &impl Serialize) -> Result<Vec<u8>, String> {
    to_value(value).map(|value| v8::write(value.root())).map_err(|error| error.to_string())
}

proptest! {
    #[test]
    fn rusts_types_are_written_as_the_values_that_they_are(value in any_value()) {
        prop_assert_eq!(to_bytes(&value).map_err(|error| error.to_string()), by_way_of_a_value(&value));
    }
}

#[test]
fn what_moves_is_aligned_anew() {
    // Units of two bytes lie at even places, wherever a key or a length puts them.
    let one = |key: &str| BTreeMap::from([(key.to_owned(), "日")]);
    let many: Vec<_> = (0..200).map(|number| one(&number.to_string())).collect();
    let unsorted: BTreeMap<String, _> = (8..12).map(|number| (number.to_string(), "日本")).collect();
    for value in [
        Any::Seq(None, (0..200).map(|_| Any::Str("日".into())).collect()),
        Any::Seq(Some(1 << 20), vec![Any::Str("日".into())]),
    ] {
        assert_eq!(to_bytes(&value).unwrap(), by_way_of_a_value(&value).unwrap());
    }
    assert_eq!(to_bytes(&many).unwrap(), by_way_of_a_value(&many).unwrap());
    assert_eq!(to_bytes(&unsorted).unwrap(), by_way_of_a_value(&unsorted).unwrap());
}
