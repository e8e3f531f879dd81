//! V8's format against what Node itself writes (`testdata/v8`).

use ganger_proto::{
    Value,
    value::Kind,
    wire::{
        frames::{self, Frames},
        v8,
    },
};

mod golden;
mod random;
mod serde;

/// What Node wrote, by name: payloads, without their length. `~` marks those that are written otherwise.
fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let text = include_str!("../../testdata/v8/golden.txt");
    let lines = text.lines().map(|line| line.split_once('\t').expect("a name, a tab, a frame"));
    lines.map(|(name, hex)| (name, payload(&unhex(hex)))).collect()
}

fn payload(frame: &[u8]) -> Vec<u8> {
    let mut payloads = Vec::new();
    Frames::default().feed(frame, |payload| payloads.push(payload.to_vec())).expect("it is short");
    let payload = payloads.pop().expect("a whole frame");
    assert_eq!(frames::prefix(&payload).expect("it is short"), frame[..4]);
    payload
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// The `v` of a golden value.
#[track_caller]
fn named(name: &str) -> Value {
    let (_, payload) = golden().into_iter().find(|(known, _)| *known == name).expect("a golden value");
    v8::read(&payload).expect("Node wrote it")
}

#[track_caller]
fn check(name: &str, kind: impl Fn(Kind<'_>) -> bool) {
    let value = named(name);
    let inner = value.get("v").expect("golden values are wrapped");
    assert!(kind(inner.kind()), "{name}: {:?}", inner.kind());
}
