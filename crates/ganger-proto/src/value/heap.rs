//! Where the objects of a value lie. A value names them by number, so the same object may stand in several
//! places, itself included; and however deep they are nested, dropping them is a loop.

use std::borrow::Cow;

use super::{BigInt, ErrorKind, JsString, ViewKind};

/// The objects, strings and bigints of one value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heap {
    pub(crate) items: Vec<Item>,
    pub(crate) strings: Vec<JsString>,
    pub(crate) bigints: Vec<BigInt>,
}

/// A value at its place: itself if it is small, its number in the [`Heap`] otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// No element at all; only while an array is being read.
    Hole,
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    BigInt(u32),
    String(u32),
    Object(u32),
}

/// An object. Properties stand as key, value, key, value; a key is always a [`Slot::String`].
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Object(Vec<Slot>),
    /// The first `length` slots are the elements, then come the other properties.
    Array {
        length: u32,
        slots: Vec<Slot>,
    },
    /// An array with holes; the elements that it has are properties.
    Sparse {
        length: u32,
        properties: Vec<Slot>,
    },
    /// Key, value, key, value.
    Map(Vec<Slot>),
    Set(Vec<Slot>),
    Date(f64),
    /// A primitive as an object: `new String("s")`.
    Boxed(Slot),
    RegExp {
        source: u32,
        flags: u32,
    },
    ArrayBuffer(Vec<u8>),
    /// An `ArrayBuffer` that can be resized, up to `max` bytes.
    Resizable {
        bytes: Vec<u8>,
        max: u32,
    },
    /// A view of bytes that are nobody else's: what Node sends.
    View {
        kind: ViewKind,
        bytes: Vec<u8>,
    },
    /// A view of an `ArrayBuffer` that others may see too. Invariant: it lies inside.
    Window {
        kind: ViewKind,
        buffer: u32,
        offset: u32,
        length: u32,
        flags: u32,
    },
    Error(Box<ErrorItem>),
    /// The same object as another one: V8 counts what Node wraps twice.
    Alias(u32),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ErrorItem {
    pub(crate) kind: ErrorKind,
    pub(crate) message: Option<u32>,
    pub(crate) stack: Option<u32>,
    pub(crate) cause: Option<Slot>,
}

impl Heap {
    pub(crate) fn add(&mut self, item: Item) -> Slot {
        let number = index(self.items.len());
        self.items.push(item);
        Slot::Object(number)
    }

    pub(crate) fn add_string(&mut self, string: impl Into<JsString>) -> u32 {
        let number = index(self.strings.len());
        self.strings.push(string.into());
        number
    }

    pub(crate) fn add_bigint(&mut self, bigint: BigInt) -> Slot {
        let number = index(self.bigints.len());
        self.bigints.push(bigint);
        Slot::BigInt(number)
    }

    pub(crate) fn item(&self, number: u32) -> &Item {
        &self.items[number as usize]
    }

    pub(crate) fn string(&self, number: u32) -> &JsString {
        &self.strings[number as usize]
    }

    pub(crate) fn bigint(&self, number: u32) -> &BigInt {
        &self.bigints[number as usize]
    }

    /// The key in a slot where a key stands.
    pub(crate) fn key(&self, slot: Slot) -> &JsString {
        match slot {
            Slot::String(number) => self.string(number),
            _ => unreachable!("a key is a string"),
        }
    }

    /// Properties in JavaScript's order: array indices come first and ascend.
    pub(crate) fn in_order<'a>(&self, properties: &'a [Slot]) -> Cow<'a, [Slot]> {
        let rank = |pair: &[Slot]| self.key(pair[0]).as_index().map_or(u64::MAX, u64::from);
        let pairs = || properties.chunks_exact(2);
        if pairs().is_sorted_by_key(rank) {
            return Cow::Borrowed(properties);
        }
        let mut pairs: Vec<&[Slot]> = pairs().collect();
        pairs.sort_by_key(|pair| rank(pair));
        Cow::Owned(pairs.concat())
    }

    /// The bytes of a view or buffer.
    pub(crate) fn bytes<'a>(&'a self, item: &'a Item) -> Option<&'a [u8]> {
        match *item {
            Item::ArrayBuffer(ref bytes)
            | Item::Resizable { ref bytes, .. }
            | Item::View { ref bytes, .. } => Some(bytes),
            Item::Window { buffer, offset, length, .. } => match self.item(buffer) {
                Item::ArrayBuffer(bytes) | Item::Resizable { bytes, .. } => {
                    bytes.get(offset as usize..)?.get(..length as usize)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes another heap in and gives what stood in its slot.
    pub(crate) fn graft(&mut self, other: Heap, slot: Slot) -> Slot {
        if self.items.is_empty() && self.strings.is_empty() && self.bigints.is_empty() {
            *self = other;
            return slot;
        }
        let by = Shift {
            items: index(self.items.len()),
            strings: index(self.strings.len()),
            bigints: index(self.bigints.len()),
        };
        self.items.extend(other.items.into_iter().map(|item| by.item(item)));
        self.strings.extend(other.strings);
        self.bigints.extend(other.bigints);
        by.slot(slot)
    }
}

/// By how much the numbers of a heap grow when it is taken into another.
struct Shift {
    items: u32,
    strings: u32,
    bigints: u32,
}

impl Shift {
    fn slot(&self, slot: Slot) -> Slot {
        match slot {
            Slot::BigInt(number) => Slot::BigInt(number + self.bigints),
            Slot::String(number) => Slot::String(number + self.strings),
            Slot::Object(number) => Slot::Object(number + self.items),
            small => small,
        }
    }

    fn item(&self, mut item: Item) -> Item {
        match &mut item {
            Item::Object(slots)
            | Item::Array { slots, .. }
            | Item::Sparse { properties: slots, .. }
            | Item::Map(slots)
            | Item::Set(slots) => {
                for slot in slots {
                    *slot = self.slot(*slot);
                }
            }
            Item::Boxed(slot) => *slot = self.slot(*slot),
            Item::RegExp { source, .. } => *source += self.strings,
            Item::Window { buffer, .. } => *buffer += self.items,
            Item::Error(error) => {
                error.message = error.message.map(|number| number + self.strings);
                error.stack = error.stack.map(|number| number + self.strings);
                error.cause = error.cause.map(|slot| self.slot(slot));
            }
            Item::Alias(number) => *number += self.items,
            Item::Date(_) | Item::ArrayBuffer(_) | Item::Resizable { .. } | Item::View { .. } => {}
        }
        item
    }
}

/// A place in a table. A frame is shorter than 4 GiB, and so is whatever fits into one.
fn index(length: usize) -> u32 {
    u32::try_from(length).expect("fewer than four thousand million objects")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_two_words_and_an_item_four() {
        assert_eq!(size_of::<Slot>(), 16);
        assert_eq!(size_of::<Item>(), 32);
    }
}
