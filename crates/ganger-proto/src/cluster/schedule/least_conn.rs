//! To whoever has the least.

use serde::{Deserialize, Serialize};

use super::{Load, Schedule, Wanted, ranked::Ranked};
use crate::WorkerId;

/// The worker with the fewest connections, open and under way; of several, the one that has waited longest.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LeastConn(Ranked);

impl Schedule for LeastConn {
    fn added(&mut self, worker: WorkerId, load: Load) {
        self.0.added(worker, load, rank(load));
    }

    fn removed(&mut self, worker: WorkerId) {
        self.0.removed(worker);
    }

    fn changed(&mut self, worker: WorkerId, load: Load) {
        self.0.changed(worker, load, rank(load));
    }

    fn pick(&self, wanted: &Wanted<'_>) -> Option<WorkerId> {
        self.0.first(wanted)
    }

    fn has(&self, worker: WorkerId) -> bool {
        self.0.has(worker)
    }
}

fn rank(load: Load) -> u32 {
    load.open.saturating_add(load.under_way)
}
