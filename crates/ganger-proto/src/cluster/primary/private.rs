//! Workers that are not in dispatch yet, and connections that are for one worker alone.
//!
//! To the worker a private connection is one like any other, by a key that it listens on. It is counted nowhere, and nobody
//! else gets it: who has its other end sees what becomes of it.

use super::Primary;
use crate::{
    Seq, SocketId, Time, WorkerId,
    cluster::{Effect, Fate, Peer, listener::Listener, schedule::Schedule},
    node::{Act, ClusterMessage},
};

impl<C> Primary<C> {
    /// Whatever the worker listens on, it gets nothing but [private connections](Self::hand_private) until it is
    /// [admitted](Self::admit). What the kernel gives it, it gets all the same (`shared`, `reuseport`).
    pub fn hold_back(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.held_back = true;
        self.listeners.values_mut().for_each(|listener| listener.schedule.removed(id));
    }

    /// A worker that was held back is in dispatch from now on.
    pub fn admit(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let was_held_back = std::mem::replace(&mut worker.held_back, false);
        if !was_held_back || worker.draining || self.paused.contains(&worker.slot) {
            return;
        }
        self.listeners.values_mut().for_each(|listener| listener.admit(id));
        self.dispatch_all(now);
    }

    /// A socket of the first address for connections that the worker has opened and not closed.
    pub fn first_socket(&self, id: WorkerId) -> Option<SocketId> {
        let bound = self.first_listener(id)?.sockets.iter().find(|socket| socket.is_bound());
        bound.map(|socket| socket.id)
    }

    /// Hands the worker a connection that nobody else gets, as one to the [first address](Self::first_socket) that it has
    /// opened, also while it is [held back](Self::hold_back). One that it does not take is closed.
    pub fn hand_private(&mut self, id: WorkerId, connection: C) {
        let worker = self.workers.get(&id).filter(|worker| worker.channel_open && !worker.reaped);
        let window = worker.map(|worker| worker.capabilities.window);
        let key = self.first_listener(id).map(|listener| listener.key.clone());
        let (Some(window), Some(key)) = (window, key) else {
            return self.drop_connection(connection, Fate::Private);
        };
        let seq = self.take_seq();
        self.private.insert(seq, id);
        self.effects.push_back(Effect::SendConnection {
            worker: id,
            seq,
            message: ClusterMessage { seq: Some(seq), act: Act::NewConn { key } },
            connection,
            pipelined: window > 1,
        });
    }

    fn first_listener(&self, id: WorkerId) -> Option<&Listener<C>> {
        let first = self.workers.get(&id)?.first.as_ref();
        let holds = |listener: &&Listener<C>| listener.holders.contains_key(&id) && !listener.is_datagram();
        // It may have closed that one since.
        self.listeners.values().filter(holds).min_by_key(|listener| Some(&listener.key) != first)
    }

    /// Whether this is the number of a private connection of the worker's.
    pub(super) fn is_private(&self, id: WorkerId, seq: Seq) -> bool {
        self.private.get(&seq) == Some(&id)
    }

    /// The worker has taken it, or has not.
    pub(super) fn answered_private(&mut self, now: Time, id: WorkerId, seq: Seq, accepted: bool) {
        self.private.remove(&seq);
        if accepted {
            // It is open like any other, and who tells of ends will tell of this one's.
            self.opened(now, id, Peer::default());
        }
    }

    /// The worker has gone.
    pub(super) fn forget_private(&mut self, id: WorkerId) {
        self.private.retain(|_, worker| *worker != id);
    }
}
