//! What goes out: messages and handles become bytes and descriptors, in Node's order.

use memchr::memchr;

use super::{
    Attachment, Event, Fault, Flow, Form, Frame, HIGH_WATER_MARK, Held, MAX_RETRANSMISSIONS, Order, Payload,
    Pending, Phase, SendError, SendErrorReason, Serialization, Session, Transmit,
};
use crate::{
    node::{self, advanced},
    wire::frames,
};

impl<H> Session<H> {
    /// Queues a message, and the handle that travels with it. A payload in the other serialization is refused, and
    /// so is an empty one without a handle, and JSON of more than one line. Whether it is a value is the
    /// [caller's](Payload::check) to know.
    pub fn send(
        &mut self,
        payload: &Payload,
        attachment: Option<Attachment<H>>,
    ) -> Result<Flow, SendError<H>> {
        if !self.can_say(payload, attachment.is_some()) {
            return Err(SendError::new(SendErrorReason::Unspeakable, attachment));
        }
        self.queue(payload.as_bytes(), attachment)
    }

    fn can_say(&self, payload: &Payload, with_handle: bool) -> bool {
        let (bytes, serialization) = (payload.as_bytes(), payload.serialization());
        let many_lines = serialization == Serialization::Json && memchr(b'\n', bytes).is_some();
        let silent = bytes.is_empty() && !with_handle;
        serialization == self.serialization() && !silent && !many_lines
    }

    /// The same with a message that nobody else needs: where that is cheaper, it is not copied.
    pub fn send_owned(
        &mut self,
        payload: Payload,
        attachment: Option<Attachment<H>>,
    ) -> Result<Flow, SendError<H>> {
        let length = payload.as_bytes().len();
        let fits = self.queued + length <= self.limits.queue;
        let at_once = attachment.is_none() && self.held.is_empty() && self.may_leave(None);
        // A line that nothing waits before can be added to.
        let copied = length < LONG && (payload.serialization() != Serialization::Json || self.wants_write());
        if copied || !fits || !at_once || self.phase != Phase::Connected {
            return self.send(&payload, attachment);
        }
        if !self.can_say(&payload, false) {
            return Err(SendError::new(SendErrorReason::Unspeakable, attachment));
        }
        match payload.into_form() {
            Form::Json(json) => {
                let mut bytes = json.into_bytes();
                bytes.push(b'\n');
                self.append_owned(bytes, 0);
            }
            Form::Advanced(bytes) => {
                let Ok(prefix) = frames::prefix(&bytes) else {
                    return Err(SendError::new(SendErrorReason::Unspeakable, attachment));
                };
                // Its length shares a write with its beginning; the rest stays where it is.
                let beginning = self.room_for(prefix.len() + BEGINNING);
                beginning.extend_from_slice(&prefix);
                beginning.extend_from_slice(&bytes[..BEGINNING]);
                self.queued += prefix.len() + BEGINNING;
                self.append_owned(bytes, BEGINNING);
            }
        }
        Ok(self.flow())
    }

    /// A frame of what is there already, from `start` on.
    fn append_owned(&mut self, bytes: Vec<u8>, start: usize) {
        self.queued += bytes.len() - start;
        self.out.push_back(Frame { bytes, start, carries_handle: false, answers: 0 });
    }

    /// Queues JSON, in whatever serialization the channel has: for the cluster's own messages.
    pub fn send_json(&mut self, json: &str, attachment: Option<Attachment<H>>) -> Result<Flow, SendError<H>> {
        if self.serialization() == Serialization::Json {
            return self.queue(json.as_bytes(), attachment);
        }
        match Payload::of_json(Serialization::Advanced, json) {
            Ok(payload) => self.queue(payload.as_bytes(), attachment),
            Err(_) => Err(SendError::new(SendErrorReason::Unspeakable, attachment)),
        }
    }

    fn queue(&mut self, message: &[u8], attachment: Option<Attachment<H>>) -> Result<Flow, SendError<H>> {
        if self.phase != Phase::Connected {
            return Err(SendError::new(SendErrorReason::Closed, attachment));
        }
        if self.queued + message.len() > self.limits.queue {
            return Err(SendError::new(SendErrorReason::QueueFull, attachment));
        }
        if self.held.is_empty() && self.may_leave(attachment.as_ref()) {
            self.emit(message, attachment);
        } else {
            self.queued += message.len();
            self.held.push_back(Held { message: message.into(), attachment });
        }
        Ok(self.flow())
    }

    fn flow(&self) -> Flow {
        let full = self.queued >= HIGH_WATER_MARK || self.held.len() > 1;
        if full { Flow::Full } else { Flow::Ready }
    }

    /// What to write next.
    pub fn poll_transmit(&self) -> Option<Transmit<'_, H>> {
        let frame = self.out.front()?;
        let handle = (frame.carries_handle && self.written == 0)
            .then(|| &self.pending[self.departed].attachment.handle);
        Some(Transmit { bytes: &frame.bytes[frame.start + self.written..], handle })
    }

    /// The first `count` bytes of the last [`Session::poll_transmit`] were written, its handle with them.
    pub fn transmitted(&mut self, count: usize) {
        let Some(frame) = self.out.front() else { return };
        if count > 0 && self.written == 0 && frame.carries_handle {
            self.departed += 1;
        }
        self.written += count;
        self.queued = self.queued.saturating_sub(count);
        if frame.start + self.written == frame.bytes.len() {
            self.owed -= frame.answers;
            self.out.pop_front();
            self.written = 0;
        }
    }

    pub(super) fn handle_answer(&mut self, received: bool) {
        if self.departed == 0 {
            return self.fault(Fault::UnexpectedAck);
        }
        self.departed -= 1;
        let Some(mut pending) = self.pending.pop_front() else { return };
        let again =
            pending.attachment.order == Order::Barrier && pending.retransmissions < MAX_RETRANSMISSIONS;
        match pending.message.take() {
            Some(message) if again && !received => {
                self.put_on_wire(&message, pending.attachment, pending.retransmissions + 1);
            }
            _ => {
                let Attachment { tag, handle, kind, .. } = pending.attachment;
                self.lent_to_peer(&kind, received);
                self.events.push_back(match received {
                    true => Event::Delivered { tag, handle },
                    false => Event::Returned { tag, handle },
                });
            }
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

    fn emit(&mut self, message: &[u8], attachment: Option<Attachment<H>>) {
        match attachment {
            Some(attachment) => self.put_on_wire(message, attachment, 0),
            None => self.append(message),
        }
    }

    fn put_on_wire(&mut self, message: &[u8], attachment: Attachment<H>, retransmissions: u32) {
        let mut bytes = Vec::with_capacity(message.len() + 64);
        match self.serialization() {
            Serialization::Json => {
                node::write_handle(&mut bytes, &attachment.kind, &String::from_utf8_lossy(message));
                bytes.push(b'\n');
            }
            Serialization::Advanced => match advanced::handle(&attachment.kind, message) {
                Ok(payload) => append_framed(&mut bytes, &payload),
                // What cannot be read cannot be put into another message; whoever wrote it gets its handle back.
                Err(_) => {
                    let Attachment { tag, handle, .. } = attachment;
                    return self.events.push_back(Event::Returned { tag, handle });
                }
            },
        }
        self.queued += bytes.len();
        self.out.push_back(Frame { bytes, start: 0, carries_handle: true, answers: 0 });
        let message = (attachment.order == Order::Barrier).then(|| message.into());
        self.pending.push_back(Pending { attachment, message, retransmissions });
    }

    /// A plain message may share a write with the plain ones before it, never with a handle.
    fn append(&mut self, message: &[u8]) {
        let framed = self.serialization() == Serialization::Advanced;
        let extra = if framed { 4 } else { 1 };
        self.queued += message.len() + extra;
        let bytes = self.room_for(message.len() + extra);
        if framed {
            append_framed(bytes, message);
        } else {
            bytes.extend_from_slice(message);
            bytes.push(b'\n');
        }
    }

    /// Where plain bytes go, at the end of what is to be written.
    fn room_for(&mut self, length: usize) -> &mut Vec<u8> {
        let room = |frame: &Frame| !frame.carries_handle && frame.bytes.len() < HIGH_WATER_MARK;
        if !self.out.back().is_some_and(room) {
            let bytes = Vec::with_capacity(length);
            self.out.push_back(Frame { bytes, start: 0, carries_handle: false, answers: 0 });
        }
        let last = self.out.len() - 1;
        &mut self.out[last].bytes
    }

    /// Answers a handle of the peer's; overtakes everything. What we have to say ourselves does not count: a peer may
    /// well read while we say too much.
    pub(super) fn answer(&mut self, received: bool) {
        if self.owed > self.limits.queue {
            return self.fault(Fault::Deaf { bytes: self.owed });
        }
        let answer = match (self.serialization(), received) {
            (Serialization::Json, true) => node::HANDLE_ACK.as_bytes(),
            (Serialization::Json, false) => node::HANDLE_NACK.as_bytes(),
            (Serialization::Advanced, true) => advanced::HANDLE_ACK,
            (Serialization::Advanced, false) => advanced::HANDLE_NACK,
        };
        self.append(answer);
        self.owed += answer.len();
        if let Some(frame) = self.out.back_mut() {
            frame.answers += answer.len();
        }
    }
}

/// From this length on, in bytes, a copy costs more than a write of its own.
const LONG: usize = 16 << 10;
/// So much of a long payload is copied behind its length.
const BEGINNING: usize = 4 << 10;

fn append_framed(bytes: &mut Vec<u8>, payload: &[u8]) {
    // The limit of a session's queue is far below what a length can say.
    if let Ok(prefix) = frames::prefix(payload) {
        bytes.extend_from_slice(&prefix);
        bytes.extend_from_slice(payload);
    }
}
