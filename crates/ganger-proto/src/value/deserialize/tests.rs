use std::collections::{BTreeMap, HashMap};

use serde::{
    Serialize,
    de::{MapAccess, SeqAccess},
};

use super::*;
use crate::value::{BigInt, ErrorKind, Item, JsString, to_value};

/// Both ways; and what it looks like as JSON.
#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, json: &str) {
    let made = to_value(value).unwrap();
    assert_eq!(json::to_json(made.root()).unwrap().as_deref(), Some(json));
    assert_eq!(from_value::<T>(&made).as_ref(), Ok(value));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct All {
    flag: bool,
    small: i8,
    large: u64,
    float: f32,
    char: char,
    text: String,
    none: Option<u8>,
    some: Option<String>,
    unit: (),
    list: Vec<i64>,
    pair: (u8, String),
    map: BTreeMap<u16, bool>,
    newtype: Newtype,
    #[serde(default)]
    shapes: Vec<Shape>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(u8, u8),
    Struct { a: u8 },
}

#[test]
fn types_have_the_shapes_that_serde_json_gives_them() {
    let all = All {
        flag: true,
        small: -1,
        large: 1 << 40,
        float: 1.5,
        char: 'é',
        text: "t".into(),
        none: None,
        some: Some("s".into()),
        unit: (),
        list: vec![1, -2],
        pair: (1, "p".into()),
        map: [(2, true), (10, false)].into(),
        newtype: Newtype(7),
        shapes: vec![Shape::Unit, Shape::Newtype(1), Shape::Tuple(1, 2), Shape::Struct { a: 3 }],
    };
    check(&all, &serde_json::to_string(&all).unwrap());
}

#[test]
fn integers_beyond_the_numbers_are_bigints() {
    let largest = number::MAX_SAFE;
    assert!(matches!(to_value(&largest).unwrap().kind(), Kind::Number(_)));
    for number in [i128::from(largest) + 1, -i128::from(largest) - 1, i128::MIN, i128::MAX] {
        let made = to_value(&number).unwrap();
        assert!(matches!(made.kind(), Kind::BigInt(_)));
        assert_eq!(from_value(&made), Ok(number));
        assert_eq!(from_value::<u64>(&made).ok(), u64::try_from(number).ok());
    }
    assert_eq!(from_value(&to_value(&u128::MAX).unwrap()), Ok(u128::MAX));
    assert_eq!(from_value(&to_value(&u64::MAX).unwrap()), Ok(u64::MAX));
    assert_eq!(from_value(&Value::from(BigInt::from(5u64))), Ok(5u8));
    assert!(from_value::<u8>(&Value::from(256)).is_err());
    assert!(from_value::<u8>(&Value::from(1.5)).is_err());
    assert_eq!(from_value(&Value::from(3)), Ok(3.0));
}

#[test]
fn what_is_undefined_is_not_there() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Optional {
        a: Option<u8>,
        #[serde(default)]
        b: u8,
    }
    let value = Value::object([("a", Value::undefined()), ("b", Value::undefined())]);
    assert_eq!(from_value(&value), Ok(Optional { a: None, b: 0 }));
    assert_eq!(from_value(&value), Ok(HashMap::<String, u8>::new()));
    assert_eq!(from_value(&Value::undefined()), Ok(()));
    assert_eq!(from_value(&Value::sparse_array(3, [(1, 7)])), Ok(vec![None, Some(7), None]));
}

#[test]
fn what_json_does_not_have() {
    assert_eq!(from_value(&Value::date(1.0)), Ok("1970-01-01T00:00:00.001Z".to_owned()));
    assert_eq!(from_value(&Value::date(1.0)), Ok(1.0));
    assert_eq!(from_value(&Value::date(1.0)), Ok(1i64));
    assert_eq!(from_value(&Value::date(f64::NAN)), Ok(None::<String>));
    assert_eq!(from_value(&Value::map([("a", 1)])), Ok(HashMap::from([("a".to_owned(), 1)])));
    assert_eq!(from_value(&Value::map([(1, 2)])), Ok(HashMap::from([(1, 2)])));
    assert_eq!(from_value(&Value::set([1, 2])), Ok(vec![1, 2]));
    assert_eq!(from_value(&Value::buffer([1, 2])), Ok(vec![1u8, 2]));
    assert_eq!(Value::buffer([1, 2]).root().deserialize(), Ok(&[1u8, 2][..]));
    assert_eq!(from_value(&Value::view(ViewKind::Int16, [255, 255])), Ok(vec![-1]));
    assert_eq!(from_value(&Value::view(ViewKind::BigInt64, [255; 8])), Ok(vec![-1]));
    assert_eq!(from_value(&Value::boxed(true)), Ok(true));
    assert_eq!(from_value(&Value::regexp("a", "g").unwrap()), Ok("/a/g".to_owned()));
    assert!(from_value::<String>(&JsString::from_utf16(&[0xd800]).into()).is_err());
}

#[test]
fn an_error_has_fields() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Thrown {
        name: String,
        message: Option<String>,
        stack: Option<String>,
    }
    let expected = Thrown { name: "TypeError".into(), message: Some("bad".into()), stack: None };
    assert_eq!(from_value(&Value::error(ErrorKind::Type, "bad")), Ok(expected));
}

#[test]
fn bytes_are_a_buffer() {
    struct Bytes;
    impl Serialize for Bytes {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(b"hi")
        }
    }
    assert_eq!(to_value(&Bytes), Ok(Value::buffer(b"hi")));
}

#[test]
fn an_object_in_itself_ends() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Nested(Vec<Nested>);
    let mut cyclic = Value::array([0]);
    let crate::value::Item::Array { slots, .. } = &mut cyclic.heap.items[0] else { unreachable!() };
    slots[0] = crate::value::Slot::Object(0);
    let refused = from_value::<Nested>(&cyclic).unwrap_err();
    assert!(refused.to_string().contains("in itself"), "{refused}");
}

/// Goes through everything and keeps nothing.
#[derive(Debug)]
struct Drained;

impl<'de> Deserialize<'de> for Drained {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Drained {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_borrowed_str<E>(self, _: &'de str) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(Self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(Self)
    }
}

#[test]
fn few_objects_do_not_become_many() {
    const TIMES: usize = 50_000;
    let absent = (0..TIMES).map(|n| (format!("k{n}"), Value::undefined()));
    for mut value in [
        Value::view(ViewKind::Int16, vec![0; 2 * TIMES]),
        Value::object([("text", "x".repeat(8 * TIMES))]),
        Value::object([("x".repeat(8 * TIMES), 1)]),
        Value::object(absent),
    ] {
        let inner = value.root;
        value.root = value.heap.add(Item::Array { length: TIMES as u32, slots: vec![inner; TIMES] });
        assert_eq!(from_value::<Drained>(&value).unwrap_err().to_string(), "too long");
    }
}
