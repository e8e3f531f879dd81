//! One end: a session, whoever uses it, and the books about what it was given and gave back.

use std::{collections::BTreeMap, rc::Rc};

use ganger_proto::{
    Payload, Session, Value,
    node::{self, HandleKind, Line, advanced},
    session::{Attachment, Event, Limits, Order, SendErrorReason, Serialization},
};

/// Descriptors that may wait for their message.
const MAX_ARRIVED: usize = 256;

/// A descriptor: only one thing has it. Whoever issued it sees how many there still are.
#[derive(Debug)]
struct Descriptor {
    number: u32,
    _issuer: Rc<()>,
}

pub(super) struct Message {
    number: u32,
    size: u8,
    order: Option<Order>,
}

impl Message {
    pub(super) fn new(number: u32, size: u8, order: Option<Order>) -> Self {
        Self { number, size, order }
    }

    fn value(&self) -> Value {
        Value::object([("n", Value::from(self.number)), ("padding", "é".repeat(self.size.into()).into())])
    }

    fn kind(&self) -> HandleKind {
        match self.size % 3 {
            0 => HandleKind::NetNative,
            1 => HandleKind::NetSocket { key: Some("4:127.0.0.1:0".into()) },
            _ => HandleKind::DgramSocket { v6: self.size.is_multiple_of(2) },
        }
    }
}

pub(super) struct End {
    session: Session<Descriptor>,
    limits: Limits,
    open: bool,
    /// Whether it was ended from this side.
    ended_here: bool,
    /// Counts what this end has sent and not got back.
    sent: Rc<()>,
    /// Counts what this end has received and nobody has taken or closed.
    received: Rc<()>,
    /// What became of the handles that it sent, by their numbers.
    outcomes: BTreeMap<u32, Option<Outcome>>,
    /// The messages that were taken from its owner, and those that it handed to its owner.
    numbers: Vec<u32>,
    got: Vec<u32>,
    written: Cutter,
    read: Cutter,
    answers: usize,
    acks: usize,
    /// What had to be answered, and what could be.
    announced: usize,
    descriptors: usize,
    told_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Returned,
    Undelivered,
}

impl End {
    pub(super) fn new(serialization: Serialization, limits: Limits) -> Self {
        Self {
            session: Session::with_serialization(serialization, limits),
            limits,
            open: true,
            ended_here: false,
            sent: Rc::new(()),
            received: Rc::new(()),
            outcomes: BTreeMap::new(),
            numbers: Vec::new(),
            got: Vec::new(),
            written: Cutter::new(serialization),
            read: Cutter::new(serialization),
            answers: 0,
            acks: 0,
            announced: 0,
            descriptors: 0,
            told_end: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether nobody has ended anything.
    pub(super) fn is_undisturbed(&self) -> bool {
        self.open && !self.ended_here
    }

    pub(super) fn is_between_messages(&self) -> bool {
        self.written.rest.is_empty()
    }

    pub(super) fn moved(&self) -> usize {
        self.written.total + self.read.total + usize::from(self.open)
    }

    pub(super) fn send(&mut self, message: Message) {
        let number = message.number;
        let payload = match message.size {
            // A handle may come alone.
            0 if message.order.is_some() => Payload::empty(self.session.serialization()),
            _ => {
                Payload::of_value(self.session.serialization(), &message.value()).expect("it can be written")
            }
        };
        let attachment = message.order.map(|order| Attachment {
            handle: Descriptor { number, _issuer: self.sent.clone() },
            kind: message.kind(),
            tag: number.into(),
            order,
        });
        let connected = self.session.is_connected();
        match self.session.send(&payload, attachment) {
            Ok(_) => {
                assert!(connected && self.open);
                if message.order.is_some() {
                    self.outcomes.insert(number, None);
                }
                self.numbers.extend((!payload.is_empty()).then_some(number));
            }
            Err(refused) => {
                assert_eq!(refused.reason == SendErrorReason::Closed, !connected);
                assert_eq!(refused.handle.map(|handle| handle.number), message.order.map(|_| number));
            }
        }
    }

    /// One write of at most so many bytes.
    pub(super) fn transmit(&mut self, most: usize) -> Option<(Vec<u8>, Option<u32>)> {
        if !self.open {
            return None;
        }
        let between = self.is_between_messages();
        let transmit = self.session.poll_transmit()?;
        assert!(!transmit.bytes.is_empty());
        let descriptor = transmit.handle.map(|handle| handle.number);
        if descriptor.is_some() {
            assert!(between, "a descriptor rides on the first byte of its message");
            assert!(self.written.holds_one(transmit.bytes), "a handle shares its write with nobody");
        }
        let bytes = transmit.bytes[..most.min(transmit.bytes.len())].to_vec();
        self.session.transmitted(bytes.len());
        for message in self.written.feed(&bytes) {
            let (ack, nack) = (self.written.says(&message, true), self.written.says(&message, false));
            self.answers += usize::from(ack || nack);
            self.acks += usize::from(ack);
        }
        assert!(self.answers <= self.announced, "more was answered than announced");
        assert!(self.acks <= self.descriptors, "a handle was acknowledged twice, or without having come");
        self.close_if_done();
        Some((bytes, descriptor))
    }

    /// What one `recvmsg` brought.
    pub(super) fn receive(&mut self, bytes: &[u8], descriptors: &[u32], clean: bool, whole: bool) {
        for message in self.read.feed(bytes) {
            self.announced += usize::from(self.read.is_handle(&message));
        }
        self.descriptors += descriptors.len();
        let issuer = &self.received;
        let descriptors =
            descriptors.iter().map(|number| Descriptor { number: *number, _issuer: issuer.clone() });
        self.session.handle_input(bytes, descriptors);
        self.take_events(clean, whole);
        let waiting = Rc::strong_count(&self.received) - 1;
        assert!(waiting <= MAX_ARRIVED, "{waiting} descriptors wait");
        if self.told_end || self.read.rest.is_empty() {
            assert_eq!(waiting, 0, "descriptors that nobody announced are closed");
        }
        self.close_if_done();
    }

    /// Whether the peer has closed, or this end is to be closed from below.
    pub(super) fn end_of_stream(&mut self) {
        if self.open {
            self.session.handle_eof();
            self.take_events(false, false);
            self.close();
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.ended_here = true;
        self.session.disconnect();
        self.close_if_done();
    }

    /// Its process ends: its owner sees nothing of it.
    pub(super) fn kill(&mut self) {
        self.ended_here = true;
        self.end_of_stream();
    }

    pub(super) fn move_elsewhere(&mut self) {
        let empty = Session::with_serialization(self.session.serialization(), self.limits);
        let moved = std::mem::replace(&mut self.session, empty);
        self.session = moved.map_handles(Box::new).map_handles(|handle| *handle);
    }

    /// A message of the protocol's own, or what is nearly one.
    pub(super) fn word(&self, choice: u8) -> Vec<u8> {
        let inner = r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":7}"#;
        let json = match choice % 9 {
            0 => node::HANDLE_ACK,
            1 => node::HANDLE_NACK,
            2 => inner,
            3 => r#"{"cmd":"NODE_HANDLE","type":"net.BoundSocket"}"#,
            4 => &format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{inner}}}"#),
            5 => r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_HANDLE_ACK"}}"#,
            6 => {
                r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"k"}}"#
            }
            7 => r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#,
            _ => r#"{"cmd":"NODE_x"}"#,
        };
        let payload = Payload::of_json(self.session.serialization(), json).expect("it is JSON");
        self.written.framed(payload.as_bytes())
    }

    pub(super) fn check(&self) {
        let open = self.outcomes.values().filter(|outcome| outcome.is_none()).count();
        assert_eq!(Rc::strong_count(&self.sent) - 1, open, "a handle is in exactly one place");
        assert_eq!(self.session.wants_write(), self.session.poll_transmit().is_some());
        if self.session.is_flushed() {
            assert_eq!(self.session.queued(), 0, "what is written waits no more");
        }
        // What is announced around a handle, answers, and a message that is sent again come on top of what is asked for.
        let most = 2 * self.limits.queue + 200 * (self.outcomes.len() + self.announced + 1);
        assert!(self.session.queued() <= most, "{} bytes wait", self.session.queued());
    }

    /// Nothing moves any more.
    pub(super) fn check_quiet(&self, clean: bool) {
        if self.open && clean {
            assert_eq!(self.answers, self.announced, "every handle is answered");
        }
    }

    /// Nothing was disturbed: all that the peer sent has come, except for what it has got back.
    pub(super) fn check_complete(&self, peer: &Self) {
        assert!(peer.outcomes.values().all(Option::is_some), "every handle has come or come back");
        let returned = |number: &&u32| peer.outcomes.get(number) != Some(&Some(Outcome::Returned));
        let expected: Vec<u32> = peer.numbers.iter().filter(returned).copied().collect();
        assert_eq!(self.got, expected);
    }

    /// After the end.
    pub(super) fn check_home(&self) {
        assert!(self.told_end || self.ended_here);
        assert!(self.outcomes.values().all(Option::is_some), "every handle has gone home");
        assert_eq!(Rc::strong_count(&self.received), 1, "a descriptor is left");
        assert!(self.session.wants_close() && !self.session.is_connected() && !self.session.wants_write());
    }

    fn take_events(&mut self, clean: bool, whole: bool) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.told_end, "{event:?} follows the end");
            match event {
                Event::Message { payload, handle } => self.message(&payload, handle, clean, whole),
                Event::Delivered { tag, handle } => self.outcome(tag, handle, Outcome::Delivered),
                Event::Returned { tag, handle } => self.outcome(tag, handle, Outcome::Returned),
                Event::Disconnected => self.told_end = true,
                Event::Fault(fault) => assert!(!clean || !self.open || self.limits.line < 4096, "{fault}"),
                _ => {}
            }
        }
        if self.told_end {
            self.close();
        }
    }

    fn message(
        &mut self,
        payload: &Payload,
        handle: Option<(HandleKind, Descriptor)>,
        clean: bool,
        whole: bool,
    ) {
        if !whole {
            return;
        }
        let number = payload.to_value().ok().and_then(|value| value.get("n")?.as_u64());
        let Some(number) = number.and_then(|number| u32::try_from(number).ok()) else {
            assert!(!clean || payload.is_empty(), "not what was sent: {payload:?}");
            return;
        };
        let last = self.got.last().copied().unwrap_or_default();
        assert!(last <= number, "{number} comes after {last}");
        if clean {
            assert!(last < number, "{number} comes twice");
            assert!(handle.is_none_or(|(_, handle)| handle.number == number), "another one's descriptor");
        }
        self.got.push(number);
    }

    fn outcome(&mut self, tag: u64, handle: Descriptor, outcome: Outcome) {
        assert_eq!(tag, u64::from(handle.number));
        let known = self.outcomes.get_mut(&handle.number).expect("only what was sent comes back");
        assert_eq!(known.replace(outcome), None, "{tag} comes back twice");
    }

    fn close_if_done(&mut self) {
        if self.open && self.session.wants_close() {
            self.take_events(false, false);
            self.close();
        }
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        if !self.told_end {
            // It has closed by itself, and hears the end as the driver does.
            self.session.handle_eof();
            self.take_events(false, false);
        }
        let home: Vec<(u64, Descriptor)> = self.session.take_undelivered().collect();
        for (tag, handle) in home {
            self.outcome(tag, handle, Outcome::Undelivered);
        }
    }
}

/// Cuts a stream into messages, written down a second time without any cleverness.
struct Cutter {
    serialization: Serialization,
    rest: Vec<u8>,
    total: usize,
}

impl Cutter {
    fn new(serialization: Serialization) -> Self {
        Self { serialization, rest: Vec::new(), total: 0 }
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(bytes);
        self.total += bytes.len();
        let mut messages = Vec::new();
        while let Some((start, end, next)) = self.first(&self.rest) {
            messages.push(self.rest[start..end].to_vec());
            self.rest.drain(..next);
        }
        messages
    }

    /// Where the first message begins and ends, and where the next one begins.
    fn first(&self, bytes: &[u8]) -> Option<(usize, usize, usize)> {
        match self.serialization {
            Serialization::Json => {
                let end = bytes.iter().position(|byte| *byte == b'\n')?;
                Some((0, end, end + 1))
            }
            Serialization::Advanced => {
                let end = 4 + u32::from_be_bytes(*bytes.first_chunk()?) as usize;
                (bytes.len() >= end).then_some((4, end, end))
            }
        }
    }

    fn holds_one(&self, bytes: &[u8]) -> bool {
        self.first(bytes).is_some_and(|(_, _, next)| next == bytes.len())
    }

    fn framed(&self, payload: &[u8]) -> Vec<u8> {
        match self.serialization {
            Serialization::Json => [payload, b"\n"].concat(),
            Serialization::Advanced => [&(payload.len() as u32).to_be_bytes(), payload].concat(),
        }
    }

    fn says(&self, message: &[u8], received: bool) -> bool {
        message
            == match (self.serialization, received) {
                (Serialization::Json, true) => node::HANDLE_ACK.as_bytes(),
                (Serialization::Json, false) => node::HANDLE_NACK.as_bytes(),
                (Serialization::Advanced, true) => advanced::HANDLE_ACK,
                (Serialization::Advanced, false) => advanced::HANDLE_NACK,
            }
    }

    fn is_handle(&self, message: &[u8]) -> bool {
        match self.serialization {
            Serialization::Json => {
                matches!(node::decode(&String::from_utf8_lossy(message)), Ok(Line::Handle { .. }))
            }
            Serialization::Advanced => {
                matches!(advanced::decode(message), Ok(advanced::Frame::Handle { .. }))
            }
        }
    }
}
