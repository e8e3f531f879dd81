//! More slots, or fewer; slots that get no connections for a while.

use super::{Action, Guard, Notice, Phase, Place, Request};
use crate::{Slot, Time};

impl Guard {
    /// How many slots there are.
    pub fn workers(&self) -> u32 {
        self.config.workers
    }

    /// There are to be so many slots, at least one.
    pub(super) fn handle_scale(&mut self, now: Time, wanted: u32) {
        let wanted = wanted.max(1);
        if self.is_stopping() {
            return self.notice(Notice::TooLate(Request::Scale(wanted)));
        }
        if wanted == self.config.workers {
            return;
        }
        self.resize(now, wanted);
        // Somebody wants so many at work, and not one less for each that has ended for good.
        for slot in 0..wanted {
            let place = &mut self.slots[slot as usize];
            if let Some(succession) = &mut place.succession {
                succession.over = None;
            }
            if place.over.is_some() {
                self.start(Slot(slot));
            }
        }
    }

    /// More slots, which are filled, or fewer, the highest of which are given up.
    pub(super) fn resize(&mut self, now: Time, to: u32) {
        let from = std::mem::replace(&mut self.config.workers, to);
        self.notice(Notice::Scaled { from, to });
        for slot in from..to {
            self.slots.push(Place::default());
            // Before the agent is ready nobody is started.
            if self.phase != Phase::First || self.workers_are_started {
                self.start(Slot(slot));
            }
        }
        for slot in (to..from).rev() {
            let Some(place) = self.slots.pop() else { return };
            self.actions.push_back(Action::RetireSlot(Slot(slot)));
            let heir = place.succession.and_then(|succession| succession.heir);
            for worker in place.occupant.into_iter().chain(heir) {
                self.dismiss(now, worker, self.config.drain_timeout);
            }
            // Should there be such a slot again, it begins as any other.
            if place.paused {
                self.actions.push_back(Action::Pause(Slot(slot), false));
            }
        }
        self.complete_if_ready(now);
    }

    /// A slot gets no connections any more, or again.
    pub(super) fn handle_pause(&mut self, slot: Slot, paused: bool) {
        if self.is_ending() {
            return;
        }
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        if std::mem::replace(&mut place.paused, paused) != paused {
            self.actions.push_back(Action::Pause(slot, paused));
            self.notice(Notice::Paused { slot, paused });
        }
    }
}
