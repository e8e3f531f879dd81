//! A worker's end, foreseen or not, and what becomes of its slot.

use std::time::Duration;

use super::{Action, Cause, Exit, Guard, Illness, Notice, Obituary, Phase, Then, Verdict, ladder::Ladder};
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
                // once; who is young is waited for, since its death decides what is done next.
                ward.silent_since = Some(now);
                if !ward.is_young(now) {
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
        self.replace_ill(now, worker);
        let replaced_by = self.wards.get(&worker).and_then(|ward| ward.replaced.flatten());
        if illness == Illness::ChannelClosed {
            self.notice(Notice::Ill { worker, slot, illness, replaced_by });
        }
    }

    /// Takes the worker out of its slot while it lives: the number of workers at work stays the same.
    pub(super) fn replace_ill(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        let (slot, young) = (ward.slot, ward.is_young(now));
        ward.leaving = Some(Ladder::drain(now, self.config.drain_timeout));
        ward.replaced = Some(None);
        self.actions.push_back(Action::Retire(worker));
        if self.slots[slot.0 as usize].occupant == Some(worker) {
            self.slots[slot.0 as usize].occupant = None;
            let pause = if young { self.pause_after_young_death(now, slot) } else { self.pause(now) };
            if self.is_ending() {
                return;
            }
            self.slots[slot.0 as usize].predecessor = Some(worker);
            self.start_after(now, slot, pause);
        }
    }

    pub(super) fn handle_exited(&mut self, now: Time, worker: WorkerId, exit: Exit) {
        let Some(ward) = self.wards.remove(&worker) else { return };
        let (slot, age) = (ward.slot, now - ward.started);
        let young = ward.is_young(now);
        let cause = match ward.cause {
            Some(cause) => cause,
            None => Cause::Exit(exit),
        };
        let held_slot = self.slots[slot.0 as usize].occupant == Some(worker);
        if held_slot {
            self.slots[slot.0 as usize].occupant = None;
        }
        if self.is_ending() {
            if ward.leaving.is_none() {
                self.notice(Notice::Died { worker, slot, age, cause, then: Then::Nothing });
            }
            return self.finish_if_empty(now);
        }
        if self.phase == Phase::First {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::GangEnds });
            self.end(now, Verdict::FirstStart);
            return self.kill_workers();
        }
        if !held_slot {
            let then = match ward.replaced {
                Some(Some(by)) => Then::ReplacedBy(by),
                _ => Then::Nothing,
            };
            return self.notice(Notice::Died { worker, slot, age, cause, then });
        }
        if !young {
            self.slots[slot.0 as usize].backoff.lived(now - ward.started);
        }
        let pause = if young { self.pause_after_young_death(now, slot) } else { self.pause(now) };
        if self.is_ending() {
            return self.notice(Notice::Died { worker, slot, age, cause, then: Then::GangEnds });
        }
        match pause {
            None => self.slots[slot.0 as usize].obituary = Some(Obituary { worker, age, cause }),
            Some(pause) => {
                self.notice(Notice::Died { worker, slot, age, cause, then: Then::RetryIn(pause) });
            }
        }
        self.start_after(now, slot, pause);
    }

    /// The pause before the next start after a young death. Too many of them, and no worker ready: the
    /// gang ends.
    pub(super) fn pause_after_young_death(&mut self, now: Time, slot: Slot) -> Option<Duration> {
        let pause = self.slots[slot.0 as usize].backoff.young_death(now, &mut self.random);
        if self.slots[slot.0 as usize].backoff.is_hopeless(now) && self.ready() == 0 {
            self.end(now, Verdict::CrashLoop { slot });
            self.kill_workers();
        }
        Some(pause)
    }

    /// The pause before the next start after a death in good age: none, up to the limit.
    pub(super) fn pause(&mut self, now: Time) -> Option<Duration> {
        let limit = self.config.restart_limit?;
        let spaced = self.restarts.next(now, limit);
        if spaced.newly {
            self.notice(Notice::RestartsSpaced { limit });
        }
        spaced.pause
    }
}
