//! A worker's way out: first its clients are led elsewhere, then it is asked to leave; its channel closes, it is reaped, and
//! what it did not take goes to others.

use std::time::Duration;

use super::{HandOff, Primary};
use crate::{
    Seq, Time, WorkerId,
    cluster::{Effect, Event, Fate, WorkerState, listener::Waiting},
    node::{Act, ClusterMessage},
};

impl<C> Primary<C> {
    /// Takes the worker out of dispatch, before it is [asked to leave](Self::disconnect): nothing new is handed to it. What it
    /// accepts by itself it goes on accepting.
    pub fn withdraw(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.draining = true;
        self.share_out_before(now, id);
        self.listeners.values_mut().for_each(|listener| listener.withdraw(now, id));
        self.dispatch_all(now);
    }

    /// [Withdraws](Self::withdraw) the worker and tells it to have its clients go: with [hints](crate::node::hints) its
    /// responses say `Connection: close` from now on, one of ours takes nothing new; any other ignores it. It keeps its channel.
    /// Harmless when repeated.
    pub fn drain(&mut self, now: Time, id: WorkerId) {
        self.withdraw(now, id);
        if self.workers.get(&id).is_some_and(|worker| worker.channel_open) {
            let message = ClusterMessage { seq: None, act: Act::Drain };
            self.effects.push_back(Effect::Send { worker: id, message });
        }
    }

    /// Tells a worker that [drains](Self::drain) to end the connections that it still has, one after another over this time: those
    /// that last, as a WebSocket's, whose clients should not all come back in one moment. Who ignores the one ignores the other.
    pub fn shed(&mut self, id: WorkerId, over: Duration) {
        if self.workers.get(&id).is_some_and(|worker| worker.channel_open) {
            let message = ClusterMessage { seq: None, act: Act::Shed { over } };
            self.effects.push_back(Effect::Send { worker: id, message });
        }
    }

    /// Takes the worker out of dispatch and asks it to close its servers, finish and leave: Node's
    /// `worker.disconnect()`. Harmless when repeated.
    pub fn disconnect(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.draining = true;
        // Who has said that it leaves must not be told so as well: Node would disconnect twice and fail.
        let agreed = worker.exited_after_disconnect.replace(true) == Some(true);
        let channel_open = worker.channel_open;
        self.share_out_before(now, id);
        self.leave_all(now, id);
        if channel_open && !agreed {
            self.send(id, Act::Disconnect);
        }
    }

    /// Takes it off all listeners.
    pub(super) fn leave_all(&mut self, now: Time, id: WorkerId) {
        for listener in self.listeners.values_mut() {
            listener.leave(now, id, false);
        }
        self.dispatch_all(now);
    }

    pub(super) fn handle_channel_closed(&mut self, now: Time, id: WorkerId, undelivered: Vec<(Seq, C)>) {
        for (seq, connection) in undelivered {
            if self.is_probe(id, seq) {
                self.drop_connection(connection, Fate::Probe);
                continue;
            }
            if self.is_private(id, seq) {
                self.drop_connection(connection, Fate::Private);
                continue;
            }
            let worker = self.workers.get_mut(&id);
            match worker.and_then(|worker| worker.under_way.iter_mut().find(|hand_off| hand_off.seq == seq)) {
                Some(hand_off) => hand_off.connection = Some(connection),
                None => self.orphan(connection),
            }
        }
        self.forget_probes(id);
        self.forget_private(id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if std::mem::replace(&mut worker.channel_open, false) {
            worker.draining = true;
            worker.exited_after_disconnect.get_or_insert(false);
            if worker.state != WorkerState::Dead {
                worker.state = WorkerState::Disconnected;
            }
            self.leave_all(now, id);
            self.event(Event::Disconnect { worker: id });
            self.bury(now, id);
        }
    }

    pub(super) fn handle_exited(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.reaped = true;
        worker.draining = true;
        worker.state = WorkerState::Dead;
        let slot = worker.slot;
        let exited_after_disconnect = *worker.exited_after_disconnect.get_or_insert(false);
        self.listeners.values_mut().for_each(|listener| listener.release(now, slot, id));
        self.leave_all(now, id);
        self.event(Event::Exit { worker: id, exited_after_disconnect });
        self.bury(now, id);
    }

    /// A worker that is reaped and whose channel is read to its end has no say any more: what it did not
    /// take goes to another one.
    fn bury(&mut self, now: Time, id: WorkerId) {
        if !self.workers.get(&id).is_some_and(|worker| worker.reaped && !worker.channel_open) {
            return;
        }
        self.surveyed.remove(&id);
        self.ahead = false;
        let under_way = self.workers.remove(&id).map(|worker| worker.under_way).unwrap_or_default();
        for hand_off in under_way.into_iter().rev() {
            let HandOff { listener, peer, refused_by, connection, acknowledged, .. } = hand_off;
            let Some(connection) = connection else { continue };
            if acknowledged {
                self.effects.push_back(Effect::Examine { listener, connection, peer });
            } else if let Some(listener) = self.listeners.get_mut(&listener) {
                self.counters.rescued += 1;
                listener.pending.push_front(Waiting { connection, peer, refused_by });
            } else {
                self.orphan(connection);
            }
        }
        self.dispatch_all(now);
    }
}
