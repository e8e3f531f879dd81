//! A user's message as it lies on the wire, and how it is looked at.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use memchr::memchr;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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

/// One value as it came, or as it is to go: parsed by nobody yet. Two are equal if they are the same bytes in the same
/// serialization.
///
/// Whoever has parsed or [checked](Payload::check) it leaves word, so that nobody else has to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payload {
    form: Form,
    #[serde(skip)]
    checked: Checked,
}

/// Empty if a handle came without a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    Json(String),
    Advanced(Vec<u8>),
}

/// Whether a payload is known to be a value.
#[derive(Debug, Default)]
struct Checked(AtomicBool);

impl Clone for Checked {
    fn clone(&self) -> Self {
        Self(self.0.load(Relaxed).into())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.form == other.form
    }
}

impl Eq for Payload {}

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
    /// A line of JSON, of which nobody knows yet whether it is a value.
    pub fn json(line: impl Into<String>) -> Self {
        Self { form: Form::Json(line.into()), checked: Checked::default() }
    }

    /// V8's format, of which nobody knows yet whether it is a value.
    pub fn advanced(bytes: impl Into<Vec<u8>>) -> Self {
        Self { form: Form::Advanced(bytes.into()), checked: Checked::default() }
    }

    /// Nothing: a handle without a message.
    pub fn empty(serialization: Serialization) -> Self {
        match serialization {
            Serialization::Json => Self::json(""),
            Serialization::Advanced => Self::advanced([]),
        }
    }

    /// A value of a type that serde knows.
    ///
    /// # Errors
    /// What the serialization cannot carry.
    pub fn of<T: Serialize + ?Sized>(serialization: Serialization, value: &T) -> Result<Self, WriteError> {
        Ok(match serialization {
            Serialization::Json => Self::one_line(json::to_string(value)?),
            Serialization::Advanced => Self::advanced(v8::to_bytes(value)?),
        }
        .known())
    }

    /// A value of JavaScript's.
    ///
    /// # Errors
    /// What JSON cannot carry; V8's format carries all.
    pub fn of_value(serialization: Serialization, value: &Value) -> Result<Self, WriteError> {
        Ok(match serialization {
            Serialization::Json => Self::json(value::to_json(value.root())?.ok_or(WriteError::Undefined)?),
            Serialization::Advanced => Self::advanced(v8::write(value.root())),
        }
        .known())
    }

    /// JSON, in either serialization.
    ///
    /// # Errors
    /// If it has to be understood and is no JSON.
    pub fn of_json(serialization: Serialization, json: &str) -> Result<Self, WriteError> {
        Ok(match serialization {
            Serialization::Json => Self::one_line(json.into()),
            Serialization::Advanced if json.is_empty() => Self::advanced([]),
            Serialization::Advanced => Self::advanced(v8::write(value::from_json(json)?.root())).known(),
        })
    }

    /// A newline in JSON is space; on the wire it is the end of a message.
    fn one_line(json: String) -> Self {
        match memchr(b'\n', json.as_bytes()) {
            None => Self::json(json),
            Some(_) => Self::json(json.replace('\n', " ")),
        }
    }

    /// It is a value: whoever says so has written or read it.
    pub(crate) fn known(self) -> Self {
        self.checked.0.store(true, Relaxed);
        self
    }

    /// What of it is a value, if this is.
    fn learn<T, E>(&self, read: Result<T, E>) -> Result<T, ParseError>
    where
        ParseError: From<E>,
    {
        let value = read?;
        self.checked.0.store(true, Relaxed);
        Ok(value)
    }

    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    pub(crate) fn into_form(self) -> Form {
        self.form
    }

    /// How it is written.
    pub fn serialization(&self) -> Serialization {
        match self.form {
            Form::Json(_) => Serialization::Json,
            Form::Advanced(_) => Serialization::Advanced,
        }
    }

    /// Whether a handle came without a message: `undefined` in Node.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Whether it is one value: what is not must not be passed on, since a Node that reads it dies. A handle may come
    /// without a message. It is looked at once; not at all if it was written or parsed here, or came through a session
    /// that [checks](super::Limits::validate).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ParseError> {
        match &self.form {
            _ if self.is_empty() || self.checked.0.load(Relaxed) => Ok(()),
            Form::Json(line) => self.learn(json::check(line)),
            Form::Advanced(bytes) => self.learn(v8::read(bytes)).map(drop),
        }
    }

    /// As it is on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.form {
            Form::Json(json) => json.as_bytes(),
            Form::Advanced(bytes) => bytes,
        }
    }

    /// As JSON, as `JSON.stringify` would write it; as it came, if it is JSON. Empty for `undefined`.
    ///
    /// # Errors
    /// If it cannot be read, or JSON has no words for it.
    pub fn to_json(&self) -> Result<Cow<'_, str>, ParseError> {
        Ok(match &self.form {
            Form::Json(json) => json.as_str().into(),
            Form::Advanced(_) => value::to_json(self.to_value()?.root())?.unwrap_or_default().into(),
        })
    }

    /// As a value of JavaScript's, which holds all that there is: lone surrogates, `undefined`, cycles.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn to_value(&self) -> Result<Value, ParseError> {
        match &self.form {
            _ if self.is_empty() => Ok(Value::undefined()),
            Form::Json(json) => self.learn(value::from_json(json)),
            Form::Advanced(bytes) => self.learn(v8::read(bytes)),
        }
    }

    /// As a type that serde knows.
    ///
    /// # Errors
    /// If it cannot be read, or is of another type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        match &self.form {
            Form::Json(json) => self.learn(serde_json::from_str(json)),
            Form::Advanced(_) => Ok(value::from_value(&self.to_value()?)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Event, Limits, Session};

    fn is_known(payload: &Payload) -> bool {
        payload.checked.0.load(Relaxed)
    }

    #[test]
    fn a_payload_is_checked_once() {
        for serialization in [Serialization::Json, Serialization::Advanced] {
            let written = Payload::of(serialization, &[1, 2]).unwrap();
            assert!(is_known(&written));
            let read = match written.clone().into_form() {
                Form::Json(json) => Payload::json(json),
                Form::Advanced(bytes) => Payload::advanced(bytes),
            };
            assert!(!is_known(&read) && read == written);
            assert!(read.parse::<String>().is_err() && read.clone().check().is_ok());
            assert!(read.check().is_ok() && is_known(&read) && is_known(&read.clone()));

            for validate in [false, true] {
                let limits = Limits { validate, ..Limits::default() };
                let mut from = Session::<()>::with_serialization(serialization, limits);
                let mut to = Session::<()>::with_serialization(serialization, limits);
                assert!(from.send(&written, None).is_ok());
                to.handle_input(from.poll_transmit().unwrap().bytes, None);
                let Some(Event::Message { payload, .. }) = to.poll_event() else { panic!("no message") };
                assert_eq!(is_known(&payload), validate);
                assert_eq!(payload.to_value().unwrap(), written.to_value().unwrap());
                assert!(is_known(&payload), "whoever has parsed it knows");
            }
        }
        let broken = Payload::json("garbage");
        assert!(broken.check().is_err() && broken.parse::<u8>().is_err() && !is_known(&broken));
    }
}
