//! All workers, with what would take long to find among thousands: for whom something is due, and in which slots one is good.
//!
//! Whoever looks at a worker to change it leaves a mark; [`Guard::reckon`] looks at those with a mark again, and at nobody else.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use serde::{Deserialize, Serialize};

use super::{Config, Guard, ward::Ward};
use crate::{Slot, Time, WorkerId};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Wards {
    all: BTreeMap<WorkerId, Ward>,
    /// By the time at which something is due, as of the last reckoning.
    due: BTreeSet<(Time, WorkerId)>,
    due_at: BTreeMap<WorkerId, Time>,
    /// Who may have changed since then, and in which slot.
    marked: Vec<(WorkerId, Slot)>,
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

    pub(super) fn values(&self) -> btree_map::Values<'_, WorkerId, Ward> {
        self.all.values()
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

    /// Enters anew when something is due for this one.
    fn enter(&mut self, id: WorkerId, config: &Config) {
        if let Some(at) = self.due_at.remove(&id) {
            self.due.remove(&(at, id));
        }
        if let Some(at) = self.all.get(&id).and_then(|ward| ward.timeout(config)) {
            self.due.insert((at, id));
            self.due_at.insert(id, at);
        }
    }
}

impl Guard {
    /// Looks again at those that may have changed.
    pub(super) fn reckon(&mut self) {
        for (id, slot) in std::mem::take(&mut self.wards.marked) {
            self.wards.enter(id, &self.config);
            if let Some(place) = self.slots.get_mut(slot.0 as usize) {
                let occupant = place.occupant.and_then(|id| self.wards.get(&id));
                place.good = occupant.is_some_and(Ward::is_good);
            }
        }
    }
}
