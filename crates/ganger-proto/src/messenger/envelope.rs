//! The letter's two forms on the wire: as it is sent, with `to`; and as it arrives, with `from`.
//!
//! ```text
//!   { "to": …, "action": "name", "data": … }    ──►    { "action": "name", "data": …, "from": { "role": … } }
//! ```

use memchr::memmem;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{LONGEST_ACTION, Refusal, To, UNDELIVERED};
use crate::{
    Payload, Serialization, Slot, Value, WorkerId,
    session::{Form, ParseError},
    value::{self, Ref},
    wire::{json, v8},
};

/// Who a letter is from: its `from`, set by the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Sender {
    /// The primary.
    Primary {
        /// Its process.
        pid: i32,
    },
    /// A worker.
    Worker {
        /// Its id.
        id: WorkerId,
        /// Its place.
        slot: Slot,
        /// Its process.
        pid: i32,
    },
    /// The agent.
    Agent {
        /// Its process.
        pid: i32,
    },
}

/// A letter as it arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// What it is about.
    pub action: String,
    /// What it carries, as it was written; empty if it carries nothing.
    pub data: Payload,
    /// Who sent it.
    pub from: Sender,
}

impl Letter {
    /// A message, if it is a letter that the messenger has delivered.
    pub fn read(message: &Payload) -> Option<Self> {
        match message.form() {
            Form::Json(json) => {
                let [_, action, data, from] = members(json)?;
                Some(Self {
                    action: serde_json::from_str(action?.get()).ok()?,
                    data: Payload::json(data.map_or("", RawValue::get)).known(),
                    from: serde_json::from_str(from?.get()).ok()?,
                })
            }
            Form::Advanced(bytes) => {
                let value = v8::read(bytes).ok()?;
                let root = value.root();
                root.entries()?;
                Some(Self {
                    action: root.get("action")?.as_str()?.to_owned(),
                    data: Payload::advanced(root.get("data").map(v8::write).unwrap_or_default()).known(),
                    from: root.get("from")?.deserialize().ok()?,
                })
            }
        }
    }

    /// What it carries, as a type that serde knows. A letter that carries nothing has `null`.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        match &self.data {
            data if data.serialization() == Serialization::Json && data.is_empty() => {
                Payload::json("null").parse()
            }
            data => data.parse(),
        }
    }
}

/// A letter as it is sent: what a process puts on its channel.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outgoing<'a, T: ?Sized> {
    /// To whom.
    pub to: To,
    /// What it is about.
    pub action: &'a str,
    /// What it carries.
    pub data: &'a T,
}

/// A letter as it was sent.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) to: To,
    pub(super) letter: Outside,
}

impl Envelope {
    /// A message, if it is meant as a letter: an object that says both `to` and `action`.
    pub(super) fn open(message: &Payload) -> Option<Result<Self, Refusal>> {
        match message.form() {
            Form::Json(json) => {
                let [to, action, data, _] = members(json)?;
                let (to, action) = (to?, action?);
                let to = serde_json::from_str(to.get()).map_err(|_| Refusal::Address);
                let action = serde_json::from_str(action.get()).map_err(|_| Refusal::Action);
                let data = data.map(|data| data.get().to_owned()).unwrap_or_default();
                Some(Self::checked(to, action, || Carried::Payload(Payload::json(data).known())))
            }
            Form::Advanced(bytes) => {
                let value = v8::read(bytes).ok()?;
                let root = value.root();
                root.entries()?;
                let (to, action) = (root.get("to")?, root.get("action")?);
                let to = to.deserialize().map_err(|_| Refusal::Address);
                let action = action.as_str().map(str::to_owned).ok_or(Refusal::Action);
                let data = root.get("data").map(Ref::slot);
                Some(Self::checked(to, action, || match data {
                    Some(slot) => Carried::Value(value.part(slot)),
                    None => Carried::Payload(Payload::empty(Serialization::Advanced)),
                }))
            }
        }
    }

    fn checked(
        to: Result<To, Refusal>,
        action: Result<String, Refusal>,
        data: impl FnOnce() -> Carried,
    ) -> Result<Self, Refusal> {
        let action = action?;
        if action.is_empty() || action.len() > LONGEST_ACTION {
            return Err(Refusal::Action);
        }
        Ok(Self { to: to?, letter: Outside { action, data: data(), from: None } })
    }
}

/// A letter without its address.
#[derive(Debug)]
pub(super) struct Outside {
    action: String,
    data: Carried,
    from: Option<Sender>,
}

/// What a letter carries.
#[derive(Debug)]
enum Carried {
    /// As it came; empty for nothing.
    Payload(Payload),
    /// In V8's format a part cannot be cut out of the whole: what it refers to may stand before it.
    Value(Value),
}

impl Outside {
    pub(super) fn new(action: &str, data: Payload) -> Self {
        Self { action: action.into(), data: Carried::Payload(data), from: None }
    }

    /// What the sender of a refused letter gets.
    pub(super) fn undelivered(refusal: Refusal) -> Self {
        let data = serde_json::json!({ "code": refusal.code(), "message": refusal.to_string() });
        Self::new(UNDELIVERED, Payload::json(data.to_string()).known())
    }

    pub(super) fn sign(&mut self, from: Sender) {
        self.from = Some(from);
    }

    /// As it arrives on a channel of this serialization.
    pub(super) fn write(&self, serialization: Serialization) -> Result<Payload, Refusal> {
        let unspeakable = |_| Refusal::Unspeakable;
        match serialization {
            Serialization::Json => {
                let data = match &self.data {
                    Carried::Payload(data) => data.to_json().map_err(|_| Refusal::Unspeakable)?,
                    Carried::Value(data) => {
                        let json = value::to_json(data.root()).map_err(|_| Refusal::Unspeakable)?;
                        json.unwrap_or_default().into()
                    }
                };
                let mut json = String::with_capacity(data.len() + self.action.len() + 96);
                json.push_str("{\"action\":");
                json.push_str(&serde_json::Value::from(self.action.as_str()).to_string());
                if !data.is_empty() {
                    json.push_str(",\"data\":");
                    json.push_str(&data);
                }
                if let Some(from) = &self.from {
                    json.push_str(",\"from\":");
                    json.push_str(&serde_json::to_string(from).map_err(|_| Refusal::Unspeakable)?);
                }
                json.push('}');
                Ok(Payload::json(json))
            }
            Serialization::Advanced => {
                let from = self.from.as_ref().map(value::to_value).transpose().map_err(unspeakable)?;
                let mut value = Value::object([("action", self.action.as_str())]);
                match &self.data {
                    Carried::Payload(data) if data.is_empty() => {}
                    Carried::Payload(data) => {
                        value = value.with("data", data.to_value().map_err(|_| Refusal::Unspeakable)?);
                    }
                    Carried::Value(data) => value = value.with("data", data.clone()),
                }
                if let Some(from) = from {
                    value = value.with("from", from);
                }
                Ok(Payload::advanced(v8::write(value.root())).known())
            }
        }
    }

    /// As the primary itself gets it.
    pub(super) fn letter(&self) -> Option<Letter> {
        let data = match &self.data {
            Carried::Payload(data) => data.clone(),
            Carried::Value(data) => Payload::advanced(v8::write(data.root())).known(),
        };
        Some(Letter { action: self.action.clone(), data, from: self.from? })
    }
}

/// The members of an object of JSON that make it a letter, each as it stands there: `to`, `action`, `data`, `from`. None for
/// what is no object, and for what says too little to be worth parsing.
fn members(json: &str) -> Option<[Option<&RawValue>; 4]> {
    memmem::find(json.as_bytes(), b"\"action\"")?;
    json::fields(json, &["to", "action", "data", "from"]).ok()?
}
