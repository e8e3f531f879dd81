//! The same client to the same slot.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Deserialize, Serialize};

use super::{Client, Load, RoundRobin, Schedule, Wanted};
use crate::{Slot, WorkerId};

/// So many gaps a client jumps over before all slots are looked at.
const JUMPS: u64 = 16;

/// Consistent hashing over the slots: a slot that goes takes only its own clients with it, and they come back with it. A
/// client waits for its worker, unless that one refused it, is [silent](Wanted::silent), or cannot have it now while
/// [too many](Wanted::pressed) wait: then it goes to the slot that is its next. Who is nobody in particular goes in turn.
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
            // Where nobody can have it, as under pressure is the rule, not everybody's score is worth its while.
            _ if wanted.pressed && self.turns.pick(wanted).is_none() => return None,
            Client::Known(key) => key,
            Client::Of(slot) => match self.worker_of(slot, wanted) {
                Some(worker) => return self.if_free(worker, wanted),
                None => mix(u64::from(slot.0)),
            },
        };
        let worker = self.by_jumps(key, wanted).or_else(|| self.by_scores(key, wanted))?;
        self.if_free(worker, wanted)
    }

    fn has(&self, worker: WorkerId) -> bool {
        self.loads.contains_key(&worker)
    }

    fn is_uniform(&self) -> bool {
        false
    }
}

impl Sticky {
    /// Where its jumps lead it: what a policy for a thousand workers costs must not grow with them.
    fn by_jumps(&self, key: u64, wanted: &Wanted<'_>) -> Option<WorkerId> {
        let (Slot(last), _) = self.slots.last_key_value()?;
        let slots = last.saturating_add(1);
        (0..JUMPS).find_map(|nth| self.worker_of(Slot(jump(mix(key ^ mix(nth)), slots)), wanted))
    }

    /// Where its score is the highest (rendezvous hashing): for the few that find only gaps.
    fn by_scores(&self, key: u64, wanted: &Wanted<'_>) -> Option<WorkerId> {
        let workers =
            self.slots.keys().filter_map(|slot| Some((score(key, *slot), self.worker_of(*slot, wanted)?)));
        workers.max_by_key(|(score, _)| *score).map(|(_, worker)| worker)
    }

    /// The slot's newest worker if it may have it at all, now or later; under pressure, now.
    fn worker_of(&self, slot: Slot, wanted: &Wanted<'_>) -> Option<WorkerId> {
        let newest = self.slots.get(&slot)?.last()?;
        let out = wanted.refused_by.contains(newest)
            || (wanted.silent)(*newest)
            || (wanted.pressed && self.if_free(*newest, wanted).is_none());
        (!out).then_some(*newest)
    }

    fn if_free(&self, worker: WorkerId, wanted: &Wanted<'_>) -> Option<WorkerId> {
        let has_room = self.loads.get(&worker).is_some_and(Load::has_room);
        (has_room && wanted.may_go_to(worker)).then_some(worker)
    }
}

/// One of so many slots: "A Fast, Minimal Memory, Consistent Hash Algorithm", by Lamping and Veach. With one slot more a client
/// either stays or goes to the new one.
fn jump(mut key: u64, slots: u32) -> u32 {
    let (mut slot, mut next) = (0, 0_u64);
    while next < u64::from(slots) {
        slot = next as u32;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((f64::from(slot) + 1.0) * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    slot
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
