//! One end of a channel: bytes and descriptors on one side, messages and handles on the other.
//!
//! ```text
//!   send ──► held ──► out ──► poll_transmit        (held: waits behind a handle that is not acknowledged)
//!                      │
//!                   pending ◄── ACK / NACK ──►  Delivered / Returned
//!   Message ◄── lines ◄── handle_input             (arrived: descriptors that no line has claimed yet)
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
mod transfer;

use std::collections::VecDeque;

use memchr::memchr;
use serde::{Deserialize, Serialize};

pub use fault::Fault;

use crate::{
    node::{self, ClusterMessage, HandleKind, Line},
    wire::json::{self, Lines},
};

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
    lines: Lines,
    /// Descriptors whose line is not complete yet, oldest first.
    arrived: VecDeque<H>,
    /// What is to be written, in order.
    out: VecDeque<Frame>,
    /// How much of the first frame is written.
    written: usize,
    /// Unacknowledged handles, oldest first; the first `departed` of them have left.
    pending: VecDeque<Pending<H>>,
    departed: usize,
    /// What waits behind `pending`.
    held: VecDeque<Held<H>>,
    /// Bytes in `out` and `held`.
    queued: usize,
    events: VecDeque<Event<H>>,
}

/// What a session takes from its peer and from its owner.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// The longest line, in bytes. Default: 64 MiB.
    pub line: usize,
    /// The most bytes that may wait to be written. Default: 64 MiB.
    pub queue: usize,
    /// Whether a user's message is checked to be JSON before it is handed on. Off, nothing is parsed
    /// until somebody looks; a primary that guards others has it on. Default: off.
    pub validate: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: json::DEFAULT_LIMIT, queue: json::DEFAULT_LIMIT, validate: false }
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
}

/// What came of input.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event<H> {
    /// A user's message: one JSON value as text (unvalidated unless [`Limits::validate`]).
    Message {
        /// The value; empty if a handle came without one.
        json: String,
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
    /// The handle is the first of `pending` that has not departed.
    carries_handle: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pending<H> {
    attachment: Attachment<H>,
    /// What it travels with, kept for as long as it may have to be sent again.
    message: Option<String>,
    retransmissions: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Held<H> {
    message: String,
    attachment: Option<Attachment<H>>,
}

impl<H> Session<H> {
    /// A connected session.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Connected,
            lines: Lines::new(limits.line),
            arrived: VecDeque::new(),
            out: VecDeque::new(),
            written: 0,
            pending: VecDeque::new(),
            departed: 0,
            held: VecDeque::new(),
            queued: 0,
            events: VecDeque::new(),
        }
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

    /// Whether the driver should close the socket: `disconnect` was called and all is delivered, or the
    /// peer has ended the channel.
    pub fn wants_close(&self) -> bool {
        match self.phase {
            Phase::Connected => false,
            Phase::Disconnecting => self.out.is_empty() && self.pending.is_empty() && self.held.is_empty(),
            Phase::Closed => true,
        }
    }

    /// Takes what one `recvmsg` returned: the bytes, and the descriptors that came with them.
    pub fn handle_input(&mut self, bytes: &[u8], handles: impl IntoIterator<Item = H>) {
        if self.phase == Phase::Closed {
            return;
        }
        // A descriptor rides on the first byte of its message. So the end of an earlier line does not own
        // one that came now, if another line begins behind it: its own was lost.
        let begun = self.lines.pending() > 0;
        let next = memchr(b'\n', bytes).map(|end| end + 1).filter(|next| begun && *next < bytes.len());
        let (earlier, bytes) = bytes.split_at(next.unwrap_or(0));
        self.feed(earlier);
        if self.phase == Phase::Closed {
            return;
        }
        for handle in handles {
            if self.arrived.len() == MAX_ARRIVED {
                self.fault(Fault::Unannounced { count: 1 });
            } else {
                self.arrived.push_back(handle);
            }
        }
        self.feed(bytes);
    }

    /// The peer closed its end, or reading failed: Node treats both alike.
    pub fn handle_eof(&mut self) {
        if self.phase != Phase::Closed && self.lines.pending() > 0 {
            self.fault(Fault::Truncated { bytes: self.lines.pending() });
        }
        self.close();
    }

    /// Queues one JSON value (no newline in it), and the handle that travels with it.
    pub fn send(&mut self, message: &str, attachment: Option<Attachment<H>>) -> Result<Flow, SendError<H>> {
        let refuse = |reason, attachment: Option<Attachment<H>>| {
            Err(SendError { reason, handle: attachment.map(|attachment| attachment.handle) })
        };
        if self.phase != Phase::Connected {
            return refuse(SendErrorReason::Closed, attachment);
        }
        if self.queued + message.len() > self.limits.queue {
            return refuse(SendErrorReason::QueueFull, attachment);
        }
        if self.held.is_empty() && self.may_leave(attachment.as_ref()) {
            self.emit(message, attachment);
        } else {
            self.queued += message.len();
            self.held.push_back(Held { message: message.into(), attachment });
        }
        let full = self.queued >= HIGH_WATER_MARK || self.held.len() > 1;
        Ok(if full { Flow::Full } else { Flow::Ready })
    }

    /// Ends the channel when all that was sent before is delivered. There is no message for it on the
    /// wire: the peer sees the end of the stream.
    pub fn disconnect(&mut self) {
        if self.phase == Phase::Connected {
            self.phase = Phase::Disconnecting;
        }
    }

    /// What to write next.
    pub fn poll_transmit(&self) -> Option<Transmit<'_, H>> {
        let frame = self.out.front()?;
        let handle = (frame.carries_handle && self.written == 0)
            .then(|| &self.pending[self.departed].attachment.handle);
        Some(Transmit { bytes: &frame.bytes[self.written..], handle })
    }

    /// The first `count` bytes of the last [`Session::poll_transmit`] were written, its handle with them.
    pub fn transmitted(&mut self, count: usize) {
        let Some(frame) = self.out.front() else { return };
        if count > 0 && self.written == 0 && frame.carries_handle {
            self.departed += 1;
        }
        self.written += count;
        self.queued = self.queued.saturating_sub(count);
        if self.written == frame.bytes.len() {
            self.out.pop_front();
            self.written = 0;
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
        let held = std::mem::take(&mut self.held).into_iter().filter_map(|held| held.attachment);
        let pending = std::mem::take(&mut self.pending).into_iter().map(|pending| pending.attachment);
        pending.chain(held).map(|attachment| (attachment.tag, attachment.handle))
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        let fed = lines.feed(bytes, |line| self.handle_line(line));
        self.lines = lines;
        if let Err(too_long) = fed {
            self.fault(Fault::TooLong { limit: too_long.limit });
        }
        // A descriptor arrives with the chunk in which its line begins or goes on, never before.
        if self.lines.pending() == 0 && !self.arrived.is_empty() {
            let count = self.arrived.len();
            self.arrived.clear();
            self.fault(Fault::Unannounced { count });
        }
    }

    fn handle_line(&mut self, line: &[u8]) {
        if self.phase == Phase::Closed {
            return;
        }
        if line.first() == Some(&2) {
            return self.fault(Fault::BunCluster);
        }
        let text = json::text(line);
        match node::decode(&text) {
            Ok(Line::User(json)) if self.limits.validate && !json::is_valid(json) => {
                self.fault(Fault::NotJson { start: json.chars().take(60).collect() });
            }
            Ok(Line::User(json)) => {
                self.events.push_back(Event::Message { json: json.into(), handle: None });
            }
            Ok(Line::Cluster(message)) => self.events.push_back(Event::Cluster { message, handle: None }),
            Ok(Line::Handle { kind, message }) => self.handle_handle(kind, message),
            Ok(Line::HandleAck) => self.handle_answer(true),
            Ok(Line::HandleNack) => self.handle_answer(false),
            Ok(Line::Other) => {}
            Err(bad) => self.fault(Fault::NotJson { start: bad.start }),
        }
    }

    /// A handle is answered before anything else is done with it, and exactly once.
    fn handle_handle(&mut self, kind: Result<HandleKind, String>, message: &str) {
        let Some(handle) = self.arrived.pop_front() else {
            return self.answer(node::HANDLE_NACK);
        };
        self.answer(node::HANDLE_ACK);
        let inner = if message.is_empty() { Ok(Line::User("")) } else { node::decode(message) };
        match (kind, inner) {
            // What Node sends again after a NACK is wrapped twice; it wants one answer all the same.
            (Ok(_), Ok(Line::Handle { kind: Ok(kind), message })) => {
                self.events.push_back(Event::Message { json: message.into(), handle: Some((kind, handle)) });
            }
            (Ok(_), Ok(Line::Cluster(message))) => {
                self.events.push_back(Event::Cluster { message, handle: Some(handle) });
            }
            (Ok(kind), Ok(Line::User(json))) => {
                self.events.push_back(Event::Message { json: json.into(), handle: Some((kind, handle)) });
            }
            (Err(kind), _) | (_, Ok(Line::Handle { kind: Err(kind), .. })) => {
                self.fault(Fault::UnknownHandle { kind });
            }
            // An internal message that is nothing to us, and so is its handle.
            (Ok(_), _) => {}
        }
    }

    fn handle_answer(&mut self, received: bool) {
        if self.departed == 0 {
            return self.fault(Fault::UnexpectedAck);
        }
        self.departed -= 1;
        let Some(mut pending) = self.pending.pop_front() else { return };
        let again =
            pending.attachment.order == Order::Barrier && pending.retransmissions < MAX_RETRANSMISSIONS;
        let Attachment { tag, .. } = pending.attachment;
        match pending.message.take() {
            _ if received => {
                self.events.push_back(Event::Delivered { tag, handle: pending.attachment.handle });
            }
            Some(message) if again => {
                self.put_on_wire(&message, pending.attachment, pending.retransmissions + 1);
            }
            _ => self.events.push_back(Event::Returned { tag, handle: pending.attachment.handle }),
        }
        while self.held.front().is_some_and(|held| self.may_leave(held.attachment.as_ref())) {
            if let Some(Held { message, attachment }) = self.held.pop_front() {
                self.queued = self.queued.saturating_sub(message.len());
                self.emit(&message, attachment);
            }
        }
    }

    /// Whether a message may go out now, given what is unacknowledged.
    fn may_leave(&self, attachment: Option<&Attachment<H>>) -> bool {
        let pipelined = |attachment: &Attachment<H>| attachment.order == Order::Pipelined;
        match self.pending.front() {
            None => true,
            // A barrier is alone in `pending`, so the first tells for all.
            Some(first) => pipelined(&first.attachment) && attachment.is_some_and(pipelined),
        }
    }

    fn emit(&mut self, message: &str, attachment: Option<Attachment<H>>) {
        match attachment {
            Some(attachment) => self.put_on_wire(message, attachment, 0),
            None => self.append(message),
        }
    }

    fn put_on_wire(&mut self, message: &str, attachment: Attachment<H>, retransmissions: u32) {
        let mut bytes = Vec::with_capacity(message.len() + 64);
        node::write_handle(&mut bytes, &attachment.kind, message);
        bytes.push(b'\n');
        self.queued += bytes.len();
        self.out.push_back(Frame { bytes, carries_handle: true });
        let message = (attachment.order == Order::Barrier).then(|| message.into());
        self.pending.push_back(Pending { attachment, message, retransmissions });
    }

    /// A plain line may share a write with the plain lines before it, never with a handle.
    fn append(&mut self, line: &str) {
        self.queued += line.len() + 1;
        match self.out.back_mut() {
            Some(frame) if !frame.carries_handle && frame.bytes.len() < HIGH_WATER_MARK => {
                frame.bytes.extend_from_slice(line.as_bytes());
                frame.bytes.push(b'\n');
            }
            _ => {
                let mut bytes = Vec::with_capacity(line.len() + 1);
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
                self.out.push_back(Frame { bytes, carries_handle: false });
            }
        }
    }

    fn answer(&mut self, answer: &str) {
        if self.queued > self.limits.queue {
            return self.fault(Fault::Deaf { bytes: self.queued });
        }
        self.append(answer);
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
