//! How values are made.

use std::borrow::Cow;

use super::{BigInt, ErrorItem, ErrorKind, Heap, Item, JsString, Slot, Value, ViewKind, kind, number};

impl Value {
    /// JavaScript's `undefined`.
    pub fn undefined() -> Self {
        Slot::Undefined.into()
    }

    /// JavaScript's `null`.
    pub fn null() -> Self {
        Slot::Null.into()
    }

    /// An object with these properties.
    pub fn object<K: Into<JsString>, V: Into<Value>>(properties: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut heap = Heap::default();
        let slots = properties_into(&mut heap, properties);
        Self::on(heap, Item::Object(slots))
    }

    /// An array of these elements.
    pub fn array<V: Into<Value>>(elements: impl IntoIterator<Item = V>) -> Self {
        let mut heap = Heap::default();
        let slots: Vec<Slot> = elements.into_iter().map(|element| heap.take(element.into())).collect();
        let length = u32::try_from(slots.len()).expect("an array of JavaScript has fewer than 2³² elements");
        Self::on(heap, Item::Array { length, slots })
    }

    /// An array that has only the elements given, each with its index.
    pub fn sparse_array<V: Into<Value>>(length: u32, elements: impl IntoIterator<Item = (u32, V)>) -> Self {
        let mut heap = Heap::default();
        let elements = elements.into_iter().filter(|(index, _)| *index < length);
        let properties = elements.map(|(index, element)| (index.to_string(), element));
        let properties = properties_into(&mut heap, properties);
        let item = heap.array_with_holes(length, properties);
        Self::on(heap, item)
    }

    /// A `Map`.
    pub fn map<K: Into<Value>, V: Into<Value>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut heap = Heap::default();
        let mut slots = Vec::new();
        for (key, value) in entries {
            slots.extend([heap.take(key.into()), heap.take(value.into())]);
        }
        Self::on(heap, Item::Map(slots))
    }

    /// A `Set`.
    pub fn set<V: Into<Value>>(members: impl IntoIterator<Item = V>) -> Self {
        let mut heap = Heap::default();
        let slots = members.into_iter().map(|member| heap.take(member.into())).collect();
        Self::on(heap, Item::Set(slots))
    }

    /// A `Date`, in milliseconds since 1970; NaN is an invalid one.
    pub fn date(milliseconds: f64) -> Self {
        Self::on(Heap::default(), Item::Date(milliseconds))
    }

    /// A regular expression; `None` if JavaScript has no such flags. The source is not checked.
    pub fn regexp(source: &str, flags: &str) -> Option<Self> {
        let mut heap = Heap::default();
        let (source, flags) = (heap.add_string(source), kind::flag_bits(flags)?);
        Some(Self::on(heap, Item::RegExp { source, flags }))
    }

    /// Node's `Buffer`.
    pub fn buffer(bytes: impl Into<Vec<u8>>) -> Self {
        Self::view(ViewKind::Buffer, bytes)
    }

    /// A typed array or another view of bytes of its own (little-endian). What is not a whole element at the
    /// end is dropped.
    pub fn view(kind: ViewKind, bytes: impl Into<Vec<u8>>) -> Self {
        let mut bytes = bytes.into();
        bytes.truncate(bytes.len() - bytes.len() % kind.element_size());
        Self::on(Heap::default(), Item::View { kind, bytes })
    }

    /// An `ArrayBuffer`.
    pub fn array_buffer(bytes: impl Into<Vec<u8>>) -> Self {
        Self::on(Heap::default(), Item::ArrayBuffer(bytes.into()))
    }

    /// An error without a stack.
    pub fn error(kind: ErrorKind, message: impl Into<JsString>) -> Self {
        let mut heap = Heap::default();
        let message = Some(heap.add_string(message));
        Self::on(heap, Item::Error(Box::new(ErrorItem { kind, message, stack: None, cause: None })))
    }

    /// A primitive as an object, as `new Number(1)` makes it. `undefined`, `null` and objects stay as they are.
    pub fn boxed(primitive: impl Into<Value>) -> Self {
        let value = primitive.into();
        match value.root {
            Slot::Bool(_) | Slot::Number(_) | Slot::BigInt(_) | Slot::String(_) => {
                Self::on(value.heap, Item::Boxed(value.root))
            }
            _ => value,
        }
    }

    /// Adds a property to an object or array; a primitive cannot have one and stays as it is. The name must
    /// be new: of two properties with one name the last counts.
    #[must_use]
    pub fn with(mut self, key: impl Into<JsString>, value: impl Into<Value>) -> Self {
        let Slot::Object(number) = self.root else { return self };
        let key = Slot::String(self.heap.add_string(key));
        let value = self.heap.take(value.into());
        match &mut self.heap.items[number as usize] {
            Item::Object(slots) | Item::Array { slots, .. } | Item::Sparse { properties: slots, .. } => {
                slots.extend([key, value]);
            }
            _ => {}
        }
        self
    }

    /// Gives an error its `stack`; another value stays as it is.
    #[must_use]
    pub fn with_stack(mut self, stack: impl Into<JsString>) -> Self {
        let stack = Some(self.heap.add_string(stack));
        if let Some(error) = self.as_error() {
            error.stack = stack;
        }
        self
    }

    /// Gives an error its `cause`; another value stays as it is.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Value>) -> Self {
        let cause = Some(self.heap.take(cause.into()));
        if let Some(error) = self.as_error() {
            error.cause = cause;
        }
        self
    }

    fn as_error(&mut self) -> Option<&mut ErrorItem> {
        let Slot::Object(number) = self.root else { return None };
        if let Item::Error(error) = &mut self.heap.items[number as usize] { Some(error) } else { None }
    }

    fn on(mut heap: Heap, item: Item) -> Self {
        let root = heap.add(item);
        Self { root, heap }
    }
}

impl Heap {
    /// Takes a value in.
    pub(crate) fn take(&mut self, value: Value) -> Slot {
        self.graft(value.heap, value.root)
    }

    /// The array of these properties: a dense one if it turns out to have no holes. An element behind the
    /// end makes it longer, as in JavaScript.
    pub(crate) fn array_with_holes(&self, length: u32, mut properties: Vec<Slot>) -> Item {
        if let Cow::Owned(sorted) = self.in_order(&properties) {
            properties = sorted;
        }
        let indices = properties.chunks_exact(2).filter_map(|pair| self.key(pair[0]).as_index());
        let length = indices.fold(length, |length, index| length.max(index + 1));
        let elements = properties.chunks_exact(2).zip(0..length);
        let found = elements.take_while(|(pair, index)| self.key(pair[0]).as_index() == Some(*index)).count();
        if found < length as usize {
            return Item::Sparse { length, properties };
        }
        let elements = properties.chunks_exact(2).take(found).map(|pair| pair[1]);
        let slots = elements.chain(properties[2 * found..].iter().copied()).collect();
        Item::Array { length, slots }
    }
}

fn properties_into<K: Into<JsString>, V: Into<Value>>(
    heap: &mut Heap,
    properties: impl IntoIterator<Item = (K, V)>,
) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (key, value) in properties {
        // The value first: the first one is moved as it is, and not copied.
        let value = heap.take(value.into());
        slots.extend([Slot::String(heap.add_string(key)), value]);
    }
    slots
}

impl From<Slot> for Value {
    fn from(root: Slot) -> Self {
        Self { root, heap: Heap::default() }
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Slot::Bool(bool).into()
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Slot::Number(number).into()
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        f64::from(number).into()
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        f64::from(number).into()
    }
}

/// A number where it is exact (up to 2⁵³ - 1), a bigint beyond.
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        i128::from(number).into()
    }
}

/// A number where it is exact (up to 2⁵³ - 1), a bigint beyond.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        i128::from(number).into()
    }
}

/// A number where it is exact (up to 2⁵³ - 1), a bigint beyond.
impl From<i128> for Value {
    fn from(number: i128) -> Self {
        if number.unsigned_abs() <= number::MAX_SAFE.unsigned_abs().into() {
            Slot::Number(number as f64).into()
        } else {
            BigInt::from(number).into()
        }
    }
}

impl From<BigInt> for Value {
    fn from(bigint: BigInt) -> Self {
        let mut heap = Heap::default();
        Self { root: heap.add_bigint(bigint), heap }
    }
}

impl From<JsString> for Value {
    fn from(string: JsString) -> Self {
        let mut heap = Heap::default();
        Self { root: Slot::String(heap.add_string(string)), heap }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        JsString::from(text).into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        JsString::from(text).into()
    }
}

/// `None` is `null`.
impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or_else(Self::null, Into::into)
    }
}
