//! Handing out what waits.

use super::{HandOff, Primary, STALLED_AFTER};
use crate::{
    SocketId, Time, WorkerId,
    cluster::{
        Effect,
        socket::{Parked, REFUSED_FOR, State, Waiting},
    },
    node::{Act, ClusterMessage},
};

impl<C> Primary<C> {
    pub(super) fn enqueue(&mut self, now: Time, socket: SocketId, connection: C, first: bool) {
        let Some(entry) = self.sockets.get_mut(&socket) else {
            return self.orphan(connection);
        };
        let waiting = Waiting { connection, refused_by: Vec::new() };
        if first {
            entry.pending.push_front(waiting);
        } else {
            entry.pending.push_back(waiting);
        }
        self.dispatch(now, socket);
    }

    pub(super) fn dispatch_all(&mut self, now: Time) {
        let ids: Vec<SocketId> = self.sockets.keys().copied().collect();
        ids.into_iter().for_each(|id| self.dispatch(now, id));
    }

    /// A hand-off of this age has ended. Had it stalled its worker, that one has room at all its sockets.
    pub(super) fn dispatch_after(&mut self, now: Time, id: SocketId, since: Time) {
        if now - since > STALLED_AFTER { self.dispatch_all(now) } else { self.dispatch(now, id) }
    }

    /// Hands out what waits at a socket, as far as workers have room.
    pub(super) fn dispatch(&mut self, now: Time, id: SocketId) {
        // What only some may have must not hold up what is behind it.
        let mut passed_over = 0;
        loop {
            let Some(socket) = self.sockets.get_mut(&id) else { return };
            let Some(waiting) = socket.pending.remove(passed_over) else { break };
            let workers = &self.workers;
            let stalled = |worker: WorkerId| {
                let oldest = workers.get(&worker).and_then(|worker| worker.under_way.front());
                oldest.is_some_and(|oldest| now - oldest.since > STALLED_AFTER)
            };
            let may_have = |worker| !waiting.refused_by.contains(&worker) && !stalled(worker);
            if let Some(worker) = socket.schedule.pick(may_have) {
                self.hand_over(now, worker, id, waiting);
            } else if socket.holders.is_empty() && socket.is_closing() {
                self.orphan(waiting.connection);
            } else if !socket.holders.is_empty()
                && socket.holders.iter().all(|holder| waiting.refused_by.contains(holder))
            {
                socket.parked.push_back(Parked { until: now + REFUSED_FOR, waiting });
            } else {
                let nobody_has_room = waiting.refused_by.is_empty();
                socket.pending.insert(passed_over, waiting);
                if nobody_has_room {
                    break;
                }
                passed_over += 1;
            }
        }
        self.settle(id);
    }

    /// Adjusts accepting to what waits, and forgets a closed socket that has nothing left.
    fn settle(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if let Some(on) = socket.accept_change() {
            self.effects.push_back(Effect::Accept { socket: id, on });
        }
        let empty = socket.pending.is_empty() && socket.parked.is_empty() && socket.holders.is_empty();
        let under_way = || {
            self.workers.values().flat_map(|worker| &worker.under_way).any(|hand_off| hand_off.socket == id)
        };
        if matches!(socket.state, State::Closed) && empty && !under_way() {
            self.sockets.remove(&id);
        }
    }

    fn hand_over(&mut self, now: Time, id: WorkerId, socket_id: SocketId, waiting: Waiting<C>) {
        let seq = self.take_seq();
        let (Some(worker), Some(socket)) = (self.workers.get_mut(&id), self.sockets.get_mut(&socket_id))
        else {
            return self.orphan(waiting.connection);
        };
        socket.schedule.handed(id);
        worker.under_way.push_back(HandOff {
            seq,
            socket: socket_id,
            since: now,
            refused_by: waiting.refused_by,
            connection: None,
            acknowledged: false,
        });
        self.effects.push_back(Effect::SendConnection {
            worker: id,
            seq,
            message: ClusterMessage { seq: Some(seq), act: Act::NewConn { key: socket.key.clone() } },
            connection: waiting.connection,
            pipelined: worker.capabilities.window > 1,
        });
    }

    /// Before a worker leaves a socket that is closed already, it gets its share of what still waits
    /// there, window or not: nobody else will come for it.
    pub(super) fn share_out_before(&mut self, now: Time, id: WorkerId) {
        let mut shares = Vec::new();
        for (socket_id, socket) in &mut self.sockets {
            if socket.is_closing() && socket.holders.contains(&id) {
                let share = socket.pending.len().div_ceil(socket.holders.len());
                shares.extend(socket.pending.drain(..share).map(|waiting| (*socket_id, waiting)));
            }
        }
        for (socket, waiting) in shares {
            self.hand_over(now, id, socket, waiting);
        }
    }
}
