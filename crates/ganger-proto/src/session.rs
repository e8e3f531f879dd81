//! One end of a channel: bytes and descriptors on one side, messages and handles on the other.
//!
//! ```text
//!   send ──► held ──► out ──► poll_transmit        (held: waits behind a handle that is not acknowledged)
//!                      │
//!                   pending ◄── ACK / NACK ──►  Delivered / Returned
//!   Message ◄── cutter ◄── handle_input            (arrived: descriptors that no message has claimed yet)
//! ```
//!
//! The rules are those of `setupChannel` and `target._send` in Node's `lib/internal/child_process.js`:
//! everything waits behind a handle until its ACK, only ACK and NACK overtake. One thing is added: handles
//! sent as [`Order::Pipelined`] may follow one another unanswered, each in a write of its own.
//!
//! Invariants: a handle that was given to [`Session::send`] is in exactly one place until it comes back as
//! [`Event::Delivered`], [`Event::Returned`] or from [`Session::take_undelivered`]. A barrier is alone in
//! `pending`. `departed <= pending.len()`. The session never answers a handle twice.

mod fault;
mod inbound;
mod lent;
mod outbound;
mod payload;
mod transfer;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use fault::Fault;
pub(crate) use payload::Form;
pub use payload::{ParseError, Payload, Serialization, WriteError};

use crate::{
    node::{ClusterMessage, HandleKind, LentMessage, Panic},
    wire::json,
};
use inbound::Cutter;
use lent::Books;

/// From this many unwritten bytes on `send` reports [`Flow::Full`]; Node's mark (65 536 × 2).
pub const HIGH_WATER_MARK: usize = 128 << 10;
/// How often a refused handle is sent again (`MAX_HANDLE_RETRANSMISSIONS` in Node).
const MAX_RETRANSMISSIONS: u32 = 3;
/// Descriptors that may wait for their line; a peer has no reason to come near.
const MAX_ARRIVED: usize = 256;

/// One end of a channel. `H` is a descriptor in the shell and may be an integer in tests.
#[derive(Debug, Serialize, Deserialize)]
pub struct Session<H> {
    limits: Limits,
    phase: Phase,
    cutter: Cutter,
    /// Descriptors whose message is not complete yet, oldest first.
    arrived: VecDeque<H>,
    /// What is to be written, in order.
    out: VecDeque<Frame>,
    /// How much of the first frame is written, from its `start` on.
    written: usize,
    /// Unacknowledged handles, oldest first; the first `departed` of them have left.
    pending: VecDeque<Pending<H>>,
    departed: usize,
    /// What waits behind `pending`.
    held: VecDeque<Held<H>>,
    books: Books,
    /// Bytes in `out` and `held`.
    queued: usize,
    /// Bytes of answers in `out`.
    owed: usize,
    events: VecDeque<Event<H>>,
}

/// What a session takes from its peer and from its owner.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// The longest message, in bytes. Default: 64 MiB.
    pub line: usize,
    /// The most bytes that may wait to be written, and the most answers on top of them. Default: 64 MiB.
    pub queue: usize,
    /// Whether a user's message is checked to be a value before it is handed on. Off, nothing is parsed
    /// until somebody looks; a primary that guards others has it on. Default: off.
    pub validate: bool,
    /// The most bytes of messages that are kept for later while their receiver waits for something else. Default: 64 MiB.
    pub unread: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let most = json::DEFAULT_LIMIT;
        Self { line: most, queue: most, validate: false, unread: most }
    }
}

/// A handle on its way out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attachment<H> {
    /// The descriptor.
    pub handle: H,
    /// What the receiver restores it as.
    pub kind: HandleKind,
    /// The sender's name for it, given back with the outcome.
    pub tag: u64,
    /// Whether it may follow another one that is not acknowledged yet.
    pub order: Order,
}

/// How a handle stands to the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Waits for all before it and holds back all after it: Node's rule.
    Barrier,
    /// May follow unacknowledged handles of its own sort. A refusal gives it back at once.
    Pipelined,
}

/// Whether the queue has room; advice, as in Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Go on.
    Ready,
    /// Something already waits: better let it drain.
    Full,
}

/// A message that could not be sent, with the handle that comes back.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SendError<H> {
    /// Why.
    pub reason: SendErrorReason,
    /// What was to travel with it.
    pub handle: Option<H>,
}

impl<H> SendError<H> {
    fn new(reason: SendErrorReason, attachment: Option<Attachment<H>>) -> Self {
        Self { reason, handle: attachment.map(|attachment| attachment.handle) }
    }
}

/// Why a message could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorReason {
    /// Node's `ERR_IPC_CHANNEL_CLOSED`.
    #[error("the channel is closed")]
    Closed,
    /// More than [`Limits::queue`] bytes wait: the peer does not read.
    #[error("the peer does not read: too much waits to be sent")]
    QueueFull,
    /// It is not written in the channel's serialization, or says nothing at all.
    #[error("the message is not written in the channel's serialization")]
    Unspeakable,
}

/// What came of input.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event<H> {
    /// A user's message: one value (unvalidated unless [`Limits::validate`]).
    Message {
        /// The value; empty if a handle came without one.
        payload: Payload,
        /// What came with it.
        handle: Option<(HandleKind, H)>,
    },
    /// A message of the cluster.
    Cluster {
        /// What it says.
        message: ClusterMessage,
        /// What came with it.
        handle: Option<H>,
    },
    /// An answer about sockets that were lent to the peer.
    Lent(LentMessage),
    /// The peer, a worker, says that something in it failed that nobody caught.
    Panic(Panic),
    /// The peer has the handle, or may have it (after a [`Fault`] that [is fatal](Fault::is_fatal) its answer
    /// is not read any more); our copy comes back.
    Delivered {
        /// [`Attachment::tag`].
        tag: u64,
        /// Our copy.
        handle: H,
    },
    /// The peer did not get the handle, and it was not or could not be sent again.
    Returned {
        /// [`Attachment::tag`].
        tag: u64,
        /// Our copy.
        handle: H,
    },
    /// The peer broke a rule. The session goes on, unless [`Fault::is_fatal`].
    Fault(Fault),
    /// The channel has ended; nothing follows.
    Disconnected,
}

/// The next bytes to write. A handle belongs to their first byte, in one `sendmsg`.
#[derive(Debug)]
pub struct Transmit<'a, H> {
    /// At least one byte.
    pub bytes: &'a [u8],
    /// The descriptor that rides on the first of them.
    pub handle: Option<&'a H>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Connected,
    /// `disconnect` was called; what waits is still sent.
    Disconnecting,
    Closed,
}

#[derive(Debug, Serialize, Deserialize)]
struct Frame {
    bytes: Vec<u8>,
    /// What stands before it is not written.
    start: usize,
    /// The handle is the first of `pending` that has not departed.
    carries_handle: bool,
    /// How much of it is answers to the peer's handles.
    answers: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pending<H> {
    attachment: Attachment<H>,
    /// What it travels with, kept for as long as it may have to be sent again.
    message: Option<Vec<u8>>,
    retransmissions: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Held<H> {
    message: Vec<u8>,
    attachment: Option<Attachment<H>>,
}

impl<H> Session<H> {
    /// A connected session that speaks JSON.
    pub fn new(limits: Limits) -> Self {
        Self::with_serialization(Serialization::Json, limits)
    }

    /// A connected session.
    pub fn with_serialization(serialization: Serialization, limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Connected,
            cutter: Cutter::new(serialization, &limits),
            arrived: VecDeque::new(),
            out: VecDeque::new(),
            written: 0,
            pending: VecDeque::new(),
            departed: 0,
            held: VecDeque::new(),
            books: Books::default(),
            queued: 0,
            owed: 0,
            events: VecDeque::new(),
        }
    }

    /// How values are written on it.
    pub fn serialization(&self) -> Serialization {
        self.cutter.serialization()
    }

    /// Whether messages can be sent: neither side has ended the channel.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether something waits to be written.
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether all that was sent is written; what waits behind a handle is not.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.held.is_empty()
    }

    /// What it takes from its peer and its owner.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many bytes wait to be written, those behind a handle included.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Whether the driver should close the socket: `disconnect` was called and all is delivered, or the
    /// peer has ended the channel.
    pub fn wants_close(&self) -> bool {
        match self.phase {
            Phase::Connected => false,
            Phase::Disconnecting => self.out.is_empty() && self.pending.is_empty() && self.held.is_empty(),
            Phase::Closed => true,
        }
    }

    /// Ends the channel when all that was sent before is delivered. There is no message for it on the
    /// wire: the peer sees the end of the stream.
    pub fn disconnect(&mut self) {
        if self.phase == Phase::Connected {
            self.phase = Phase::Disconnecting;
        }
    }

    /// What came of the input, in order.
    pub fn poll_event(&mut self) -> Option<Event<H>> {
        self.events.pop_front()
    }

    /// The handles that are not acknowledged, oldest first, with their tags. After the channel has ended
    /// they go home.
    pub fn take_undelivered(&mut self) -> impl Iterator<Item = (u64, H)> + use<H> {
        self.departed = 0;
        self.out.clear();
        self.written = 0;
        self.queued = 0;
        self.owed = 0;
        let held = std::mem::take(&mut self.held).into_iter().filter_map(|held| held.attachment);
        let pending = std::mem::take(&mut self.pending).into_iter().map(|pending| pending.attachment);
        pending.chain(held).map(|attachment| (attachment.tag, attachment.handle))
    }

    fn fault(&mut self, fault: Fault) {
        let (fatal, all_read) = (fault.is_fatal(), matches!(fault, Fault::Truncated { .. }));
        self.events.push_back(Event::Fault(fault));
        if fatal && !all_read {
            // Their ACKs may stand in what nobody reads any more.
            for Pending { attachment: Attachment { tag, handle, .. }, .. } in
                self.pending.drain(..self.departed)
            {
                self.events.push_back(Event::Delivered { tag, handle });
            }
            self.departed = 0;
        }
        if fatal {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.arrived.clear();
            self.events.push_back(Event::Disconnected);
        }
    }
}
