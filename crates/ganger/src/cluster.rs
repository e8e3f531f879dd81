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
mod event;
mod events;
mod group;
mod listen;
mod listener;
pub mod messenger;
mod options;
mod orphans;
mod place;
mod primary;
mod running;
mod sockets;
mod worker;

use std::{ffi::OsString, io, path::PathBuf};

use ganger_proto::{Generation, Serialization, Slot, WorkerId};

use crate::{
    process::{SpawnError, Stdio},
    sys::process::own_executable,
};

pub use agent::{AgentError, AgentEvent, AgentInfo, AgentSettings};
pub use datagram::UdpSocket;
pub use endpoint::Endpoint;
pub use environment::inherited_policy;
pub use event::{Address, Event, WorkerFault};
pub use events::{Events, HELD, HELD_BYTES};
pub use ganger_proto::{
    cluster::{
        Counters, Held, LeastConnBy, ListenerSnapshot, Misbehaviour, Policy, Snapshot, StickyBy,
        UnknownPolicy, WorkerSnapshot, WorkerState,
    },
    node::{AddressType, Panic, Sockname, hints::Report},
    notify::Notification,
};
pub use group::Group;
pub use listen::Listen;
pub use listener::{Connection, Listener};
pub use messenger::{Letter, LetterError, To};
pub use primary::{Primary, WorkerHandle};
pub use running::Cluster;
pub use worker::{Agent, NewWorker, Worker, worker};

pub(crate) use worker::{NewAgent, Role, no_agent, take};

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
    /// Whether workers have a channel. Without one they cannot share ports by protocol, and leave only by a signal.
    /// Default: true.
    pub channel: bool,
    /// How values are written on their channels. Default: JSON.
    pub serialization: Serialization,
    /// Whether connections go to workers of this library on a [lane](crate::channel::Lane) of their own; to others they go on
    /// the channel in any case. Default: true.
    pub lane: bool,
    /// Whether their standard streams are pipes, to be had from [`WorkerHandle::take_streams`]: Node's `silent`. Default: no.
    pub silent: bool,
    /// What their stdout and stderr are, if they are not `silent`. Default: the primary's own.
    pub output: Stdio,
    /// What all their descriptors are, from 0 on, whatever the two above say: Node's `stdio`. The channel is where
    /// [`Stdio::Ipc`] stands in it, else behind the last; workers without a channel have `/dev/null` there. What it leaves out of
    /// the first three is a pipe, as in Node. Default: the standard streams, and the channel as 3.
    pub stdio: Option<Vec<Stdio>>,
    /// The user that they become, and the agent unless it has [one of its own](AgentSettings::uid). Default: the primary's.
    pub uid: Option<u32>,
    /// The group that they become, and the agent likewise. Default: the primary's.
    pub gid: Option<u32>,
    /// Exit codes by which the program says that it is not to be started again, for the [guard](crate::guard) of the workers;
    /// the cluster itself starts nobody again. Default: none.
    pub no_restart_codes: Vec<u8>,
    /// The port of a Node's inspector, where the worker's arguments (before the script) or its variable `NODE_OPTIONS`
    /// have it inspected (`--inspect` or one of its like): one for all, 0 for any. Default: one more for each worker, from
    /// that of the option or 9229 on, and any where the option says 0. No effect on other programs.
    pub inspect_port: Option<u16>,
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
    /// Whether workers that run `node` get a file before their program (`--require`, on their command line only) that
    /// reports how busy they are, and lets them lead their clients elsewhere before they go, see [`Primary::drain`]. It
    /// touches nothing of the program; without it the gang works, only coarser. No effect without a channel. Default: true.
    pub hints: bool,
    /// Whether such workers survive an uncaught exception for as long as it takes to finish what else they have: they
    /// listen no more, tell the primary, answer what is open, and end with code 1, after 30 s in any case. A program with
    /// an `uncaughtException` handler of its own decides for itself. No effect without [`Settings::hints`], but also
    /// without a channel. Default: false.
    pub graceful: bool,
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
            silent: false,
            output: Stdio::Inherit,
            stdio: None,
            uid: None,
            gid: None,
            no_restart_codes: Vec::new(),
            inspect_port: None,
            workers: 1,
            groups: Vec::new(),
            agent: None,
            messenger: false,
            hints: true,
            graceful: false,
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

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ForkError(#[from] pub(crate) SpawnError);
