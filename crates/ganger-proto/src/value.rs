//! JavaScript's values, as far as they can be sent to another process.
//!
//! JSON is a tree; what `serialization: 'advanced'` carries is a graph: the same object may stand in two
//! places, or in itself. So a [`Value`] owns all its objects in one table, in which they name one another by
//! number. It is built like a tree, and read like one through [`Ref`], which follows the numbers by itself;
//! only [`Ref::is_same`] tells that there are any. Values are `Send`, and dropping one never recurses.
//!
//! ```
//! use ganger_proto::Value;
//!
//! let value = Value::object([("name", Value::from("a")), ("ports", Value::array([80, 443]))]);
//! let value = value.with("body", Value::buffer(b"hi"));
//! assert_eq!(value.get("name").and_then(|name| name.as_str()), Some("a"));
//! assert_eq!(value.get("ports").and_then(|ports| ports.at(1)?.as_f64()), Some(443.0));
//! ```
//!
//! What is a type in Rust already need not be built by hand: [`to_value`] and [`from_value`] go through serde.

mod bigint;
mod build;
mod date;
mod deserialize;
mod equal;
mod heap;
mod json;
mod kind;
mod number;
mod reference;
mod serialize;
mod string;
mod view;

pub use bigint::{BigInt, OutOfRange};
pub use deserialize::{FromValueError, from_value};
pub use json::{FromJsonError, ToJsonError, from_json, to_json};
pub use kind::{ErrorKind, ViewKind};
pub use reference::{Elements, Entries, Kind, Pairs, Ref};
pub use serialize::{ToValueError, to_value};
pub use string::JsString;

pub(crate) use heap::{ErrorItem, Heap, Item, Slot};
pub(crate) use kind::flag_text;
pub(crate) use number::{MAX_SAFE, as_int32, to_text as number_text};
pub(crate) use serialize::key_of;
pub(crate) use string::array_index;

/// A value and all that can be reached from it.
///
/// Two values are equal if JavaScript could not tell them apart: the same objects in the same places, numbers
/// compared as by `Object.is`.
#[derive(Clone, Debug)]
pub struct Value {
    pub(crate) root: Slot,
    pub(crate) heap: Heap,
}

impl Value {
    /// Looks at the value.
    pub fn root(&self) -> Ref<'_> {
        Ref::new(&self.heap, self.root)
    }

    /// A part of it, as a value of its own.
    pub(crate) fn part(self, slot: Slot) -> Self {
        Self { root: slot, heap: self.heap }
    }

    /// What it is, to be matched on.
    pub fn kind(&self) -> Kind<'_> {
        self.root().kind()
    }

    /// The property of this name.
    pub fn get(&self, key: &str) -> Option<Ref<'_>> {
        self.root().get(key)
    }

    /// The text of a string without lone surrogates.
    pub fn as_str(&self) -> Option<&str> {
        self.root().as_str()
    }

    /// The number.
    pub fn as_f64(&self) -> Option<f64> {
        self.root().as_f64()
    }

    /// The bytes of an `ArrayBuffer`, a `Buffer` or another view.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.root().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_go_to_another_thread() {
        fn check<T: Send + Sync>() {}
        check::<Value>();
        check::<Ref<'_>>();
    }

    #[test]
    fn what_is_built_is_read() {
        let value = Value::object([("list", Value::array([1, 2])), ("text", "é".into())])
            .with("when", Value::date(1.0))
            .with("nested", Value::object([("deep", Value::map([("k", Value::null())]))]));
        assert_eq!(
            value.get("list").unwrap().elements().unwrap().map(|one| one.as_i64().unwrap()).sum::<i64>(),
            3
        );
        assert_eq!(value.get("text").and_then(Ref::as_str), Some("é"));
        let names: Vec<_> = value.root().entries().unwrap().map(|(name, _)| name.as_str().unwrap()).collect();
        assert_eq!(names, ["list", "text", "when", "nested"]);
        let map = value.get("nested").unwrap().get("deep").unwrap();
        assert!(map.pairs().unwrap().all(|(key, value)| key.as_str() == Some("k") && value.is_nullish()));
        assert!(value.get("absent").is_none() && map.get("k").is_none() && map.elements().is_none());
    }

    #[test]
    fn an_array_with_holes_is_read_as_one_without() {
        let value = Value::sparse_array(4, [(3, "d"), (1, "b")]).with("extra", 1);
        let elements = value.root().elements().unwrap().map(Ref::as_str);
        assert_eq!(elements.collect::<Vec<_>>(), [None, Some("b"), None, Some("d")]);
        assert_eq!(value.root().at(3).and_then(Ref::as_str), Some("d"));
        assert_eq!(value.root().entries().unwrap().count(), 1);
        assert_eq!(Value::sparse_array(2, [(0, 1), (1, 2)]), Value::array([1, 2]));
        assert!(Value::sparse_array(u32::MAX, [(1, 1)]).root().elements().is_none());
    }
}
