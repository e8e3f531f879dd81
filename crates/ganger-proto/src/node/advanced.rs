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

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{ClusterMessage, HandleKind, INTERNAL, LentMessage, Line, Panic};
use crate::{
    value::{self, FromJsonError, JsString, Ref, ToJsonError, Value},
    wire::v8::{self, ReadError, Wrong},
};

/// "The descriptor has arrived."
pub const HANDLE_ACK: &[u8] = b"\xff\x0fo\"\x03cmd\"\x0fNODE_HANDLE_ACK{\x01";
/// "The message has arrived, its descriptor has not."
pub const HANDLE_NACK: &[u8] = b"\xff\x0fo\"\x03cmd\"\x10NODE_HANDLE_NACK{\x01";

/// No internal message has more values than that. A user's message that says `NODE_` somewhere may have; it is
/// taken for what it is without being read to its end.
const MAX_VALUES: usize = 1 << 20;

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
    /// A message about sockets that were lent.
    Lent(LentMessage),
    /// A worker of ours: what failed in it.
    Panic(Panic),
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

/// Whether a payload can only be a user's message, without reading it: what is internal is an object and says `NODE_`
/// in one of the two ways in which V8 writes text, and it has no third one that could hide it.
pub fn is_plainly_user(payload: &[u8]) -> bool {
    v8::is_text_or_view(payload) || INTERNAL.find(payload).is_none() && INTERNAL_UTF16.find(payload).is_none()
}

static INTERNAL_UTF16: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"N\0O\0D\0E\0_\0"));

/// Reads one payload. A user's message is only looked at as far as [`is_plainly_user`] needs, so it may still
/// turn out to be no value; all that is internal has been validated.
pub fn decode(payload: &[u8]) -> Result<Frame<'_>, Unreadable> {
    if is_plainly_user(payload) {
        return Ok(Frame::User(payload));
    }
    if payload == HANDLE_ACK {
        return Ok(Frame::HandleAck);
    }
    let value = match v8::read_up_to(payload, MAX_VALUES) {
        Ok(value) => value,
        Err(ReadError { wrong: Wrong::TooMany, .. }) if !begins_internal(payload) => {
            return Ok(Frame::User(payload));
        }
        Err(wrong) => return Err(wrong.into()),
    };
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
        Ok(Line::Lent(message)) => Frame::Lent(message),
        Ok(Line::Panic(panic)) => Frame::Panic(panic),
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

/// The payload of a message of the cluster. It fails only where a peer's [`Query::data`](super::Query::data) is
/// nested absurdly deep.
pub fn cluster(message: &ClusterMessage) -> Result<Vec<u8>, FromJsonError> {
    let mut json = Vec::new();
    message.write(&mut json);
    let value = value::from_json(&String::from_utf8_lossy(&json))?;
    Ok(v8::write(value.root()))
}

/// Whether a payload begins as Node begins what is internal.
fn begins_internal(payload: &[u8]) -> bool {
    // Between the tag of the text and its first letter stands its length.
    payload
        .strip_prefix(b"\xff\x0fo\"\x03cmd\"")
        .is_some_and(|rest| rest[1.min(rest.len())..].starts_with(b"NODE_"))
}

/// The `cmd` of an internal message, by the same rule as in JSON.
fn internal_cmd<'a>(value: Ref<'a>) -> Option<&'a str> {
    let cmd = value.get("cmd")?.as_string()?;
    // Text with a lone surrogate begins as it begins, and is no cmd that anybody knows.
    super::is_internal(&cmd.to_string_lossy()).then(|| cmd.as_str().unwrap_or_default())
}

fn handle_kind(value: &Value) -> Result<HandleKind, String> {
    let text = |key: &str| value.get(key).and_then(Ref::as_string).map(JsString::to_string_lossy);
    HandleKind::from_fields(
        &text("type").unwrap_or_default(),
        || text("key").map(Into::into),
        || text("dgramType").as_deref() == Some("udp6"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(value: Value) -> Vec<u8> {
        v8::write(value.root())
    }

    #[test]
    fn only_a_cmd_longer_than_its_prefix_is_internal() {
        let text = |cmd: &str| Value::object([("cmd", cmd)]);
        for user in [
            text("NODE_"),
            text("node_x"),
            text("xNODE_HANDLE"),
            Value::object([("cmd", Value::array(["NODE_HANDLE"]))]),
            Value::object([("cmd", Value::boxed("NODE_HANDLE"))]),
            Value::object([("a", text("NODE_HANDLE"))]),
            Value::map([("cmd", "NODE_HANDLE")]),
            Value::from("NODE_HANDLE"),
        ] {
            let payload = payload(user);
            assert_eq!(decode(&payload), Ok(Frame::User(&payload)));
        }
        assert_eq!(decode(&payload(text("NODE_x"))), Ok(Frame::Other));
        assert_eq!(decode(&payload(text("NODE_日"))), Ok(Frame::Other));
        assert_eq!(decode(&payload(text("NODE_HANDLE_NACK"))), Ok(Frame::HandleNack));
        assert_eq!(HANDLE_NACK, payload(text("NODE_HANDLE_NACK")));
        let later = Value::object([("a", "b"), ("cmd", "x"), ("cmd", "NODE_HANDLE_ACK")]);
        assert_eq!(decode(&payload(later)), Ok(Frame::HandleAck));
        let in_utf16 = b"\xff\x0fo\"\x03cmdc\x1eN\0O\0D\0E\0_\0H\0A\0N\0D\0L\0E\0_\0A\0C\0K\0{\x01";
        assert_eq!(decode(in_utf16), Ok(Frame::HandleAck));
    }

    #[test]
    fn what_looks_internal_and_is_broken_is_said_to_be_so() {
        assert!(matches!(decode(b"\xff\x0fo\"\x03cmd\"\x0cNODE_CLUSTER"), Err(Unreadable::Read(_))));
        let bigint = Value::object([("cmd", Value::from("NODE_CLUSTER")), ("seq", u64::MAX.into())]);
        assert_eq!(decode(&payload(bigint)), Err(Unreadable::Json(ToJsonError::BigInt)));
        assert!(decode(b"NODE_").is_err());
        assert_eq!(decode(b"").unwrap(), Frame::User(b""));
    }

    #[test]
    fn very_many_values_are_a_users() {
        let many = |first: Value| payload(first.with("list", Value::array(vec![0; MAX_VALUES + 1])));
        let user = many(Value::object([("say", "NODE_HANDLE"), ("cmd", "do")]));
        assert_eq!(decode(&user), Ok(Frame::User(&user)));
        let internal = many(Value::object([("cmd", "NODE_HANDLE")]));
        assert!(matches!(decode(&internal), Err(Unreadable::Read(ReadError { wrong: Wrong::TooMany, .. }))));
    }

    #[test]
    fn handles_are_written_as_node_does() {
        let check = |kind: HandleKind, message: &[u8], json: &str| {
            let written = handle(&kind, message).unwrap();
            assert_eq!(written, payload(value::from_json(json).unwrap()));
            let message = message.to_vec();
            assert_eq!(decode(&written), Ok(Frame::Handle { kind: Ok(kind), message }));
        };
        let message = payload(Value::object([("m", "日")]));
        check(
            HandleKind::NetServer,
            &message,
            r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":{"m":"日"}}"#,
        );
        check(
            HandleKind::DgramSocket { v6: true },
            b"",
            r#"{"cmd":"NODE_HANDLE","type":"dgram.Socket","dgramType":"udp6"}"#,
        );
        assert!(handle(&HandleKind::NetServer, b"\xff\x0fo").is_err());
        let unknown = payload(Value::object([("cmd", "NODE_HANDLE"), ("type", "net.BoundSocket")]));
        assert_eq!(
            decode(&unknown),
            Ok(Frame::Handle { kind: Err("net.BoundSocket".into()), message: Vec::new() })
        );
    }
}
