//! Tags, numbers, strings and bytes, at the end of what is written.

use super::tag;
use crate::value::{BigInt, JsString, ViewKind, as_int32};

const ROOM: usize = 16;

#[derive(Default)]
pub(in crate::wire::v8) struct Output {
    bytes: Vec<u8>,
}

impl Output {
    pub(in crate::wire::v8) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(in crate::wire::v8) fn number(&mut self, number: f64) -> &mut Self {
        match as_int32(number) {
            // Zigzag: 0, -1, 1, -2, …
            Some(integer) => self.tag(tag::INT32).varint((integer << 1 ^ integer >> 31) as u32),
            None => self.double(number),
        }
    }

    pub(in crate::wire::v8) fn double(&mut self, number: f64) -> &mut Self {
        self.tag(tag::DOUBLE).float(number)
    }

    pub(in crate::wire::v8) fn string(&mut self, string: &JsString) -> &mut Self {
        match string.as_str() {
            Some(text) => self.text(text),
            None => self.utf16(&string.to_utf16()),
        }
    }

    pub(in crate::wire::v8) fn text(&mut self, text: &str) -> &mut Self {
        if text.is_ascii() {
            self.tag(tag::LATIN1).bytes(text.as_bytes())
        } else if text.chars().all(|char| u32::from(char) <= 0xff) {
            self.tag(tag::LATIN1).length(text.chars().count());
            self.bytes.extend(text.chars().map(|char| u32::from(char) as u8));
            self
        } else {
            self.utf16(&text.encode_utf16().collect::<Vec<_>>())
        }
    }

    /// The units lie at an even place.
    fn utf16(&mut self, units: &[u16]) -> &mut Self {
        let length = units.len() * 2;
        if (self.bytes.len() + 1 + width(length)) % 2 == 1 {
            self.tag(tag::PADDING);
        }
        self.tag(tag::UTF16).length(length);
        self.bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        self
    }

    /// Node's view: a host object with bytes of its own.
    pub(in crate::wire::v8) fn view(&mut self, kind: ViewKind, bytes: &[u8]) -> &mut Self {
        self.tag(tag::HOST).varint(tag::HOST_VIEW).varint(kind as u32).bytes(bytes)
    }

    pub(in crate::wire::v8) fn bigint(&mut self, bigint: &BigInt) -> &mut Self {
        let digits = bigint.digits();
        self.length((digits.len() * 16) | usize::from(bigint.is_negative()));
        self.bytes.extend(digits.iter().flat_map(|digit| digit.to_le_bytes()));
        self
    }

    /// NaN has many forms; V8 writes one.
    pub(in crate::wire::v8) fn float(&mut self, number: f64) -> &mut Self {
        let number = if number.is_nan() { f64::NAN } else { number };
        self.raw(&number.to_le_bytes())
    }

    pub(in crate::wire::v8) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len()).raw(bytes)
    }

    /// What does not fit into 32 bits does not fit into a frame either.
    pub(in crate::wire::v8) fn length(&mut self, length: usize) -> &mut Self {
        self.varint(length as u32)
    }

    pub(in crate::wire::v8) fn varint(&mut self, mut number: u32) -> &mut Self {
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
        self
    }

    /// Writes another number where one stands. True if what follows it has moved.
    pub(in crate::wire::v8) fn set_varint(&mut self, at: usize, old: u32, new: u32) -> bool {
        let mut number = Self::default();
        number.varint(new);
        let (old, new) = (width(old as usize), number.bytes.len());
        self.bytes.splice(at..at + old, number.bytes);
        old != new
    }

    pub(in crate::wire::v8) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::wire::v8) fn tag(&mut self, tag: u8) -> &mut Self {
        self.bytes.push(tag);
        self
    }

    pub(in crate::wire::v8) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        // With room for the little that mostly follows, and for the length before it: what is long moves once less.
        self.bytes.reserve(bytes.len() + ROOM);
        self.bytes.extend_from_slice(bytes);
        self
    }
}

/// How many bytes a length takes.
fn width(length: usize) -> usize {
    (1..5).find(|bytes| length >> (7 * bytes) == 0).unwrap_or(5)
}
