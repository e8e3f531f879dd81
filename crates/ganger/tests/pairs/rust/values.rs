//! Messages.

use ganger::{
    Payload, Serialization, Value,
    channel::Received,
    value::{BigInt, Kind},
};
use serde_json::json;

use super::{Line, Side};

/// As JavaScript counts: two numbers are equal if they are the same `f64`.
fn texts() -> Vec<serde_json::Value> {
    let mut messages = vec![
        json!("é 日本 \u{1f600} \u{2028} \" \\ \n"),
        json!(""),
        json!(0),
        json!(-1.5),
        json!(9_007_199_254_740_990_u64),
        json!(1.5e300),
        json!(true),
        json!(false),
        json!(null),
        json!([]),
        json!({}),
        json!([1, [2, { "three": [null] }]]),
        json!({ "text": "x".repeat(200_000), "nested": { "cmd": "NODE_x" } }),
    ];
    messages.extend((0..300).map(|number| json!({ "number": number })));
    messages
}

async fn hear(line: &mut Line, expected: &serde_json::Value) {
    let (message, handle) = line.take().await.expect("a message");
    let same = message == *expected || message.as_f64().is_some_and(|it| Some(it) == expected.as_f64());
    assert!(same && handle.is_none(), "{message}, and not {expected}");
}

pub(super) async fn messages(side: Side, line: &mut Line) {
    let texts = texts();
    if side == Side::Parent {
        texts.iter().for_each(|text| line.say(text));
        line.hear("hello").await;
        for text in &texts {
            hear(line, text).await;
        }
    } else {
        line.say("hello");
        for text in &texts {
            hear(line, text).await;
            line.say(text);
        }
    }
}

async fn value(line: &mut Line) -> Value {
    match line.0.recv().await {
        Some(Received::Message(message)) => message.value().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// There and back.
pub(super) async fn back(side: Side, line: &mut Line, message: Value) {
    if side == Side::Parent {
        line.0.send_value(&message, None).unwrap();
    }
    assert_eq!(value(line).await, message);
    if side == Side::Child {
        line.0.send_value(&message, None).unwrap();
    }
}

/// `{ self: … }`, as V8 writes it: a cycle is nothing that one builds here.
const CIRCLE: &[u8] = b"\xff\x0fo\"\x04self^\0{\x01";

pub(super) async fn advanced(line: &mut Line) {
    let ours = Value::object([
        ("map", Value::map([("key", 1)])),
        ("big", BigInt::from(1_i128 << 70).into()),
        ("buffer", Value::buffer(b"bytes")),
        ("nothing", Value::undefined()),
        ("date", Value::date(1e12)),
    ]);
    let circle = Payload::advanced(CIRCLE);
    assert_eq!(circle.serialization(), Serialization::Advanced);
    // Each side says its own, and gives back the other's.
    line.0.send_value(&ours, None).unwrap();
    line.0.send_payload(&circle, None).unwrap();
    for gives_back in [true, false] {
        let one = value(line).await;
        assert_eq!(one, ours);
        assert!(matches!(one.get("nothing").unwrap().kind(), Kind::Undefined));
        let other = value(line).await;
        assert!(other.get("self").unwrap().is_same(other.root()));
        if gives_back {
            line.0.send_value(&one, None).unwrap();
            line.0.send_value(&other, None).unwrap();
        }
    }
}
