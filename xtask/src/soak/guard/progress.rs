//! Which cells are under way, and how far.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So often it is shown.
const EVERY: Duration = Duration::from_secs(15);
/// So often it is asked whether all is over.
const LOOK: Duration = Duration::from_millis(200);

/// The cells that are under way.
#[derive(Default)]
pub(super) struct Progress {
    running: Mutex<BTreeMap<String, Running>>,
    over: AtomicBool,
}

/// A cell that is under way.
#[derive(Clone)]
pub(super) struct Running {
    done: Arc<AtomicU64>,
    rounds: u32,
}

impl Running {
    /// So many rounds are done.
    pub(super) fn done(&self, rounds: u64) {
        self.done.store(rounds, Ordering::Relaxed);
    }
}

impl Progress {
    /// A cell begins.
    pub(super) fn begin(&self, name: &str, rounds: u32) -> Running {
        let running = Running { done: Arc::default(), rounds };
        self.cells().insert(name.to_owned(), running.clone());
        running
    }

    /// It has ended, in words.
    pub(super) fn end(&self, name: &str, outcome: &str) {
        self.cells().remove(name);
        eprintln!("{outcome}");
    }

    /// Nothing more is to be shown.
    pub(super) fn finish(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Shows it from time to time.
    pub(super) fn show(&self) {
        let mut shown = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            if shown.elapsed() < EVERY {
                continue;
            }
            shown = Instant::now();
            let cells = self.cells();
            let far = |(name, running): (&String, &Running)| {
                format!("{name} {}/{}", running.done.load(Ordering::Relaxed), running.rounds)
            };
            eprintln!("… {}", cells.iter().map(far).collect::<Vec<_>>().join(" · "));
        }
    }

    fn cells(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
