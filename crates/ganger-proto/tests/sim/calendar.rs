//! What is going to happen, and when: the virtual clock's only hand.

use std::collections::BTreeMap;

use ganger_proto::Time;

#[derive(Debug)]
pub(crate) struct Calendar<T> {
    entries: BTreeMap<(Time, u64), T>,
    made: u64,
}

impl<T> Calendar<T> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), made: 0 }
    }

    /// What is entered for the same moment happens in the order in which it was entered.
    pub(crate) fn enter(&mut self, at: Time, what: T) {
        self.made += 1;
        self.entries.insert((at, self.made), what);
    }

    pub(crate) fn next_at(&self) -> Option<Time> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether all that is to come is like this.
    pub(crate) fn all(&self, is: impl Fn(&T) -> bool) -> bool {
        self.entries.values().all(is)
    }

    pub(crate) fn take_next(&mut self) -> Option<(Time, T)> {
        self.entries.pop_first().map(|((at, _), what)| (at, what))
    }
}
