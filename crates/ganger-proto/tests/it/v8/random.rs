//! Random values and random bytes.

use ganger_proto::{
    node::advanced,
    value::{BigInt, ErrorKind, JsString, Value, ViewKind, from_json, from_value, to_json, to_value},
    wire::{
        frames::{self, Frames},
        v8,
    },
};
use proptest::prelude::*;

use super::golden;

fn string() -> impl Strategy<Value = JsString> {
    prop_oneof![
        ".{0,12}".prop_map(JsString::from),
        "[a-zé0-9]{0,4}".prop_map(JsString::from),
        prop::collection::vec(any::<u16>(), 0..6).prop_map(|units| JsString::from_utf16(&units)),
    ]
}

/// Keys that are different.
fn keys() -> impl Strategy<Value = Vec<JsString>> {
    prop::collection::hash_set(string(), 0..5).prop_map(|keys| keys.into_iter().collect())
}

fn leaf() -> impl Strategy<Value = Value> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let kinds = [
        ViewKind::Int8,
        ViewKind::Uint8,
        ViewKind::Uint16,
        ViewKind::Float32,
        ViewKind::Float64,
        ViewKind::DataView,
        ViewKind::Buffer,
        ViewKind::BigUint64,
        ViewKind::Float16,
    ];
    prop_oneof![
        Just(Value::undefined()),
        Just(Value::null()),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (any::<bool>(), prop::collection::vec(any::<u64>(), 0..4))
            .prop_map(|(negative, digits)| BigInt::new(negative, &digits).into()),
        string().prop_map(Value::from),
        any::<f64>().prop_map(Value::date),
        any::<f64>().prop_map(Value::boxed),
        string().prop_map(Value::boxed),
        bytes().prop_map(Value::array_buffer),
        (prop::sample::select(kinds.to_vec()), bytes()).prop_map(|(kind, bytes)| Value::view(kind, bytes)),
        (string(), "s?")
            .prop_map(|(message, stack)| { Value::error(ErrorKind::Range, message).with_stack(stack) }),
        ("[a-z日]{0,4}", "g?i?y?").prop_map(|(source, flags)| Value::regexp(&source, &flags).unwrap()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 40, 5, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            list.clone().prop_map(Value::array),
            list.clone().prop_map(Value::set),
            (keys(), list.clone()).prop_map(|(keys, values)| Value::object(keys.into_iter().zip(values))),
            prop::collection::btree_map(0u32..20, inner.clone(), 0..4)
                .prop_map(|elements| Value::sparse_array(20, elements)),
            prop::collection::vec((inner.clone(), inner.clone()), 0..3).prop_map(Value::map),
            inner.prop_map(|cause| Value::error(ErrorKind::Error, "e").with_cause(cause)),
        ]
    })
}

/// Values that JSON has, as text.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (-(1i64 << 53) + 1..1 << 53).prop_map(Into::into),
        // JSON.stringify writes no minus zero.
        any::<f64>().prop_map(|number| (number + 0.0).into()),
        ".{0,12}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[a-zé\n\"]{0,6}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Looks at all that is there, in every way.
fn look(payload: &[u8]) {
    let _ = advanced::decode(payload);
    let Ok(value) = v8::read(payload) else { return };
    let written = v8::write(value.root());
    // What was read once is written so that it is read as the same.
    assert_eq!(v8::read(&written).as_ref(), Ok(&value));
    assert_eq!(v8::write(v8::read(&written).unwrap().root()), written);
    let _ = to_json(value.root());
    let _ = from_value::<serde_json::Value>(&value);
    let _ = format!("{value:?}");
}

proptest! {
    #[test]
    fn values_survive_the_wire(value in value()) {
        let written = v8::write(value.root());
        let read = v8::read(&written);
        prop_assert_eq!(read.as_ref(), Ok(&value));
        prop_assert_eq!(v8::write(read.unwrap().root()), written);
    }

    #[test]
    fn a_part_is_written_as_if_it_stood_alone(value in value()) {
        let around = Value::array([Value::object([("a", 1)]), value.clone()]);
        let part = v8::write(around.root().at(1).unwrap());
        prop_assert_eq!(v8::read(&part).unwrap(), value);
    }

    #[test]
    fn json_and_serde_agree(json in json()) {
        let value = from_json(&json.to_string()).unwrap();
        prop_assert_eq!(&to_value(&json).unwrap(), &value);
        prop_assert_eq!(&from_json(&to_json(value.root()).unwrap().unwrap()).unwrap(), &value);
        let back: serde_json::Value = from_value(&value).unwrap();
        prop_assert_eq!(to_value(&back).unwrap(), value);
    }

    #[test]
    fn frames_do_not_depend_on_chunks(payloads: Vec<Vec<u8>>, cuts: Vec<usize>) {
        let mut stream = Vec::new();
        for payload in &payloads {
            stream.extend_from_slice(&frames::prefix(payload).unwrap());
            stream.extend_from_slice(payload);
        }
        let mut rest = &stream[..];
        let mut framing = Frames::default();
        let mut found = Vec::new();
        for cut in cuts {
            let (chunk, more) = rest.split_at(cut % (rest.len() + 1));
            framing.feed(chunk, |payload| found.push(payload.to_vec())).unwrap();
            rest = more;
        }
        framing.feed(rest, |payload| found.push(payload.to_vec())).unwrap();
        prop_assert_eq!(framing.pending(), 0);
        prop_assert_eq!(found, payloads);
    }

    #[test]
    fn no_bytes_upset_the_reader(bytes: Vec<u8>) {
        look(&[b"\xff\x0f", &bytes[..]].concat());
        look(&bytes);
    }

    #[test]
    fn no_tags_upset_the_reader(tags in prop::collection::vec(
        prop::sample::select(&b"\0_0TFIUNZ\"cSo{A$-a@DxynzsR;:',B~Vr.mEc^\\?\x01\x02\x03\xff"[..]), 0..60
    )) {
        look(&[b"\xff\x0f", &tags[..]].concat());
    }

    #[test]
    fn what_node_wrote_may_be_damaged(
        which: prop::sample::Index, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end: prop::sample::Index,
    ) {
        let golden = golden();
        let mut payload = which.get(&golden).1.clone();
        for (place, byte) in changes {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        look(&payload);
        look(&payload[..end.index(payload.len())]);
    }
}

#[test]
fn every_beginning_of_what_node_wrote_is_an_error() {
    for (name, payload) in golden() {
        for end in 0..payload.len() {
            assert!(v8::read(&payload[..end]).is_err(), "{name}, {end}");
        }
    }
}

#[test]
fn no_depth_is_too_deep() {
    const LEVELS: usize = 200_000;
    let mut payload = b"\xff\x0f".to_vec();
    payload.extend_from_slice(&b"A\x01".repeat(LEVELS));
    payload.push(b'0');
    payload.extend_from_slice(&b"$\0\x01".repeat(LEVELS));
    let value = v8::read(&payload).unwrap();
    assert_eq!(v8::write(value.root()), payload);
    assert_eq!(value, value.clone());
    assert!(to_json(value.root()).is_err());
    assert!(from_value::<serde_json::Value>(&value).is_err());
}

/// None of it may recurse, nor take its time.
#[test]
fn no_repetition_is_too_long() {
    const TIMES: usize = 1_000_000;
    let counts = [b"\xff\x0fs", &b"?\x01".repeat(TIMES)[..], b"\"\x01a"].concat();
    assert_eq!(v8::read(&counts), Ok(Value::boxed("a")));
    let causes = [b"\xff\x0frc", &b"?\x01".repeat(TIMES)[..], b"0."].concat();
    assert!(v8::read(&causes).is_ok());
    // Host objects in one another are one object, by whichever of their numbers it is named.
    let mut hosts = [b"\xff\x0f", &b"\\\x01".repeat(TIMES)[..], b"A\xc0\x84\x3d"].concat();
    for number in 0..TIMES as u32 {
        hosts.push(b'^');
        hosts.extend((0..3).map(|group| (number >> (7 * group)) as u8 | if group < 2 { 0x80 } else { 0 }));
    }
    hosts.extend(b"$\0\xc0\x84\x3d");
    let value = v8::read(&hosts).unwrap();
    assert!(value.root().at(TIMES - 1).unwrap().is_same(value.root()));
}
