//! A worker's way into its slot: started, ready, or not.

use std::time::Duration;

use super::{Action, Guard, Notice, Obituary, Phase, Sign, Then, Verdict, cause::Blows, ward::Ward};
use crate::{Slot, Time, WorkerId};

impl Guard {
    pub(super) fn handle_started(&mut self, now: Time, slot: Slot, worker: WorkerId, channel_open: bool) {
        let place = &mut self.slots[slot.0 as usize];
        place.starting = false;
        place.occupant = Some(worker);
        let obituary = place.obituary.take();
        if let Some(predecessor) = place.predecessor.take().and_then(|id| self.wards.get_mut(&id)) {
            predecessor.replaced = Some(Some(worker));
        }
        let ward = Ward {
            slot,
            started: now,
            ready: None,
            online: false,
            channel_open,
            silent_since: None,
            leaving: None,
            cause: None,
            blows: Blows::default(),
            replaced: None,
        };
        self.wards.insert(worker, ward);
        match obituary {
            Some(Obituary { worker: dead, age, cause }) => {
                self.notice(Notice::Died { worker: dead, slot, age, cause, then: Then::ReplacedBy(worker) });
            }
            None => self.notice(Notice::Started { worker, slot }),
        }
        // The stop may have come while the process was being started.
        if self.is_ending() {
            self.retire(now, worker);
        }
    }

    pub(super) fn handle_start_failed(&mut self, now: Time, slot: Slot, error: String) {
        let place = &mut self.slots[slot.0 as usize];
        place.starting = false;
        place.predecessor = None;
        if let Some(Obituary { worker, age, cause }) = place.obituary.take() {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::Nothing });
        }
        if self.is_ending() {
            return self.finish_if_empty(now);
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
        let Some(ward) = self.wards.get(&worker) else { return };
        if ward.ready.is_none() && self.is_ready(ward, sign) {
            self.slots[ward.slot.0 as usize].sign.get_or_insert(sign);
            self.make_ready(now, worker);
        }
    }

    /// The one place that decides whether a sign makes a worker ready: any of them does, until the slot's
    /// first worker has shown which one it gives.
    pub(super) fn is_ready(&self, ward: &Ward, sign: Sign) -> bool {
        let wanted = ward.leaving.is_none() && ward.cause.is_none() && !self.is_ending();
        wanted && self.slots[ward.slot.0 as usize].sign.is_none_or(|required| required == sign)
    }

    pub(super) fn make_ready(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        ward.ready = Some(now);
        let (slot, after) = (ward.slot, now - ward.started);
        if self.phase == Phase::First {
            self.phase = Phase::Running;
        }
        self.notice(Notice::WorkerReady { worker, slot, after });
        if !self.complete && self.ready() == self.slots.len() {
            self.complete = true;
            self.notice(Notice::GangReady { workers: self.config.workers, after: now - self.began });
        }
    }

    pub(super) fn start_after(&mut self, now: Time, slot: Slot, pause: Duration) {
        if pause.is_zero() {
            self.start(slot);
        } else {
            self.slots[slot.0 as usize].start_at = Some(now + pause);
        }
    }

    pub(super) fn start_workers(&mut self) {
        (0..self.config.workers).for_each(|slot| self.start(Slot(slot)));
    }

    pub(super) fn start(&mut self, slot: Slot) {
        let place = &mut self.slots[slot.0 as usize];
        place.start_at = None;
        place.starting = true;
        self.actions.push_back(Action::Start(slot, self.generation));
    }
}
