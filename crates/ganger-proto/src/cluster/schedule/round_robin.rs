//! In turn.

use serde::{Deserialize, Serialize};

use super::{Load, Schedule, Wanted, ranked::Ranked};
use crate::WorkerId;

/// Round robin with depth: the worker that has waited longest, among those with the fewest hand-offs under
/// way. With a window of 1 this is Node's list of free workers
/// (`lib/internal/cluster/round_robin_handle.js`): taken from the front when a connection is handed over,
/// put at the end when it is answered for.
///
/// The second connection under way to a worker comes only when every other one has its first, so depth
/// follows the queue and shares stay even.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RoundRobin(Ranked);

impl Schedule for RoundRobin {
    fn added(&mut self, worker: WorkerId, load: Load) {
        self.0.added(worker, load, load.under_way);
    }

    fn removed(&mut self, worker: WorkerId) {
        self.0.removed(worker);
    }

    fn changed(&mut self, worker: WorkerId, load: Load) {
        self.0.changed(worker, load, load.under_way);
    }

    fn pick(&self, wanted: &Wanted<'_>) -> Option<WorkerId> {
        self.0.first(wanted)
    }

    fn has(&self, worker: WorkerId) -> bool {
        self.0.has(worker)
    }
}
