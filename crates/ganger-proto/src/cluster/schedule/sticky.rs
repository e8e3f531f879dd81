//! The same client to the same slot.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Deserialize, Serialize};

use super::{Client, Load, RoundRobin, Schedule, Wanted};
use crate::{Slot, WorkerId};

/// Rendezvous hashing over the slots: a client's slot is the one with which it has the highest score, so that a slot which
/// goes takes only its own clients with it, and they come back with it. A client waits for its worker, unless that one
/// refused it, or [`Wanted::pressed`] says that too many wait: then it goes to the slot with the next score. Who is nobody in
/// particular goes in turn.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sticky {
    /// Who fills a slot: its newest worker is the last one.
    slots: BTreeMap<Slot, Vec<WorkerId>>,
    loads: BTreeMap<WorkerId, Load>,
    turns: RoundRobin,
}

impl Schedule for Sticky {
    fn added(&mut self, worker: WorkerId, load: Load) {
        if self.loads.insert(worker, load).is_none() {
            let workers = self.slots.entry(load.slot).or_default();
            workers.push(worker);
            workers.sort_unstable();
        }
        self.turns.added(worker, load);
    }

    fn removed(&mut self, worker: WorkerId) {
        let Some(load) = self.loads.remove(&worker) else { return };
        if let Entry::Occupied(mut workers) = self.slots.entry(load.slot) {
            workers.get_mut().retain(|other| *other != worker);
            if workers.get().is_empty() {
                workers.remove();
            }
        }
        self.turns.removed(worker);
    }

    fn changed(&mut self, worker: WorkerId, load: Load) {
        if let Some(known) = self.loads.get_mut(&worker) {
            *known = load;
            self.turns.changed(worker, load);
        }
    }

    fn pick(&self, wanted: &Wanted<'_>) -> Option<WorkerId> {
        let key = match wanted.client {
            Client::Anyone => return self.turns.pick(wanted),
            Client::Known(key) => key,
            Client::Of(slot) => match self.worker_of(slot, wanted) {
                Some(worker) => return self.if_free(worker, wanted),
                None => mix(u64::from(slot.0)),
            },
        };
        let workers =
            self.slots.keys().filter_map(|slot| Some((score(key, *slot), self.worker_of(*slot, wanted)?)));
        let (_, worker) = workers.max_by_key(|(score, _)| *score)?;
        self.if_free(worker, wanted)
    }

    fn is_uniform(&self) -> bool {
        false
    }
}

impl Sticky {
    /// The slot's newest worker that may have it at all, now or later.
    fn worker_of(&self, slot: Slot, wanted: &Wanted<'_>) -> Option<WorkerId> {
        let newest = self.slots.get(&slot)?.last()?;
        let out = wanted.refused_by.contains(newest) || (wanted.pressed && (wanted.stalled)(*newest));
        (!out).then_some(*newest)
    }

    fn if_free(&self, worker: WorkerId, wanted: &Wanted<'_>) -> Option<WorkerId> {
        let has_room = self.loads.get(&worker).is_some_and(Load::has_room);
        (has_room && wanted.may_go_to(worker)).then_some(worker)
    }
}

fn score(key: u64, slot: Slot) -> u64 {
    mix(key ^ mix(u64::from(slot.0)))
}

/// Spreads every bit over all others (the finalizer of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
