//! All workers, with what would take long to find among thousands: for whom something is due, and in which slots one is good.
//!
//! Whoever looks at a worker to change it leaves a mark; [`Guard::reckon`] looks at those with a mark again, and at nobody else. So it
//! is with the [slots](super::slots).

use std::collections::{BTreeMap, BTreeSet, btree_map};

use serde::{Deserialize, Serialize};

use super::{Config, Guard, ward::Ward};
use crate::{Slot, Time, WorkerId};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Wards {
    all: BTreeMap<WorkerId, Ward>,
    /// What each of them counts for, as of the last reckoning.
    counted: BTreeMap<WorkerId, Counted>,
    /// By the time at which something is due.
    due: BTreeSet<(Time, WorkerId)>,
    /// By the time at which they have served for long enough.
    old: BTreeSet<(Time, WorkerId)>,
    /// Those that are to be replaced as soon as their turn comes.
    waiting: BTreeSet<WorkerId>,
    /// How many were dismissed and are still there.
    draining: usize,
    /// Who may have changed since then, and in which slot.
    marked: Vec<(WorkerId, Slot)>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Counted {
    due: Option<Time>,
    old_at: Option<Time>,
    waiting: bool,
    dismissed: bool,
}

impl Counted {
    fn of(ward: &Ward, config: &Config) -> Self {
        // Who is about to end has its place taken, or has not, for what it ends with.
        let serves = ward.is_good() && ward.cause.is_none();
        Self {
            due: ward.timeout(config),
            old_at: ward.old_at.filter(|_| serves),
            waiting: serves && ward.recycle.is_some(),
            dismissed: ward.dismissed,
        }
    }
}

impl Wards {
    pub(super) fn get(&self, id: &WorkerId) -> Option<&Ward> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &WorkerId) -> Option<&mut Ward> {
        let ward = self.all.get_mut(id)?;
        self.marked.push((*id, ward.slot));
        Some(ward)
    }

    pub(super) fn insert(&mut self, id: WorkerId, ward: Ward) {
        self.marked.push((id, ward.slot));
        self.all.insert(id, ward);
    }

    pub(super) fn remove(&mut self, id: &WorkerId) -> Option<Ward> {
        let ward = self.all.remove(id)?;
        self.marked.push((*id, ward.slot));
        Some(ward)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn keys(&self) -> btree_map::Keys<'_, WorkerId, Ward> {
        self.all.keys()
    }

    /// Everybody, to be changed.
    pub(super) fn values_mut(&mut self) -> btree_map::ValuesMut<'_, WorkerId, Ward> {
        self.marked.extend(self.all.iter().map(|(id, ward)| (*id, ward.slot)));
        self.all.values_mut()
    }

    /// When the next thing is due; for who was marked since the last reckoning perhaps sooner than it is.
    pub(super) fn timeout(&self, config: &Config) -> Option<Time> {
        let marked = self.marked.iter().filter_map(|(id, _)| self.all.get(id)?.timeout(config));
        self.due.first().map(|(at, _)| *at).into_iter().chain(marked).min()
    }

    /// For whom something is due, as of the last reckoning.
    pub(super) fn due(&self, now: Time) -> Vec<WorkerId> {
        self.due.range(..=(now, WorkerId(u32::MAX))).map(|(_, id)| *id).collect()
    }

    /// How many were dismissed and are still there, as of the last reckoning.
    pub(super) fn draining(&self) -> usize {
        self.draining
    }

    /// When the next one has served for long enough, as of the last reckoning.
    pub(super) fn next_old(&self) -> Option<Time> {
        self.old.first().map(|(at, _)| *at)
    }

    /// Who is to be replaced by now, as of the last reckoning.
    pub(super) fn worn(&self, now: Time) -> impl Iterator<Item = WorkerId> {
        let old = self.old.range(..=(now, WorkerId(u32::MAX))).map(|(_, id)| *id);
        self.waiting.iter().copied().chain(old)
    }

    /// Counts this one again.
    fn count(&mut self, id: WorkerId, config: &Config) {
        let before = self.counted.remove(&id).unwrap_or_default();
        before.due.map(|at| self.due.remove(&(at, id)));
        before.old_at.map(|at| self.old.remove(&(at, id)));
        self.waiting.remove(&id);
        self.draining -= usize::from(before.dismissed);
        let Some(ward) = self.all.get(&id) else { return };
        let now = Counted::of(ward, config);
        now.due.map(|at| self.due.insert((at, id)));
        now.old_at.map(|at| self.old.insert((at, id)));
        if now.waiting {
            self.waiting.insert(id);
        }
        self.draining += usize::from(now.dismissed);
        self.counted.insert(id, now);
    }
}

impl Guard {
    /// Looks again at those that may have changed.
    pub(super) fn reckon(&mut self) {
        for (id, slot) in std::mem::take(&mut self.wards.marked) {
            self.wards.count(id, &self.config);
            if let Some(place) = self.slots.get_mut(slot.0 as usize) {
                let occupant = place.occupant.and_then(|id| self.wards.get(&id));
                place.good = occupant.is_some_and(Ward::is_good);
            }
        }
        self.slots.tally();
    }
}
