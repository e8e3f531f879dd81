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
pub(crate) use number::{as_int32, to_text as number_text};

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
