//! All slots, with what would take long to count among thousands.
//!
//! Whoever looks at a slot to change it leaves a mark; [`Slots::tally`] counts those with a mark again, and no others.

use std::{
    collections::BTreeSet,
    ops::{Index, IndexMut},
    slice,
};

use serde::{Deserialize, Serialize};

use super::{Place, succession::Why};
use crate::{Slot, Time};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Slots {
    all: Vec<Place>,
    /// What each of them counts for, as of the last tally.
    counted: Vec<Counted>,
    good: usize,
    over: usize,
    reloading: u32,
    unsettled: usize,
    /// When the next occupants are to be started that are not at once.
    starts: BTreeSet<(Time, Slot)>,
    /// Which may have changed since then.
    marked: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    good: bool,
    over: bool,
    reloading: bool,
    unsettled: bool,
    start_at: Option<Time>,
}

impl Counted {
    fn of(place: &Place) -> Self {
        Self {
            good: place.good,
            over: place.over.is_some(),
            reloading: place.succession.as_ref().is_some_and(|succession| succession.why == Why::Reload),
            unsettled: !place.is_settled(),
            start_at: place.start_at,
        }
    }
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Place> {
        self.all.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Place> {
        self.marked.push(slot);
        self.all.get_mut(slot)
    }

    pub(super) fn iter(&self) -> slice::Iter<'_, Place> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> slice::IterMut<'_, Place> {
        self.marked = (0..self.all.len()).collect();
        self.all.iter_mut()
    }

    pub(super) fn push(&mut self, place: Place) {
        self.marked.push(self.all.len());
        self.all.push(place);
        self.counted.push(Counted::default());
    }

    pub(super) fn pop(&mut self) -> Option<Place> {
        let place = self.all.pop()?;
        self.count(self.all.len(), Counted::default());
        self.counted.pop();
        Some(place)
    }

    /// Counts those again that may have changed.
    pub(super) fn tally(&mut self) {
        for slot in std::mem::take(&mut self.marked) {
            if let Some(place) = self.all.get(slot) {
                self.count(slot, Counted::of(place));
            }
        }
    }

    fn count(&mut self, slot: usize, now: Counted) {
        let before = std::mem::replace(&mut self.counted[slot], now);
        self.good = self.good + usize::from(now.good) - usize::from(before.good);
        self.over = self.over + usize::from(now.over) - usize::from(before.over);
        self.reloading = self.reloading + u32::from(now.reloading) - u32::from(before.reloading);
        self.unsettled = self.unsettled + usize::from(now.unsettled) - usize::from(before.unsettled);
        if now.start_at != before.start_at {
            let slot = Slot(slot as u32);
            before.start_at.map(|at| self.starts.remove(&(at, slot)));
            now.start_at.map(|at| self.starts.insert((at, slot)));
        }
    }

    /// How many have an occupant that is ready and serves whoever comes, as of the last tally.
    pub(super) fn good(&self) -> usize {
        self.good
    }

    /// How many are not to be filled any more, as of the last tally.
    pub(super) fn over(&self) -> usize {
        self.over
    }

    /// Whether nobody is missing, as of the last tally: each has its good occupant, or is not to have one.
    pub(super) fn are_complete(&self) -> bool {
        self.good + self.over == self.all.len()
    }

    /// In how many the workers change for a reload, as of the last tally.
    pub(super) fn reloading(&self) -> u32 {
        self.reloading
    }

    /// Whether nothing is under way in any of them, as of the last tally.
    pub(super) fn are_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// When the next one is to be filled; for those that were marked since the last tally perhaps sooner than it is.
    pub(super) fn timeout(&self) -> Option<Time> {
        let marked = self.marked.iter().filter_map(|slot| self.all.get(*slot)?.start_at);
        self.starts.first().map(|(at, _)| *at).into_iter().chain(marked).min()
    }

    /// Which are to be filled now, as of the last tally.
    pub(super) fn due(&self, now: Time) -> Vec<Slot> {
        self.starts.range(..=(now, Slot(u32::MAX))).map(|(_, slot)| *slot).collect()
    }
}

impl FromIterator<Place> for Slots {
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut slots = Self::default();
        places.into_iter().for_each(|place| slots.push(place));
        slots
    }
}

impl<'a> IntoIterator for &'a mut Slots {
    type Item = &'a mut Place;
    type IntoIter = slice::IterMut<'a, Place>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl Index<usize> for Slots {
    type Output = Place;

    fn index(&self, slot: usize) -> &Place {
        &self.all[slot]
    }
}

impl IndexMut<usize> for Slots {
    fn index_mut(&mut self, slot: usize) -> &mut Place {
        self.marked.push(slot);
        &mut self.all[slot]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_zero(Duration::from_secs(seconds))
    }

    fn place(start_at: Option<u64>, good: bool) -> Place {
        Place { start_at: start_at.map(at), good, ..Place::default() }
    }

    /// How many are good, whether all are settled, and when the next one is to be filled.
    fn known(slots: &mut Slots) -> (usize, bool, Option<Time>) {
        slots.tally();
        (slots.good(), slots.are_settled(), slots.timeout())
    }

    #[test]
    fn what_was_looked_at_is_counted_again() {
        let places = [place(None, true), place(Some(9), false), place(Some(5), true)];
        let mut slots: Slots = places.into_iter().collect();
        assert_eq!(known(&mut slots), (2, true, Some(at(5))));
        assert_eq!(slots.due(at(9)), [Slot(2), Slot(1)]);

        slots[2].start_at = None;
        slots[0].good = false;
        slots[1].starting = true;
        assert_eq!(known(&mut slots), (1, false, Some(at(9))));
        slots[1] = place(None, true);
        for place in &mut slots {
            place.start_at = Some(at(2));
        }
        slots.push(place(Some(1), true));
        assert_eq!(slots.timeout(), Some(at(1)), "before they are counted, too");
        assert_eq!(known(&mut slots), (3, true, Some(at(1))));
        // One has a mark when it goes.
        slots[3].good = false;
        assert!(slots.pop().is_some() && slots.pop().is_some());
        assert_eq!(known(&mut slots), (1, true, Some(at(2))));
    }
}
