//! Tags, numbers, strings and bytes, at the end of what is written.

use super::tag;
use crate::value::{BigInt, JsString, as_int32};

const ROOM: usize = 16;

#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
}

impl Output {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn number(&mut self, number: f64) -> &mut Self {
        match as_int32(number) {
            // Zigzag: 0, -1, 1, -2, …
            Some(integer) => self.tag(tag::INT32).varint((integer << 1 ^ integer >> 31) as u32),
            None => self.double(number),
        }
    }

    pub(super) fn double(&mut self, number: f64) -> &mut Self {
        self.tag(tag::DOUBLE).float(number)
    }

    pub(super) fn string(&mut self, string: &JsString) -> &mut Self {
        let Some(text) = string.as_str() else { return self.utf16(&string.to_utf16()) };
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
        let varint = (1..5).find(|bytes| length >> (7 * bytes) == 0).unwrap_or(5);
        if (self.bytes.len() + 1 + varint) % 2 == 1 {
            self.tag(tag::PADDING);
        }
        self.tag(tag::UTF16).length(length);
        self.bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        self
    }

    pub(super) fn bigint(&mut self, bigint: &BigInt) -> &mut Self {
        let digits = bigint.digits();
        self.length((digits.len() * 16) | usize::from(bigint.is_negative()));
        self.bytes.extend(digits.iter().flat_map(|digit| digit.to_le_bytes()));
        self
    }

    /// NaN has many forms; V8 writes one.
    pub(super) fn float(&mut self, number: f64) -> &mut Self {
        let number = if number.is_nan() { f64::NAN } else { number };
        self.raw(&number.to_le_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len()).raw(bytes)
    }

    /// What does not fit into 32 bits does not fit into a frame either.
    pub(super) fn length(&mut self, length: usize) -> &mut Self {
        self.varint(length as u32)
    }

    pub(super) fn varint(&mut self, mut number: u32) -> &mut Self {
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
        self
    }

    pub(super) fn tag(&mut self, tag: u8) -> &mut Self {
        self.bytes.push(tag);
        self
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        // With room for the little that mostly follows, and for the length before it: what is long moves once less.
        self.bytes.reserve(bytes.len() + ROOM);
        self.bytes.extend_from_slice(bytes);
        self
    }
}
