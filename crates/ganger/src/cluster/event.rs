//! What a primary tells whoever uses it.

use std::{fmt, io, mem::discriminant, sync::Arc, time::Duration};

use ganger_proto::{
    cluster::{Held, Misbehaviour},
    messenger::{Party, Sender},
    node::{AddressType, Panic, Query, Target},
    notify::Notification,
    session::Fault,
};

use super::{AgentEvent, AgentInfo, Letter, Settings, WorkerInfo, messenger};
use crate::{channel::Message, handle::Handle, process::Exit};

/// What happens in a cluster, in Node's words and order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// What workers are was set: at each [`Primary::setup`](super::Primary::setup), and before the first fork if there was none.
    /// (Node says it before every fork as well, whose `setupPrimary()` changes nothing.)
    Setup {
        /// What holds for the workers that are forked from now on.
        settings: Arc<Settings>,
    },
    /// A worker's process was started.
    Fork {
        /// Which.
        worker: WorkerInfo,
    },
    /// A worker runs: it has said its first word.
    Online {
        /// Which.
        worker: WorkerInfo,
    },
    /// A worker listens.
    Listening {
        /// Which.
        worker: WorkerInfo,
        /// Where.
        address: Address,
    },
    /// A worker sent a message, perhaps with a socket.
    Message {
        /// Which.
        worker: WorkerInfo,
        /// What.
        message: Message,
    },
    /// A socket that was sent to a worker did not arrive: it was refused as often as it was sent, or the worker's channel
    /// closed before it was acknowledged.
    Undelivered {
        /// Which.
        worker: WorkerInfo,
        /// The socket.
        handle: Handle,
    },
    /// A worker has answered [`Primary::probe`](super::Primary::probe).
    Probed {
        /// Which.
        worker: WorkerInfo,
        /// How long that took: its event loop's delay.
        lag: Duration,
    },
    /// A worker would heed [`Primary::drain`](super::Primary::drain): it is a Rust worker, or has [hints](Settings::hints) and has
    /// said for the first time how busy it is. What it says from then on is in [`Primary::report`](super::Primary::report).
    TakesHints {
        /// Which.
        worker: WorkerInfo,
    },
    /// A worker with [hints](Settings::hints) has said whether anything in it listens to `SIGTERM`, for the first time or
    /// otherwise than before: where nothing does, that signal just ends it.
    ListensToTerm {
        /// Which.
        worker: WorkerInfo,
        /// Whether.
        listens: bool,
    },
    /// A worker says that it is going to leave of its own accord.
    Leaving {
        /// Which.
        worker: WorkerInfo,
    },
    /// A worker's channel is closed.
    Disconnect {
        /// Which.
        worker: WorkerInfo,
    },
    /// A worker has ended and is reaped.
    Exit {
        /// Which.
        worker: WorkerInfo,
        /// How.
        exit: Exit,
        /// Node's `exitedAfterDisconnect`: it went because it was asked to, or said so before.
        exited_after_disconnect: bool,
        /// What it had of connections when its channel closed.
        held: Held,
    },
    /// A worker of this library says that something in it failed that nobody caught; it is going to leave. Said again, it adds
    /// the backtrace.
    Panicked {
        /// Which.
        worker: WorkerInfo,
        /// What.
        panic: Panic,
    },
    /// A worker could not have the socket that it asked for. It has been told; this is said once a socket.
    BindFailed {
        /// Which asked first.
        worker: WorkerInfo,
        /// For what.
        address: Address,
        /// Why.
        error: io::Error,
    },
    /// A worker has said something on the socket that its `NOTIFY_SOCKET` names.
    Notified {
        /// Which.
        worker: WorkerInfo,
        /// What.
        notification: Notification,
    },
    /// There is no place for the [hints](Settings::hints), nor for the sockets that `NOTIFY_SOCKET` names: workers are started
    /// without them. Said once.
    NoPlace {
        /// What was met in the best place.
        error: io::Error,
    },
    /// The kernel does not tell which connections are open (`inet_diag`), so `least-conn` counts of workers that do not tell
    /// themselves only what they have not answered for: see [`LeastConnBy`](super::LeastConnBy). Said once.
    NoSurvey {
        /// Why.
        error: io::Error,
    },
    /// A [letter](super::messenger) to the primary.
    Letter(Letter),
    /// Something happened to the agent.
    Agent {
        /// Which.
        agent: AgentInfo,
        /// What.
        event: AgentEvent,
    },
    /// Of [`Events`](super::Events) only: its reader was slow, and so many events are gone since it was last told. They were the
    /// oldest of whoever talked most; what is older than they were may still come.
    Lagged {
        /// How many.
        missed: u64,
    },
    /// A worker broke a rule of the wire or the cluster. What it said was ignored; the others do not notice.
    Fault {
        /// Which.
        worker: WorkerInfo,
        /// How.
        fault: WorkerFault,
    },
}

/// A rule that a worker broke.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerFault {
    /// Of the wire.
    #[error(transparent)]
    Wire(#[from] Fault),
    /// Of the cluster.
    #[error(transparent)]
    Cluster(#[from] Misbehaviour),
    /// Of its native lane.
    #[error("it wrote a packet on its lane that is none")]
    Lane,
    /// Of the messenger: its letter was refused, which it has been told.
    #[error("a letter of it was refused: {0}")]
    Letter(messenger::Refusal),
    /// It does not read, and so much waits for it already that letters to it are lost.
    #[error(
        "letters to it are lost: it does not read, and more than {} bytes would wait for it",
        messenger::QUEUE
    )]
    LettersLost,
}

impl WorkerFault {
    /// Whether nothing that the worker says can be believed any more.
    pub fn is_unforgivable(&self) -> bool {
        match self {
            Self::Wire(fault) => {
                matches!(
                    fault,
                    Fault::NotJson { .. }
                        | Fault::NotAdvanced { .. }
                        | Fault::TooLong { .. }
                        | Fault::Deaf { .. }
                        | Fault::BunCluster
                        | Fault::BunAdvanced
                )
            }
            Self::Lane => true,
            Self::Cluster(_) | Self::Letter(_) | Self::LettersLost => false,
        }
    }

    /// Whether it is the same rule, whatever else the two say.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wire(one), Self::Wire(other)) => discriminant(one) == discriminant(other),
            (Self::Letter(one), Self::Letter(other)) => one.code() == other.code(),
            (one, other) => one == other,
        }
    }
}

/// Where somebody listens, as Node says it. Shows as a person would write it: `:8000`, `127.0.0.1:8000`, `[::1]:80`,
/// `/run/app.sock`, `udp :53`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// A numeric address, or a path; none for all addresses, and for an inherited descriptor.
    pub address: Option<String>,
    /// The real port; -1 for a path. None for an inherited descriptor that has none.
    pub port: Option<i64>,
    /// What kind of address it is.
    pub address_type: AddressType,
    /// The primary's descriptor, where a worker listens on one; -1 for UDP.
    pub fd: Option<i64>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A worker chose the name, and it must not become a line of its own.
        let host = self.address.as_deref().unwrap_or_default().escape_debug();
        if matches!(self.address_type, AddressType::Udp4 | AddressType::Udp6) {
            f.write_str("udp ")?;
        }
        if let Some(fd) = self.fd.filter(|fd| *fd >= 0) {
            return write!(f, "descriptor {fd}");
        }
        if self.address_type == AddressType::Pipe {
            return write!(f, "{host}");
        }
        let port = self.port.unwrap_or_default();
        match self.address.as_deref().unwrap_or_default() {
            "" | "::" | "0.0.0.0" => write!(f, ":{port}"),
            address if address.contains(':') => write!(f, "[{host}]:{port}"),
            _ => write!(f, "{host}:{port}"),
        }
    }
}

impl From<Query> for Address {
    fn from(query: Query) -> Self {
        let Query { address, port, address_type, fd, .. } = query;
        Self { address, port, address_type, fd }
    }
}

impl From<Target> for Address {
    fn from(target: Target) -> Self {
        let v6 = |host: &str| host.contains(':');
        let (address, port, address_type, fd) = match target {
            Target::Tcp { host, port, .. } => {
                let v6 = host.as_deref().is_some_and(v6);
                (host, Some(port.into()), if v6 { AddressType::V6 } else { AddressType::V4 }, None)
            }
            Target::Udp { host, port, .. } => {
                let address_type = if v6(&host) { AddressType::Udp6 } else { AddressType::Udp4 };
                (Some(host), Some(port.into()), address_type, Some(-1))
            }
            Target::Unix { path, .. } => (Some(path), Some(-1), AddressType::Pipe, None),
            Target::Fd(fd) => (None, None, AddressType::Null, Some(fd.into())),
            Target::UdpFd(fd) => (None, None, AddressType::Udp4, Some(fd.into())),
        };
        Self { address, port, address_type, fd }
    }
}

impl Event {
    /// Who says this, if it may be said as often as somebody likes; none for what happens once to a worker or the agent, or
    /// what the primary's own user does.
    pub(super) fn talker(&self) -> Option<Party> {
        match self {
            Self::Listening { worker, .. }
            | Self::Message { worker, .. }
            | Self::Undelivered { worker, .. }
            | Self::ListensToTerm { worker, .. }
            | Self::Leaving { worker }
            | Self::Panicked { worker, .. }
            | Self::BindFailed { worker, .. }
            | Self::Probed { worker, .. }
            | Self::Notified { worker, .. }
            | Self::Fault { worker, .. } => Some(Party::Worker(worker.id)),
            Self::Letter(letter) => Some(match letter.from {
                Sender::Worker { id, .. } => Party::Worker(id),
                Sender::Agent { .. } => Party::Agent,
                _ => Party::Primary,
            }),
            Self::Agent {
                event:
                    AgentEvent::Message(_)
                    | AgentEvent::Panicked(_)
                    | AgentEvent::Fault(_)
                    | AgentEvent::Notified(_),
                ..
            } => Some(Party::Agent),
            Self::Setup { .. }
            | Self::NoPlace { .. }
            | Self::NoSurvey { .. }
            | Self::TakesHints { .. }
            | Self::Fork { .. }
            | Self::Online { .. }
            | Self::Disconnect { .. }
            | Self::Exit { .. }
            | Self::Agent { .. }
            | Self::Lagged { .. } => None,
        }
    }

    /// How many bytes of it its talker chose; what has a short bound of its own is not counted.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Message { message, .. } | Self::Agent { event: AgentEvent::Message(message), .. } => {
                message.payload().as_bytes().len()
            }
            Self::Letter(letter) => letter.data.as_bytes().len(),
            Self::Panicked { panic, .. } | Self::Agent { event: AgentEvent::Panicked(panic), .. } => {
                panic.message.len() + panic.backtrace.as_ref().map_or(0, String::len)
            }
            _ => 0,
        }
    }
}
