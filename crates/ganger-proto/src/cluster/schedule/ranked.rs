//! Workers in the order in which they are to be asked: by rank, then by who has waited longest.
//!
//! Whoever changes goes to the end of its rank's queue, so each queue is in the order of waiting by itself. The queues
//! are linked lists through `places`: a change costs the same however many workers there are, the look-up of the worker
//! aside.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Deserialize, Serialize};

use super::{Load, Wanted};
use crate::WorkerId;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ranked {
    members: BTreeMap<WorkerId, usize>,
    places: Vec<Place>,
    /// Places that nobody has.
    vacant: Vec<usize>,
    /// The members with room. No queue is empty.
    queues: BTreeMap<u32, Queue>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Place {
    worker: WorkerId,
    /// The rank in whose queue it stands; none without room.
    rank: Option<u32>,
    before: Option<usize>,
    behind: Option<usize>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Queue {
    first: usize,
    last: usize,
}

impl Ranked {
    pub(super) fn added(&mut self, worker: WorkerId, load: Load, rank: u32) {
        self.removed(worker);
        let place = Place { worker, rank: None, before: None, behind: None };
        let at = match self.vacant.pop() {
            Some(at) => at,
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        self.places[at] = place;
        self.members.insert(worker, at);
        self.enqueue(at, load, rank);
    }

    pub(super) fn removed(&mut self, worker: WorkerId) {
        if let Some(at) = self.members.remove(&worker) {
            self.dequeue(at);
            self.vacant.push(at);
        }
    }

    pub(super) fn changed(&mut self, worker: WorkerId, load: Load, rank: u32) {
        if let Some(at) = self.members.get(&worker).copied() {
            self.dequeue(at);
            self.enqueue(at, load, rank);
        }
    }

    pub(super) fn has(&self, worker: WorkerId) -> bool {
        self.members.contains_key(&worker)
    }

    pub(super) fn first(&self, wanted: &Wanted<'_>) -> Option<WorkerId> {
        let queue = |queue: &Queue| {
            std::iter::successors(Some(queue.first), |at| self.places[*at].behind)
                .map(|at| self.places[at].worker)
                .find(|worker| wanted.may_go_to(*worker))
        };
        self.queues.values().find_map(queue)
    }

    fn enqueue(&mut self, at: usize, load: Load, rank: u32) {
        if !load.has_room() {
            return;
        }
        let queue = self.queues.entry(rank);
        let before = match &queue {
            Entry::Occupied(queue) => Some(queue.get().last),
            Entry::Vacant(_) => None,
        };
        queue.or_insert(Queue { first: at, last: at }).last = at;
        if let Some(before) = before {
            self.places[before].behind = Some(at);
        }
        let place = &mut self.places[at];
        (place.rank, place.before, place.behind) = (Some(rank), before, None);
    }

    fn dequeue(&mut self, at: usize) {
        let Place { rank, before, behind, .. } = self.places[at];
        let Some(rank) = rank else { return };
        self.places[at].rank = None;
        if let Some(before) = before {
            self.places[before].behind = behind;
        }
        if let Some(behind) = behind {
            self.places[behind].before = before;
        }
        let Entry::Occupied(mut queue) = self.queues.entry(rank) else { return };
        match (before, behind) {
            (None, None) => drop(queue.remove()),
            (None, Some(first)) => queue.get_mut().first = first,
            (Some(last), None) => queue.get_mut().last = last,
            (Some(_), Some(_)) => {}
        }
    }
}
