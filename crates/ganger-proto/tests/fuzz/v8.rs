//! V8's format, whatever stands in it.

use std::collections::BTreeMap;

use ganger_proto::{
    Payload,
    node::advanced::{self, Frame},
    value::{FromValueError, Value, from_json, from_value, to_json},
    wire::v8,
};

/// The data is a payload; without the version it would mostly not get past the first byte, so that may be absent.
pub(crate) fn check(data: &[u8]) {
    if data.first() != Some(&0xff) {
        look(&[b"\xff\x0f", data].concat());
    }
    look(data);
}

/// Reads a payload in every way, and writes it again.
fn look(payload: &[u8]) {
    match advanced::decode(payload) {
        Ok(Frame::User(same)) => assert_eq!(same, payload),
        Ok(Frame::Handle { kind: Ok(kind), message }) => {
            let again = advanced::handle(&kind, &message).expect("it was written by us");
            assert_eq!(advanced::decode(&again), Ok(Frame::Handle { kind: Ok(kind), message }));
        }
        Ok(Frame::Cluster(message)) => {
            // What a peer nests absurdly deep cannot be said again.
            let Ok(again) = advanced::cluster(&message) else { return };
            let Ok(Frame::Cluster(said)) = advanced::decode(&again) else { panic!("{again:?}") };
            assert_eq!(advanced::cluster(&said), Ok(again));
        }
        _ => {}
    }
    let Ok(value) = v8::read(payload) else {
        assert!(v8::read_up_to(payload, 10).is_err());
        return;
    };
    let written = v8::write(value.root());
    assert_eq!(
        v8::read(&written).as_ref(),
        Ok(&value),
        "what was read is written so that it is read as the same"
    );
    assert_eq!(v8::write(v8::read(&written).expect("it was just read").root()), written);
    if let Ok(few) = v8::read_up_to(payload, 10) {
        assert_eq!(few, value);
    }
    parse(&value);
    let _ = format!("{value:?}{:?}", value.root());
    if let Ok(Some(json)) = to_json(value.root()) {
        from_json(&json).expect("what is written as JSON is JSON");
        assert_eq!(Payload::advanced(payload).to_json().expect("it is written"), json);
    }
}

/// As types of Rust's, which mostly fit badly.
fn parse(value: &Value) {
    let any: Result<serde_json::Value, FromValueError> = from_value(value);
    let _ = any.map(|any| any.to_string());
    let _ = from_value::<BTreeMap<String, Option<Vec<u8>>>>(value);
    let _ = from_value::<Vec<(f64, Option<i128>)>>(value);
    let _ = from_value::<Result<String, u8>>(value);
    let _ = from_value::<()>(value);
}
