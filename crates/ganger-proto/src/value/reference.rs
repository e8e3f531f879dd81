//! How values are looked at.

use std::fmt;

use super::{BigInt, ErrorKind, Heap, Item, JsString, Slot, ViewKind, date, kind, number};

/// How many holes of one array are handed out as `undefined`. JavaScript does not store them, so a few
/// bytes of a peer can say that there are four thousand million.
const MAX_HOLES: usize = 1 << 16;

/// A value inside a [`Value`](super::Value), borrowed.
#[derive(Clone, Copy)]
pub struct Ref<'a> {
    pub(crate) heap: &'a Heap,
    pub(crate) slot: Slot,
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Kind<'a> {
    /// `undefined`.
    Undefined,
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A bigint.
    BigInt(&'a BigInt),
    /// A string.
    String(&'a JsString),
    /// An object; a class instance arrives as one. See [`Ref::entries`].
    Object,
    /// An array. See [`Ref::elements`]; it may have other properties too.
    Array {
        /// Its `length`.
        length: u32,
        /// Whether elements are missing.
        holes: bool,
    },
    /// A `Map`. See [`Ref::pairs`].
    Map,
    /// A `Set`. See [`Ref::elements`].
    Set,
    /// A `Date`, in milliseconds since 1970, or NaN.
    Date(f64),
    /// A primitive as an object: `new String("s")`.
    Boxed(Ref<'a>),
    /// A regular expression.
    RegExp {
        /// Its `source`.
        source: &'a JsString,
        /// V8's bits for its flags; [`Ref::to_text`] writes them.
        flags: u32,
    },
    /// An `ArrayBuffer`.
    ArrayBuffer {
        /// What it holds.
        bytes: &'a [u8],
        /// Its `maxByteLength` if it is resizable.
        max: Option<u32>,
    },
    /// A `Buffer`, a typed array or a `DataView`.
    View {
        /// Which of them.
        kind: ViewKind,
        /// What it sees.
        bytes: &'a [u8],
    },
    /// An error.
    Error {
        /// Which of the standard ones.
        kind: ErrorKind,
        /// Its `message`.
        message: Option<&'a JsString>,
        /// Its `stack`.
        stack: Option<&'a JsString>,
        /// Its `cause`.
        cause: Option<Ref<'a>>,
    },
}

impl<'a> Ref<'a> {
    pub(crate) fn new(heap: &'a Heap, slot: Slot) -> Self {
        Self { heap, slot }
    }

    /// Where it stands in its value.
    pub(crate) fn slot(self) -> Slot {
        self.slot
    }

    /// What it is, to be matched on.
    pub fn kind(self) -> Kind<'a> {
        let item = match self.slot {
            Slot::Hole | Slot::Undefined => return Kind::Undefined,
            Slot::Null => return Kind::Null,
            Slot::Bool(bool) => return Kind::Bool(bool),
            Slot::Number(number) => return Kind::Number(number),
            Slot::BigInt(number) => return Kind::BigInt(self.heap.bigint(number)),
            Slot::String(number) => return Kind::String(self.heap.string(number)),
            Slot::Object(number) => self.heap.item(number),
        };
        let string = |number: Option<u32>| number.map(|number| self.heap.string(number));
        match *item {
            Item::Object(_) => Kind::Object,
            Item::Array { length, .. } => Kind::Array { length, holes: false },
            Item::Sparse { length, .. } => Kind::Array { length, holes: true },
            Item::Map(_) => Kind::Map,
            Item::Set(_) => Kind::Set,
            Item::Date(milliseconds) => Kind::Date(milliseconds),
            Item::Boxed(slot) => Kind::Boxed(self.at_slot(slot)),
            Item::RegExp { source, flags } => Kind::RegExp { source: self.heap.string(source), flags },
            Item::ArrayBuffer(ref bytes) => Kind::ArrayBuffer { bytes, max: None },
            Item::Resizable { ref bytes, max } => Kind::ArrayBuffer { bytes, max: Some(max) },
            Item::View { kind, .. } | Item::Window { kind, .. } => {
                Kind::View { kind, bytes: self.heap.bytes(item).unwrap_or_default() }
            }
            Item::Error(ref error) => Kind::Error {
                kind: error.kind,
                message: string(error.message),
                stack: string(error.stack),
                cause: error.cause.map(|cause| self.at_slot(cause)),
            },
            Item::Alias(number) => self.at_slot(Slot::Object(number)).kind(),
        }
    }

    /// Whether it is `undefined`.
    pub fn is_undefined(self) -> bool {
        matches!(self.slot, Slot::Undefined | Slot::Hole)
    }

    /// Whether it is `undefined` or `null`.
    pub fn is_nullish(self) -> bool {
        self.is_undefined() || matches!(self.slot, Slot::Null)
    }

    /// The boolean.
    pub fn as_bool(self) -> Option<bool> {
        if let Slot::Bool(bool) = self.slot { Some(bool) } else { None }
    }

    /// The number.
    pub fn as_f64(self) -> Option<f64> {
        if let Slot::Number(number) = self.slot { Some(number) } else { None }
    }

    /// The number or bigint, if it is an integer of that size.
    pub fn as_i64(self) -> Option<i64> {
        self.as_i128().and_then(|integer| integer.try_into().ok())
    }

    /// The number or bigint, if it is an integer of that size.
    pub fn as_u64(self) -> Option<u64> {
        self.as_i128().and_then(|integer| integer.try_into().ok())
    }

    /// The text of a string without lone surrogates.
    pub fn as_str(self) -> Option<&'a str> {
        self.as_string()?.as_str()
    }

    /// The string.
    pub fn as_string(self) -> Option<&'a JsString> {
        if let Slot::String(number) = self.slot { Some(self.heap.string(number)) } else { None }
    }

    /// The bytes of an `ArrayBuffer`, a `Buffer` or another view.
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        self.heap.bytes(self.item()?)
    }

    /// The own property of this name, of an object or of an array beside its elements. Of two with one name
    /// the last counts, as in JavaScript.
    pub fn get(self, key: &str) -> Option<Ref<'a>> {
        self.properties()?
            .rchunks_exact(2)
            .find(|pair| *self.heap.key(pair[0]) == *key)
            .map(|pair| self.at_slot(pair[1]))
    }

    /// The element of an array at this index.
    pub fn at(self, index: usize) -> Option<Ref<'a>> {
        match self.item()? {
            Item::Array { length, slots } => {
                slots[..*length as usize].get(index).map(|slot| self.at_slot(*slot))
            }
            Item::Sparse { .. } => self.get(&index.to_string()),
            _ => None,
        }
    }

    /// The elements of an array or the members of a `Set`; a hole is `undefined`. `None` for other values,
    /// and for an array of more than 65 536 holes.
    pub fn elements(self) -> Option<Elements<'a>> {
        let slots = match self.item()? {
            Item::Array { length, slots } => &slots[..*length as usize],
            Item::Set(slots) => slots,
            Item::Sparse { length, properties } => return self.sparse_elements(*length, properties),
            _ => return None,
        };
        Some(Elements { heap: self.heap, slots: ElementSlots::Dense(slots.iter()) })
    }

    /// The own properties of an object, or of an array beside its elements.
    pub fn entries(self) -> Option<Entries<'a>> {
        let extra = matches!(self.item()?, Item::Sparse { .. });
        Some(Entries { heap: self.heap, slots: self.properties()?, without_indices: extra })
    }

    /// The keys and values of a `Map`.
    pub fn pairs(self) -> Option<Pairs<'a>> {
        if let Item::Map(slots) = self.item()? { Some(Pairs { heap: self.heap, slots }) } else { None }
    }

    /// What JavaScript's `String(value)` gives for primitives, dates and regular expressions, a date in the
    /// form of `toISOString`. Lone surrogates become U+FFFD.
    pub fn to_text(self) -> Option<String> {
        Some(match self.kind() {
            Kind::Undefined => "undefined".into(),
            Kind::Null => "null".into(),
            Kind::Bool(bool) => bool.to_string(),
            Kind::Number(number) => number::to_text(number),
            Kind::BigInt(bigint) => i128::try_from(bigint).ok()?.to_string(),
            Kind::String(string) => string.to_string_lossy().into_owned(),
            Kind::Date(milliseconds) => date::to_iso(milliseconds)?,
            Kind::RegExp { source, flags } => {
                format!("/{}/{}", source.to_string_lossy(), kind::flag_text(flags).unwrap_or_default())
            }
            Kind::Boxed(primitive) => primitive.to_text()?,
            _ => return None,
        })
    }

    /// Whether both are the same object, and not only equal.
    pub fn is_same(self, other: Ref<'_>) -> bool {
        std::ptr::eq(self.heap, other.heap)
            && matches!((self.slot, other.slot), (Slot::Object(one), Slot::Object(other)) if one == other)
    }

    /// The object behind the slot.
    pub(crate) fn item(self) -> Option<&'a Item> {
        let Slot::Object(number) = self.slot else { return None };
        match self.heap.item(number) {
            Item::Alias(number) => self.at_slot(Slot::Object(*number)).item(),
            item => Some(item),
        }
    }

    /// How many properties are gone through to find the elements of an array with holes.
    pub(crate) fn properties_walked(self) -> usize {
        if let Some(Item::Sparse { properties, .. }) = self.item() { properties.len() / 2 } else { 0 }
    }

    pub(crate) fn at_slot(self, slot: Slot) -> Self {
        Self { slot, ..self }
    }

    pub(crate) fn as_i128(self) -> Option<i128> {
        match self.kind() {
            // Casting saturates, and what has been cut off does not come back equal.
            Kind::Number(number) => Some(number as i128).filter(|integer| *integer as f64 == number),
            Kind::BigInt(bigint) => i128::try_from(bigint).ok(),
            _ => None,
        }
    }

    pub(crate) fn as_u128(self) -> Option<u128> {
        match self.kind() {
            Kind::BigInt(bigint) => u128::try_from(bigint).ok(),
            _ => self.as_i128()?.try_into().ok(),
        }
    }

    /// Key, value, key, value.
    fn properties(self) -> Option<&'a [Slot]> {
        match self.item()? {
            Item::Object(slots) => Some(slots),
            Item::Array { length, slots } => Some(&slots[*length as usize..]),
            Item::Sparse { properties, .. } => Some(properties),
            _ => None,
        }
    }

    fn sparse_elements(self, length: u32, properties: &'a [Slot]) -> Option<Elements<'a>> {
        if length as usize - (properties.len() / 2).min(length as usize) > MAX_HOLES {
            return None;
        }
        let mut slots = vec![Slot::Hole; length as usize];
        for pair in properties.chunks_exact(2) {
            let index = self.heap.key(pair[0]).as_index();
            if let Some(slot) = index.and_then(|index| slots.get_mut(index as usize)) {
                *slot = pair[1];
            }
        }
        Some(Elements { heap: self.heap, slots: ElementSlots::Filled(slots.into_iter()) })
    }
}

impl fmt::Debug for Ref<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What an object holds is not written: it may hold itself.
        match self.to_text() {
            Some(text) => f.write_str(&text),
            None => f.debug_tuple("Ref").field(&self.slot).finish(),
        }
    }
}

/// The elements of an array or set.
#[derive(Debug)]
pub struct Elements<'a> {
    heap: &'a Heap,
    slots: ElementSlots<'a>,
}

#[derive(Debug)]
enum ElementSlots<'a> {
    Dense(std::slice::Iter<'a, Slot>),
    Filled(std::vec::IntoIter<Slot>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = Ref<'a>;

    fn next(&mut self) -> Option<Ref<'a>> {
        let slot = match &mut self.slots {
            ElementSlots::Dense(slots) => slots.next().copied(),
            ElementSlots::Filled(slots) => slots.next(),
        };
        slot.map(|slot| Ref::new(self.heap, slot))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.slots {
            ElementSlots::Dense(slots) => slots.size_hint(),
            ElementSlots::Filled(slots) => slots.size_hint(),
        }
    }
}

impl ExactSizeIterator for Elements<'_> {}

/// The properties of an object or array.
#[derive(Debug)]
pub struct Entries<'a> {
    heap: &'a Heap,
    slots: &'a [Slot],
    without_indices: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a JsString, Ref<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        while let [key, value, rest @ ..] = self.slots {
            self.slots = rest;
            let key = self.heap.key(*key);
            if !self.without_indices || key.as_index().is_none() {
                return Some((key, Ref::new(self.heap, *value)));
            }
        }
        None
    }
}

/// The keys and values of a map.
#[derive(Debug)]
pub struct Pairs<'a> {
    heap: &'a Heap,
    slots: &'a [Slot],
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Ref<'a>, Ref<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let [key, value, rest @ ..] = self.slots else { return None };
        self.slots = rest;
        Some((Ref::new(self.heap, *key), Ref::new(self.heap, *value)))
    }
}
