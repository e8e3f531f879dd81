//! Values that hold no other ones.

use super::{Reader, Wrong, input, tag};
use crate::value::{BigInt, Item, JsString, Slot, ViewKind, flag_text};

impl Reader<'_> {
    pub(super) fn leaf(&mut self, tag: u8) -> Result<Slot, Wrong> {
        Ok(match tag {
            tag::UNDEFINED => Slot::Undefined,
            tag::NULL => Slot::Null,
            tag::TRUE => Slot::Bool(true),
            tag::FALSE => Slot::Bool(false),
            tag::INT32 => Slot::Number(self.input.zigzag()?.into()),
            tag::UINT32 => Slot::Number(self.input.varint()?.into()),
            tag::DOUBLE => Slot::Number(self.input.double()?),
            tag::LATIN1 | tag::UTF8 | tag::UTF16 => Slot::String(self.string_of(tag)?),
            tag::BIGINT => self.bigint()?,
            tag::REFERENCE => self.reference()?,
            tag::DATE => {
                let milliseconds = self.input.double()?;
                self.heap.add(Item::Date(milliseconds))
            }
            tag::BOXED_TRUE => self.heap.add(Item::Boxed(Slot::Bool(true))),
            tag::BOXED_FALSE => self.heap.add(Item::Boxed(Slot::Bool(false))),
            tag::BOXED_NUMBER => {
                let number = self.input.double()?;
                self.heap.add(Item::Boxed(Slot::Number(number)))
            }
            tag::BOXED_BIGINT => {
                let bigint = self.bigint()?;
                self.heap.add(Item::Boxed(bigint))
            }
            tag::BOXED_STRING => {
                let string = self.string()?;
                self.heap.add(Item::Boxed(Slot::String(string)))
            }
            tag::REGEXP => self.regexp()?,
            tag::ARRAY_BUFFER => {
                let bytes = self.input.bytes()?.to_vec();
                self.heap.add(Item::ArrayBuffer(bytes))
            }
            tag::RESIZABLE => self.resizable()?,
            tag => return Err(Wrong::Tag(tag)),
        })
    }

    /// Where a string has to stand.
    pub(super) fn string(&mut self) -> Result<u32, Wrong> {
        self.skip_counts()?;
        let tag = self.input.tag()?;
        self.string_of(tag)
    }

    pub(super) fn string_of(&mut self, tag: u8) -> Result<u32, Wrong> {
        if !matches!(tag, tag::LATIN1 | tag::UTF8 | tag::UTF16) {
            return Err(Wrong::Tag(tag));
        }
        let bytes = self.input.bytes()?;
        let string = match tag {
            tag::LATIN1 => input::latin1(bytes),
            // V8 replaces what is not UTF-8.
            tag::UTF8 => String::from_utf8_lossy(bytes).into_owned().into(),
            _ if bytes.len() % 2 == 1 => return Err(Wrong::HalfUnit),
            _ => {
                let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
                JsString::from_utf16(&units.collect::<Vec<_>>())
            }
        };
        Ok(self.heap.add_string(string))
    }

    /// A view, if V8's own tag of one follows its buffer.
    pub(super) fn window(&mut self, slot: Slot) -> Result<Slot, Wrong> {
        let Slot::Object(buffer) = slot else { return Ok(slot) };
        let (size, resizable) = match self.heap.item(buffer) {
            Item::ArrayBuffer(bytes) => (bytes.len(), false),
            Item::Resizable { bytes, .. } => (bytes.len(), true),
            _ => return Ok(slot),
        };
        if !self.input.skip(tag::WINDOW) {
            return Ok(slot);
        }
        let tag = self.input.byte()?;
        let kind = tag::window_kind(tag).ok_or(Wrong::ViewKind(tag.into()))?;
        let (offset, length) = (self.input.varint()?, self.input.varint()?);
        // Version 13 does not say whether the view follows the buffer's length.
        let flags = if self.version >= 14 { self.input.varint()? & 3 } else { 0 };
        let (start, element) = (offset as usize, kind.element_size());
        let inside = start <= size && length as usize <= size - start;
        let aligned = start.is_multiple_of(element) && (length as usize).is_multiple_of(element);
        // Bit 0: it follows the length. Bit 1: it can.
        if !inside || !aligned || resizable != (flags & 2 != 0) || flags == 1 {
            return Err(Wrong::View);
        }
        Ok(self.heap.add(Item::Window { kind, buffer, offset, length, flags }))
    }

    /// Node's view: a host object with bytes of its own.
    pub(super) fn view(&mut self) -> Result<Slot, Wrong> {
        let number = self.input.varint()?;
        let kind = ViewKind::ALL.get(number as usize).copied().ok_or(Wrong::ViewKind(number))?;
        let bytes = self.input.bytes()?;
        // Node leaves out half an element too.
        let whole = bytes.len() - bytes.len() % kind.element_size();
        Ok(self.heap.add(Item::View { kind, bytes: bytes[..whole].to_vec() }))
    }

    fn reference(&mut self) -> Result<Slot, Wrong> {
        let claimed = self.input.varint()?;
        let mut number = claimed;
        loop {
            match self.heap.items.get(number as usize) {
                // An alias points further on, or to what is no alias.
                Some(Item::Alias(inner)) => number = *inner,
                Some(_) => break,
                None => return Err(Wrong::Reference(claimed)),
            }
        }
        // A long way is gone once.
        let mut passed = claimed;
        while let Some(Item::Alias(inner)) = self.heap.items.get_mut(passed as usize) {
            passed = std::mem::replace(inner, number);
        }
        Ok(Slot::Object(number))
    }

    /// Bit 0 is the sign, the others are the length in bytes.
    fn bigint(&mut self) -> Result<Slot, Wrong> {
        let bits = self.input.varint()?;
        let bytes = self.input.take((bits >> 1) as usize)?;
        Ok(self.heap.add_bigint(BigInt::from_bytes(bits & 1 == 1, bytes)))
    }

    fn regexp(&mut self) -> Result<Slot, Wrong> {
        let (source, flags) = (self.string()?, self.input.varint()?);
        match flag_text(flags) {
            Some(text) if !(text.contains('u') && text.contains('v')) => {
                Ok(self.heap.add(Item::RegExp { source, flags }))
            }
            _ => Err(Wrong::Flags(flags)),
        }
    }

    fn resizable(&mut self) -> Result<Slot, Wrong> {
        let (length, max) = (self.input.varint()?, self.input.varint()?);
        if length > max {
            return Err(Wrong::Resizable);
        }
        let bytes = self.input.take(length as usize)?.to_vec();
        Ok(self.heap.add(Item::Resizable { bytes, max }))
    }
}
