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
        self.wards.next_old()
    }

    fn is_replacing(&self) -> bool {
        self.is_stopping() || self.reload.is_some() || self.wards.draining() > 0 || !self.slots.are_settled()
    }

    /// The first that is to be replaced is, unless somebody else is being.
    pub(super) fn proceed_recycling(&mut self, now: Time) {
        let none = self.config.max_lifetime.is_none() && self.config.max_memory.is_none();
        if none {
            return;
        }
        self.reckon();
        if self.is_replacing() {
            return;
        }
        let due = |worker: WorkerId| {
            let ward = self.wards.get(&worker)?;
            let fills = self.slots.get(ward.slot.0 as usize)?.occupant == Some(worker);
            fills.then_some((ward.slot, ward.recycle.unwrap_or(Why::Lifetime)))
        };
        let first = self.wards.worn(now).find_map(due);
        if let Some((slot, why)) = first {
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
