//! Node's vocabulary, and the only room that spells it: the `NODE_*` messages and the environment.
//!
//! [`decode`] reads one line of a channel as what it means, [`write_handle`] and [`ClusterMessage::write`]
//! say it as Node would, byte for byte. The rules are those of `lib/internal/child_process.js`
//! (`setupChannel`, `handleConversion`) and `lib/internal/cluster/{primary,child,utils}.js`.

pub mod advanced;
mod cluster;
pub mod hints;
mod lent;
mod object;
mod panic;

use std::{borrow::Cow, fmt, sync::LazyLock};

use memchr::{memchr, memmem::Finder};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::wire::json;

pub use cluster::{Act, AddressType, ClusterMessage, Query, Sockname, Target};
pub use lent::{Lent, LentMessage};
pub use panic::Panic;

/// Environment: the number of the channel's descriptor in the child.
pub const CHANNEL_FD: &str = "NODE_CHANNEL_FD";
/// Environment: how values are written on the channel, `json` or `advanced`.
pub const CHANNEL_SERIALIZATION_MODE: &str = "NODE_CHANNEL_SERIALIZATION_MODE";
/// Environment: a cluster worker's id; its presence makes a process a worker.
pub const UNIQUE_ID: &str = "NODE_UNIQUE_ID";
/// Environment of the primary: `rr` or `none`.
pub const CLUSTER_SCHED_POLICY: &str = "NODE_CLUSTER_SCHED_POLICY";
/// Environment: more of a Node's own options, which those of the command line stand above.
pub const OPTIONS: &str = "NODE_OPTIONS";
/// Environment: a worker's slot, under the name that PM2 gave it and applications read.
pub const APP_INSTANCE: &str = "NODE_APP_INSTANCE";

/// The length of `listen`'s queue where none is asked for (Node's `lib/net.js`).
pub const DEFAULT_BACKLOG: u32 = 511;

/// "The descriptor has arrived."
pub const HANDLE_ACK: &str = r#"{"cmd":"NODE_HANDLE_ACK"}"#;
/// "The message has arrived, its descriptor has not."
pub const HANDLE_NACK: &str = r#"{"cmd":"NODE_HANDLE_NACK"}"#;

/// What a handle is restored as at its receiver: the `type` of a `NODE_HANDLE` message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HandleKind {
    /// `net.Native`: a TCP or Unix-domain stream socket, listening or connected.
    NetNative,
    /// `net.Server`: a listening socket.
    NetServer,
    /// `net.Socket`: a connected stream; `key` names the server that accepted it, for its socket list.
    NetSocket {
        /// `<addressType>:<address>:<port>` of the server as asked for; only a label.
        key: Option<String>,
    },
    /// `dgram.Native`: a bound UDP socket.
    DgramNative,
    /// `dgram.Socket`: a UDP socket.
    DgramSocket {
        /// Whether it is `udp6`; otherwise `udp4`.
        v6: bool,
    },
}

/// One line of a channel, understood.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Line<'a> {
    /// A user's message: the line as it is.
    User(&'a str),
    /// A message that travels with a descriptor.
    Handle {
        /// What the descriptor is to become, or the name of a type that this side does not know.
        kind: Result<HandleKind, String>,
        /// The message inside, to be decoded in its turn; empty if there is none.
        message: &'a str,
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

/// A line that is not JSON. It says nothing about the lines after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line that is not JSON: {start:?}")]
pub struct NotJson {
    /// How the line begins.
    pub start: String,
}

/// Whether a line can only be a user's message, without parsing it: what is internal is an object and says `NODE_`,
/// which it can hide only behind an escape.
pub fn is_plainly_user(line: &[u8]) -> bool {
    line.first() == Some(&b'"') || memchr(b'\\', line).is_none() && INTERNAL.find(line).is_none()
}

/// Prepared once: that takes longer than to look through a short line.
static INTERNAL: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"NODE_"));

/// Reads one line. A user's message is only looked at as far as [`is_plainly_user`] needs, so it may
/// still turn out not to be JSON; all that is internal has been validated.
pub fn decode(line: &str) -> Result<Line<'_>, NotJson> {
    if is_plainly_user(line.as_bytes()) {
        return Ok(Line::User(line));
    }
    if line == HANDLE_ACK {
        return Ok(Line::HandleAck);
    }
    let fields = match json::fields(line, &Fields::NAMES) {
        Ok(Some(fields)) => Fields(fields),
        Ok(None) => return Ok(Line::User(line)),
        Err(_) => return Err(NotJson { start: line.chars().take(60).collect() }),
    };
    let Some(cmd) = fields.text(Field::Cmd).filter(|cmd| is_internal(cmd)) else {
        return Ok(Line::User(line));
    };
    Ok(match &*cmd {
        "NODE_HANDLE" => Line::Handle {
            kind: HandleKind::read(&fields),
            // `null` is a message like any other.
            message: fields.0[Field::Msg as usize].map_or("", RawValue::get),
        },
        "NODE_HANDLE_ACK" => Line::HandleAck,
        "NODE_HANDLE_NACK" => Line::HandleNack,
        panic::CMD => Line::Panic(Panic::read(&fields)),
        "NODE_CLUSTER" => Line::Cluster(ClusterMessage::read(&fields)),
        hints::REPORT | hints::DRAIN | hints::SHED => Line::Cluster(ClusterMessage::of_hint(&cmd, &fields)),
        cmd => LentMessage::read(cmd, &fields).map_or(Line::Other, Line::Lent),
    })
}

/// Whether a message with this `cmd` is internal: longer than the prefix `NODE_` that it starts with
/// (`lib/internal/child_process.js`, `isInternal`).
fn is_internal(cmd: &str) -> bool {
    cmd.len() > "NODE_".len() && cmd.starts_with("NODE_")
}

/// Appends the message that carries a descriptor: `message` is the JSON inside, empty for none.
pub fn write_handle(out: &mut Vec<u8>, kind: &HandleKind, message: &str) {
    let mut object = object::Object::new(out);
    object.text("cmd", "NODE_HANDLE").text("type", kind.name());
    if !message.is_empty() {
        object.raw("msg", message);
    }
    match kind {
        HandleKind::NetSocket { key: Some(key) } => drop(object.text("key", key)),
        HandleKind::DgramSocket { v6 } => drop(object.text("dgramType", if *v6 { "udp6" } else { "udp4" })),
        _ => {}
    }
    object.end();
}

impl HandleKind {
    fn name(&self) -> &'static str {
        match self {
            Self::NetNative => "net.Native",
            Self::NetServer => "net.Server",
            Self::NetSocket { .. } => "net.Socket",
            Self::DgramNative => "dgram.Native",
            Self::DgramSocket { .. } => "dgram.Socket",
        }
    }

    fn read(fields: &Fields<'_>) -> Result<Self, String> {
        Self::from_fields(
            &fields.text(Field::Type).unwrap_or_default(),
            || fields.text(Field::Key).map(Cow::into_owned),
            || fields.text(Field::DgramType).as_deref() == Some("udp6"),
        )
    }

    fn from_fields(
        name: &str,
        key: impl FnOnce() -> Option<String>,
        v6: impl FnOnce() -> bool,
    ) -> Result<Self, String> {
        Ok(match name {
            "net.Native" => Self::NetNative,
            "net.Server" => Self::NetServer,
            "net.Socket" => Self::NetSocket { key: key() },
            "dgram.Native" => Self::DgramNative,
            "dgram.Socket" => Self::DgramSocket { v6: v6() },
            _ => return Err(name.into()),
        })
    }
}

impl fmt::Display for HandleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The fields of an internal message that anybody asks for, picked in one pass.
struct Fields<'a>([Option<&'a RawValue>; Field::COUNT]);

macro_rules! fields {
    ($($field:ident = $name:literal),* $(,)?) => {
        #[derive(Clone, Copy)]
        enum Field { $($field),* }
        impl Field { const COUNT: usize = [$($name),*].len(); }
        impl Fields<'_> { const NAMES: [&'static str; Field::COUNT] = [$($name),*]; }
    };
}

fields! {
    Cmd = "cmd", Type = "type", Msg = "msg", Key = "key", DgramType = "dgramType", Act = "act",
    Ack = "ack", Seq = "seq", Accepted = "accepted", Errno = "errno", Data = "data",
    Sockname = "sockname", Address = "address", Port = "port", AddressType = "addressType", Fd = "fd",
    Flags = "flags", Backlog = "backlog", Index = "index", ReadableAll = "readableAll",
    WritableAll = "writableAll", Ganger = "ganger", Count = "count", TellCloses = "tellCloses",
    Message = "message", Place = "place", Backtrace = "backtrace",
    Report = "report", Over = "over",
}

impl<'a> Fields<'a> {
    /// The field unparsed; JavaScript's `null` counts as absent.
    fn raw(&self, field: Field) -> Option<&'a RawValue> {
        self.0[field as usize].filter(|raw| raw.get() != "null")
    }

    fn text(&self, field: Field) -> Option<Cow<'a, str>> {
        let raw = self.raw(field)?.get();
        let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(inner.into());
        }
        serde_json::from_str::<String>(raw).ok().map(Cow::from)
    }

    /// A number, however written (`3`, `3.0`, `"3"`).
    fn number(&self, field: Field) -> Option<i64> {
        let raw = self.raw(field)?.get();
        let digits = raw.trim_matches('"');
        digits.parse().ok().or_else(|| digits.parse::<f64>().ok().map(|float| float as i64))
    }

    fn flag(&self, field: Field) -> bool {
        self.raw(field).is_some_and(|raw| raw.get() == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cmd_longer_than_its_prefix_is_internal() {
        for user in [
            r#"{"cmd":"NODE_"}"#,
            r#"{"cmd":"node_x"}"#,
            r#"{"cmd":"xNODE_HANDLE"}"#,
            r#"{"cmd":["NODE_HANDLE"]}"#,
            r#"{"a":{"cmd":"NODE_HANDLE"}}"#,
            r#"["NODE_HANDLE"]"#,
            r#""NODE_HANDLE\n""#,
            "null",
            "7",
        ] {
            assert_eq!(decode(user).unwrap(), Line::User(user));
        }
        assert_eq!(decode(r#"{"cmd":"NODE_x"}"#).unwrap(), Line::Other);
        assert_eq!(decode(r#"{"\u0063md":"\u004eODE_HANDLE_NACK"}"#).unwrap(), Line::HandleNack);
        assert_eq!(decode(r#"{"cmd":"x","cmd":"NODE_HANDLE_ACK"}"#).unwrap(), Line::HandleAck);
    }

    #[test]
    fn a_lone_surrogate_is_a_users_business() {
        let line = r#"{"text":"\ud800"}"#;
        assert_eq!(decode(line).unwrap(), Line::User(line));
    }

    #[test]
    fn garbage_that_looks_internal_is_said_to_be_garbage() {
        let bad = decode(r#"{"cmd":"NODE_HANDLE"#).unwrap_err();
        assert!(bad.to_string().contains("NODE_HANDLE"), "{bad}");
    }

    #[test]
    fn handles_are_written_as_node_does() {
        let check = |kind: HandleKind, message: &str, expected: &str| {
            let mut out = Vec::new();
            write_handle(&mut out, &kind, message);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert_eq!(decode(expected).unwrap(), Line::Handle { kind: Ok(kind), message });
        };
        check(
            HandleKind::NetServer,
            r#"{"m":"srv"}"#,
            r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":{"m":"srv"}}"#,
        );
        check(
            HandleKind::NetSocket { key: Some("4:127.0.0.1:0".into()) },
            "\"s\"",
            r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"s","key":"4:127.0.0.1:0"}"#,
        );
        check(HandleKind::NetServer, "null", r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":null}"#);
        check(
            HandleKind::DgramSocket { v6: false },
            "",
            r#"{"cmd":"NODE_HANDLE","type":"dgram.Socket","dgramType":"udp4"}"#,
        );
    }

    #[test]
    fn an_unknown_type_is_named() {
        let line = decode(r#"{"cmd":"NODE_HANDLE","type":"net.BoundSocket","msg":1}"#).unwrap();
        assert_eq!(line, Line::Handle { kind: Err("net.BoundSocket".into()), message: "1" });
    }
}
