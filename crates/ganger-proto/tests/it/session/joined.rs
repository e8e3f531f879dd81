//! Two ends of a channel over a model of the kernel's socket, each checked against [`Rules`] at every step.

use ganger_proto::{
    Session,
    node::HandleKind,
    session::{Attachment, Event, Fault, Limits, Order, SendErrorReason},
};

use super::rules::{Outgoing, Rules};
use crate::stream::Stream;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) const BOTH: [Side; 2] = [Side::A, Side::B];

    pub(crate) fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// Two joined ends.
#[derive(Debug)]
pub(crate) struct Joined {
    ends: [End; 2],
    /// What each end has written and the other one not read.
    streams: [Stream<u32>; 2],
    last_number: u32,
}

#[derive(Debug)]
struct End {
    session: Session<u32>,
    rules: Rules,
    transmitted: usize,
    life: Life,
    disconnecting: bool,
    /// What came of each handle that this end sent.
    sent: Vec<(u32, Outcome)>,
    /// The handles that this end has got.
    received: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// It has closed its socket; what it was, it still knows.
    Closed,
    /// Its process is gone.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Unknown,
    Delivered,
    Returned,
    Undelivered,
}

impl Joined {
    pub(crate) fn new() -> Self {
        let end = || End {
            session: Session::new(Limits::default()),
            rules: Rules::default(),
            transmitted: 0,
            life: Life::Open,
            disconnecting: false,
            sent: Vec::new(),
            received: Vec::new(),
        };
        Self { ends: [end(), end()], streams: [Stream::new(), Stream::new()], last_number: 0 }
    }

    pub(crate) fn send(&mut self, side: Side, padding: usize, order: Option<Order>) {
        if self.ends[side as usize].life == Life::Dead {
            return;
        }
        self.last_number += 1;
        let number = self.last_number;
        let end = &mut self.ends[side as usize];
        let attachment =
            |order| Attachment { handle: number, kind: HandleKind::NetNative, tag: number.into(), order };
        let message = Outgoing::new(number, padding, order);
        let outcome = end.session.send_json(&message.json, order.map(attachment));
        if end.life == Life::Open && !end.disconnecting {
            assert!(outcome.is_ok(), "{outcome:?}");
            end.sent.extend(order.map(|_| (number, Outcome::Unknown)));
            end.rules.send(message);
        } else {
            let refused = outcome.expect_err("the channel is closed");
            assert_eq!(refused.reason, SendErrorReason::Closed);
            assert_eq!(refused.handle, order.map(|_| number), "a handle comes back with the refusal");
        }
    }

    /// One `sendmsg` of at most `most` bytes. Says whether anything was written.
    pub(crate) fn transmit(&mut self, side: Side, most: usize) -> bool {
        // Into a closed socket there is EPIPE; the end of the stream tells the rest.
        if self.ends.iter().any(|end| end.life != Life::Open) {
            return false;
        }
        let end = &mut self.ends[side as usize];
        let Some(transmit) = end.session.poll_transmit() else { return false };
        let count = transmit.bytes.len().min(most.max(1));
        let expected = &end.rules.bytes[end.transmitted..];
        assert_eq!(&expected[..count.min(expected.len())], &transmit.bytes[..count], "not what Node writes");
        self.streams[side as usize].sendmsg(&transmit.bytes[..count], transmit.handle.copied());
        end.session.transmitted(count);
        end.transmitted += count;
        self.close_if_done(side);
        true
    }

    /// One `recvmsg` of at most `most` bytes; `lose` drops the descriptor as a full table does. Says
    /// whether anything was there to read, were it the end.
    pub(crate) fn receive(&mut self, side: Side, most: usize, lose: bool) -> bool {
        let peer_writes = self.ends[side.other() as usize].life == Life::Open;
        let end = &mut self.ends[side as usize];
        if end.life != Life::Open {
            return false;
        }
        let stream = &mut self.streams[side.other() as usize];
        if stream.unread() == 0 {
            if !peer_writes {
                self.end_of_stream(side);
            }
            return !peer_writes;
        }
        let (bytes, descriptor) = stream.recvmsg(most.max(1));
        let descriptor = descriptor.filter(|_| !lose);
        end.rules.receive(&bytes, descriptor);
        end.session.handle_input(&bytes, descriptor);
        end.take_events();
        self.close_if_done(side);
        true
    }

    pub(crate) fn disconnect(&mut self, side: Side) {
        let end = &mut self.ends[side as usize];
        if end.life == Life::Open {
            end.disconnecting = true;
            end.session.disconnect();
            self.close_if_done(side);
        }
    }

    /// The process of this end is killed.
    pub(crate) fn kill(&mut self, side: Side) {
        if self.ends[side as usize].life == Life::Open {
            self.ends[side as usize].life = Life::Dead;
            self.streams[side.other() as usize].discard().for_each(drop);
        }
    }

    /// The state of this end goes into another program and back.
    pub(crate) fn take_out_and_put_back(&mut self, side: Side) {
        let end = &mut self.ends[side as usize];
        let session = std::mem::replace(&mut end.session, Session::new(Limits::default()));
        let numbers = session.map_handles(|handle| u64::from(handle) + 1000);
        let text = serde_json::to_string(&numbers).expect("plain data");
        let numbers: Session<u64> = serde_json::from_str(&text).expect("what was written is read");
        end.session = numbers.map_handles(|number| u32::try_from(number - 1000).expect("it was a u32"));
    }

    /// Both ends write and read until nothing moves.
    pub(crate) fn run_until_quiet(&mut self) {
        loop {
            let mut moved = false;
            for side in Side::BOTH {
                while self.transmit(side, usize::MAX) {
                    moved = true;
                }
                while self.receive(side, 64 << 10, false) {
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
    }

    /// After the end: every handle has one outcome, and its receiver agrees.
    pub(crate) fn check_outcomes(&self) {
        for side in Side::BOTH {
            assert_eq!(self.streams[side as usize].descriptors().count(), 0, "descriptors that nobody got");
            let (end, peer) = (&self.ends[side as usize], &self.ends[side.other() as usize]);
            if end.life == Life::Open {
                assert!(end.rules.is_idle(), "{side:?} still waits for an answer");
                assert_eq!(end.transmitted, end.rules.bytes.len(), "{side:?} has not written everything");
            }
            for (number, outcome) in &end.sent {
                let times = peer.received.iter().filter(|received| *received == number).count();
                match (end.life, outcome) {
                    (_, Outcome::Delivered) => assert_eq!(times, 1, "{number} was acknowledged"),
                    (_, Outcome::Returned) => assert_eq!(times, 0, "{number} came back"),
                    (Life::Closed, Outcome::Undelivered) | (Life::Dead, Outcome::Unknown) => {
                        assert!(times <= 1, "{number} came {times} times");
                    }
                    (life, outcome) => panic!("{side:?} is {life:?}, yet {number} is {outcome:?}"),
                }
            }
        }
    }

    /// What this end's handles became, in the order in which they were sent.
    pub(crate) fn outcomes(&self, side: Side) -> Vec<Outcome> {
        self.ends[side as usize].sent.iter().map(|(_, outcome)| *outcome).collect()
    }

    /// What this end has been told so far, as numbers of messages.
    pub(crate) fn received(&self, side: Side) -> &[u32] {
        &self.ends[side as usize].received
    }

    fn close_if_done(&mut self, side: Side) {
        let end = &mut self.ends[side as usize];
        let done = end.disconnecting
            && end.rules.is_idle()
            && end.transmitted == end.rules.bytes.len()
            && end.life == Life::Open;
        assert_eq!(end.session.wants_close(), done, "the socket is closed when all is delivered");
        if done {
            end.life = Life::Closed;
            assert_eq!(end.session.take_undelivered().count(), 0);
            self.streams[side.other() as usize].discard().for_each(drop);
        }
    }

    fn end_of_stream(&mut self, side: Side) {
        let end = &mut self.ends[side as usize];
        let mid_line = end.rules.is_mid_line();
        end.session.handle_eof();
        if mid_line {
            let event = end.session.poll_event();
            assert!(matches!(event, Some(Event::Fault(Fault::Truncated { .. }))), "{event:?}");
        }
        assert_eq!(end.session.poll_event(), Some(Event::Disconnected));
        assert_eq!(end.session.poll_event(), None);
        assert!(end.session.wants_close());
        let undelivered: Vec<(u64, u32)> = end.session.take_undelivered().collect();
        assert_eq!(undelivered, end.rules.undelivered(), "the unanswered come home in their order");
        assert_eq!(end.session.take_undelivered().count(), 0, "and only once");
        for (_, handle) in undelivered {
            end.set_outcome(handle, Outcome::Undelivered);
        }
        end.life = Life::Closed;
        self.streams[side.other() as usize].discard().for_each(drop);
    }
}

impl End {
    fn take_events(&mut self) {
        let events: Vec<Event<u32>> = std::iter::from_fn(|| self.session.poll_event()).collect();
        assert_eq!(events, std::mem::take(&mut self.rules.events), "not what Node's rules say");
        for event in events {
            match event {
                Event::Delivered { handle, .. } => self.set_outcome(handle, Outcome::Delivered),
                Event::Returned { handle, .. } => self.set_outcome(handle, Outcome::Returned),
                Event::Message { handle: Some((_, handle)), .. } => self.received.push(handle),
                _ => {}
            }
        }
    }

    fn set_outcome(&mut self, handle: u32, outcome: Outcome) {
        let (_, known) = self.sent.iter_mut().find(|(sent, _)| *sent == handle).expect("it was sent");
        assert_eq!(*known, Outcome::Unknown, "{handle} has two outcomes");
        *known = outcome;
    }
}
