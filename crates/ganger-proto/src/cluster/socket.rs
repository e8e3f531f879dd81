//! One socket of the primary: who holds it, which connections wait for a worker.
//!
//! ```text
//!   Binding ──► Bound ──► Closing ──► Closed ──► (gone when no connection of it is left)
//! ```
//!
//! Invariant: a waiting connection is either in `pending` (somebody may have room) or in `parked` (every
//! holder has refused it), never in both.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::RoundRobin;
use crate::{
    ListenerKey, Seq, Slot, Time, WorkerId,
    node::{Query, Sockname, Target},
};

/// A connection that every worker has refused waits this long for a change.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(1);
/// A socket without a holder is closed after this long, unless a replacement is due.
pub(super) const IDLE_FOR: Duration = Duration::from_millis(500);
/// With this many connections waiting the primary stops accepting: the kernel's queue is the better place.
const PENDING_HIGH: usize = 256;
/// And with this many it goes on.
const PENDING_LOW: usize = 128;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Socket<C> {
    pub(super) key: ListenerKey,
    /// The slot that the socket belongs to; none if all slots share it.
    pub(super) slot: Option<Slot>,
    pub(super) target: Target,
    /// The first query's `data`, given to everybody who asks.
    pub(super) data: Option<Box<str>>,
    /// Whether the primary accepts and hands over; otherwise the workers have the socket itself.
    pub(super) dispatched: bool,
    pub(super) state: State,
    pub(super) holders: BTreeSet<WorkerId>,
    pub(super) schedule: RoundRobin,
    pub(super) pending: VecDeque<Waiting<C>>,
    pub(super) parked: VecDeque<Parked<C>>,
    pub(super) accepting: bool,
    /// Since when nobody holds it, and who was the last to close it, if that worker still lives.
    pub(super) idle: Option<(Time, Option<WorkerId>)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum State {
    Binding {
        asked: Vec<(WorkerId, Seq)>,
    },
    Bound {
        sockname: Option<Sockname>,
    },
    /// The driver hands in what the kernel has completed.
    Closing,
    Closed,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Waiting<C> {
    pub(super) connection: C,
    pub(super) refused_by: Vec<WorkerId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parked<C> {
    pub(super) until: Time,
    pub(super) waiting: Waiting<C>,
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

impl<C> Socket<C> {
    pub(super) fn is_bound(&self) -> bool {
        matches!(self.state, State::Bound { .. })
    }

    pub(super) fn sockname(&self) -> Option<&Sockname> {
        match &self.state {
            State::Bound { sockname } => sockname.as_ref(),
            State::Binding { .. } | State::Closing | State::Closed => None,
        }
    }

    /// Whether new connections have ended.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing | State::Closed)
    }

    /// No connection is to come any more.
    pub(super) fn close(&mut self) {
        self.state = State::Closing;
        self.accepting = false;
    }

    /// Whether the worker has the socket or has asked for it.
    pub(super) fn knows(&self, worker: WorkerId) -> bool {
        let asked = match &self.state {
            State::Binding { asked } => asked.iter().any(|(asker, _)| *asker == worker),
            State::Bound { .. } | State::Closing | State::Closed => false,
        };
        asked || self.holders.contains(&worker)
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
    /// closed the socket as well.
    pub(super) fn join(&mut self, worker: WorkerId, window: u32, depth: u32) {
        self.holders.insert(worker);
        self.idle = None;
        self.schedule.added(worker, window, depth);
        self.pending.iter_mut().for_each(|waiting| waiting.refused_by.retain(|by| *by != worker));
        self.revive();
    }

    /// Takes a worker out, whether it closed the socket itself or is gone.
    pub(super) fn leave(&mut self, now: Time, worker: WorkerId, closed_it: bool) {
        if let State::Binding { asked } = &mut self.state {
            asked.retain(|(asker, _)| *asker != worker);
        }
        if self.holders.remove(&worker) {
            self.schedule.removed(worker);
            if self.holders.is_empty() {
                self.idle = Some((now, closed_it.then_some(worker)));
                // Nobody is left who has refused it.
                self.revive();
            }
        }
    }

    /// Puts what everybody had refused back in the queue.
    pub(super) fn revive(&mut self) {
        for Parked { mut waiting, .. } in self.parked.drain(..).rev() {
            waiting.refused_by.clear();
            self.pending.push_front(waiting);
        }
    }

    /// Whether accepting should change, and to what.
    pub(super) fn accept_change(&mut self) -> Option<bool> {
        let waiting = self.pending.len() + self.parked.len();
        let room = waiting < if self.accepting { PENDING_HIGH } else { PENDING_LOW };
        let wanted = self.dispatched && self.is_bound() && !self.holders.is_empty() && room;
        (wanted != self.accepting).then(|| {
            self.accepting = wanted;
            wanted
        })
    }

    /// When it wants to be looked at again.
    pub(super) fn timeout(&self, replacements_due: bool) -> Option<Time> {
        let parked = self.parked.front().map(|parked| parked.until);
        let idle =
            self.idle.filter(|_| self.is_bound() && !replacements_due).map(|(since, _)| since + IDLE_FOR);
        parked.into_iter().chain(idle).min()
    }
}
