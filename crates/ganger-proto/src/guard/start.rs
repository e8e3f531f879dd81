//! A worker's way into its slot: started, ready, or not.

use std::time::Duration;

use super::{Action, Cause, Guard, Notice, Obituary, Phase, Sign, Then, Verdict, notice::Unfit, ward::Ward};
use crate::{Slot, Time, WorkerId};

impl Guard {
    pub(super) fn handle_started(&mut self, now: Time, worker: WorkerId, ward: Ward) {
        let ending = self.is_ending();
        let slot = ward.slot;
        self.wards.insert(worker, ward);
        if self.config.probe.is_some() {
            self.actions.push_back(Action::HoldBack(worker));
        }
        let Some(place) = self.slots.get_mut(slot.0 as usize).filter(|place| place.starting) else {
            // The slot was given up meanwhile.
            self.notice(Notice::Started { worker, slot });
            return if ending {
                self.retire(now, worker)
            } else {
                self.dismiss(now, worker, self.config.stop_timeout)
            };
        };
        place.starting = false;
        let obituary = place.obituary.take();
        let predecessor = place.predecessor.take();
        match &mut place.succession {
            Some(succession) if succession.heir.is_none() => succession.heir = Some(worker),
            // A reload that has failed meanwhile began it.
            None if place.occupant.is_some() || place.over.is_some() => {
                self.dismiss(now, worker, self.config.stop_timeout)
            }
            Some(_) | None => place.occupant = Some(worker),
        }
        if let Some(predecessor) = predecessor.and_then(|id| self.wards.get_mut(&id)) {
            predecessor.replaced = Some(Some(worker));
        }
        match obituary {
            Some(Obituary { worker: dead, age, cause }) => {
                self.notice(Notice::Died { worker: dead, slot, age, cause, then: Then::ReplacedBy(worker) });
            }
            None => self.notice(Notice::Started { worker, slot }),
        }
        // The stop may have come while the process was being started.
        if ending {
            self.retire(now, worker);
        }
    }

    pub(super) fn handle_start_failed(&mut self, now: Time, slot: Slot, error: String) {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        place.starting = false;
        place.predecessor = None;
        let (obituary, succession) = (place.obituary.take(), place.succession.is_some());
        if let Some(Obituary { worker, age, cause }) = obituary {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::Nothing });
        }
        if self.is_ending() {
            return self.finish_if_empty(now);
        }
        if succession {
            return self.fail_succession(now, slot, None, Unfit::NotStarted(error), None);
        }
        if self.phase == Phase::First {
            self.notice(Notice::StartFailed { slot, error: error.clone(), retry_in: None });
            self.end(now, Verdict::FirstStart);
            return self.kill_workers();
        }
        let retry_in = self.pause_after(now, slot, true);
        self.notice(Notice::StartFailed { slot, error, retry_in });
        match retry_in {
            Some(pause) => self.start_after(now, slot, pause),
            None => self.give_up(now, slot),
        }
    }

    pub(super) fn handle_sign(&mut self, now: Time, worker: WorkerId, sign: Sign) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if !ward.gave(sign) {
            ward.signs.push(sign);
        }
        self.proceed_start(now, worker);
    }

    /// Goes on with a worker that has shown something.
    pub(super) fn proceed_start(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get(&worker).filter(|ward| ward.may_get_ready()) else { return };
        let Some(first) = ward.signs.first().copied().filter(|_| !self.is_ending()) else { return };
        match self.lacks(ward) {
            None => {
                if let Some(place) = self.slots.get_mut(ward.slot.0 as usize) {
                    place.sign.get_or_insert(first);
                }
                self.make_ready(now, worker);
            }
            Some(Unfit::Unproven(_)) => self.try_out(now, worker),
            Some(_) => {}
        }
    }

    /// Something was due of a worker that is not ready.
    pub(super) fn handle_start_timeout(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get(&worker) else { return };
        if ward.of_age_at(&self.config).is_some_and(|at| at <= now) {
            self.handle_sign(now, worker, Sign::Age);
        } else if ward.started + self.config.patience() > now {
            self.proceed_start(now, worker);
        } else {
            self.start_time_is_over(now, worker);
        }
    }

    /// The worker has had all its time to get ready: it is too late, unless nobody knows what to expect of it.
    fn start_time_is_over(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get(&worker) else { return };
        let (slot, after) = (ward.slot, self.config.patience());
        let is_heir = self.slots.get(slot.0 as usize).is_some_and(|place| place.is_heir(worker));
        match self.lacks(ward) {
            Some(unfit) if is_heir => self.fail_living_heir(now, slot, worker, unfit),
            Some(Unfit::Unproven(unproven)) => self.kill(worker, Cause::Unproven(unproven)),
            Some(_) => self.kill(worker, Cause::StartTimeout { after }),
            None => {
                self.notice(Notice::NoSign { worker, slot, after });
                self.make_ready(now, worker);
            }
        }
    }

    pub(super) fn make_ready(&mut self, now: Time, worker: WorkerId) {
        let old_at = self.end_of_life(now);
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        ward.ready = Some(now);
        ward.old_at = old_at;
        ward.watch.begin(now);
        let (slot, after) = (ward.slot, now - ward.started);
        if self.phase == Phase::First {
            self.phase = Phase::Running;
        }
        if self.config.probe.is_some() {
            self.actions.push_back(Action::Admit(worker));
        }
        self.notice(Notice::WorkerReady { worker, slot, after });
        if self.slots.get(slot.0 as usize).is_some_and(|place| place.is_heir(worker)) {
            self.succeed(now, slot, worker);
        }
        self.complete_if_ready(now);
    }

    /// Says once that every slot is ready.
    pub(super) fn complete_if_ready(&mut self, now: Time) {
        self.reckon();
        if !self.complete && self.slots.are_complete() && self.ready() > 0 {
            self.complete = true;
            self.notice(Notice::GangReady { workers: self.ready() as u32, after: now - self.began });
        }
    }

    pub(super) fn start_after(&mut self, now: Time, slot: Slot, pause: Duration) {
        if pause.is_zero() {
            self.start(slot);
        } else if let Some(place) = self.slots.get_mut(slot.0 as usize) {
            place.start_at = Some(now + pause);
        }
    }

    pub(super) fn start_workers(&mut self) {
        self.workers_are_started = true;
        (0..self.config.workers).for_each(|slot| self.start(Slot(slot)));
    }

    pub(super) fn start(&mut self, slot: Slot) {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        place.start_at = None;
        place.over = None;
        place.starting = true;
        self.actions.push_back(Action::Start(slot, self.generation));
    }
}
