//! The same vocabulary with `serialization: 'advanced'`: each message a value in V8's format instead of a
//! line of JSON.
//!
//! What is internal is few and small, so it goes by way of JSON through the one decoder there is; a property
//! that is `undefined`, which Node writes here and not there, is dropped on the way. A user's message stays
//! the bytes that it is until somebody looks.
//!
//! The objects of a payload are numbered from its beginning, so a message inside of a `NODE_HANDLE` cannot be
//! cut out, nor put in: it is read and written anew, by which its objects get their new numbers. That costs
//! what the message weighs, and only messages with a handle pay it.

use memchr::memmem;

use super::{ClusterMessage, HandleKind, Line};
use crate::{
    value::{self, JsString, Ref, ToJsonError, Value},
    wire::v8::{self, ReadError},
};

/// "The descriptor has arrived."
pub const HANDLE_ACK: &[u8] = b"\xff\x0fo\"\x03cmd\"\x0fNODE_HANDLE_ACK{\x01";
/// "The message has arrived, its descriptor has not."
pub const HANDLE_NACK: &[u8] = b"\xff\x0fo\"\x03cmd\"\x10NODE_HANDLE_NACK{\x01";

/// One payload of a channel, understood: the twin of [`Line`].
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// A user's message: the payload as it is.
    User(&'a [u8]),
    /// A message that travels with a descriptor.
    Handle {
        /// What the descriptor is to become, or the name of a type that this side does not know.
        kind: Result<HandleKind, String>,
        /// The payload inside, to be decoded in its turn; empty if there is none.
        message: Vec<u8>,
    },
    /// [`HANDLE_ACK`].
    HandleAck,
    /// [`HANDLE_NACK`].
    HandleNack,
    /// A message of the cluster.
    Cluster(ClusterMessage),
    /// Internal, and nothing that this side knows: ignored, as in Node.
    Other,
}

/// An internal message, or what may be one, that cannot be read. It says nothing about the messages after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// It is not V8's format.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It says what no internal message says.
    #[error("an internal message that is no JSON: {0}")]
    Json(#[from] ToJsonError),
}

/// Whether a payload can only be a user's message, without reading it: what is internal says `NODE_` in one of
/// the two ways in which V8 writes text, and it has no third one that could hide it.
pub fn is_plainly_user(payload: &[u8]) -> bool {
    memmem::find(payload, b"NODE_").is_none() && memmem::find(payload, b"N\0O\0D\0E\0_\0").is_none()
}

/// Reads one payload. A user's message is only looked at as far as [`is_plainly_user`] needs, so it may still
/// turn out to be no value; all that is internal has been validated.
pub fn decode(payload: &[u8]) -> Result<Frame<'_>, Unreadable> {
    if is_plainly_user(payload) {
        return Ok(Frame::User(payload));
    }
    if payload == HANDLE_ACK {
        return Ok(Frame::HandleAck);
    }
    let value = v8::read(payload)?;
    let Some(cmd) = internal_cmd(value.root()) else { return Ok(Frame::User(payload)) };
    if cmd == "NODE_HANDLE" {
        let message = value.get("msg").filter(|message| !message.is_undefined());
        return Ok(Frame::Handle {
            kind: handle_kind(&value),
            message: message.map_or_else(Vec::new, v8::write),
        });
    }
    let json = value::to_json(value.root())?.unwrap_or_default();
    Ok(match super::decode(&json) {
        Ok(Line::HandleAck) => Frame::HandleAck,
        Ok(Line::HandleNack) => Frame::HandleNack,
        Ok(Line::Cluster(message)) => Frame::Cluster(message),
        _ => Frame::Other,
    })
}

/// The payload that carries a descriptor: `message` is the payload inside, empty for none.
pub fn handle(kind: &HandleKind, message: &[u8]) -> Result<Vec<u8>, ReadError> {
    let mut object = Value::object([("cmd", "NODE_HANDLE"), ("type", kind.name())]);
    if !message.is_empty() {
        object = object.with("msg", v8::read(message)?);
    }
    object = match kind {
        HandleKind::NetSocket { key: Some(key) } => object.with("key", key.as_str()),
        HandleKind::DgramSocket { v6 } => object.with("dgramType", if *v6 { "udp6" } else { "udp4" }),
        _ => object,
    };
    Ok(v8::write(object.root()))
}

/// The payload of a message of the cluster.
pub fn cluster(message: &ClusterMessage) -> Vec<u8> {
    let mut json = Vec::new();
    message.write(&mut json);
    let json = String::from_utf8_lossy(&json);
    // Raw JSON inside comes from a peer, and was checked when it came; nested absurdly deep it is left out.
    let value = value::from_json(&json).unwrap_or_else(|_| Value::null());
    v8::write(value.root())
}

/// The `cmd` of an internal message, by the same rule as in JSON.
fn internal_cmd<'a>(value: Ref<'a>) -> Option<&'a str> {
    // Text with a lone surrogate begins as it begins, and is no cmd that anybody knows.
    let cmd = value.get("cmd")?.as_string()?;
    match cmd.as_str() {
        Some(cmd) => super::is_internal(cmd).then_some(cmd),
        None => super::is_internal(&cmd.to_string_lossy()).then_some("NODE_?"),
    }
}

fn handle_kind(value: &Value) -> Result<HandleKind, String> {
    let text = |key: &str| value.get(key).and_then(Ref::as_string).map(JsString::to_string_lossy);
    HandleKind::from_fields(
        &text("type").unwrap_or_default(),
        || text("key").map(Into::into),
        || text("dgramType").as_deref() == Some("udp6"),
    )
}
