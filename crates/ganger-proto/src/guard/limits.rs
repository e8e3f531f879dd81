//! Workers that are replaced before their end: for their memory, for their age. One at a time over the gang.

use std::time::Duration;

use super::{Guard, Notice, notice::Unfit, succession::Why};
use crate::{Slot, Time, WorkerId};

/// What could not be replaced is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

impl Guard {
    /// A worker uses so much memory, in bytes.
    pub(super) fn handle_memory(&mut self, now: Time, worker: WorkerId, used: u64) {
        let Some(limit) = self.config.max_memory.filter(|limit| used > *limit) else { return };
        if let Some(ward) = self.wards.get_mut(&worker)
            && ward.recycle.is_none()
            && ward.recycle_not_before.is_none_or(|at| at <= now)
        {
            ward.recycle = Some(Why::Memory { used, limit });
        }
    }

    /// When a worker that is ready now has served for long enough.
    pub(super) fn end_of_life(&mut self, now: Time) -> Option<Time> {
        self.config.max_lifetime.map(|lifetime| now + self.random.within_a_tenth(lifetime))
    }

    /// When the next worker has served for long enough; while another one is being replaced, that has to end first.
    pub(super) fn recycling_timeout(&self) -> Option<Time> {
        if self.config.max_lifetime.is_none() || self.is_replacing() {
            return None;
        }
        let occupants = self.slots.iter().filter_map(|place| self.wards.get(&place.occupant?));
        occupants.filter(|ward| ward.leaving.is_none()).filter_map(|ward| ward.old_at).min()
    }

    fn is_replacing(&self) -> bool {
        self.is_ending()
            || self.reload.is_some()
            || self.draining() > 0
            || self.slots.iter().any(|place| !place.is_settled())
    }

    /// The first that is to be replaced is, unless somebody else is being.
    pub(super) fn proceed_recycling(&mut self, now: Time) {
        let none = self.config.max_lifetime.is_none() && self.config.max_memory.is_none();
        if none || self.is_replacing() {
            return;
        }
        let due = |slot: usize, worker: WorkerId| {
            let ward =
                self.wards.get(&worker).filter(|ward| ward.ready.is_some() && ward.leaving.is_none())?;
            let old = ward.old_at.filter(|at| *at <= now).map(|_| Why::Lifetime);
            ward.recycle.or(old).map(|why| (Slot(slot as u32), why))
        };
        let mut occupied =
            self.slots.iter().enumerate().filter_map(|(slot, place)| Some((slot, place.occupant?)));
        if let Some((slot, why)) = occupied.find_map(|(slot, worker)| due(slot, worker)) {
            self.begin_succession(slot, why);
        }
    }

    pub(super) fn fail_recycling(
        &mut self,
        now: Time,
        slot: Slot,
        heir: Option<WorkerId>,
        why: Why,
        unfit: Unfit,
    ) {
        let Some(occupant) = self.slots.get(slot.0 as usize).and_then(|place| place.occupant) else { return };
        if let Some(ward) = self.wards.get_mut(&occupant) {
            let again = now + AGAIN_AFTER;
            ward.recycle = None;
            ward.recycle_not_before = Some(again);
            ward.old_at = ward.old_at.map(|at| at.max(again));
        }
        self.notice(Notice::NotRecycled { worker: occupant, slot, why, heir, unfit, retry_in: AGAIN_AFTER });
    }
}
