//! The round robin against a list that is searched from the front.

use ganger_proto::{WorkerId, cluster::schedule::RoundRobin};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Operation {
    Added {
        worker: u32,
        window: u32,
        depth: u32,
    },
    Removed(u32),
    Widened {
        worker: u32,
        window: u32,
    },
    Handed(u32),
    Answered(u32),
    /// Picks, with these workers excluded, and hands over.
    Dispatch([bool; WORKERS as usize]),
}

const WORKERS: u32 = 5;

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Added, Answered, Dispatch, Handed, Removed, Widened};
    let worker = || 0..WORKERS;
    prop_oneof![
        1 => (worker(), 0u32..5, 0u32..4).prop_map(|(worker, window, depth)| Added { worker, window, depth }),
        1 => worker().prop_map(Removed),
        1 => (worker(), 0u32..5).prop_map(|(worker, window)| Widened { worker, window }),
        1 => worker().prop_map(Handed),
        4 => worker().prop_map(Answered),
        6 => any::<[bool; WORKERS as usize]>().prop_map(Dispatch),
    ]
}

/// Members in the order of their last change, the longest unchanged first.
#[derive(Default)]
struct Naive(Vec<Member>);

struct Member {
    worker: u32,
    window: u32,
    depth: u32,
}

impl Naive {
    fn added(&mut self, worker: u32, window: u32, depth: u32) {
        self.removed(worker);
        self.0.push(Member { worker, window, depth });
    }

    fn removed(&mut self, worker: u32) {
        self.0.retain(|member| member.worker != worker);
    }

    fn change(&mut self, worker: u32, change: impl FnOnce(&mut Member)) {
        if let Some(at) = self.0.iter().position(|member| member.worker == worker) {
            let mut member = self.0.remove(at);
            change(&mut member);
            self.0.push(member);
        }
    }

    /// The shallowest with room; of several, the first.
    fn pick(&self, excluded: &[bool]) -> Option<u32> {
        let open = |member: &&Member| member.depth < member.window && !excluded[member.worker as usize];
        self.0.iter().filter(open).min_by_key(|member| member.depth).map(|member| member.worker)
    }
}

proptest! {
    #[test]
    fn round_robin_is_the_naive_list(operations in prop::collection::vec(operation(), 0..200)) {
        let (mut schedule, mut naive) = (RoundRobin::default(), Naive::default());
        for operation in operations {
            match operation {
                Operation::Added { worker, window, depth } => {
                    schedule.added(WorkerId(worker), window, depth);
                    naive.added(worker, window, depth);
                }
                Operation::Removed(worker) => {
                    schedule.removed(WorkerId(worker));
                    naive.removed(worker);
                }
                Operation::Widened { worker, window } => {
                    schedule.widened(WorkerId(worker), window);
                    naive.change(worker, |member| member.window = window);
                }
                Operation::Handed(worker) => {
                    schedule.handed(WorkerId(worker));
                    naive.change(worker, |member| member.depth += 1);
                }
                Operation::Answered(worker) => {
                    schedule.answered(WorkerId(worker));
                    naive.change(worker, |member| member.depth = member.depth.saturating_sub(1));
                }
                Operation::Dispatch(excluded) => {
                    let picked = schedule.pick(|worker| !excluded[worker.0 as usize]);
                    prop_assert_eq!(picked.map(|worker| worker.0), naive.pick(&excluded));
                    if let Some(worker) = picked {
                        schedule.handed(worker);
                        naive.change(worker.0, |member| member.depth += 1);
                    }
                }
            }
            // Its state can be taken out and put back at any time.
            let text = serde_json::to_string(&schedule).expect("plain data");
            schedule = serde_json::from_str(&text).expect("what was written is read");
        }
    }
}
