//! What a `NODE_CLUSTER` message says, in both directions.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Field, Fields,
    hints::{self, Report},
    object::Object,
};
use crate::{ListenerKey, Seq};

/// A message of the cluster: what it says, and the sender's running number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterMessage {
    /// The sender's running number. Absent in odd messages; an answer is then impossible.
    pub seq: Option<Seq>,
    /// What it says.
    pub act: Act,
}

/// What a cluster message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Act {
    /// Worker: "I have started."
    Online {
        /// The version of ganger's own extensions that the worker speaks, if it is not Node.
        ganger: Option<u32>,
    },
    /// Worker: "I want to listen there."
    QueryServer(Query),
    /// Worker: "I listen." The query again, its port replaced by the real one.
    Listening(Query),
    /// Worker: "My server on this key is closed."
    Close {
        /// The key of the reply to the query.
        key: ListenerKey,
    },
    /// Worker: "I am about to leave of my own accord"; it leaves when this is answered.
    ExitedAfterDisconnect,
    /// Worker: the answer to [`Act::NewConn`].
    Accepted {
        /// The `seq` of the connection's message.
        ack: Seq,
        /// Whether the worker keeps the connection.
        accepted: bool,
    },
    /// Worker of ours: "I have closed connections", where the reply to its query asked for that.
    Closes {
        /// How many since it said so last.
        count: u32,
    },
    /// A worker with [hints](hints): "So it stands with me." It gets no answer.
    Report(Report),
    /// Primary, to a worker of ours or with [hints](hints): "Have your clients go"; it goes on serving those that do not. It
    /// gets no answer.
    Drain,
    /// Primary, to such a worker: "End the connections that you still have, one after another." It gets no answer.
    Shed {
        /// How long it takes to the last one; in whole milliseconds.
        over: Duration,
    },
    /// Primary: the reply to a query. With a descriptor the worker accepts by itself.
    QueryReply {
        /// The `seq` of the query.
        ack: Seq,
        /// What worker and primary call the socket from now on.
        key: ListenerKey,
        /// A negative errno for failure; Node writes 0 for a shared socket and null for round robin.
        errno: Option<i32>,
        /// The `data` of the first query for this key that has some (TLS ticket keys), as raw JSON; in errors too.
        data: Option<Box<str>>,
        /// The bound address; absent for Unix-domain sockets and shared ones.
        sockname: Option<Sockname>,
        /// Whether the worker is to say how many connections it closes: only a worker of ours is asked.
        tell_closes: bool,
    },
    /// Primary: a connection, which travels with the message.
    NewConn {
        /// The socket that it was accepted from.
        key: ListenerKey,
    },
    /// Primary: "Close your servers, finish what you have, leave."
    Disconnect,
    /// Primary: the answer to [`Act::ExitedAfterDisconnect`].
    Ack {
        /// The `seq` of that message.
        ack: Seq,
    },
    /// Nothing that this side knows: ignored, as in Node.
    Unknown,
}

/// The second field of an address: Node's `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressType {
    /// `4`.
    V4,
    /// `6`.
    V6,
    /// `-1`: a Unix-domain path.
    Pipe,
    /// `"udp4"`.
    Udp4,
    /// `"udp6"`.
    Udp6,
    /// `null`: an inherited descriptor.
    Null,
}

/// What a worker asks to listen on, field by field as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Tells apart several requests for the same address in one worker.
    pub index: u32,
    /// `data`, raw JSON: a TLS server's ticket keys.
    pub data: Option<Box<str>>,
    /// A numeric address, a path, or none.
    pub address: Option<String>,
    /// The port; -1 for a path.
    pub port: Option<i64>,
    /// What kind of address it is.
    pub address_type: AddressType,
    /// A descriptor of the primary; -1 for UDP.
    pub fd: Option<i64>,
    /// libuv's bind flags: 1 = IPv6 only, 4 = SO_REUSEADDR (UDP).
    pub flags: Option<i64>,
    /// The listen queue; `None` = Node's default of 511.
    pub backlog: Option<u32>,
    /// The socket file may be read by all.
    pub readable_all: bool,
    /// The socket file may be written by all.
    pub writable_all: bool,
}

/// Where a query wants to listen, understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A TCP port. No host: all addresses, dual-stack where the machine can.
    Tcp {
        /// A numeric address, perhaps with a scope (`fe80::1%eth0`).
        host: Option<String>,
        /// 0 = any.
        port: u16,
        /// IPv6 without IPv4.
        ipv6_only: bool,
    },
    /// A Unix-domain path, absolute.
    Unix {
        /// The path.
        path: String,
        /// The socket file may be read by all.
        readable_all: bool,
        /// The socket file may be written by all.
        writable_all: bool,
    },
    /// A descriptor of the primary.
    Fd(i32),
    /// The same, of a UDP socket.
    UdpFd(i32),
    /// A UDP port.
    Udp {
        /// A numeric address.
        host: String,
        /// 0 = any.
        port: u16,
        /// IPv6 without IPv4.
        ipv6_only: bool,
        /// SO_REUSEADDR.
        reuse_addr: bool,
    },
}

impl Target {
    /// Whether datagrams arrive there, and no connections.
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp { .. } | Self::UdpFd(_))
    }
}

/// A bound address as `server.address()` returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockname {
    /// The numeric address.
    pub address: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The port.
    pub port: u16,
}

impl Query {
    /// A query for `target` in Node's form; what Node would not send is absent.
    pub fn new(target: &Target, backlog: Option<u32>) -> Self {
        let blank = Self {
            index: 0,
            data: None,
            address: None,
            port: None,
            address_type: AddressType::Null,
            fd: None,
            flags: None,
            backlog,
            readable_all: false,
            writable_all: false,
        };
        match target {
            Target::Tcp { host, port, ipv6_only } => Self {
                address: host.clone(),
                port: Some((*port).into()),
                address_type: if host.as_ref().is_some_and(|host| host.contains(':')) {
                    AddressType::V6
                } else {
                    AddressType::V4
                },
                flags: Some((*ipv6_only).into()),
                ..blank
            },
            Target::Unix { path, readable_all, writable_all } => Self {
                address: Some(path.clone()),
                port: Some(-1),
                address_type: AddressType::Pipe,
                readable_all: *readable_all,
                writable_all: *writable_all,
                ..blank
            },
            Target::Fd(fd) => Self { fd: Some((*fd).into()), ..blank },
            // Which of the two families it is the primary finds out.
            Target::UdpFd(fd) => Self { fd: Some((*fd).into()), address_type: AddressType::Udp4, ..blank },
            Target::Udp { host, port, ipv6_only, reuse_addr } => Self {
                address: Some(host.clone()),
                port: Some((*port).into()),
                address_type: if host.contains(':') { AddressType::Udp6 } else { AddressType::Udp4 },
                fd: Some(-1),
                flags: Some(i64::from(*ipv6_only) | i64::from(*reuse_addr) << 2),
                ..blank
            },
        }
    }

    /// Where it wants to listen; `None` if the fields do not fit together (EINVAL).
    pub fn target(&self) -> Option<Target> {
        let port = || self.port.and_then(|port| u16::try_from(port).ok());
        let flags = self.flags.unwrap_or(0);
        Some(match self.address_type {
            AddressType::Udp4 | AddressType::Udp6 => match self.fd {
                Some(fd) if fd >= 0 => Target::UdpFd(i32::try_from(fd).ok()?),
                _ => Target::Udp {
                    host: self.address.clone()?,
                    port: port().unwrap_or(0),
                    ipv6_only: flags & 1 != 0,
                    reuse_addr: flags & 4 != 0,
                },
            },
            AddressType::Pipe => Target::Unix {
                path: self.place()?.to_owned(),
                readable_all: self.readable_all,
                writable_all: self.writable_all,
            },
            AddressType::V4 | AddressType::V6 => {
                Target::Tcp { host: self.address.clone(), port: port()?, ipv6_only: flags & 1 != 0 }
            }
            AddressType::Null => Target::Fd(self.fd.and_then(|fd| i32::try_from(fd).ok())?),
        })
    }

    /// The key that workers share the socket by, as Node ≥ 22 makes it
    /// (`lib/internal/cluster/primary.js`, `queryServer`): the index counts only where the port is 0. An abstract name is the
    /// same wherever the worker runs.
    pub fn key(&self) -> ListenerKey {
        let address = self.place().unwrap_or("null");
        let port = self.port.map_or_else(|| "null".into(), |port| port.to_string());
        let fd = self.fd.map_or_else(|| "undefined".into(), |fd| fd.to_string());
        let key = format!("{address}:{port}:{}:{fd}", self.address_type.as_text());
        if self.port == Some(0) { format!("{key}:{}", self.index) } else { key }.as_str().into()
    }

    /// Its address. An abstract name begins with NUL, and Node resolves it like a path: `<the worker's directory>/\0name`.
    fn place(&self) -> Option<&str> {
        let address = self.address.as_deref()?;
        let is_pipe = self.address_type == AddressType::Pipe;
        let name = address.find('\0').filter(|_| is_pipe).map(|at| &address[at..]);
        Some(name.unwrap_or(address))
    }

    fn read(fields: &Fields<'_>) -> Self {
        Self {
            index: fields.number(Field::Index).and_then(|index| u32::try_from(index).ok()).unwrap_or(0),
            data: fields.raw(Field::Data).map(|data| data.get().into()),
            address: fields.text(Field::Address).map(Cow::into_owned),
            port: fields.number(Field::Port),
            address_type: AddressType::read(fields),
            fd: fields.number(Field::Fd),
            flags: fields.number(Field::Flags),
            // 0 and false mean the default; less than nothing is to the kernel as much as it takes.
            backlog: fields
                .number(Field::Backlog)
                .filter(|backlog| *backlog != 0)
                .map(|backlog| u32::try_from(backlog).unwrap_or(u32::MAX)),
            readable_all: fields.flag(Field::ReadableAll),
            writable_all: fields.flag(Field::WritableAll),
        }
    }

    fn write(&self, object: &mut Object<'_>) {
        object.number("index", self.index).raw("data", self.data.as_deref().unwrap_or("null"));
        match &self.address {
            Some(address) => object.text("address", address),
            None => object.raw("address", "null"),
        };
        match self.port {
            Some(port) => object.number("port", port),
            None => object.raw("port", "null"),
        };
        match self.address_type {
            AddressType::Udp4 | AddressType::Udp6 => object.text("addressType", self.address_type.as_text()),
            _ => object.raw("addressType", self.address_type.as_text()),
        };
        if let Some(fd) = self.fd {
            object.number("fd", fd);
        }
        if let Some(flags) = self.flags {
            object.number("flags", flags);
        }
        if !matches!(self.address_type, AddressType::Udp4 | AddressType::Udp6) {
            object.number("backlog", self.backlog.unwrap_or(0));
        }
        if self.readable_all {
            object.flag("readableAll", true);
        }
        if self.writable_all {
            object.flag("writableAll", true);
        }
    }
}

impl AddressType {
    fn as_text(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
            Self::Pipe => "-1",
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
            Self::Null => "null",
        }
    }

    fn read(fields: &Fields<'_>) -> Self {
        match fields.text(Field::AddressType).as_deref() {
            Some("udp4") => return Self::Udp4,
            Some("udp6") => return Self::Udp6,
            _ => {}
        }
        match fields.number(Field::AddressType) {
            Some(4) => Self::V4,
            Some(6) => Self::V6,
            Some(-1) => Self::Pipe,
            _ => Self::Null,
        }
    }
}

impl ClusterMessage {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let seq = |field| seq(fields, field);
        let key = || fields.text(Field::Key).map(|key| ListenerKey::from(&*key));
        let act = match (seq(Field::Ack), fields.text(Field::Act).as_deref()) {
            (Some(ack), None) => match (fields.raw(Field::Accepted), key()) {
                (Some(accepted), _) => Act::Accepted { ack, accepted: accepted.get() == "true" },
                (None, Some(key)) => Act::QueryReply {
                    ack,
                    key,
                    errno: fields.number(Field::Errno).and_then(|errno| i32::try_from(errno).ok()),
                    data: fields.raw(Field::Data).map(|data| data.get().into()),
                    sockname: fields
                        .raw(Field::Sockname)
                        .and_then(|sockname| serde_json::from_str(sockname.get()).ok()),
                    tell_closes: fields.flag(Field::TellCloses),
                },
                (None, None) => Act::Ack { ack },
            },
            (_, Some("online")) => Act::Online {
                ganger: fields.number(Field::Ganger).and_then(|version| u32::try_from(version).ok()),
            },
            (_, Some("queryServer")) => Act::QueryServer(Query::read(fields)),
            (_, Some("listening")) => Act::Listening(Query::read(fields)),
            (_, Some("close")) => key().map_or(Act::Unknown, |key| Act::Close { key }),
            (_, Some("exitedAfterDisconnect")) => Act::ExitedAfterDisconnect,
            (_, Some("newconn")) => key().map_or(Act::Unknown, |key| Act::NewConn { key }),
            (_, Some("disconnect")) => Act::Disconnect,
            (_, Some("closes")) => Act::Closes {
                count: fields.number(Field::Count).and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            },
            _ => Act::Unknown,
        };
        Self { seq: seq(Field::Seq), act }
    }

    /// A message of the hints.
    pub(super) fn of_hint(cmd: &str, fields: &Fields<'_>) -> Self {
        let act = match cmd {
            hints::DRAIN => Act::Drain,
            hints::SHED => {
                let over = fields.number(Field::Over).and_then(|over| u32::try_from(over).ok());
                Act::Shed { over: Duration::from_millis(over.unwrap_or(0).into()) }
            }
            _ => fields
                .raw(Field::Report)
                .and_then(|report| Report::read(report.get()))
                .map_or(Act::Unknown, Act::Report),
        };
        Self { seq: seq(fields, Field::Seq), act }
    }

    /// Appends the message as JSON, in Node's order of fields, without the newline.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::new(out);
        object.text(
            "cmd",
            match &self.act {
                Act::Report(_) => hints::REPORT,
                Act::Drain => hints::DRAIN,
                Act::Shed { .. } => hints::SHED,
                _ => "NODE_CLUSTER",
            },
        );
        let number = |seq: &Seq| i64::try_from(seq.0).unwrap_or(i64::MAX);
        match &self.act {
            Act::Online { ganger } => {
                object.text("act", "online");
                if let Some(version) = ganger {
                    object.number("ganger", *version);
                }
            }
            Act::QueryServer(query) => query.write(object.text("act", "queryServer")),
            Act::Listening(query) => query.write(object.text("act", "listening")),
            Act::Close { key } => drop(object.text("act", "close").text("key", key.as_str())),
            Act::ExitedAfterDisconnect => drop(object.text("act", "exitedAfterDisconnect")),
            Act::Accepted { ack, accepted } => {
                object.number("ack", number(ack)).flag("accepted", *accepted);
            }
            Act::Closes { count } => drop(object.text("act", "closes").number("count", *count)),
            Act::QueryReply { ack, key, errno, data, sockname, tell_closes } => {
                match errno {
                    Some(errno) => object.number("errno", *errno),
                    None => object.raw("errno", "null"),
                };
                object.text("key", key.as_str()).number("ack", number(ack));
                object.raw("data", data.as_deref().unwrap_or("null"));
                if let Some(Sockname { address, family, port }) = sockname {
                    let mut inner = Vec::new();
                    Object::new(&mut inner)
                        .text("address", address)
                        .text("family", family)
                        .number("port", *port)
                        .end();
                    object.raw("sockname", &String::from_utf8_lossy(&inner));
                }
                if *tell_closes {
                    object.flag("tellCloses", true);
                }
            }
            Act::NewConn { key } => drop(object.text("act", "newconn").text("key", key.as_str())),
            Act::Disconnect => drop(object.text("act", "disconnect")),
            // Numbers and flags always have a JSON.
            Act::Report(report) => {
                object.raw("report", &serde_json::to_string(report).unwrap_or_default());
            }
            Act::Drain => {}
            Act::Shed { over } => {
                object.number("over", u32::try_from(over.as_millis()).unwrap_or(u32::MAX));
            }
            Act::Ack { ack } => drop(object.number("ack", number(ack))),
            Act::Unknown => {}
        }
        if let Some(seq) = &self.seq {
            object.number("seq", number(seq));
        }
        object.end();
    }
}

fn seq(fields: &Fields<'_>, field: Field) -> Option<Seq> {
    fields.number(field).and_then(|number| u64::try_from(number).ok()).map(Seq)
}

#[cfg(test)]
mod tests;
