//! A user's message as it lies on the wire, and how it is looked at.

use std::borrow::Cow;

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::{
    value::{self, FromJsonError, FromValueError, ToJsonError, ToValueError, Value},
    wire::{
        json,
        v8::{self, ReadError},
    },
};

/// How values are written on a channel: Node's option `serialization`. Both ends have to agree; the child learns
/// it from its environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Serialization {
    /// A line of JSON each. Node's default.
    #[default]
    Json,
    /// V8's structured clone: also `undefined`, `BigInt`, `Date`, `Map`, `Set`, `Error`, buffers, and objects that
    /// stand in several places or in themselves. Node only: Bun and Deno write something else under this name.
    Advanced,
}

impl Serialization {
    /// Node's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Advanced => "advanced",
        }
    }

    /// The serialization of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Json, Self::Advanced].into_iter().find(|serialization| serialization.name() == name)
    }
}

/// One value as it came, or as it is to go: parsed by nobody yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// JSON; empty if a handle came without a message.
    Json(String),
    /// V8's format; empty if a handle came without a message.
    Advanced(Vec<u8>),
}

/// A message is not what it is taken for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// It is not JSON, or not of the type asked for.
    #[error("the message cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It is not JSON.
    #[error("the message cannot be read: {0}")]
    JsonValue(#[from] FromJsonError),
    /// It is not V8's format.
    #[error("the message cannot be read: {0}")]
    Advanced(#[from] ReadError),
    /// It is not of the type asked for.
    #[error("the message is of another type: {0}")]
    Type(#[from] FromValueError),
    /// JSON has no words for it.
    #[error("the message has no JSON: {0}")]
    NoJson(#[from] ToJsonError),
}

/// A value cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It has no JSON.
    #[error("the message cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no JSON.
    #[error("the message cannot be written as JSON: {0}")]
    NoJson(#[from] ToJsonError),
    /// It is `undefined`, a function or the like at the top, which JSON leaves out.
    #[error("the message is undefined, which has no JSON")]
    Undefined,
    /// It is no value of JavaScript's.
    #[error("the message cannot be written: {0}")]
    Value(#[from] ToValueError),
    /// It is no JSON.
    #[error("the message cannot be written: {0}")]
    FromJson(#[from] FromJsonError),
}

impl Payload {
    /// Nothing: a handle without a message.
    pub fn empty(serialization: Serialization) -> Self {
        match serialization {
            Serialization::Json => Self::Json(String::new()),
            Serialization::Advanced => Self::Advanced(Vec::new()),
        }
    }

    /// A value of a type that serde knows.
    ///
    /// # Errors
    /// What the serialization cannot carry.
    pub fn of<T: Serialize + ?Sized>(serialization: Serialization, value: &T) -> Result<Self, WriteError> {
        Ok(match serialization {
            Serialization::Json => Self::Json(json::to_string(value)?),
            Serialization::Advanced => Self::Advanced(v8::to_bytes(value)?),
        })
    }

    /// A value of JavaScript's.
    ///
    /// # Errors
    /// What JSON cannot carry; V8's format carries all.
    pub fn of_value(serialization: Serialization, value: &Value) -> Result<Self, WriteError> {
        Ok(match serialization {
            Serialization::Json => Self::Json(value::to_json(value.root())?.ok_or(WriteError::Undefined)?),
            Serialization::Advanced => Self::Advanced(v8::write(value.root())),
        })
    }

    /// JSON, in either serialization.
    ///
    /// # Errors
    /// If it has to be understood and is no JSON.
    pub fn of_json(serialization: Serialization, json: &str) -> Result<Self, WriteError> {
        Ok(match serialization {
            // A newline in JSON is space; on the wire it is the end of a message.
            Serialization::Json => Self::Json(json.replace('\n', " ")),
            Serialization::Advanced if json.is_empty() => Self::Advanced(Vec::new()),
            Serialization::Advanced => Self::Advanced(v8::write(value::from_json(json)?.root())),
        })
    }

    /// How it is written.
    pub fn serialization(&self) -> Serialization {
        match self {
            Self::Json(_) => Serialization::Json,
            Self::Advanced(_) => Serialization::Advanced,
        }
    }

    /// Whether a handle came without a message: `undefined` in Node.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Whether it is one value: what is not must not be passed on, since a Node that reads it dies. A handle may come
    /// without a message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ParseError> {
        match self {
            _ if self.is_empty() => Ok(()),
            Self::Json(json) => Ok(serde_json::from_str::<IgnoredAny>(json).map(drop)?),
            Self::Advanced(bytes) => Ok(v8::read(bytes).map(drop)?),
        }
    }

    /// As it is on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Json(json) => json.as_bytes(),
            Self::Advanced(bytes) => bytes,
        }
    }

    /// As JSON, as `JSON.stringify` would write it; as it came, if it is JSON. Empty for `undefined`.
    ///
    /// # Errors
    /// If it cannot be read, or JSON has no words for it.
    pub fn to_json(&self) -> Result<Cow<'_, str>, ParseError> {
        Ok(match self {
            Self::Json(json) => json.as_str().into(),
            Self::Advanced(bytes) if bytes.is_empty() => "".into(),
            Self::Advanced(bytes) => value::to_json(v8::read(bytes)?.root())?.unwrap_or_default().into(),
        })
    }

    /// As a value of JavaScript's, which holds all that there is: lone surrogates, `undefined`, cycles.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn to_value(&self) -> Result<Value, ParseError> {
        match self {
            _ if self.is_empty() => Ok(Value::undefined()),
            Self::Json(json) => Ok(value::from_json(json)?),
            Self::Advanced(bytes) => Ok(v8::read(bytes)?),
        }
    }

    /// As a type that serde knows.
    ///
    /// # Errors
    /// If it cannot be read, or is of another type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        match self {
            Self::Json(json) => Ok(serde_json::from_str(json)?),
            Self::Advanced(_) => Ok(value::from_value(&self.to_value()?)?),
        }
    }
}
