//! Handing out what waits.

use std::time::Duration;

use super::{HandOff, Primary, SILENT_AFTER, STALLED_AFTER};
use crate::{
    SocketId, Time, WorkerId,
    cluster::{
        Effect, Peer,
        listener::{Parked, REFUSED_FOR, State, Waiting},
        schedule::{Schedule, Wanted},
    },
    node::{Act, ClusterMessage},
};

impl<C> Primary<C> {
    pub(super) fn handle_accepted(&mut self, now: Time, socket: SocketId, connection: C, peer: Peer) {
        let Some(id) = self.listener_of(socket) else { return self.orphan(connection) };
        // Of those that come last nothing can be waited for: the workers are leaving.
        match self.listeners.get_mut(&id).filter(|listener| !listener.is_closing()) {
            Some(listener) if self.policy.peeks() => {
                listener.peeking += 1;
                self.effects.push_back(Effect::Peek { listener: id, connection, peer });
            }
            _ => self.enqueue(now, id, connection, peer, false),
        }
    }

    /// The listener that a socket belongs to.
    pub(super) fn listener_of(&self, socket: SocketId) -> Option<SocketId> {
        // Its first socket has its number; others are rare.
        if self.listeners.contains_key(&socket) {
            return Some(socket);
        }
        self.listeners.iter().find(|(_, listener)| listener.sockets.get(socket).is_some()).map(|(id, _)| *id)
    }

    pub(super) fn handle_closed(&mut self, now: Time, socket: SocketId) {
        let Some(id) = self.listener_of(socket) else { return };
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.sockets.change(socket, |socket| socket.state = State::Closed);
            listener.sockets.forget_closed(id);
        }
        self.dispatch(now, id);
    }

    pub(super) fn enqueue(&mut self, now: Time, id: SocketId, connection: C, peer: Peer, first: bool) {
        let Some(listener) = self.listeners.get_mut(&id) else {
            return self.orphan(connection);
        };
        let waiting = Waiting { connection, peer, refused_by: Vec::new() };
        if first {
            listener.pending.push_front(waiting);
        } else {
            listener.pending.push_back(waiting);
        }
        // Who waits for one worker does not go sooner because somebody else has come, unless that makes too many.
        let settled = !first && !listener.schedule.is_uniform() && !listener.is_pressed();
        let passed_over = if settled { listener.pending.len() - 1 } else { 0 };
        self.dispatch_behind(now, id, passed_over);
    }

    pub(super) fn dispatch_all(&mut self, now: Time) {
        let ids: Vec<SocketId> = self.listeners.keys().copied().collect();
        ids.into_iter().for_each(|id| self.dispatch(now, id));
    }

    /// A hand-off of this age has ended. Had it stalled its worker, that one has room wherever it listens.
    pub(super) fn dispatch_after(&mut self, now: Time, id: SocketId, since: Time) {
        if now - since > STALLED_AFTER { self.dispatch_all(now) } else { self.dispatch(now, id) }
    }

    /// Whether whoever gets connections has enough of them: the last one went to a worker that had not answered for the one
    /// before, and since then nobody has answered for all. As long as it is so, the next one is in no hurry.
    pub fn is_ahead(&self) -> bool {
        self.ahead
    }

    /// Hands out what waits at a listener, as far as workers have room.
    pub(super) fn dispatch(&mut self, now: Time, id: SocketId) {
        self.dispatch_behind(now, id, 0);
    }

    /// The same, without those that wait at the front: what only some may have must not hold up what is behind it.
    fn dispatch_behind(&mut self, now: Time, id: SocketId, mut passed_over: usize) {
        loop {
            let Some(listener) = self.listeners.get_mut(&id) else { return };
            let pressed = listener.is_pressed();
            let Some(waiting) = listener.pending.get(passed_over) else { break };
            let workers = &self.workers;
            let unanswered_for = |worker: WorkerId| {
                let oldest = workers.get(&worker).and_then(|worker| worker.under_way.front());
                oldest.map_or(Duration::ZERO, |oldest| now - oldest.since)
            };
            let stalled = |worker: WorkerId| unanswered_for(worker) > STALLED_AFTER;
            let silent = |worker: WorkerId| unanswered_for(worker) >= SILENT_AFTER;
            let wanted = Wanted {
                client: waiting.peer.client,
                refused_by: &waiting.refused_by,
                stalled: &stalled,
                silent: &silent,
                pressed,
            };
            let picked = listener.schedule.pick(&wanted);
            let lost = listener.holders.is_empty() && listener.is_closing();
            // Who is out of dispatch is not asked.
            let members = listener.holders.keys().filter(|holder| listener.schedule.has(**holder));
            let mut members = members.peekable();
            let refused =
                members.peek().is_some() && members.all(|member| waiting.refused_by.contains(member));
            if picked.is_none() && !lost && !refused {
                // Nobody has room.
                if waiting.refused_by.is_empty() && listener.schedule.is_uniform() {
                    break;
                }
                passed_over += 1;
                continue;
            }
            let Some(waiting) = listener.pending.remove(passed_over) else { break };
            match picked {
                Some(worker) => self.hand_over(now, worker, id, waiting),
                None if lost => self.orphan(waiting.connection),
                None => listener.parked.push_back(Parked { until: now + REFUSED_FOR, waiting }),
            }
        }
        self.settle(now, id);
    }

    /// Adjusts accepting to what waits, and forgets a closed listener that has nothing left.
    fn settle(&mut self, now: Time, id: SocketId) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        // Until then nobody falls silent: the oldest hand-offs only become younger.
        if listener.watch.is_none_or(|at| at <= now) {
            let waits = !listener.schedule.is_uniform() && !listener.pending.is_empty();
            listener.watch = waits.then(|| {
                let oldest = |holder| Some(self.workers.get(holder)?.under_way.front()?.since);
                let silent_at = listener.holders.keys().filter_map(oldest).map(|since| since + SILENT_AFTER);
                silent_at.filter(|at| *at > now).min().unwrap_or(now + SILENT_AFTER)
            });
        }
        for (socket, on) in listener.accept_changes(now) {
            self.effects.push_back(Effect::Accept { socket, on });
        }
        if listener.per_slot {
            let changes = listener.steer_changes().into_iter();
            self.effects.extend(changes.map(|(socket, away)| Effect::Steer { socket, away }));
        }
        let waits = listener.peeking > 0 || !listener.pending.is_empty() || !listener.parked.is_empty();
        let under_way = || {
            let mut hand_offs = self.workers.values().flat_map(|worker| &worker.under_way);
            hand_offs.any(|hand_off| hand_off.listener == id)
        };
        if listener.is_closed() && listener.holders.is_empty() && !waits && !under_way() {
            self.listeners.remove(&id);
        }
    }

    fn hand_over(&mut self, now: Time, worker_id: WorkerId, id: SocketId, waiting: Waiting<C>) {
        let seq = self.take_seq();
        let Waiting { connection, peer, refused_by } = waiting;
        let (Some(worker), Some(listener)) = (self.workers.get_mut(&worker_id), self.listeners.get_mut(&id))
        else {
            return self.orphan(connection);
        };
        listener.change(worker_id, |load| load.under_way += 1);
        self.ahead = !worker.under_way.is_empty();
        worker.under_way.push_back(HandOff {
            seq,
            listener: id,
            peer,
            since: now,
            refused_by,
            connection: None,
            acknowledged: false,
            is_question: false,
        });
        self.effects.push_back(Effect::SendConnection {
            worker: worker_id,
            seq,
            message: ClusterMessage { seq: Some(seq), act: Act::NewConn { key: listener.key.clone() } },
            connection,
            pipelined: worker.capabilities.window > 1,
        });
    }

    /// Before a worker leaves a listener that is closed already, it gets its share of what still waits
    /// there, window or not: nobody else will come for it.
    pub(super) fn share_out_before(&mut self, now: Time, worker: WorkerId) {
        let mut shares = Vec::new();
        for (id, listener) in &mut self.listeners {
            if listener.is_closing() && listener.holders.contains_key(&worker) {
                let share = listener.pending.len().div_ceil(listener.holders.len());
                shares.extend(listener.pending.drain(..share).map(|waiting| (*id, waiting)));
            }
        }
        for (id, waiting) in shares {
            self.hand_over(now, worker, id, waiting);
        }
    }
}
