//! Processes that share ports: Node's `cluster`, in both roles.
//!
//! A [`Primary`] forks workers, owns every listening socket and hands out connections; a [`Worker`] asks it
//! for sockets and serves. Either may have a real Node on the other side. A worker's socket stays open while
//! workers come and go, and a connection whose worker dies before it took it goes to another one.
//!
//! Nothing here restarts a worker: that is the [guard](crate::guard)'s, which uses the cluster as anybody
//! could.

mod agent;
mod datagram;
mod endpoint;
pub(crate) mod environment;
mod group;
mod listen;
mod listener;
pub mod messenger;
mod orphans;
mod primary;
mod sockets;
mod worker;

use std::{ffi::OsString, fmt, io, mem::discriminant, path::PathBuf};

use ganger_proto::{
    Generation, Serialization, Slot, WorkerId,
    node::{Query, Target},
    session::Fault,
};

use crate::{
    channel::Message,
    process::{Exit, SpawnError, Stdio},
    sys::process::own_executable,
};

pub use agent::{AgentError, AgentEvent, AgentInfo, AgentSettings};
pub use datagram::UdpSocket;
pub use endpoint::Endpoint;
pub use environment::inherited_policy;
pub use ganger_proto::cluster::{Counters, Misbehaviour, Policy, Snapshot, WorkerState};
pub use group::Group;
pub use listen::Listen;
pub use listener::{Connection, Listener};
pub use messenger::{Letter, LetterError, To};
pub use primary::Primary;
pub use worker::{NewWorker, Worker, worker};

pub(crate) use worker::take;

/// What workers are and how connections are shared out: Node's `cluster.settings`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The program that workers run. Default: this one.
    pub program: OsString,
    /// Its arguments. Default: this process's own.
    pub args: Vec<OsString>,
    /// Variables that workers have beside the primary's own.
    pub env: Vec<(OsString, OsString)>,
    /// Their working directory. Default: the primary's.
    pub cwd: Option<PathBuf>,
    /// Who accepts and who picks. Default: `NODE_CLUSTER_SCHED_POLICY`, else round robin.
    pub policy: Policy,
    /// Whether workers have a channel. Without one they cannot share ports by protocol. Default: true.
    pub channel: bool,
    /// How values are written on their channels. Default: JSON.
    pub serialization: Serialization,
    /// Whether connections go to workers of this library on a [lane](crate::channel::Lane) of their own; to others they go on
    /// the channel in any case. Default: true.
    pub lane: bool,
    /// What their stdout and stderr are. Default: the primary's own.
    pub output: Stdio,
    /// The gang's name, for `GANGER_NAME` and `GANGER_ID`. Default: the program's file name.
    pub name: String,
    /// How many slots there are meant to be, for `GANGER_WORKERS`. Default: 1.
    pub workers: u32,
    /// Workers of several programs side by side on the same ports. Each says for itself what it runs and in how many
    /// workers, in place of what is said of a program and of `workers` above. Default: none.
    pub groups: Vec<Group>,
    /// A process beside the workers. Default: none.
    pub agent: Option<AgentSettings>,
    /// Whether messages of workers and of the agent that are [letters](messenger) are carried to whom they are
    /// addressed; with an agent they are in any case. Default: false, and all that workers send is the primary's.
    pub messenger: bool,
}

impl Settings {
    /// Workers that run `program` without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        let program = program.into();
        Self {
            name: group::file_name(&program),
            program,
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            policy: inherited_policy().unwrap_or_default(),
            channel: true,
            serialization: Serialization::Json,
            lane: true,
            output: Stdio::Inherit,
            workers: 1,
            groups: Vec::new(),
            agent: None,
            messenger: false,
        }
    }

    /// Workers that run this program again, with the same arguments.
    ///
    /// # Errors
    /// If the path of this program cannot be found out.
    pub fn this_program() -> io::Result<Self> {
        Ok(Self { args: std::env::args_os().skip(1).collect(), ..Self::new(own_executable()?) })
    }
}

/// Which worker an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its number, never used again.
    pub id: WorkerId,
    /// Its place in the gang.
    pub slot: Slot,
    /// The state of the program that it was started from.
    pub generation: Generation,
    /// Its process.
    pub pid: i32,
    /// Which of [`Settings::groups`] it belongs to; 0 where there are none.
    pub group: usize,
}

/// What happens in a cluster, in Node's words and order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
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
    /// A worker sent a message.
    Message {
        /// Which.
        worker: WorkerInfo,
        /// What.
        message: Message,
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
    /// A [letter](messenger) to the primary.
    Letter(Letter),
    /// Something happened to the agent.
    Agent {
        /// Which.
        agent: AgentInfo,
        /// What.
        event: AgentEvent,
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
    /// Of the messenger: its letter was refused, which it has been told.
    #[error("a letter of it was refused: {0}")]
    Letter(messenger::Refusal),
    /// It does not read, and so much waits for it already that letters to it are lost.
    #[error("letters to it are lost: it does not read, and {} bytes wait for it", messenger::QUEUE)]
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

/// Where somebody listens. Shows as a person would write it: `:8000`, `127.0.0.1:8000`, `[::1]:80`,
/// `/run/app.sock`, `udp :53`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub(crate) Target);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |f: &mut fmt::Formatter<'_>, host: &str, port: u16| match host {
            "" | "::" | "0.0.0.0" => write!(f, ":{port}"),
            host if host.contains(':') => write!(f, "[{}]:{port}", host.escape_debug()),
            host => write!(f, "{}:{port}", host.escape_debug()),
        };
        match &self.0 {
            Target::Tcp { host, port: number, .. } => port(f, host.as_deref().unwrap_or(""), *number),
            Target::Udp { host, port: number, .. } => {
                f.write_str("udp ")?;
                port(f, host, *number)
            }
            // A worker chose the name, and it must not become a line of its own.
            Target::Unix { path, .. } => write!(f, "{}", path.escape_debug()),
            Target::Fd(fd) => write!(f, "descriptor {fd}"),
            Target::UdpFd(fd) => write!(f, "udp descriptor {fd}"),
        }
    }
}

impl Address {
    fn of(query: &Query) -> Option<Self> {
        query.target().map(Self)
    }
}

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ForkError(#[from] pub(crate) SpawnError);
