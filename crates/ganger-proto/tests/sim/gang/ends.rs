//! Who has ended, and who was told of: nobody leaves without a word, and of nobody two are said.

use std::collections::BTreeSet;

use ganger_proto::{
    WorkerId,
    guard::{Newcomer, Notice, Unfit},
};

#[derive(Debug, Default)]
pub(crate) struct Ends {
    seen: BTreeSet<WorkerId>,
    told: BTreeSet<WorkerId>,
}

impl Ends {
    /// The guard hears that it is dead.
    pub(crate) fn seen(&mut self, worker: WorkerId) {
        self.seen.insert(worker);
    }

    pub(crate) fn told(&mut self, notice: &Notice) {
        let worker = match notice {
            Notice::Died { worker, .. }
            | Notice::Left { worker, .. }
            | Notice::ReloadFailed {
                who: Newcomer::Worker { worker: Some(worker), .. },
                unfit: Unfit::Died { .. },
                ..
            }
            | Notice::NotRecycled { heir: Some(worker), unfit: Unfit::Died { .. }, .. } => *worker,
            _ => return,
        };
        assert!(self.told.insert(worker), "the end of worker {worker} is told twice: {notice:?}");
    }

    /// In a gang that ends, of those who were asked to nothing is said.
    pub(crate) fn check(&self, ending: bool) {
        let untold = self.seen.difference(&self.told).next().filter(|_| !ending);
        assert_eq!(untold, None, "nobody is told how it ended");
        let alive = self.told.difference(&self.seen).next();
        assert_eq!(alive, None, "it is told how it ended, and it has not");
    }
}
