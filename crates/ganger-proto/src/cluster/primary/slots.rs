//! Slots that are not to be filled again.

use super::Primary;
use crate::{Slot, Time, cluster::Effect};

impl<C> Primary<C> {
    /// The slot is not to be filled again. Where it has sockets of its own, new connections are led past them from now
    /// on; when its worker has left, what still waits there goes to the other slots, and they are closed. A worker that
    /// is forked into the slot all the same takes that back.
    pub fn retire_slot(&mut self, now: Time, slot: Slot) {
        for listener in self.listeners.values_mut() {
            let stays = listener
                .sockets
                .iter()
                .any(|other| other.is_bound() && other.slot != Some(slot) && other.steered.is_none());
            let its_own =
                listener.sockets.iter_mut().find(|socket| socket.is_bound() && socket.slot == Some(slot));
            // The last one on its port stays: there is nowhere to lead anybody.
            if let Some(socket) = its_own.filter(|socket| stays && socket.steered.is_none()) {
                socket.steered = Some(now);
                self.effects.push_back(Effect::Steer { socket: socket.id, away: true });
            }
        }
        self.dispatch_all(now);
    }
}
