//! Connections whose first bytes tell whose they are.

use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::OwnedFd,
    time::Duration,
};

use ganger_proto::{
    SocketId, Time,
    cluster::{Input, Peer, Policy, schedule::FirstBytes},
};

use super::{Primary, Token};
use crate::{
    clock,
    sys::{poll::Interest, socket},
};

/// A client that says nothing for so long is known by its address.
const PATIENCE: Duration = Duration::from_millis(500);
/// So much of what it says is looked at: the longest head that Node takes.
const LONGEST: usize = 16 << 10;
/// So many are waited for at a time; the oldest of more is known by its address.
const MOST: usize = 1024;

/// All that are being peeked at.
#[derive(Debug, Default)]
pub(super) struct Peeks {
    connections: BTreeMap<u32, Peek>,
    /// When each is to be decided, in order; who has been decided is skipped.
    due: VecDeque<(Time, u32)>,
    last: u32,
}

#[derive(Debug)]
struct Peek {
    listener: SocketId,
    connection: OwnedFd,
    peer: Peer,
}

impl Peeks {
    pub(super) fn timeout(&self) -> Option<Time> {
        self.due.front().map(|(at, _)| *at)
    }
}

impl Peek {
    /// Who it is; none if more has to come first.
    fn decide(&self, policy: &Policy, head: &mut [u8]) -> Option<Peer> {
        let Policy::Sticky(by) = policy else { return Some(self.peer) };
        match socket::peek(&self.connection, head) {
            Ok(length) => match by.read(&head[..length]) {
                FirstBytes::From(client) => Some(Peer { client, ..self.peer }),
                // At the end of what it says nothing more comes.
                FirstBytes::Partial if length > 0 && length < head.len() => None,
                FirstBytes::Partial | FirstBytes::Silent => Some(self.peer),
            },
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            // A worker will meet the same.
            Err(_) => Some(self.peer),
        }
    }
}

impl Primary {
    /// Looks what has come with a connection; if that does not do, waits for more.
    pub(super) fn peek(&mut self, listener: SocketId, connection: OwnedFd, peer: Peer) {
        let peek = Peek { listener, connection, peer };
        if let Some(peer) = peek.decide(&self.settings.policy, &mut self.buffer[..LONGEST]) {
            return self.peeked(peek, peer);
        }
        self.peeks.last = self.peeks.last.wrapping_add(1);
        let number = self.peeks.last;
        let watched =
            self.poller.get_ref().add(&peek.connection, Token::Peek(number).into(), Interest::Arrival);
        if watched.is_err() {
            let peer = peek.peer;
            return self.peeked(peek, peer);
        }
        self.peeks.connections.insert(number, peek);
        self.peeks.due.push_back((clock::now() + PATIENCE, number));
        while self.peeks.connections.len() > MOST {
            let Some((_, oldest)) = self.peeks.due.pop_front() else { break };
            self.give_up(oldest);
        }
    }

    /// More has come.
    pub(super) fn peek_again(&mut self, number: u32) {
        let Some(peek) = self.peeks.connections.get(&number) else { return };
        let decided = peek.decide(&self.settings.policy, &mut self.buffer[..LONGEST]);
        if let Some(peer) = decided
            && let Some(peek) = self.take_peek(number)
        {
            self.peeked(peek, peer);
        }
    }

    /// Those that have said nothing are known by their address.
    pub(super) fn end_peeks(&mut self, now: Time) {
        while self.peeks.due.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, number)) = self.peeks.due.pop_front() else { return };
            self.give_up(number);
        }
    }

    /// No more time is left for those that came by this listener.
    pub(super) fn end_peeks_of(&mut self, listener: SocketId) {
        let of = |(number, peek): (&u32, &Peek)| (peek.listener == listener).then_some(*number);
        let numbers: Vec<u32> = self.peeks.connections.iter().filter_map(of).collect();
        numbers.into_iter().for_each(|number| self.give_up(number));
    }

    fn give_up(&mut self, number: u32) {
        if let Some(peek) = self.take_peek(number) {
            let peer = peek.peer;
            self.peeked(peek, peer);
        }
    }

    fn take_peek(&mut self, number: u32) -> Option<Peek> {
        let peek = self.peeks.connections.remove(&number)?;
        let _ = self.poller.get_ref().remove(&peek.connection);
        Some(peek)
    }

    fn peeked(&mut self, peek: Peek, peer: Peer) {
        let Peek { listener, connection, .. } = peek;
        self.machine.handle(clock::now(), Input::Peeked { listener, connection, peer });
    }
}
