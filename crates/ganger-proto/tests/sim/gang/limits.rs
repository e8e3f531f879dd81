//! Who has grown too large or served for long enough: the book against which the guard's recycling is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ganger_proto::{
    Slot, Time, WorkerId,
    guard::{Config, Input},
};

use super::world::World;
use crate::random::Random;

const MB: u64 = 1 << 20;
/// A tenth of a lifetime is jitter.
const SHORTEST_LIFE: (u32, u32) = (9, 10);

#[derive(Debug)]
pub(crate) struct Limits {
    memory: Option<u64>,
    lifetime: Option<Duration>,
    /// Who was found to use too much.
    too_large: BTreeSet<WorkerId>,
    /// Who could not be replaced, and is not tried again before that.
    not_before: BTreeMap<WorkerId, Time>,
    /// Who was good, was told to go, and is still there.
    dismissed: BTreeSet<WorkerId>,
}

impl Limits {
    /// Draws the limits of a gang.
    pub(crate) fn draw(random: &mut Random, config: &mut Config) -> Self {
        config.max_memory = random.chance(400).then_some(100 * MB);
        config.max_lifetime =
            random.pick(&[None, None, None, Some(2), Some(15), Some(60)]).map(Duration::from_secs);
        Self {
            memory: config.max_memory,
            lifetime: config.max_lifetime,
            too_large: BTreeSet::new(),
            not_before: BTreeMap::new(),
            dismissed: BTreeSet::new(),
        }
    }

    pub(crate) fn is_dismissed(&mut self, id: WorkerId) {
        self.dismissed.insert(id);
    }

    /// It could not be replaced.
    pub(crate) fn goes_on(&mut self, id: WorkerId, until: Time) {
        self.too_large.remove(&id);
        self.not_before.insert(id, until);
    }

    pub(crate) fn is_gone(&mut self, id: WorkerId) {
        self.too_large.remove(&id);
        self.not_before.remove(&id);
        self.dismissed.remove(&id);
    }

    /// A worker that is ready since then is to be replaced, and may be.
    fn check(&self, now: Time, id: WorkerId, ready: Time) {
        let (of, out_of) = SHORTEST_LIFE;
        let is_old = self.lifetime.is_some_and(|lifetime| now - ready >= lifetime * of / out_of);
        assert!(
            is_old || self.too_large.contains(&id),
            "worker {id} is replaced for nothing, ready since {ready:?}"
        );
        let too_early = self.not_before.get(&id).is_some_and(|at| now < *at);
        assert!(!too_early, "worker {id} is to be replaced again too soon");
        assert!(self.dismissed.is_empty(), "worker {id} is replaced while others leave: {self:?}");
    }
}

impl World {
    /// A worker is found to use some memory, or some more. It may be any: one that starts, or leaves.
    pub(crate) fn uses_memory(&mut self, near: WorkerId) {
        let Some(limit) = self.limits.memory else { return };
        let ids = [near, self.workers.last_key_value().map_or(near, |(id, _)| *id)];
        let id = *self.around.random.pick(&ids);
        let used = limit / 2 + self.around.random.below(limit as usize) as u64;
        if used > limit {
            self.limits.too_large.insert(id);
        }
        self.around.note("uses MB", id, (used / MB) as u32);
        self.say_to_guard(Input::Memory(id, used));
    }

    /// A worker is started beside one that is good: one of the gang at a time, and only if there is a reason.
    pub(crate) fn check_recycling(&self, slot: Slot, old: WorkerId) {
        assert!(self.stopped.is_none(), "worker {old} is replaced in a gang that is to end");
        assert!(!self.seats.has_heirs(), "worker {old} is replaced while others are");
        let ready = self.seats.good_since(slot, old);
        let ready = ready.unwrap_or_else(|| panic!("worker {old} is not good, and gets an heir"));
        self.limits.check(self.around.now, old, ready);
    }

    /// A worker has been replaced: who comes after it is at work before it goes.
    pub(crate) fn is_recycled(&self, slot: Slot, old: WorkerId, by: WorkerId) {
        assert!(
            self.seats.good_since(slot, by).is_some(),
            "worker {old} is to go before worker {by} is ready"
        );
        assert!(!self.limits.dismissed.contains(&old), "worker {old} goes already");
    }
}
