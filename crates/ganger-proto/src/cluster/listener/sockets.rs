//! The sockets of one listener: one that all slots share, or one a slot.
//!
//! There may be thousands, and most of them need nothing: they are bound, and their slot's worker accepts from them. The others are
//! [astir](Sockets::change_astir), and only those are looked at each time that something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Seq, Slot, SocketId, Time, WorkerId, node::Sockname};

/// What waits in a slot's own socket is served by the other slots after this long without a worker.
const VACANT_FOR: Duration = Duration::from_millis(100);
/// The socket of a slot that is not to be filled again takes in what was on its way to it for so long. A Node worker says that it
/// closes its copy shortly before it does.
const STEERED_FOR: Duration = Duration::from_secs(1);

/// One socket of the kernel.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cluster) struct Socket {
    pub(in crate::cluster) id: SocketId,
    /// The slot whose it is; none if all slots share it.
    pub(in crate::cluster) slot: Option<Slot>,
    pub(in crate::cluster) state: State,
    pub(in crate::cluster) accepting: bool,
    /// Since when its slot has no worker that holds it.
    pub(in crate::cluster) vacant: Option<Time>,
    /// Since when its slot is not to be filled again.
    pub(in crate::cluster) retired: Option<Time>,
    /// Which workers of its slot have a copy of it: as long as there is one the kernel counts it among those on its port, and
    /// leads clients there.
    copies: BTreeSet<WorkerId>,
    /// When a copy was closed last.
    released: Option<Time>,
    /// Its slot gets nothing for now.
    pub(in crate::cluster) paused: bool,
    /// Whether what is new is led past it.
    pub(in crate::cluster) passed_by: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cluster) enum State {
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

impl Socket {
    pub(in crate::cluster) fn new(id: SocketId, slot: Option<Slot>, asker: (WorkerId, Seq)) -> Self {
        let state = State::Binding { asked: vec![asker] };
        Self {
            id,
            slot,
            state,
            accepting: false,
            vacant: None,
            retired: None,
            copies: BTreeSet::new(),
            released: None,
            paused: false,
            passed_by: false,
        }
    }

    pub(in crate::cluster) fn is_bound(&self) -> bool {
        matches!(self.state, State::Bound { .. })
    }

    /// Whether it is open, or about to be.
    fn is_live(&self) -> bool {
        matches!(self.state, State::Binding { .. } | State::Bound { .. })
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    pub(super) fn asked(&self) -> &[(WorkerId, Seq)] {
        match &self.state {
            State::Binding { asked } => asked,
            State::Bound { .. } | State::Closing | State::Closed => &[],
        }
    }

    /// No connection is to come any more.
    pub(super) fn close(&mut self) {
        self.state = State::Closing;
        self.accepting = false;
    }

    /// When its slot has been without a worker for long enough.
    pub(super) fn abandoned_at(&self) -> Option<Time> {
        let vacant = self.vacant.filter(|_| self.is_bound())?;
        Some(if self.retired.is_some() { vacant } else { vacant + VACANT_FOR })
    }

    /// A worker holds it, and it is not to be closed.
    pub(super) fn join(&mut self, worker: WorkerId) {
        (self.vacant, self.retired) = (None, None);
        if self.slot.is_some() {
            self.copies.insert(worker);
        }
    }

    /// A worker has closed its copy.
    pub(super) fn release(&mut self, now: Time, worker: WorkerId) {
        if self.copies.remove(&worker) {
            self.released = Some(now);
        }
    }

    /// When it may be closed for good.
    pub(super) fn done_at(&self) -> Option<Time> {
        let (vacant, retired) = (self.vacant.filter(|_| self.is_bound())?, self.retired?);
        let since = vacant.max(retired).max(self.released.unwrap_or(retired));
        self.copies.is_empty().then_some(since + STEERED_FOR)
    }

    /// Whether it is more than a bound socket whose worker accepts from it.
    fn is_astir(&self) -> bool {
        !self.is_bound()
            || self.slot.is_none()
            || self.accepting
            || self.vacant.is_some()
            || self.retired.is_some()
            || self.paused
            || self.passed_by
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::cluster) struct Sockets {
    /// In the order of their numbers, which is that in which they were bound.
    all: Vec<Socket>,
    /// The one of each slot that is open, or about to be.
    of_slot: BTreeMap<Slot, SocketId>,
    /// In the same order.
    astir: Vec<SocketId>,
}

impl Sockets {
    pub(in crate::cluster) fn new(first: Socket) -> Self {
        let mut sockets = Self::default();
        sockets.insert(first);
        sockets
    }

    pub(in crate::cluster) fn insert(&mut self, socket: Socket) {
        let id = socket.id;
        if let Some(slot) = socket.slot {
            self.of_slot.insert(slot, id);
        }
        // It is still to be bound.
        mark(&mut self.astir, id, true);
        let at = self.all.partition_point(|other| other.id < id);
        self.all.insert(at, socket);
    }

    pub(in crate::cluster) fn remove(&mut self, id: SocketId) {
        self.change(id, |socket| socket.state = State::Closed);
        if let Some(at) = self.place(id) {
            self.all.remove(at);
            mark(&mut self.astir, id, false);
        }
    }

    /// Forgets those that are closed, but for this one.
    pub(in crate::cluster) fn forget_closed(&mut self, but: SocketId) {
        let closed = self.astir().filter(|socket| socket.is_closed() && socket.id != but);
        let closed: Vec<SocketId> = closed.map(|socket| socket.id).collect();
        closed.into_iter().for_each(|id| self.remove(id));
    }

    pub(in crate::cluster) fn get(&self, id: SocketId) -> Option<&Socket> {
        self.all.get(self.place(id)?)
    }

    fn place(&self, id: SocketId) -> Option<usize> {
        self.all.binary_search_by_key(&id, |socket| socket.id).ok()
    }

    /// All, in the order in which they were bound.
    pub(in crate::cluster) fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.all.iter()
    }

    pub(in crate::cluster) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The slot's own, or the one that all share; none if it is not open, nor about to be.
    pub(in crate::cluster) fn of(&self, slot: Slot) -> Option<&Socket> {
        match self.of_slot.get(&slot) {
            Some(id) => self.get(*id),
            // It is never at rest, and alone but for those that it has replaced.
            None => self.astir().find(|socket| socket.slot.is_none() && socket.is_live()),
        }
    }

    /// Those that need to be looked at.
    pub(super) fn astir(&self) -> impl Iterator<Item = &Socket> {
        self.astir.iter().filter_map(|id| self.get(*id))
    }

    /// Whether one is bound of which something is so that is so of all that are not astir.
    pub(in crate::cluster) fn any_bound(&self, is_so: impl Fn(&Socket) -> bool) -> bool {
        self.astir.len() < self.all.len() || self.astir().any(|socket| socket.is_bound() && is_so(socket))
    }

    /// Changes one, and returns what came of it.
    pub(in crate::cluster) fn change<R>(
        &mut self,
        id: SocketId,
        change: impl FnOnce(&mut Socket) -> R,
    ) -> Option<R> {
        let at = self.place(id)?;
        let socket = &mut self.all[at];
        let was_astir = socket.is_astir();
        let result = change(socket);
        if socket.is_astir() != was_astir {
            mark(&mut self.astir, id, !was_astir);
        }
        if let Some(slot) = socket.slot.filter(|_| !socket.is_live())
            && self.of_slot.get(&slot) == Some(&id)
        {
            self.of_slot.remove(&slot);
        }
        Some(result)
    }

    /// Changes the slot's own, or the one that all share.
    pub(in crate::cluster) fn change_of<R>(
        &mut self,
        slot: Slot,
        change: impl FnOnce(&mut Socket) -> R,
    ) -> Option<R> {
        self.change(self.of(slot)?.id, change)
    }

    /// Changes those that are astir; what came of each.
    pub(super) fn change_astir<R>(&mut self, mut change: impl FnMut(&mut Socket) -> Option<R>) -> Vec<R> {
        let (mut results, mut at) = (Vec::new(), 0);
        while let Some(id) = self.astir.get(at).copied() {
            results.extend(self.change(id, &mut change).flatten());
            // If it is not one of them any more, the next one has its place.
            at += usize::from(self.astir.get(at) == Some(&id));
        }
        results
    }
}

/// Takes one in, or out.
fn mark(astir: &mut Vec<SocketId>, id: SocketId, is_astir: bool) {
    match (astir.binary_search(&id), is_astir) {
        (Err(at), true) => astir.insert(at, id),
        (Ok(at), false) => drop(astir.remove(at)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_zero(Duration::ZERO);

    fn asker(slot: u32) -> (WorkerId, Seq) {
        (WorkerId(slot + 1), Seq(slot.into()))
    }

    /// One a slot, all in use; the first has the number 1.
    fn in_use(slots: u32) -> Sockets {
        let mut sockets = Sockets::default();
        for slot in 0..slots {
            sockets.insert(Socket::new(SocketId(slot + 1), Some(Slot(slot)), asker(slot)));
            assert_eq!(astir(&sockets), [slot + 1], "it is still to be bound");
            bind(&mut sockets, slot + 1);
        }
        assert_eq!(astir(&sockets), [0; 0]);
        sockets
    }

    fn bind(sockets: &mut Sockets, id: u32) {
        sockets.change(SocketId(id), |socket| socket.state = State::Bound { sockname: None });
    }

    fn astir(sockets: &Sockets) -> Vec<u32> {
        sockets.astir().map(|socket| socket.id.0).collect()
    }

    #[test]
    fn only_what_is_not_simply_in_use_is_looked_at() {
        let mut sockets = in_use(1000);
        sockets.change_of(Slot(7), |socket| socket.vacant = Some(NOW));
        sockets.change_of(Slot(3), |socket| socket.paused = true);
        assert_eq!(astir(&sockets), [4, 8]);
        assert!(sockets.any_bound(|_| false), "the others are not asked");
        let mut looked_at = 0;
        let vacant = sockets.change_astir(|socket| {
            looked_at += 1;
            (socket.paused, socket.accepting) = (false, socket.vacant.is_some());
            socket.accepting.then_some(socket.id.0)
        });
        assert_eq!((vacant, looked_at), (vec![8], 2));
        sockets.change_of(Slot(7), |socket| socket.vacant = None);
        assert_eq!(astir(&sockets), [8], "the primary accepts from it");
        sockets.change(SocketId(8), |socket| socket.accepting = false);
        assert_eq!(astir(&sockets), [0; 0]);
    }

    #[test]
    fn a_slot_may_have_its_next_one_before_the_last_is_closed() {
        let mut sockets = in_use(2);
        sockets.change_of(Slot(1), Socket::close);
        assert!(sockets.of(Slot(1)).is_none());
        sockets.insert(Socket::new(SocketId(3), Some(Slot(1)), asker(1)));
        assert_eq!(sockets.of(Slot(1)).map(|socket| socket.id), Some(SocketId(3)));
        sockets.change(SocketId(2), |socket| socket.state = State::Closed);
        sockets.forget_closed(SocketId(1));
        assert!(sockets.get(SocketId(2)).is_none());
        assert_eq!(sockets.of(Slot(1)).map(|socket| socket.id), Some(SocketId(3)));
        sockets.remove(SocketId(3));
        assert!(sockets.of(Slot(1)).is_none());
        assert_eq!(astir(&sockets), [0; 0]);
    }

    #[test]
    fn one_that_all_share_is_everybodys() {
        let mut sockets = Sockets::new(Socket::new(SocketId(1), None, asker(0)));
        bind(&mut sockets, 1);
        assert_eq!(sockets.of(Slot(9)).map(|socket| socket.id), Some(SocketId(1)));
        assert_eq!(astir(&sockets), [1]);
        assert!(!sockets.any_bound(|socket| socket.slot.is_some()));
        sockets.change(SocketId(1), Socket::close);
        assert!(sockets.of(Slot(9)).is_none());
    }
}
