//! A payload as the value that it is.
//!
//! What is being read stands on two stacks of our own, the open objects and their slots so far, so no depth
//! is too deep and every object gets exactly the room that it needs.

mod input;
mod leaf;

use input::Input;

use super::{VERSION, tag};
use crate::value::{ErrorItem, Heap, Item, Slot, Value, number_text};

const OLDEST: u32 = 13;

/// A payload that is no value: what is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of a message: {wrong}")]
pub struct ReadError {
    /// The byte up to which it was read.
    pub offset: usize,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// It does not begin with a version.
    #[error("no version, so it is not V8's format")]
    NoVersion,
    /// A version that is not read.
    #[error("version {0} of V8's format, of which 13 to 15 are known")]
    Version(u32),
    /// Something is longer than what is left.
    #[error("it ends too early")]
    TooShort,
    /// A number of more than five bytes.
    #[error("a number that does not end")]
    Number,
    /// A tag that is unknown, or does not belong there.
    #[error("an unexpected tag {:?}", char::from(*.0))]
    Tag(u8),
    /// A host object that is not Node's.
    #[error("a host object of the unknown sort {0}")]
    Host(u32),
    /// A view of a kind that Node does not have.
    #[error("a view of the unknown kind {0}")]
    ViewKind(u32),
    /// A view that does not lie in its buffer.
    #[error("a view outside of its buffer")]
    View,
    /// A buffer that is larger than it may become.
    #[error("a resizable buffer above its own limit")]
    Resizable,
    /// A reference to an object that has not come yet.
    #[error("a reference to object {0}, which has not come")]
    Reference(u32),
    /// A key that is neither a string nor a number.
    #[error("a key that is no string")]
    Key,
    /// UTF-16 with half a unit.
    #[error("half a UTF-16 unit")]
    HalfUnit,
    /// More or fewer properties, entries or elements than it says.
    #[error("{found} members, where it says {claimed}")]
    Count {
        /// How many there are.
        found: u32,
        /// How many it says.
        claimed: u32,
    },
    /// Flags that no regular expression has.
    #[error("unknown flags of a regular expression: {0:#x}")]
    Flags(u32),
    /// More values than [`read_up_to`] was told to take.
    #[error("too many values")]
    TooMany,
}

/// Reads a payload. What comes after the value is ignored, as by Node. A value may need a hundred times the
/// room that it had in the payload: an array of `null` is one byte for each there, and two words here.
pub fn read(payload: &[u8]) -> Result<Value, ReadError> {
    read_up_to(payload, usize::MAX)
}

/// Reads a payload of at most `values` values, however deep, where a peer must not decide how much room it
/// takes.
pub fn read_up_to(payload: &[u8], values: usize) -> Result<Value, ReadError> {
    let mut reader = Reader {
        input: Input::new(payload),
        version: 0,
        heap: Heap::default(),
        keys: [0; KEYS],
        open: Vec::new(),
        slots: Vec::new(),
    };
    match reader.value(values) {
        Ok(root) => Ok(Value { root, heap: reader.heap }),
        Err(wrong) => Err(ReadError { offset: reader.input.offset(), wrong }),
    }
}

/// Whether a payload begins as a string or one of Node's views does, none of which has properties. It may still turn out
/// to be no value.
pub(crate) fn is_text_or_view(payload: &[u8]) -> bool {
    let mut input = Input::new(payload);
    input.byte() == Ok(tag::VERSION)
        && input.varint().is_ok()
        && match input.tag() {
            Ok(tag::LATIN1 | tag::UTF8 | tag::UTF16) => true,
            Ok(tag::HOST) => input.varint() == Ok(tag::HOST_VIEW),
            _ => false,
        }
}

/// How many keys are remembered, to be kept once.
const KEYS: usize = 64;

struct Reader<'a> {
    input: Input<'a>,
    version: u32,
    /// An object's place in it is its number on the wire.
    heap: Heap,
    /// Strings that have been keys, by their hash: the objects of a list have the same ones.
    keys: [u32; KEYS],
    /// The objects that are being read, innermost last.
    open: Vec<Open>,
    /// What has been read of them, in the same order.
    slots: Vec<Slot>,
}

/// An object that is being read.
struct Open {
    number: u32,
    /// Where its slots begin.
    base: usize,
    shape: Shape,
}

enum Shape {
    Object,
    Array { length: u32 },
    Sparse { length: u32 },
    Map,
    Set,
    Error(Box<ErrorItem>),
    Host,
}

impl Reader<'_> {
    fn value(&mut self, mut values: usize) -> Result<Slot, Wrong> {
        if self.input.byte() != Ok(tag::VERSION) {
            return Err(Wrong::NoVersion);
        }
        self.version = self.input.varint()?;
        if !(OLDEST..=VERSION).contains(&self.version) {
            return Err(Wrong::Version(self.version));
        }
        loop {
            values = values.checked_sub(1).ok_or(Wrong::TooMany)?;
            if let Some(slot) = self.step()? {
                let slot = self.window(slot)?;
                if self.open.is_empty() {
                    return Ok(slot);
                }
                self.slots.push(slot);
            }
        }
    }

    /// Reads on in the innermost object. `Some` is a value that is complete, `None` another step.
    fn step(&mut self) -> Result<Option<Slot>, Wrong> {
        let Some(open) = self.open.last_mut() else { return self.begin() };
        let count = self.slots.len() - open.base;
        let end = match &mut open.shape {
            Shape::Array { length } if count < *length as usize => {
                if self.input.skip(tag::HOLE) {
                    self.slots.push(Slot::Hole);
                    return Ok(None);
                }
                return self.begin();
            }
            Shape::Error(_) => return self.error(),
            Shape::Host if count == 0 => return self.begin(),
            Shape::Host => return self.close(count).map(Some),
            Shape::Object => tag::OBJECT_END,
            Shape::Array { .. } => tag::ARRAY_END,
            Shape::Sparse { .. } => tag::SPARSE_END,
            Shape::Map => tag::MAP_END,
            Shape::Set => tag::SET_END,
        };
        let (has_keys, in_pairs) = match open.shape {
            Shape::Set => (false, false),
            Shape::Map => (false, true),
            _ => (true, true),
        };
        let elements = if let Shape::Array { length } = open.shape { length as usize } else { 0 };
        let is_between = !in_pairs || (count - elements).is_multiple_of(2);
        if is_between && self.input.skip(end) {
            return self.close(count).map(Some);
        }
        if is_between && has_keys {
            let key = self.key()?;
            self.slots.push(Slot::String(key));
        }
        self.begin()
    }

    /// The innermost object has all its slots: checks the numbers behind it and puts it in its place.
    fn close(&mut self, count: usize) -> Result<Slot, Wrong> {
        let Some(Open { number, base, shape }) = self.open.pop() else { return Err(Wrong::TooShort) };
        let slots: Vec<Slot> = self.slots.drain(base..).collect();
        let item = match shape {
            Shape::Object => {
                self.count(count / 2)?;
                Item::Object(slots)
            }
            Shape::Map => {
                self.count(count)?;
                Item::Map(slots)
            }
            Shape::Set => {
                self.count(count)?;
                Item::Set(slots)
            }
            Shape::Sparse { length } => {
                self.count(count / 2)?;
                self.count(length as usize)?;
                self.heap.array_with_holes(length, slots)
            }
            Shape::Array { length } => {
                self.count((count - length as usize) / 2)?;
                self.count(length as usize)?;
                self.array(length, slots)
            }
            Shape::Error(error) => Item::Error(error),
            Shape::Host => {
                let Some(Slot::Object(inner)) = slots.first().copied() else {
                    return Err(Wrong::Host(tag::HOST_OTHER));
                };
                self.heap.items[number as usize] = Item::Alias(inner);
                return Ok(Slot::Object(inner));
            }
        };
        self.heap.items[number as usize] = item;
        Ok(Slot::Object(number))
    }

    /// A dense array; its holes make it a sparse one.
    fn array(&mut self, length: u32, slots: Vec<Slot>) -> Item {
        let (elements, extra) = slots.split_at(length as usize);
        if !elements.iter().any(|slot| matches!(slot, Slot::Hole)) {
            return Item::Array { length, slots };
        }
        let mut properties = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            if !matches!(element, Slot::Hole) {
                properties.extend([Slot::String(self.heap.add_string(index.to_string())), *element]);
            }
        }
        properties.extend_from_slice(extra);
        Item::Sparse { length, properties }
    }

    fn count(&mut self, found: usize) -> Result<(), Wrong> {
        let (found, claimed) = (found as u32, self.input.varint()?);
        if found == claimed { Ok(()) } else { Err(Wrong::Count { found, claimed }) }
    }

    /// Reads a value, or the beginning of an object.
    fn begin(&mut self) -> Result<Option<Slot>, Wrong> {
        let shape = match self.input.tag()? {
            tag::OBJECT_COUNT => {
                self.input.varint()?;
                return Ok(None);
            }
            tag::OBJECT => Shape::Object,
            tag::ARRAY => {
                let length = self.input.varint()?;
                // An element has at least one byte.
                if length as usize > self.input.left() {
                    return Err(Wrong::TooShort);
                }
                Shape::Array { length }
            }
            tag::SPARSE => Shape::Sparse { length: self.input.varint()? },
            tag::MAP => Shape::Map,
            tag::SET => Shape::Set,
            tag::ERROR => Shape::Error(Box::default()),
            tag::HOST => match self.input.varint()? {
                tag::HOST_VIEW => return self.view().map(Some),
                tag::HOST_OTHER => Shape::Host,
                other => return Err(Wrong::Host(other)),
            },
            tag => return self.leaf(tag).map(Some),
        };
        let number = self.heap.items.len() as u32;
        let early = match shape {
            // What is inside is the same object, and comes next.
            Shape::Host => Item::Alias(number + 1),
            _ => Item::Object(Vec::new()),
        };
        self.heap.add(early);
        self.open.push(Open { number, base: self.slots.len(), shape });
        Ok(None)
    }

    /// Reads on in an error, up to a cause, which is any value, or to its end.
    fn error(&mut self) -> Result<Option<Slot>, Wrong> {
        loop {
            let tag = self.input.byte()?;
            let string = match tag {
                tag::ERROR_MESSAGE | tag::ERROR_STACK => Some(self.string()?),
                _ => None,
            };
            let Some(Open { base, shape: Shape::Error(error), .. }) = self.open.last_mut() else {
                return Err(Wrong::Tag(tag));
            };
            match tag {
                tag::ERROR_MESSAGE => error.message = string,
                tag::ERROR_STACK => error.stack = string,
                tag::ERROR_CAUSE => return self.begin_cause(),
                tag::ERROR_END => {
                    error.cause = self.slots[*base..].last().copied();
                    return self.close(0).map(Some);
                }
                tag => error.kind = tag::error_kind(tag).ok_or(Wrong::Tag(tag))?,
            }
        }
    }

    fn begin_cause(&mut self) -> Result<Option<Slot>, Wrong> {
        self.skip_counts()?;
        self.begin()
    }

    /// Counts of objects may stand before any value; V8 wrote them long ago.
    fn skip_counts(&mut self) -> Result<(), Wrong> {
        while self.input.skip(tag::OBJECT_COUNT) {
            self.input.varint()?;
        }
        Ok(())
    }

    /// A key, kept once where it was seen lately.
    fn key(&mut self) -> Result<u32, Wrong> {
        self.skip_counts()?;
        let number = match self.input.tag()? {
            tag @ (tag::LATIN1 | tag::UTF8 | tag::UTF16) => return self.key_string(tag),
            tag::INT32 => self.input.zigzag()?.into(),
            tag::UINT32 => self.input.varint()?.into(),
            tag::DOUBLE => self.input.double()?,
            _ => return Err(Wrong::Key),
        };
        Ok(self.heap.add_string(number_text(number)))
    }

    fn key_string(&mut self, tag: u8) -> Result<u32, Wrong> {
        if tag != tag::LATIN1 {
            return self.string_of(tag);
        }
        let bytes = self.input.bytes()?;
        let hash = bytes.iter().fold(bytes.len(), |hash, byte| hash.wrapping_mul(31) ^ usize::from(*byte));
        let place = hash % KEYS;
        let known = self.heap.strings.get(self.keys[place] as usize).and_then(|known| known.as_str());
        if bytes.is_ascii() && known.map(str::as_bytes) == Some(bytes) {
            return Ok(self.keys[place]);
        }
        self.keys[place] = self.heap.add_string(input::latin1(bytes));
        Ok(self.keys[place])
    }
}
