//! What a worker answers for what it was handed, and what becomes of that.

use super::{Event, Fate, HandOff, Misbehaviour, Primary, Waiting};
use crate::{Seq, Time, WorkerId};

impl<C> Primary<C> {
    pub(super) fn handle_delivered(&mut self, id: WorkerId, seq: Seq, connection: C) {
        let worker = self.workers.get_mut(&id);
        let hand_off =
            worker.and_then(|worker| worker.under_way.iter_mut().find(|hand_off| hand_off.seq == seq));
        match hand_off {
            Some(hand_off) => {
                hand_off.acknowledged = true;
                hand_off.connection = Some(connection);
            }
            None => self.orphan(connection),
        }
    }

    pub(super) fn handle_answer(&mut self, now: Time, id: WorkerId, ack: Seq, accepted: bool) {
        // An answer before the ACK would be for a connection that the worker cannot have.
        let worker = self.workers.get_mut(&id);
        let hand_off =
            worker.and_then(|worker| worker.under_way.iter_mut().find(|hand_off| hand_off.seq == ack));
        let Some(connection) = hand_off.and_then(|hand_off| hand_off.connection.take()) else {
            return self.event(Event::Misbehaved { worker: id, what: Misbehaviour::UnknownAnswer });
        };
        let Some(mut hand_off) = self.take_hand_off(now, id, ack) else { return self.orphan(connection) };
        if accepted {
            self.counters.served += 1;
            self.drop_connection(connection, Fate::Accepted);
            self.opened(now, id, hand_off.peer);
            self.dispatch_after(now, hand_off.listener, hand_off.since);
        } else {
            hand_off.acknowledged = false;
            self.refused(now, id, hand_off, connection);
        }
    }

    /// Takes a hand-off off the books, whatever its outcome.
    pub(super) fn take_hand_off(&mut self, now: Time, id: WorkerId, seq: Seq) -> Option<HandOff<C>> {
        let worker = self.workers.get_mut(&id)?;
        let at = worker.under_way.iter().position(|hand_off| hand_off.seq == seq)?;
        let hand_off = worker.under_way.remove(at)?;
        self.ahead &= !worker.under_way.is_empty();
        if hand_off.is_question {
            self.event(Event::Probed { worker: id, lag: now - hand_off.since });
        }
        if let Some(listener) = self.listeners.get_mut(&hand_off.listener) {
            listener.change(id, |load| load.under_way = load.under_way.saturating_sub(1));
        }
        Some(hand_off)
    }

    pub(super) fn refused(&mut self, now: Time, id: WorkerId, mut hand_off: HandOff<C>, connection: C) {
        hand_off.refused_by.push(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.has_refused = true;
        }
        match self.listeners.get_mut(&hand_off.listener) {
            Some(listener) => {
                let HandOff { peer, refused_by, .. } = hand_off;
                listener.pending.push_front(Waiting { connection, peer, refused_by });
                self.dispatch_after(now, hand_off.listener, hand_off.since);
            }
            None => self.orphan(connection),
        }
    }
}
