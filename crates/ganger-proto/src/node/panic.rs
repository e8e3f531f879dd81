//! What a worker of ours says when something in it failed that nobody caught. Node's primary ignores it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Field, Fields, object::Object};

/// The message's `cmd`.
pub(super) const CMD: &str = "NODE_GANGER_PANIC";

/// The longest message, in bytes; what is longer is cut.
const MESSAGE: usize = 4 << 10;
/// The same of a place.
const PLACE: usize = 1 << 10;
/// The same of a backtrace.
const BACKTRACE: usize = 32 << 10;

/// A failure that nobody caught: a panic, an exception, an error that a worker's function returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Panic {
    /// What it said, up to 4 KiB.
    pub message: String,
    /// Where it was, as `file:line:column`; none for an error that was returned. Up to 1 KiB.
    pub place: Option<String>,
    /// How it came there, a line a frame or two, if that is known. Up to 32 KiB, from the inside out.
    pub backtrace: Option<String>,
}

impl Panic {
    /// A failure with these words, cut to what a message may hold.
    pub fn new(message: &str, place: Option<&str>, backtrace: Option<&str>) -> Self {
        Self {
            message: cut(message, MESSAGE).into(),
            place: place.map(|place| cut(place, PLACE).into()),
            backtrace: backtrace.map(|backtrace| cut(backtrace, BACKTRACE).into()),
        }
    }

    /// Whether it is the same failure, told again with its backtrace or without.
    pub fn is_same(&self, other: &Self) -> bool {
        self.message == other.message && self.place == other.place
    }

    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let text = |field| fields.text(field).unwrap_or_default();
        let some = |field| fields.text(field).filter(|text| !text.is_empty());
        let (place, backtrace) = (some(Field::Place), some(Field::Backtrace));
        Self::new(&text(Field::Message), place.as_deref(), backtrace.as_ref().map(Cow::as_ref))
    }

    /// Appends it as JSON, without the newline.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::new(out);
        object.text("cmd", CMD).text("message", &self.message);
        if let Some(place) = &self.place {
            object.text("place", place);
        }
        if let Some(backtrace) = &self.backtrace {
            object.text("backtrace", backtrace);
        }
        object.end();
    }
}

/// The beginning of a text, whole characters of it.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Line, decode};

    #[test]
    fn it_is_read_as_it_was_written() {
        for panic in [
            Panic::new("boom \"x\"\n\u{1}", Some("src/main.rs:1:2"), Some("0: a\n1: b")),
            Panic::new("", None, None),
        ] {
            let mut out = Vec::new();
            panic.write(&mut out);
            assert_eq!(decode(std::str::from_utf8(&out).unwrap()).unwrap(), Line::Panic(panic));
        }
    }

    #[test]
    fn what_is_no_text_is_nothing_and_what_is_long_is_cut() {
        let read = |line: &str| match decode(line).unwrap() {
            Line::Panic(panic) => panic,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            read(r#"{"cmd":"NODE_GANGER_PANIC","message":7,"place":{},"backtrace":""}"#),
            Panic::new("", None, None)
        );
        let long = "ä".repeat(100_000);
        let panic = read(&format!(r#"{{"cmd":"NODE_GANGER_PANIC","message":"{long}","place":"x{long}"}}"#));
        assert_eq!(panic.message.len(), MESSAGE);
        assert_eq!(panic.place.unwrap().len(), PLACE - 1);
    }
}
