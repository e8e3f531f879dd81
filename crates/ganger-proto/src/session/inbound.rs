//! What comes in: bytes and descriptors become messages and handles.

use std::borrow::Cow;

use memchr::memchr;
use serde::{Deserialize, Serialize};

use super::{Event, Fault, Form, Limits, MAX_ARRIVED, Payload, Phase, Serialization, Session};
use crate::{
    node::{
        self, ClusterMessage, HandleKind, LentMessage, Line, Panic,
        advanced::{self, Frame},
    },
    wire::{
        frames::Frames,
        json::{self, Lines},
        v8::{ReadError, Wrong},
    },
};

/// Cuts the stream, in the channel's serialization.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Cutter {
    Json(Lines),
    Advanced(Frames),
}

impl Cutter {
    pub(super) fn new(serialization: Serialization, limits: &Limits) -> Self {
        match serialization {
            Serialization::Json => Self::Json(Lines::new(limits.line)),
            Serialization::Advanced => Self::Advanced(Frames::new(limits.line)),
        }
    }

    pub(super) fn serialization(&self) -> Serialization {
        match self {
            Self::Json(_) => Serialization::Json,
            Self::Advanced(_) => Serialization::Advanced,
        }
    }

    /// How many bytes of an unfinished message are held.
    pub(super) fn pending(&self) -> usize {
        match self {
            Self::Json(lines) => lines.pending(),
            Self::Advanced(frames) => frames.pending(),
        }
    }

    /// How many bytes of a chunk belong to the message that is unfinished.
    fn continued(&self, chunk: &[u8]) -> usize {
        match self {
            Self::Json(lines) if lines.pending() == 0 => 0,
            Self::Json(_) => memchr(b'\n', chunk).map_or(chunk.len(), |end| end + 1),
            Self::Advanced(frames) => frames.continued(chunk),
        }
    }
}

/// What one message turned out to be, in either serialization.
enum Meaning {
    User(Payload),
    Handle { kind: Result<HandleKind, String>, message: Payload },
    Answer { received: bool },
    Cluster(ClusterMessage),
    Lent(LentMessage),
    Panic(Panic),
    Nothing,
    Broken(Fault),
}

impl<H> Session<H> {
    /// Takes what one `recvmsg` returned: the bytes, and the descriptors that came with them.
    pub fn handle_input(&mut self, bytes: &[u8], handles: impl IntoIterator<Item = H>) {
        if self.phase == Phase::Closed {
            return;
        }
        // A descriptor rides on the first byte of its message. So the end of an earlier message does not own
        // one that came now, if another one begins behind it: its own was lost.
        let continued = self.cutter.continued(bytes);
        let (earlier, bytes) = bytes.split_at(if continued < bytes.len() { continued } else { 0 });
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
        if self.phase != Phase::Closed && self.cutter.pending() > 0 {
            self.fault(Fault::Truncated { bytes: self.cutter.pending() });
        }
        self.close();
    }

    fn feed(&mut self, bytes: &[u8]) {
        let limit = self.limits.line;
        let fed = match &mut self.cutter {
            Cutter::Json(lines) => {
                let mut lines = std::mem::take(lines);
                let fed = lines.feed(bytes, |line| self.handle_line(line)).map_err(drop);
                self.cutter = Cutter::Json(lines);
                fed
            }
            Cutter::Advanced(frames) => {
                let mut frames = std::mem::take(frames);
                if frames.pending() == 0 && bytes.starts_with(BUN) {
                    return self.fault(Fault::BunAdvanced);
                }
                let fed = frames.feed(bytes, |payload| self.handle_payload(payload)).map_err(drop);
                self.cutter = Cutter::Advanced(frames);
                fed
            }
        };
        // A message of it has ended the channel: nothing follows.
        if self.phase == Phase::Closed {
            return;
        }
        if fed.is_err() {
            self.fault(Fault::TooLong { limit });
        }
        // A descriptor arrives with the chunk in which its message begins or goes on, never before.
        if self.cutter.pending() == 0 && !self.arrived.is_empty() {
            let count = self.arrived.len();
            self.arrived.clear();
            self.fault(Fault::Unannounced { count });
        }
    }

    fn handle_line(&mut self, line: Cow<'_, [u8]>) {
        if self.phase == Phase::Closed {
            return;
        }
        if line.first() == Some(&2) {
            return self.fault(Fault::BunCluster);
        }
        self.handle_meaning(Meaning::of_line(json::text(line)));
    }

    fn handle_payload(&mut self, payload: Cow<'_, [u8]>) {
        if self.phase != Phase::Closed {
            self.handle_meaning(Meaning::of_payload(payload));
        }
    }

    fn handle_meaning(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::User(payload) => match self.broken(&payload) {
                None => self.events.push_back(Event::Message { payload, handle: None }),
                Some(fault) => self.fault(fault),
            },
            Meaning::Cluster(message) => self.events.push_back(Event::Cluster { message, handle: None }),
            Meaning::Lent(message) => self.handle_lent(message),
            Meaning::Panic(panic) => self.events.push_back(Event::Panic(panic)),
            Meaning::Handle { kind, message } => self.handle_handle(kind, message),
            Meaning::Answer { received } => self.handle_answer(received),
            Meaning::Nothing => {}
            Meaning::Broken(fault) => self.fault(fault),
        }
    }

    /// What is wrong with a message that came without a handle.
    fn broken(&self, payload: &Payload) -> Option<Fault> {
        // Nothing at all is no value, and would be taken for the `undefined` of a handle without a message.
        let error = match if self.limits.validate { payload.check() } else { Ok(()) } {
            Ok(()) if !payload.is_empty() => return None,
            Ok(()) => NOTHING.to_string(),
            Err(error) => error.to_string(),
        };
        Some(match payload.serialization() {
            Serialization::Json => {
                let text = String::from_utf8_lossy(payload.as_bytes());
                Fault::NotJson { start: start(&text) }
            }
            Serialization::Advanced => Fault::NotAdvanced { error },
        })
    }

    /// A handle is answered before anything else is done with it, and exactly once.
    fn handle_handle(&mut self, kind: Result<HandleKind, String>, message: Payload) {
        let Some(handle) = self.arrived.pop_front() else { return self.answer(false) };
        self.answer(true);
        // The answer was one too many for a peer that reads none.
        if self.phase == Phase::Closed {
            return;
        }
        match (kind, Meaning::of(message)) {
            // What Node sends again after a NACK is wrapped twice; it wants one answer all the same.
            (Ok(_), Meaning::Handle { kind: Ok(kind), message: payload }) => {
                self.note_lent(&kind);
                self.events.push_back(Event::Message { payload, handle: Some((kind, handle)) });
            }
            (Ok(_), Meaning::Cluster(message)) => {
                self.events.push_back(Event::Cluster { message, handle: Some(handle) });
            }
            (Ok(kind), Meaning::User(payload)) => {
                self.note_lent(&kind);
                self.events.push_back(Event::Message { payload, handle: Some((kind, handle)) });
            }
            (Err(kind), _) | (_, Meaning::Handle { kind: Err(kind), .. }) => {
                self.fault(Fault::UnknownHandle { kind: start(&kind) });
            }
            // An internal message that is nothing to us, and so is its handle.
            (Ok(_), _) => {}
        }
    }
}

impl<H> Session<H> {
    fn note_lent(&mut self, kind: &HandleKind) {
        if let HandleKind::NetSocket { key: Some(key) } = kind {
            self.lent_to_us(key);
        }
    }
}

impl Meaning {
    fn of_line(text: Cow<'_, str>) -> Self {
        if node::is_plainly_user(text.as_bytes()) {
            return Self::User(Payload::json(text));
        }
        match node::decode(&text) {
            Ok(Line::User(json)) => Self::User(Payload::json(json).known()),
            Ok(Line::Cluster(message)) => Self::Cluster(message),
            Ok(Line::Handle { kind, message }) => {
                Self::Handle { kind, message: Payload::json(message).known() }
            }
            Ok(Line::Lent(message)) => Self::Lent(message),
            Ok(Line::Panic(panic)) => Self::Panic(panic),
            Ok(Line::HandleAck) => Self::Answer { received: true },
            Ok(Line::HandleNack) => Self::Answer { received: false },
            Ok(Line::Other) => Self::Nothing,
            Err(bad) => Self::Broken(Fault::NotJson { start: bad.start }),
        }
    }

    fn of_payload(payload: Cow<'_, [u8]>) -> Self {
        if advanced::is_plainly_user(&payload) {
            return Self::User(Payload::advanced(payload));
        }
        match advanced::decode(&payload) {
            Ok(Frame::User(payload)) => Self::User(Payload::advanced(payload)),
            Ok(Frame::Cluster(message)) => Self::Cluster(message),
            Ok(Frame::Handle { kind, message }) => {
                Self::Handle { kind, message: Payload::advanced(message).known() }
            }
            Ok(Frame::Lent(message)) => Self::Lent(message),
            Ok(Frame::Panic(panic)) => Self::Panic(panic),
            Ok(Frame::HandleAck) => Self::Answer { received: true },
            Ok(Frame::HandleNack) => Self::Answer { received: false },
            Ok(Frame::Other) => Self::Nothing,
            Err(error) => Self::Broken(Fault::NotAdvanced { error: error.to_string() }),
        }
    }

    /// Of the message inside of one with a handle.
    fn of(message: Payload) -> Self {
        if message.is_empty() {
            return Self::User(message);
        }
        // Whoever read the message around it has read it too.
        let inner = match message.into_form() {
            Form::Json(json) => Self::of_line(json.into()),
            Form::Advanced(payload) => Self::of_payload(payload.into()),
        };
        match inner {
            Self::User(payload) => Self::User(payload.known()),
            other => other,
        }
    }
}

/// How a text begins that a peer may have made as long as it likes.
fn start(text: &str) -> String {
    text.chars().take(60).collect()
}

/// What is wrong with a payload of no bytes.
const NOTHING: ReadError = ReadError { offset: 0, wrong: Wrong::NoVersion };

/// What Bun says first where it was asked for `advanced`: the version of its own format.
const BUN: &[u8] = &[1, 2, 0, 0, 0];
