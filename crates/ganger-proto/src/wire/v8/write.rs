//! A value as Node would write it. Nested objects stand on a stack of our own, so no depth is too deep.

mod output;

use std::borrow::Cow;

pub(super) use output::Output;

use super::{VERSION, tag};
use crate::value::{ErrorItem, Heap, Item, Ref, Slot, as_int32};

/// Writes a value: a payload, without the length before it.
pub fn write(value: Ref<'_>) -> Vec<u8> {
    let heap = value.heap;
    let mut writer = Writer { out: Output::default(), heap, numbers: Vec::new(), next: 0, open: Vec::new() };
    writer.out.tag(tag::VERSION).varint(VERSION);
    writer.slot(value.slot);
    while let Some(open) = writer.open.last_mut() {
        let Some(slot) = open.slots.get(open.at).copied() else {
            writer.close();
            continue;
        };
        let is_key = open.at >= open.keys && (open.at - open.keys).is_multiple_of(2);
        let doubles = open.doubles && open.at < open.keys;
        open.at += 1;
        match slot {
            Slot::String(key) if is_key => writer.key(key),
            Slot::Number(number) if doubles => _ = writer.out.double(number),
            _ => writer.slot(slot),
        }
    }
    writer.out.into_bytes()
}

struct Writer<'a> {
    out: Output,
    heap: &'a Heap,
    /// Which number an object has on the wire, once it is written. Empty until there is an object.
    numbers: Vec<Option<u32>>,
    next: u32,
    /// The objects that are being written, innermost last.
    open: Vec<Open<'a>>,
}

/// An object whose slots are being written.
struct Open<'a> {
    slots: Cow<'a, [Slot]>,
    /// The next one.
    at: usize,
    /// From here on keys and values take turns.
    keys: usize,
    /// Before that all numbers are written as doubles.
    doubles: bool,
    end: End,
}

/// What closes an object.
enum End {
    /// A tag and the number of properties or members.
    Count(u8, usize),
    /// The same, and the array's length.
    Array(u8, usize, u32),
    Error,
}

impl<'a> Writer<'a> {
    fn slot(&mut self, slot: Slot) {
        let out = &mut self.out;
        match slot {
            Slot::Hole | Slot::Undefined => _ = out.tag(tag::UNDEFINED),
            Slot::Null => _ = out.tag(tag::NULL),
            Slot::Bool(true) => _ = out.tag(tag::TRUE),
            Slot::Bool(false) => _ = out.tag(tag::FALSE),
            Slot::Number(number) => _ = out.number(number),
            Slot::BigInt(number) => _ = out.tag(tag::BIGINT).bigint(self.heap.bigint(number)),
            Slot::String(number) => _ = out.string(self.heap.string(number)),
            Slot::Object(number) => self.object(number),
        }
    }

    fn object(&mut self, number: u32) {
        let item = match self.heap.item(number) {
            Item::Alias(number) => return self.object(*number),
            item => item,
        };
        if self.is_written(number) {
            return;
        }
        // V8 counts and writes the buffer before its view.
        if let Item::Window { buffer, .. } = item {
            self.object(*buffer);
        }
        self.numbers[number as usize] = Some(self.next);
        self.next += 1;
        let out = &mut self.out;
        match item {
            Item::Object(slots) => {
                out.tag(tag::OBJECT);
                self.open(self.heap.in_order(slots), 0, End::Count(tag::OBJECT_END, slots.len() / 2));
            }
            Item::Array { length, slots } => self.array(*length, slots),
            Item::Sparse { length, properties } => {
                out.tag(tag::SPARSE).varint(*length);
                let end = End::Array(tag::SPARSE_END, properties.len() / 2, *length);
                self.open(self.heap.in_order(properties), 0, end);
            }
            Item::Map(slots) => {
                out.tag(tag::MAP);
                self.open(slots.into(), usize::MAX, End::Count(tag::MAP_END, slots.len()));
            }
            Item::Set(slots) => {
                out.tag(tag::SET);
                self.open(slots.into(), usize::MAX, End::Count(tag::SET_END, slots.len()));
            }
            Item::Error(error) => self.error(error),
            leaf => self.leaf(leaf),
        }
    }

    fn leaf(&mut self, item: &Item) {
        let out = &mut self.out;
        match item {
            Item::Date(milliseconds) => out.tag(tag::DATE).float(*milliseconds),
            Item::Boxed(Slot::Bool(true)) => out.tag(tag::BOXED_TRUE),
            Item::Boxed(Slot::Number(number)) => out.tag(tag::BOXED_NUMBER).float(*number),
            Item::Boxed(Slot::BigInt(number)) => out.tag(tag::BOXED_BIGINT).bigint(self.heap.bigint(*number)),
            Item::Boxed(Slot::String(number)) => out.tag(tag::BOXED_STRING).string(self.heap.string(*number)),
            Item::Boxed(_) => out.tag(tag::BOXED_FALSE),
            Item::RegExp { source, flags } => {
                out.tag(tag::REGEXP).string(self.heap.string(*source)).varint(*flags)
            }
            Item::ArrayBuffer(bytes) => out.tag(tag::ARRAY_BUFFER).bytes(bytes),
            Item::Resizable { bytes, max } => {
                out.tag(tag::RESIZABLE).length(bytes.len()).varint(*max).raw(bytes)
            }
            Item::View { kind, bytes } => out.view(*kind, bytes),
            Item::Window { kind, offset, length, flags, .. } => out
                .tag(tag::WINDOW)
                .tag(tag::window_tag(*kind))
                .varint(*offset)
                .varint(*length)
                .varint(*flags),
            _ => unreachable!("the others hold values"),
        };
    }

    /// Writes a reference if the object is written already.
    fn is_written(&mut self, number: u32) -> bool {
        if self.numbers.is_empty() {
            self.numbers = vec![None; self.heap.items.len()];
        }
        let written = self.numbers[number as usize];
        if let Some(id) = written {
            self.out.tag(tag::REFERENCE).varint(id);
        }
        written.is_some()
    }

    /// V8 keeps an array of numbers that are not all small integers as doubles, and writes it so.
    fn array(&mut self, length: u32, slots: &'a [Slot]) {
        self.out.tag(tag::ARRAY).varint(length);
        let (elements, extra) = slots.split_at(length as usize);
        let doubles = elements.iter().all(|slot| matches!(slot, Slot::Number(_)))
            && elements
                .iter()
                .any(|slot| matches!(slot, Slot::Number(number) if as_int32(*number).is_none()));
        self.open.push(Open {
            slots: slots.into(),
            at: 0,
            keys: elements.len(),
            doubles,
            end: End::Array(tag::ARRAY_END, extra.len() / 2, length),
        });
    }

    /// The cause comes last, as from Node 22 on; all read it in either place.
    fn error(&mut self, error: &'a ErrorItem) {
        self.out.tag(tag::ERROR);
        if let Some(class) = tag::error_class(error.kind) {
            self.out.tag(class);
        }
        if let Some(message) = error.message {
            self.out.tag(tag::ERROR_MESSAGE).string(self.heap.string(message));
        }
        if let Some(stack) = error.stack {
            self.out.tag(tag::ERROR_STACK).string(self.heap.string(stack));
        }
        if error.cause.is_some() {
            self.out.tag(tag::ERROR_CAUSE);
        }
        self.open(error.cause.as_slice().into(), usize::MAX, End::Error);
    }

    fn open(&mut self, slots: Cow<'a, [Slot]>, keys: usize, end: End) {
        self.open.push(Open { slots, at: 0, keys, doubles: false, end });
    }

    fn close(&mut self) {
        let Some(Open { end, .. }) = self.open.pop() else { return };
        match end {
            End::Count(tag, count) => self.out.tag(tag).length(count),
            End::Array(tag, count, length) => self.out.tag(tag).length(count).varint(length),
            End::Error => self.out.tag(tag::ERROR_END),
        };
    }

    /// A key that is an array index is written as the number.
    fn key(&mut self, key: u32) {
        let key = self.heap.string(key);
        match key.as_index() {
            Some(index) => self.out.number(index.into()),
            None => self.out.string(key),
        };
    }
}
