//! What comes over a channel, and what could not go.

use std::{borrow::Cow, os::fd::OwnedFd};

use ganger_proto::{
    Payload, Value,
    messenger::Letter,
    session::{ParseError, SendErrorReason, WriteError},
};
use serde::de::DeserializeOwned;

use super::Fault;
use crate::Handle;

/// A message: one value, unparsed until somebody looks at it, and the socket that came with it.
#[derive(Debug)]
pub struct Message {
    payload: Payload,
    /// The socket that came with it.
    pub handle: Option<Handle>,
}

impl Message {
    pub(crate) fn new(payload: Payload, handle: Option<OwnedFd>) -> Self {
        // What is no socket cannot have been meant.
        Self::with_handle(payload, handle.and_then(|fd| Handle::try_from(fd).ok()))
    }

    pub(super) fn with_handle(payload: Payload, handle: Option<Handle>) -> Self {
        Self { payload, handle }
    }

    /// As it came: to be passed on without being parsed.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// As JSON: as it came, if it is JSON, and as `JSON.stringify` would write it otherwise. Empty for `undefined`, which
    /// is also what a handle without a message comes with, and for what has no JSON ([`Payload::to_json`] says why).
    pub fn as_json(&self) -> Cow<'_, str> {
        self.payload.to_json().unwrap_or_default()
    }

    /// Parsed into a type that serde knows. It is parsed now, not before.
    ///
    /// # Errors
    /// If it is no value, or one of another type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        self.payload.parse()
    }

    /// The [letter](crate::cluster::messenger) that it is, if it is one.
    pub fn letter(&self) -> Option<Letter> {
        Letter::read(&self.payload)
    }

    /// Parsed into a value of JavaScript's, which holds whatever a Node can send.
    ///
    /// # Errors
    /// If it is no value.
    pub fn value(&self) -> Result<Value, ParseError> {
        self.payload.to_value()
    }
}

/// What a channel has to say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Received {
    /// A message.
    Message(Message),
    /// The peer broke a rule; the channel goes on, unless [`Fault::is_fatal`].
    Fault(Fault),
    /// A socket that was sent and did not arrive: the peer refused it as often as it was sent (it has no descriptor left,
    /// mostly), or the channel ended before it was acknowledged.
    Undelivered(Handle),
}

/// A message could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The value cannot be written in the channel's serialization; what was to travel with it comes back.
    #[error("{source}")]
    Write {
        /// Why.
        source: WriteError,
        /// The socket.
        handle: Option<Handle>,
    },
    /// Node has no object for a socket of this kind, and a Node that gets one never takes another. Between two ends of ours
    /// it travels on the [lane](crate::channel::Lane).
    #[error("a {:?} cannot be sent on Node's wire: use the lane", .handle.kind())]
    Unsendable {
        /// The socket.
        handle: Handle,
    },
    /// The channel did not take it; what was to travel with it comes back.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: SendErrorReason,
        /// The socket.
        handle: Option<Handle>,
    },
}

impl SendError {
    /// There is no channel (any more).
    pub(crate) fn closed(handle: Option<Handle>) -> Self {
        Self::Refused { reason: SendErrorReason::Closed, handle }
    }

    /// The message, if it could be written; an error with the socket, if not.
    pub(crate) fn check(
        written: Result<Payload, WriteError>,
        handle: Option<Handle>,
    ) -> Result<(Payload, Option<Handle>), Self> {
        match written {
            Ok(payload) => Ok((payload, handle)),
            Err(source) => Err(Self::Write { source, handle }),
        }
    }

    /// The socket that was to travel with the message.
    pub fn into_handle(self) -> Option<Handle> {
        match self {
            Self::Write { handle, .. } | Self::Refused { handle, .. } => handle,
            Self::Unsendable { handle } => Some(handle),
        }
    }

    /// Node's code for it, where it has one.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Refused { reason: SendErrorReason::Closed, .. } => Some("ERR_IPC_CHANNEL_CLOSED"),
            Self::Unsendable { .. } => Some("ERR_INVALID_HANDLE_TYPE"),
            _ => None,
        }
    }
}
