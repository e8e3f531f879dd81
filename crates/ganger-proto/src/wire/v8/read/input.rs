//! The bytes of a payload, from the front.

use super::{Wrong, tag};
use crate::value::JsString;

pub(super) struct Input<'a> {
    bytes: &'a [u8],
    /// How long the payload was.
    length: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, length: bytes.len() }
    }

    pub(super) fn offset(&self) -> usize {
        self.length - self.bytes.len()
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn byte(&mut self) -> Result<u8, Wrong> {
        let (byte, rest) = self.bytes.split_first().ok_or(Wrong::TooShort)?;
        self.bytes = rest;
        Ok(*byte)
    }

    /// The next tag; padding may stand before any.
    pub(super) fn tag(&mut self) -> Result<u8, Wrong> {
        loop {
            match self.byte()? {
                tag::PADDING => {}
                tag => return Ok(tag),
            }
        }
    }

    /// Goes past this tag if it is the next.
    pub(super) fn skip(&mut self, tag: u8) -> bool {
        let padding = self.bytes.iter().take_while(|byte| **byte == tag::PADDING).count();
        self.bytes = &self.bytes[padding..];
        let found = self.bytes.first() == Some(&tag);
        self.bytes = &self.bytes[usize::from(found)..];
        found
    }

    /// Bits above the 32nd are dropped, as by V8.
    pub(super) fn varint(&mut self) -> Result<u32, Wrong> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number as u32);
            }
        }
        Err(Wrong::Number)
    }

    pub(super) fn zigzag(&mut self) -> Result<i32, Wrong> {
        let number = self.varint()?;
        Ok((number >> 1) as i32 ^ -((number & 1) as i32))
    }

    pub(super) fn double(&mut self) -> Result<f64, Wrong> {
        let (bytes, rest) = self.bytes.split_first_chunk().ok_or(Wrong::TooShort)?;
        self.bytes = rest;
        Ok(f64::from_le_bytes(*bytes))
    }

    /// A length, and that many bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Wrong> {
        let length = self.varint()?;
        self.take(length as usize)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Wrong> {
        let (bytes, rest) = self.bytes.split_at_checked(length).ok_or(Wrong::TooShort)?;
        self.bytes = rest;
        Ok(bytes)
    }
}

/// Latin-1 has the first 256 characters of Unicode.
pub(super) fn latin1(bytes: &[u8]) -> JsString {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => text.into(),
        _ => bytes.iter().copied().map(char::from).collect::<String>().into(),
    }
}
