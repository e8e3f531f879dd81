//! What workers listen on, at the primary: an address, who holds it, which connections wait for a worker, and its
//! sockets in the kernel.
//!
//! There is one socket, or, where each slot has its own ([`Policy::ReusePort`](super::Policy::ReusePort)), one a slot:
//!
//! ```text
//!   Binding ──► Bound ──► Closing ──► Closed ──► (gone when no connection of the listener is left)
//! ```
//!
//! Invariant: a waiting connection is either in `pending` (somebody may have room) or in `parked` (every
//! holder in dispatch has refused it), never in both.

mod sockets;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use sockets::{Socket, Sockets, State};

use super::{
    Peer,
    schedule::{AnySchedule, Load, Schedule},
};
use crate::{
    ListenerKey, Slot, SocketId, Time, WorkerId,
    node::{Query, Sockname, Target},
};

/// A connection that every worker has refused waits this long for a change.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(1);
/// An address without a holder is closed after this long, unless a replacement is due.
pub(super) const IDLE_FOR: Duration = Duration::from_millis(500);
/// With this many connections waiting the primary stops accepting: the kernel's queue is the better place.
const PENDING_HIGH: usize = 256;
/// And with this many it goes on.
const PENDING_LOW: usize = 128;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listener<C> {
    pub(super) key: ListenerKey,
    pub(super) target: Target,
    pub(super) backlog: u32,
    /// The `data` of the first query that has some, given to everybody who asks from then on.
    pub(super) data: Option<Box<str>>,
    /// Whether the primary accepts and hands over; otherwise the workers have the sockets themselves.
    pub(super) hands_over: bool,
    /// Whether each slot has a socket of its own.
    pub(super) per_slot: bool,
    pub(super) sockets: Sockets,
    pub(super) holders: BTreeMap<WorkerId, Load>,
    /// How many holders each slot has, where it has a socket of its own.
    pub(super) filled: BTreeMap<Slot, usize>,
    pub(super) schedule: AnySchedule,
    pub(super) pending: VecDeque<Waiting<C>>,
    pub(super) parked: VecDeque<Parked<C>>,
    /// When a worker that somebody waits for alone may have fallen silent.
    pub(super) watch: Option<Time>,
    /// Connections whose first bytes are waited for.
    pub(super) peeking: usize,
    /// Since when nobody holds it, and who was the last to close it, if that worker still lives.
    pub(super) idle: Option<(Time, Option<WorkerId>)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Waiting<C> {
    pub(super) connection: C,
    pub(super) peer: Peer,
    pub(super) refused_by: Vec<WorkerId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parked<C> {
    pub(super) until: Time,
    pub(super) waiting: Waiting<C>,
}

impl<C> Listener<C> {
    pub(super) fn is_datagram(&self) -> bool {
        self.target.is_datagram()
    }

    pub(super) fn is_bound(&self) -> bool {
        self.sockets.iter().any(Socket::is_bound)
    }

    pub(super) fn sockname(&self) -> Option<&Sockname> {
        self.sockets.iter().find_map(|socket| match &socket.state {
            State::Bound { sockname } => sockname.as_ref(),
            State::Binding { .. } | State::Closing | State::Closed => None,
        })
    }

    /// Whether new connections have ended.
    pub(super) fn is_closing(&self) -> bool {
        self.sockets.iter().all(|socket| matches!(socket.state, State::Closing | State::Closed))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sockets.iter().all(|socket| matches!(socket.state, State::Closed))
    }

    /// Closes what is open, and says which sockets that were.
    pub(super) fn close(&mut self) -> Vec<SocketId> {
        let bound = self.sockets.iter().filter(|socket| socket.is_bound());
        let bound: Vec<SocketId> = bound.map(|socket| socket.id).collect();
        for id in &bound {
            self.sockets.change(*id, Socket::close);
        }
        bound
    }

    /// Whether nobody has a copy of its sockets or is about to: who left without closing its own may have it for a while yet, and
    /// the address could not be bound.
    pub(super) fn may_be_reopened(&self) -> bool {
        let is_free = self.idle.is_some_and(|(_, closer)| self.hands_over || closer.is_some());
        is_free && !self.sockets.astir().any(|socket| matches!(socket.state, State::Binding { .. }))
    }

    /// Whether it was closed by its last holder, and has the port that this asks for.
    pub(super) fn is_in_the_way_of(&self, target: &Target) -> bool {
        let port = match (&self.target, target) {
            (Target::Tcp { .. }, Target::Tcp { port, .. }) => *port,
            (Target::Udp { .. }, Target::Udp { port, .. }) => *port,
            _ => return false,
        };
        let was_closed = matches!(self.idle, Some((_, Some(_)))) && self.may_be_reopened();
        was_closed && self.sockname().is_some_and(|sockname| sockname.port == port)
    }

    /// Whether the worker holds it or has asked for it.
    pub(super) fn knows(&self, worker: WorkerId) -> bool {
        let asked = |socket: &Socket| socket.asked().iter().any(|(asker, _)| *asker == worker);
        self.holders.contains_key(&worker) || self.sockets.astir().any(asked)
    }

    /// Whether the worker was the last to close it.
    pub(super) fn was_closed_by(&self, worker: WorkerId) -> bool {
        self.idle.is_some_and(|(_, closer)| closer == Some(worker))
    }

    /// Whether this is what a worker means that says where it listens.
    pub(super) fn is_listened_on(&self, query: &Query) -> bool {
        let ours = |port: u16| self.sockname().is_none_or(|sockname| sockname.port == port);
        match (&self.target, query.target()) {
            (Target::Tcp { host, .. }, Some(Target::Tcp { host: other, port, .. })) => {
                *host == other && ours(port)
            }
            (Target::Udp { host, .. }, Some(Target::Udp { host: other, port, .. })) => {
                *host == other && ours(port)
            }
            (Target::Unix { path, .. }, Some(Target::Unix { path: other, .. })) => *path == other,
            (Target::Fd(fd), Some(Target::Fd(other))) | (Target::UdpFd(fd), Some(Target::UdpFd(other))) => {
                *fd == other
            }
            _ => false,
        }
    }

    /// Adds a holder; what everybody had refused has a new chance, and what this one refused before it
    /// closed the address as well.
    pub(super) fn join(&mut self, worker: WorkerId, load: Load) {
        if self.holders.insert(worker, load).is_none() && self.per_slot {
            *self.filled.entry(load.slot).or_default() += 1;
        }
        // It may have been silent for a while elsewhere.
        (self.idle, self.watch) = (None, None);
        // The slot is filled again.
        self.sockets.change_of(load.slot, |socket| socket.join(worker));
        self.schedule.added(worker, load);
        self.pending.iter_mut().for_each(|waiting| waiting.refused_by.retain(|by| *by != worker));
        self.revive();
    }

    /// Hands nothing more to a worker; what it has itself it keeps.
    pub(super) fn withdraw(&mut self, now: Time, worker: WorkerId) {
        if self.hands_over {
            self.leave(now, worker, false);
        } else {
            self.ask_no_more(worker);
            self.schedule.removed(worker);
        }
    }

    fn ask_no_more(&mut self, worker: WorkerId) {
        self.sockets.change_astir(|socket| {
            if let State::Binding { asked } = &mut socket.state {
                asked.retain(|(asker, _)| *asker != worker);
            }
            None::<()>
        });
    }

    /// Takes a worker out, whether it closed the address itself or is gone.
    pub(super) fn leave(&mut self, now: Time, worker: WorkerId, closed_it: bool) {
        self.ask_no_more(worker);
        if let Some(Load { slot, .. }) = self.holders.remove(&worker) {
            self.schedule.removed(worker);
            if let Some(count) = self.filled.get_mut(&slot) {
                *count -= 1;
            }
            self.vacate(now, slot);
            if self.holders.is_empty() {
                self.idle = Some((now, closed_it.then_some(worker)));
                // Nobody is left who has refused it.
                self.revive();
            }
        }
    }

    /// A worker of the slot has closed its copy of the socket, or is no more.
    pub(super) fn release(&mut self, now: Time, slot: Slot, worker: WorkerId) {
        self.sockets.change_of(slot, |socket| socket.release(now, worker));
    }

    /// Sees whether anybody in the slot still holds its socket.
    pub(super) fn vacate(&mut self, now: Time, slot: Slot) {
        if self.per_slot && self.filled.get(&slot).is_none_or(|count| *count == 0) {
            self.filled.remove(&slot);
            self.sockets.change_of(slot, |socket| socket.vacant = Some(now));
        }
    }

    /// A slot is to get nothing for now, or again.
    pub(super) fn pause(&mut self, slot: Slot, paused: bool, stays: impl Fn(WorkerId) -> bool) {
        if self.per_slot {
            self.sockets.change_of(slot, |socket| socket.paused = paused);
        }
        for (worker, load) in self.holders.iter().filter(|(_, load)| load.slot == slot) {
            if paused {
                self.schedule.removed(*worker);
            } else if stays(*worker) {
                self.schedule.added(*worker, *load);
            }
        }
        if !paused {
            self.revive();
        }
    }

    /// A holder that was held back is in dispatch from now on.
    pub(super) fn admit(&mut self, worker: WorkerId) {
        if let Some(load) = self.holders.get(&worker) {
            self.schedule.added(worker, *load);
            self.revive();
        }
    }

    /// What a holder has to do has changed.
    pub(super) fn change(&mut self, worker: WorkerId, change: impl FnOnce(&mut Load)) {
        if let Some(load) = self.holders.get_mut(&worker) {
            change(load);
            self.schedule.changed(worker, *load);
        }
    }

    /// Puts what everybody had refused back in the queue.
    pub(super) fn revive(&mut self) {
        for Parked { mut waiting, .. } in self.parked.drain(..).rev() {
            waiting.refused_by.clear();
            self.pending.push_front(waiting);
        }
    }

    /// Whether so much waits that nobody may wait for one worker alone.
    pub(super) fn is_pressed(&self) -> bool {
        self.pending.len() >= PENDING_LOW
    }

    /// Of which sockets accepting should change, and to what.
    pub(super) fn accept_changes(&mut self, now: Time) -> Vec<(SocketId, bool)> {
        let waiting = self.pending.len() + self.parked.len();
        let (hands_over, held) = (self.hands_over, !self.holders.is_empty());
        // What waits in a datagram socket can only be read by who has it.
        let lends = !self.is_datagram();
        let change = |socket: &Socket| {
            let room = waiting < if socket.accepting { PENDING_HIGH } else { PENDING_LOW };
            let ours = hands_over || (lends && socket.abandoned_at().is_some_and(|at| at <= now));
            let wanted = ours && socket.is_bound() && held && room;
            (wanted != socket.accepting).then_some((socket.id, wanted))
        };
        let changes: Vec<_> = self.sockets.astir().filter_map(change).collect();
        for (id, accepting) in &changes {
            self.sockets.change(*id, |socket| socket.accepting = *accepting);
        }
        changes
    }

    /// Past which sockets what is new should be led, or no more: those of retired slots, of paused ones and, of datagrams, which
    /// nobody can hand over, also of vacant ones, unless there is none better. A retired one is the worst: it is going to be closed.
    pub(super) fn steer_changes(&mut self) -> Vec<(SocketId, bool)> {
        let is_datagram = self.is_datagram();
        let badness = |socket: &Socket| match socket {
            Socket { retired: Some(_), .. } => 2,
            Socket { paused: true, .. } => 1,
            Socket { vacant: Some(_), .. } if is_datagram => 1,
            _ => 0,
        };
        let good = self.sockets.any_bound(|socket| badness(socket) < 1);
        let good_or_bad = self.sockets.any_bound(|socket| badness(socket) < 2);
        self.sockets.change_astir(|socket| {
            let past = match badness(socket) {
                0 => false,
                1 => good,
                _ => good_or_bad,
            };
            (socket.is_bound() && past != socket.passed_by).then(|| {
                socket.passed_by = past;
                (socket.id, past)
            })
        })
    }

    /// Closes the sockets of slots that are not to be filled again, and says which those are.
    pub(super) fn close_retired(&mut self, now: Time) -> Vec<SocketId> {
        self.sockets.change_astir(|socket| {
            socket.done_at().is_some_and(|at| at <= now).then(|| (socket.close(), socket.id).1)
        })
    }

    /// When it wants to be looked at again.
    pub(super) fn timeout(&self, replacements_due: bool) -> Option<Time> {
        let parked = self.parked.front().map(|parked| parked.until);
        let idle =
            self.idle.filter(|_| self.is_bound() && !replacements_due).map(|(since, _)| since + IDLE_FOR);
        // With no room for more its time will come with an answer.
        let room = !self.is_datagram()
            && !self.holders.is_empty()
            && self.pending.len() + self.parked.len() < PENDING_LOW;
        // What all slots share is never vacant.
        let own = || self.per_slot.then(|| self.sockets.astir()).into_iter().flatten();
        let abandoned = own().filter(|socket| room && !socket.accepting).filter_map(Socket::abandoned_at);
        let done = own().filter_map(Socket::done_at);
        parked.into_iter().chain(self.watch).chain(idle).chain(abandoned).chain(done).min()
    }
}
