//! Workers in the order in which they are to be asked: by rank, then by who has waited longest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Load, Wanted};
use crate::WorkerId;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ranked {
    members: BTreeMap<WorkerId, Place>,
    /// Members with room.
    queue: BTreeSet<(u32, u64, WorkerId)>,
    turn: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Place {
    rank: u32,
    /// When it got to this rank.
    turn: u64,
}

impl Ranked {
    pub(super) fn added(&mut self, worker: WorkerId, load: Load, rank: u32) {
        self.removed(worker);
        self.enqueue(worker, load, rank);
    }

    pub(super) fn removed(&mut self, worker: WorkerId) {
        if let Some(Place { rank, turn }) = self.members.remove(&worker) {
            self.queue.remove(&(rank, turn, worker));
        }
    }

    pub(super) fn changed(&mut self, worker: WorkerId, load: Load, rank: u32) {
        if let Some(Place { rank: before, turn }) = self.members.get(&worker).copied() {
            self.queue.remove(&(before, turn, worker));
            self.enqueue(worker, load, rank);
        }
    }

    pub(super) fn first(&self, wanted: &Wanted<'_>) -> Option<WorkerId> {
        self.queue.iter().map(|(.., worker)| *worker).find(|worker| wanted.may_go_to(*worker))
    }

    fn enqueue(&mut self, worker: WorkerId, load: Load, rank: u32) {
        self.turn += 1;
        let turn = self.turn;
        self.members.insert(worker, Place { rank, turn });
        if load.has_room() {
            self.queue.insert((rank, turn, worker));
        }
    }
}
