//! Slots that are not to be filled again, and those that get nothing for a while.

use super::Primary;
use crate::{Slot, Time, WorkerId, cluster::listener::Socket};

impl<C> Primary<C> {
    /// The slot is not to be filled again. Where it has sockets of its own, new connections are led past them from now
    /// on; when its worker has left, what still waits there goes to the other slots, and they are closed. A worker that
    /// is forked into the slot all the same takes that back.
    pub fn retire_slot(&mut self, now: Time, slot: Slot) {
        for listener in self.listeners.values_mut() {
            let stays =
                |other: &Socket| other.is_bound() && other.slot != Some(slot) && other.retired.is_none();
            // The last one on its port stays: there is nowhere to lead anybody.
            if listener.per_slot && listener.sockets.iter().any(stays) {
                listener.sockets.change_of(slot, |socket| {
                    if socket.is_bound() {
                        socket.retired.get_or_insert(now);
                    }
                });
            }
        }
        self.dispatch_all(now);
    }

    /// The slot gets no connections for now, whoever fills it, or gets them again. Where each slot has a socket of its own, new
    /// connections are led past it; where all share one, the kernel gives them to whom it likes, and nothing changes.
    pub fn pause_slot(&mut self, now: Time, slot: Slot, paused: bool) {
        if paused {
            self.paused.insert(slot)
        } else {
            self.paused.remove(&slot)
        };
        let workers = &self.workers;
        let stays = |worker: WorkerId| {
            workers.get(&worker).is_some_and(|worker| !worker.draining && !worker.held_back)
        };
        self.listeners.values_mut().for_each(|listener| listener.pause(slot, paused, stays));
        self.dispatch_all(now);
    }
}
