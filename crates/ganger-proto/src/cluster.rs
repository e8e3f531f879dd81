//! The cluster: what the primary and a worker decide, and the words between them and their drivers.
//!
//! [`Primary`] and [`Worker`] are machines: [`Input`]s go in with the time, [`Effect`]s come out. Both are
//! modelled on `lib/internal/cluster/{primary,child,round_robin_handle,shared_handle}.js`, with what Node
//! leaves out: a connection handed to a worker that then dies goes to another one.

mod listener;
pub mod primary;
pub mod schedule;
pub mod worker;

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

pub use primary::Primary;
pub use schedule::{Client, Policy, StickyBy, UnknownPolicy};
pub use worker::Worker;

use crate::{
    Generation, ListenerKey, Seq, Slot, SocketId, Time, WorkerId,
    node::{ClusterMessage, Query, Sockname, Target, hints::Report},
};

/// What is known of the client at the other end of a connection, as far as the policy asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who it is.
    pub client: Client,
    /// The kernel's number of our end's socket (`SO_COOKIE`), by which a survey finds it.
    pub cookie: Option<u64>,
}

/// How a slot's own socket comes to its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// It is the first: bound alone, so that a stranger on the port is found out, and opened to others afterwards.
    First,
    /// It joins the port of another one.
    With(SocketId),
}

/// What is known of the program at the other end of a channel, beyond Node's plain wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// How many connections may be under way to it for one socket. 1 is Node's own behaviour.
    pub window: u32,
    /// Whether it takes connections on a channel of their own.
    pub lane: bool,
    /// Whether it answers a `newconn` for an unknown key from its event loop.
    pub probe: bool,
    /// Whether it says when it has closed connections.
    pub tells_closes: bool,
}

impl Capabilities {
    /// Nothing is known: Node's plain wire, one hand-off at a time.
    pub const PLAIN: Self = Self { window: 1, lane: false, probe: false, tells_closes: false };
    /// A real Node: its receiver takes pipelined hand-offs and answers probes.
    pub const NODE: Self = Self { window: 32, lane: false, probe: true, tells_closes: false };
    /// A worker of this project.
    pub const GANGER: Self = Self { window: 32, lane: false, probe: true, tells_closes: true };
}

/// What happened to a primary. `C` is an accepted connection.
#[derive(Debug)]
pub enum Input<C> {
    /// A worker said something.
    Message {
        /// Who.
        worker: WorkerId,
        /// What.
        message: ClusterMessage,
    },
    /// The worker's end has the connection (ACK); our copy comes back.
    Delivered {
        /// Who has it.
        worker: WorkerId,
        /// The number of its `newconn`.
        seq: Seq,
        /// Our copy.
        connection: C,
    },
    /// The worker's end did not get the connection (NACK).
    Returned {
        /// Who did not.
        worker: WorkerId,
        /// The number of its `newconn`.
        seq: Seq,
        /// Our copy.
        connection: C,
    },
    /// The worker's channel was read to its end.
    ChannelClosed {
        /// Whose.
        worker: WorkerId,
        /// The connections that were never acknowledged, oldest first.
        undelivered: Vec<(Seq, C)>,
    },
    /// The worker's process was reaped.
    Exited {
        /// Who.
        worker: WorkerId,
    },
    /// The outcome of [`Effect::Bind`]: the address (none for a path), or a positive errno.
    Bound {
        /// Which socket.
        socket: SocketId,
        /// What came of it.
        outcome: Result<Option<Sockname>, i32>,
    },
    /// [`Effect::Close`] is done.
    Closed {
        /// Which socket.
        socket: SocketId,
    },
    /// A connection was accepted.
    Accepted {
        /// From which socket.
        socket: SocketId,
        /// The connection.
        connection: C,
        /// Who has come.
        peer: Peer,
    },
    /// The outcome of [`Effect::Peek`].
    Peeked {
        /// The listener that it came by.
        listener: SocketId,
        /// The connection.
        connection: C,
        /// Who has come.
        peer: Peer,
    },
    /// A survey of the kernel's sockets, if the primary [wants one](Primary::wants_survey).
    Surveyed {
        /// When it began.
        since: Time,
        /// The numbers ([`Peer::cookie`]) of all connections that some process has open.
        open: BTreeSet<u64>,
    },
    /// There are no surveys and there will be none: the kernel does not tell.
    SurveyRefused,
    /// The outcome of [`Effect::Examine`].
    Examined {
        /// The listener that it came by.
        listener: SocketId,
        /// The connection.
        connection: C,
        /// Who has come.
        peer: Peer,
        /// Whether nobody has read from it or written to it.
        untouched: bool,
    },
}

/// What a primary wants done.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect<C> {
    /// Send a message.
    Send {
        /// To whom.
        worker: WorkerId,
        /// What.
        message: ClusterMessage,
    },
    /// Send a message with a socket of ours; we keep our copy.
    SendSocket {
        /// To whom.
        worker: WorkerId,
        /// Which socket.
        socket: SocketId,
        /// Whether it is a datagram socket.
        datagram: bool,
        /// What.
        message: ClusterMessage,
    },
    /// Send a connection.
    SendConnection {
        /// To whom.
        worker: WorkerId,
        /// Its number, the tag under which its outcome is told.
        seq: Seq,
        /// The `newconn`.
        message: ClusterMessage,
        /// The connection.
        connection: C,
        /// Whether it may follow connections that are not acknowledged yet.
        pipelined: bool,
    },
    /// Bind a socket and, unless it is UDP, listen. The outcome is [`Input::Bound`].
    Bind {
        /// Its name from now on.
        socket: SocketId,
        /// Where.
        target: Target,
        /// The listen queue.
        backlog: u32,
        /// Whether others join it on its port.
        share: Option<Share>,
    },
    /// Lead new connections away from one of the sockets on a port, or no more.
    Steer {
        /// From which.
        socket: SocketId,
        /// Away from it.
        away: bool,
    },
    /// Wait for the first bytes of a connection, without taking them, for a limited time. The outcome is
    /// [`Input::Peeked`].
    Peek {
        /// The listener that it came by.
        listener: SocketId,
        /// The connection.
        connection: C,
        /// Who has come, as far as it is known.
        peer: Peer,
    },
    /// Start or stop accepting.
    Accept {
        /// From which socket.
        socket: SocketId,
        /// Start.
        on: bool,
    },
    /// Hand in what the kernel has completed as [`Input::Accepted`], and what is being peeked at as [`Input::Peeked`];
    /// then close the socket (and remove its file, if it is a path) and say [`Input::Closed`].
    Close {
        /// Which socket.
        socket: SocketId,
        /// Whether there can be connections in it: a datagram socket has none.
        dispatched: bool,
    },
    /// Look whether anybody has read from the connection or written to it.
    Examine {
        /// The listener that it came by.
        listener: SocketId,
        /// The connection.
        connection: C,
        /// Who has come.
        peer: Peer,
    },
    /// Close our copy.
    Drop {
        /// The connection.
        connection: C,
        /// Why.
        fate: Fate,
    },
    /// Tell whoever uses the primary.
    Event(Event),
}

/// How a connection left the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// A worker serves it.
    Accepted,
    /// Every worker refused it, for a second.
    Refused,
    /// Its worker died with it half served.
    Touched,
    /// Its socket is closed and nobody is left to serve it.
    Orphaned,
    /// It was none: it went with a question to a worker.
    Probe,
    /// It was [for one worker](Primary::hand_private).
    Private,
}

/// What the primary tells upwards, in Node's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// `online`: the worker runs.
    Online {
        /// Who.
        worker: WorkerId,
    },
    /// `listening`: the worker listens.
    Listening {
        /// Who.
        worker: WorkerId,
        /// Where, the port being the real one.
        query: Query,
    },
    /// The worker heeds [`Primary::drain`]: it has [hints](crate::node::hints), as its first report shows, or is one of ours.
    TakesHints {
        /// Who.
        worker: WorkerId,
    },
    /// The worker has said whether anything in it listens to `SIGTERM`, for the first time or otherwise than before.
    ListensToTerm {
        /// Who.
        worker: WorkerId,
        /// Whether.
        listens: bool,
    },
    /// The worker says that it is going to leave of its own accord.
    Leaving {
        /// Who.
        worker: WorkerId,
    },
    /// `disconnect`: the worker's channel is closed.
    Disconnect {
        /// Who.
        worker: WorkerId,
    },
    /// `exit`: the worker is dead and reaped.
    Exit {
        /// Who.
        worker: WorkerId,
        /// Node's `exitedAfterDisconnect`.
        exited_after_disconnect: bool,
    },
    /// A worker could not have the socket that it asked for; said once a socket, not once a worker.
    BindFailed {
        /// Who asked first.
        worker: WorkerId,
        /// For what.
        target: Target,
        /// The positive errno.
        errno: i32,
    },
    /// A worker has answered [`Primary::probe`].
    Probed {
        /// Who.
        worker: WorkerId,
        /// How long it took: its event loop's delay.
        lag: Duration,
    },
    /// A worker broke the cluster's rules; what it said was ignored, or answered with an error.
    Misbehaved {
        /// Who.
        worker: WorkerId,
        /// How.
        what: Misbehaviour,
    },
}

/// A breach of the cluster's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// It speaks of sockets and connections, and has not said that it runs. It is served all the same.
    #[error("it spoke as a worker before it was online")]
    BeforeOnline,
    /// It answered for a connection that it does not have.
    #[error("it answered for a connection that it was not given")]
    UnknownAnswer,
    /// It closed a key that it does not hold.
    #[error("it closed a socket that it does not hold")]
    UnknownKey,
    /// It asked for more sockets than one worker may hold.
    #[error("it asked for more than {} sockets", primary::MAX_SOCKETS)]
    TooManySockets,
    /// It asked for more sockets that nobody can have than are told of.
    #[error("it asked for more than {} sockets that cannot be had", primary::MAX_FAILURES)]
    TooManyFailures,
}

/// The state of a primary at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The workers, by id.
    pub workers: Vec<WorkerSnapshot>,
    /// What they listen on, by id.
    pub listeners: Vec<ListenerSnapshot>,
    /// What happened to connections so far.
    pub counters: Counters,
    /// What [`Policy::LeastConn`] goes by now; none with another policy.
    pub least_conn_by: Option<LeastConnBy>,
}

/// What [`Policy::LeastConn`] counts of a worker that neither tells what it closes nor reports how many connections it has; of one
/// that does it counts those that are open in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeastConnBy {
    /// The connections that it has open, by surveys of the kernel's sockets, and those that it has not answered for.
    Open,
    /// Only those that it was handed and has not answered for: the kernel does not tell which are open.
    UnderWay,
}

/// One worker in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkerSnapshot {
    /// Its id.
    pub id: WorkerId,
    /// Its place.
    pub slot: Slot,
    /// The state of the program that it was started from.
    pub generation: Generation,
    /// Node's `worker.state`.
    pub state: WorkerState,
    /// Whether it is out of dispatch for good.
    pub draining: bool,
    /// Whether it is [not in dispatch yet](Primary::hold_back).
    pub held_back: bool,
    /// Node's `exitedAfterDisconnect`, once it is known.
    pub exited_after_disconnect: Option<bool>,
    /// How many connections it was handed and has not answered for.
    pub under_way: usize,
    /// How many it has taken and not closed, where the policy is [`Policy::LeastConn`]; 0 elsewhere.
    pub open: u32,
    /// What it said last of how it is, if it has [hints](crate::node::hints).
    pub report: Option<Report>,
}

/// What a worker has of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// How many it was handed and has not answered for.
    pub under_way: usize,
    /// How many it has taken and not closed, where that is counted: with [`Policy::LeastConn`], and of those that
    /// [report](crate::node::hints) it.
    pub open: Option<u32>,
}

/// What workers listen on, in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ListenerSnapshot {
    /// The number of its first socket.
    pub id: SocketId,
    /// All that are open: one, or one a slot.
    pub sockets: Vec<SocketId>,
    /// What workers call it.
    pub key: ListenerKey,
    /// Its bound address; none for a path, or before it is bound.
    pub sockname: Option<Sockname>,
    /// The workers that hold it.
    pub holders: Vec<WorkerId>,
    /// Accepted connections that wait for a worker.
    pub waiting: usize,
}

/// Node's `worker.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerState {
    /// Started, not heard of yet.
    None,
    /// Running.
    Online,
    /// Listening somewhere.
    Listening,
    /// Its channel is closed.
    Disconnected,
    /// Reaped.
    Dead,
}

/// What happened to connections since the primary started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Accepted by the primary.
    pub accepted: u64,
    /// Served: a worker said so.
    pub served: u64,
    /// Taken back from a dead worker, for another one.
    pub rescued: u64,
    /// Closed because every worker refused them.
    pub refused: u64,
    /// Closed because their worker died with them half served.
    pub broken: u64,
    /// Closed because their socket was and nobody was left to serve them.
    pub orphaned: u64,
}
