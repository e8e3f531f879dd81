//! A worker's end, foreseen or not, and what becomes of its slot.

use std::time::Duration;

use super::{
    Action, Cause, Exit, Guard, Illness, Notice, Obituary, Phase, Restart, Then, Verdict, ladder::Ladder,
    notice::Unfit, restart::LastEnd, succession::Why,
};
use crate::{Slot, Time, WorkerId};

impl Guard {
    pub(super) fn handle_disconnected(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        ward.channel_open = false;
        match &mut ward.leaving {
            Some(ladder) => ladder.channel_closed(now),
            // It never used the channel: it is a program that knows nothing of it.
            None if !ward.online => {}
            None => {
                // A death in most cases, whose exit is not seen yet. Who was established is replaced at
                // once; where it matters what it ends with, or that it is young, that is waited for.
                ward.silent_since = Some(now);
                let any_end = self.config.restart == Restart::Always && ward.no_restart_codes.is_empty();
                if any_end && !ward.is_young(now) {
                    self.replace_ill(now, worker);
                }
            }
        }
    }

    pub(super) fn handle_ill(&mut self, now: Time, worker: WorkerId, illness: Illness) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if ward.leaving.is_some() || ward.cause.is_some() {
            return;
        }
        if illness == Illness::Leaving {
            ward.cause = Some(Cause::Left);
        }
        let slot = ward.slot;
        if self.slots.get(slot.0 as usize).is_some_and(|place| place.is_heir(worker)) {
            return self.fail_living_heir(now, slot, worker, Unfit::Ill(illness));
        }
        self.replace_ill(now, worker);
        let replaced_by = self.wards.get(&worker).and_then(|ward| ward.replaced.flatten());
        if illness == Illness::ChannelClosed {
            self.notice(Notice::Ill { worker, slot, illness, replaced_by });
        }
    }

    /// Takes the worker out of its slot while it lives: the number of workers at work stays the same. Where
    /// [`Restart`](super::Restart) makes its end decide whether anybody takes its place, it keeps the slot until then. The exit codes
    /// after which nobody does are not waited for: they can be a whole drain away, with a worker less for as long.
    pub(super) fn replace_ill(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        let (slot, young) = (ward.slot, ward.is_young(now));
        ward.leaving = Some(Ladder::drain(now, self.config.drain_timeout, ward.hears()));
        self.actions.push_back(Action::Retire(worker));
        let replaced_at_once = match self.config.restart {
            Restart::Always => true,
            // That it has failed it said.
            Restart::OnFailure => matches!(ward.cause, Some(Cause::Panicked(_))),
            Restart::No => false,
        };
        if !replaced_at_once {
            return;
        }
        ward.replaced = Some(None);
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        if place.occupant == Some(worker) {
            place.occupant = None;
            if let Some(succession) = &place.succession {
                let heir = succession.heir;
                let why = succession.why;
                if let Some(ward) = self.wards.get_mut(&worker) {
                    ward.replaced = Some(heir);
                }
                if why != Why::Reload {
                    self.inherit(now, slot);
                }
                return;
            }
            let Some(pause) = self.pause_after(now, slot, young) else { return self.give_up(now, slot) };
            if let Some(place) = self.slots.get_mut(slot.0 as usize) {
                place.predecessor = Some(worker);
            }
            self.start_after(now, slot, pause);
        }
    }

    pub(super) fn handle_exited(&mut self, now: Time, worker: WorkerId, exit: Exit) {
        let Some(ward) = self.wards.remove(&worker) else { return };
        let (slot, age) = (ward.slot, now - ward.started);
        let young = ward.is_young(now);
        let cause = ward.blows.cause(ward.cause, exit);
        let place = self.slots.get_mut(slot.0 as usize);
        let held_slot = place.is_some_and(|place| place.occupant.take_if(|id| *id == worker).is_some());
        let is_heir = self.slots.get(slot.0 as usize).is_some_and(|place| place.is_heir(worker));
        if self.is_ending() {
            if ward.leaving.is_none() {
                self.notice(Notice::Died { worker, slot, age, cause, then: Then::Nothing });
            }
            return self.finish_if_empty(now);
        }
        // Who crashes on its way out may have had connections, which nobody asked it to lose.
        if ward.dismissed && cause.is_as_asked() {
            return self.notice(Notice::Left { worker, slot, age });
        }
        let last = self.config.restart.last_end(exit, &ward.no_restart_codes);
        if is_heir {
            let unfit = Unfit::Died { age, cause: Box::new(cause) };
            return self.fail_succession(now, slot, Some(worker), unfit, last);
        }
        // Who has done its work has not failed to start, and with nobody to be started again the others go on without it.
        let endured = last.is_some_and(|last| !last.failed || self.config.restart == Restart::No);
        if self.phase == Phase::First && !endured {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::GangEnds });
            self.end(now, Verdict::FirstStart);
            return self.kill_workers();
        }
        if !held_slot {
            let then = match ward.replaced {
                Some(Some(by)) => Then::ReplacedBy(by),
                Some(None) => self.successor_in(now, slot, worker).map_or(Then::Nothing, Then::RetryIn),
                None => Then::Nothing,
            };
            // Why an heir is killed has been told.
            let told = matches!(cause, Cause::Unfit(_));
            return self.notice(match told {
                true => Notice::Left { worker, slot, age },
                false => Notice::Died { worker, slot, age, cause, then },
            });
        }
        if let Some(then) = self.heir_of(slot) {
            self.notice(Notice::Died { worker, slot, age, cause, then });
            return self.leave_to_heir(now, slot, last);
        }
        if let Some(last) = last {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::StaysVacant(last) });
            return self.leave_vacant(now, slot, last);
        }
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        if !young {
            place.backoff.lived(age);
        }
        let Some(pause) = self.pause_after(now, slot, young) else {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::GangEnds });
            return self.give_up(now, slot);
        };
        if !pause.is_zero() {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::RetryIn(pause) });
        } else if let Some(place) = self.slots.get_mut(slot.0 as usize) {
            place.obituary = Some(Obituary { worker, age, cause });
        }
        self.start_after(now, slot, pause);
    }

    /// The one before the heir is dead, perhaps for good.
    fn leave_to_heir(&mut self, now: Time, slot: Slot, last: Option<LastEnd>) {
        let succession = self.slots.get_mut(slot.0 as usize).and_then(|place| place.succession.as_mut());
        match succession {
            Some(succession) if succession.why == Why::Reload => succession.over = last,
            _ => self.inherit(now, slot),
        }
    }

    /// Nobody fills the slot any more, unless a reload or a scale does.
    pub(super) fn leave_vacant(&mut self, now: Time, slot: Slot, last: LastEnd) {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        place.over = Some(last);
        self.actions.push_back(Action::RetireSlot(slot));
        self.complete_if_ready(now);
    }

    /// The pause before the next start after a death; none if there is no hope for the slot, nor a worker ready elsewhere.
    pub(super) fn pause_after(&mut self, now: Time, slot: Slot, young: bool) -> Option<Duration> {
        if !young {
            return Some(self.pause(now));
        }
        self.reckon();
        let backoff = &mut self.slots.get_mut(slot.0 as usize)?.backoff;
        let pause = backoff.young_death(now, &mut self.random);
        let hopeless = backoff.is_hopeless(now) && self.ready() == 0;
        (!hopeless).then_some(pause)
    }

    /// When the one that is to follow the worker is started, if that is still to come.
    fn successor_in(&self, now: Time, slot: Slot, worker: WorkerId) -> Option<Duration> {
        let place = self.slots.get(slot.0 as usize).filter(|place| place.predecessor == Some(worker))?;
        place.start_at.map(|at| at - now)
    }

    /// The slot's workers die as fast as they are started, and no other is ready.
    pub(super) fn give_up(&mut self, now: Time, slot: Slot) {
        self.end(now, Verdict::CrashLoop { slot });
        self.kill_workers();
    }

    /// The pause after a death in good age: none, up to the limit.
    fn pause(&mut self, now: Time) -> Duration {
        let Some(limit) = self.config.restart_limit else { return Duration::ZERO };
        let spaced = self.restarts.next(now, limit);
        if spaced.newly {
            self.notice(Notice::RestartsSpaced { limit });
        }
        spaced.pause.unwrap_or_default()
    }
}
