//! Which worker gets the next connection. Pure; each policy keeps its own structure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::WorkerId;

/// Round robin with depth: the worker that has waited longest, among those with the fewest hand-offs under
/// way. With a window of 1 this is Node's list of free workers
/// (`lib/internal/cluster/round_robin_handle.js`): taken from the front when a connection is handed over,
/// put at the end when it is answered for.
///
/// The second connection under way to a worker comes only when every other one has its first, so depth
/// follows the queue and shares stay even.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RoundRobin {
    members: BTreeMap<WorkerId, Member>,
    /// Members with room: by depth, then by the turn at which they got there.
    queue: BTreeSet<(u32, u64, WorkerId)>,
    turn: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    window: u32,
    /// Hand-offs under way.
    depth: u32,
    /// Its place in the queue among those of the same depth.
    turn: u64,
}

impl RoundRobin {
    /// A worker joins, with `depth` hand-offs still under way from an earlier membership.
    pub fn added(&mut self, worker: WorkerId, window: u32, depth: u32) {
        self.removed(worker);
        self.members.insert(worker, Member { window, depth, turn: 0 });
        self.enqueue(worker);
    }

    /// A worker leaves.
    pub fn removed(&mut self, worker: WorkerId) {
        if let Some(member) = self.members.remove(&worker) {
            self.queue.remove(&(member.depth, member.turn, worker));
        }
    }

    /// A worker's window has become known.
    pub fn widened(&mut self, worker: WorkerId, window: u32) {
        self.change(worker, |member| member.window = window);
    }

    /// A connection was handed to the worker.
    pub fn handed(&mut self, worker: WorkerId) {
        self.change(worker, |member| member.depth += 1);
    }

    /// The worker has answered for a connection.
    pub fn answered(&mut self, worker: WorkerId) {
        self.change(worker, |member| member.depth = member.depth.saturating_sub(1));
    }

    /// The next worker in turn that has room and that `eligible` does not exclude.
    pub fn pick(&self, mut eligible: impl FnMut(WorkerId) -> bool) -> Option<WorkerId> {
        self.queue.iter().map(|(.., worker)| *worker).find(|worker| eligible(*worker))
    }

    fn change(&mut self, worker: WorkerId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(&worker) {
            self.queue.remove(&(member.depth, member.turn, worker));
            change(member);
            self.enqueue(worker);
        }
    }

    fn enqueue(&mut self, worker: WorkerId) {
        self.turn += 1;
        if let Some(member) = self.members.get_mut(&worker) {
            member.turn = self.turn;
            if member.depth < member.window {
                self.queue.insert((member.depth, member.turn, worker));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(workers: u32, window: u32) -> RoundRobin {
        let mut schedule = RoundRobin::default();
        (1..=workers).for_each(|id| schedule.added(WorkerId(id), window, 0));
        schedule
    }

    fn hand(schedule: &mut RoundRobin) -> Option<u32> {
        let worker = schedule.pick(|_| true)?;
        schedule.handed(worker);
        Some(worker.0)
    }

    #[test]
    fn idle_workers_take_turns() {
        let mut schedule = of(3, 32);
        for expected in [1, 2, 3, 1, 2, 3] {
            assert_eq!(hand(&mut schedule), Some(expected));
            schedule.answered(WorkerId(expected));
        }
    }

    #[test]
    fn with_a_window_of_one_a_busy_worker_is_passed_over() {
        let mut schedule = of(2, 1);
        assert_eq!((hand(&mut schedule), hand(&mut schedule), hand(&mut schedule)), (Some(1), Some(2), None));
        schedule.answered(WorkerId(2));
        assert_eq!((hand(&mut schedule), hand(&mut schedule)), (Some(2), None));
    }

    #[test]
    fn a_burst_is_spread_evenly_and_ends_at_the_window() {
        let mut schedule = of(3, 4);
        let mut shares = [0; 3];
        while let Some(worker) = hand(&mut schedule) {
            shares[worker as usize - 1] += 1;
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{shares:?}");
        }
        assert_eq!(shares, [4, 4, 4]);
    }

    #[test]
    fn the_excluded_keep_their_turn_and_the_removed_are_gone() {
        let mut schedule = of(3, 1);
        assert_eq!(schedule.pick(|worker| worker != WorkerId(1)), Some(WorkerId(2)));
        assert_eq!(schedule.pick(|_| true), Some(WorkerId(1)));
        schedule.removed(WorkerId(1));
        assert_eq!(hand(&mut schedule), Some(2));
        schedule.removed(WorkerId(2));
        schedule.answered(WorkerId(2));
        assert_eq!((hand(&mut schedule), hand(&mut schedule)), (Some(3), None));
    }

    #[test]
    fn who_comes_back_brings_what_is_still_under_way() {
        let mut schedule = of(2, 2);
        schedule.added(WorkerId(1), 2, 1);
        assert_eq!((hand(&mut schedule), hand(&mut schedule)), (Some(2), Some(1)));
        assert_eq!((hand(&mut schedule), hand(&mut schedule)), (Some(2), None));
    }
}
