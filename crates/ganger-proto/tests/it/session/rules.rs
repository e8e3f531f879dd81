//! Node's rules for one end of a channel, written down a second time and without any cleverness
//! (`setupChannel` and `target._send` in `lib/internal/child_process.js`): everything waits behind an
//! unanswered handle, only ACK and NACK overtake.
//!
//! The messages of these tests are `{"n":1,…}`, and a handle has the number of its message.

use std::collections::{BTreeSet, VecDeque};

use ganger_proto::{
    node::{self, HandleKind},
    session::{Event, Order, Payload},
};

#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) number: u32,
    pub(crate) json: String,
    pub(crate) handle: Option<Order>,
    /// How often it was written.
    written: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Rules {
    unanswered: VecDeque<Outgoing>,
    waiting: VecDeque<Outgoing>,
    /// All bytes that have to be written, from the first on.
    pub(crate) bytes: Vec<u8>,
    /// What is to be said to whoever uses this end.
    pub(crate) events: Vec<Event<u32>>,
    line: Vec<u8>,
    arrived: BTreeSet<u32>,
}

impl Outgoing {
    pub(crate) fn new(number: u32, padding: usize, handle: Option<Order>) -> Self {
        let json = format!(r#"{{"n":{number},"padding":"{}"}}"#, "é".repeat(padding));
        Self { number, json, handle, written: 0 }
    }
}

impl Rules {
    pub(crate) fn send(&mut self, message: Outgoing) {
        self.waiting.push_back(message);
        self.release();
    }

    /// The handles that nobody has answered for, oldest first.
    pub(crate) fn undelivered(&self) -> Vec<(u64, u32)> {
        let all = self.unanswered.iter().chain(&self.waiting);
        all.filter(|message| message.handle.is_some()).map(|m| (m.number.into(), m.number)).collect()
    }

    /// Whether all that was sent has left and is answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.unanswered.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn is_mid_line(&self) -> bool {
        !self.line.is_empty()
    }

    pub(crate) fn receive(&mut self, bytes: &[u8], descriptor: Option<u32>) {
        self.arrived.extend(descriptor);
        for byte in bytes {
            match byte {
                b'\n' => self.receive_line(),
                other => self.line.push(*other),
            }
        }
    }

    fn receive_line(&mut self) {
        let line = String::from_utf8(std::mem::take(&mut self.line)).expect("whole lines are UTF-8");
        if line == node::HANDLE_ACK || line == node::HANDLE_NACK {
            return self.answered(line == node::HANDLE_ACK);
        }
        let digits = line.split(r#""n":"#).nth(1).expect("a message has a number");
        let number = digits.split(',').next().and_then(|digits| digits.parse().ok()).expect("a number");
        let Some(inner) = line.strip_prefix(r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":"#) else {
            return self.events.push(Event::Message { payload: Payload::json(line), handle: None });
        };
        let json = inner.strip_suffix('}').expect("an object ends").to_owned();
        // The number tells whose descriptor came; the session has to find out without it.
        if self.arrived.remove(&number) {
            self.write(node::HANDLE_ACK);
            self.events.push(Event::Message {
                payload: Payload::json(json),
                handle: Some((HandleKind::NetNative, number)),
            });
        } else {
            self.write(node::HANDLE_NACK);
        }
    }

    fn answered(&mut self, received: bool) {
        let message = self.unanswered.pop_front().expect("only what was sent is answered");
        let (tag, handle) = (message.number.into(), message.number);
        if received {
            self.events.push(Event::Delivered { tag, handle });
        } else if message.handle == Some(Order::Barrier) && message.written < 4 {
            self.put_on_wire(message);
        } else {
            self.events.push(Event::Returned { tag, handle });
        }
        self.release();
    }

    fn release(&mut self) {
        while let Some(first) = self.waiting.front() {
            let pipelined = |message: &Outgoing| message.handle == Some(Order::Pipelined);
            let may_follow = pipelined(first) && self.unanswered.iter().all(pipelined);
            if !may_follow && !self.unanswered.is_empty() {
                break;
            }
            if let Some(message) = self.waiting.pop_front() {
                self.put_on_wire(message);
            }
        }
    }

    fn put_on_wire(&mut self, mut message: Outgoing) {
        message.written += 1;
        match message.handle {
            None => self.write(&message.json),
            Some(_) => {
                let json = &message.json;
                self.write(&format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{json}}}"#));
                self.unanswered.push_back(message);
            }
        }
    }

    fn write(&mut self, line: &str) {
        self.bytes.extend_from_slice(line.as_bytes());
        self.bytes.push(b'\n');
    }
}
