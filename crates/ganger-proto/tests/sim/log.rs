//! The last things that happened, printed when a run fails.

use std::collections::VecDeque;

use ganger_proto::{Time, WorkerId};

const KEPT: usize = 50;

#[derive(Debug)]
pub(crate) struct Log {
    seed: u64,
    test: &'static str,
    last: VecDeque<(u64, Time, &'static str, WorkerId, u32)>,
}

impl Log {
    pub(crate) fn new(seed: u64, test: &'static str) -> Self {
        Self { seed, test, last: VecDeque::with_capacity(KEPT) }
    }

    pub(crate) fn note(&mut self, step: u64, now: Time, what: &'static str, worker: WorkerId, number: u32) {
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((step, now, what, worker, number));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (step, now, what, worker, number) in &self.last {
                eprintln!(
                    "{step:>6} {:>8} ms  worker {worker}: {what} {number}",
                    now.since_zero().as_millis()
                );
            }
            let Self { seed, test, .. } = self;
            eprintln!("again: GANGER_SIM_SEED={seed} cargo test -p ganger-proto --test sim {test}");
        }
    }
}
