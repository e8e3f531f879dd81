//! How many connections each worker has open: what `least-conn` goes by.
//!
//! A worker of this project says how many it has closed. One with hints reports how many it has: its report stands in
//! the channel behind its answers for all that it counts, so what it is given afterwards comes on top. Of the others a
//! survey of the kernel's sockets tells which are still open.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Primary;
use crate::{
    Time, WorkerId,
    cluster::{Event, Held, LeastConnBy, Peer, Policy},
    node::hints::Report,
};

/// What one worker has taken and not closed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Open {
    /// Those that it will tell of when it closes them.
    told: u32,
    /// It has said how many it has, and will when that changes.
    reports: bool,
    /// Those that a survey knows, by the kernel's number, and when they were taken.
    surveyed: BTreeMap<u64, Time>,
}

impl Open {
    pub(super) fn count(&self) -> u32 {
        self.told.saturating_add(u32::try_from(self.surveyed.len()).unwrap_or(u32::MAX))
    }

    /// It says that it has closed so many.
    pub(super) fn closed(&mut self, count: u32) {
        self.told = self.told.saturating_sub(count);
    }
}

impl<C> Primary<C> {
    /// Whether there are connections whose end only a survey of the kernel's sockets would show. Its outcome is
    /// [`Input::Surveyed`](crate::cluster::Input::Surveyed).
    pub fn wants_survey(&self) -> bool {
        !self.surveyed.is_empty()
    }

    /// What `least-conn` goes by; none with another policy.
    pub fn least_conn_by(&self) -> Option<LeastConnBy> {
        let by = if self.survey_refused { LeastConnBy::UnderWay } else { LeastConnBy::Open };
        (self.policy == Policy::LeastConn).then_some(by)
    }

    /// What a worker has of connections, as far as it is known here.
    pub fn held(&self, id: WorkerId) -> Held {
        let Some(worker) = self.workers.get(&id) else { return Held::default() };
        let reported = worker.report.and_then(|report| report.connections);
        let open = (self.policy == Policy::LeastConn).then(|| worker.open.count()).or(reported);
        Held { under_way: worker.under_way.len(), open }
    }

    /// What the worker said last of how it is; none before it has, and without [hints](crate::node::hints).
    pub fn report(&self, id: WorkerId) -> Option<Report> {
        self.workers.get(&id)?.report
    }

    /// A worker has taken a connection.
    pub(super) fn opened(&mut self, now: Time, id: WorkerId, peer: Peer) {
        if self.policy != Policy::LeastConn {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match peer.cookie {
            _ if worker.capabilities.tells_closes || worker.open.reports => {
                worker.open.told = worker.open.told.saturating_add(1);
            }
            Some(cookie) if !self.survey_refused => {
                worker.open.surveyed.insert(cookie, now);
                self.surveyed.insert(id);
            }
            // Nobody would ever see it end.
            _ => return,
        }
        self.show_open(id);
    }

    /// A worker has said how it is.
    pub(super) fn reported(&mut self, id: WorkerId, report: Report) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let tells_closes = worker.capabilities.tells_closes;
        let before = worker.report.replace(report);
        // Who tells of each that it closes need not count them.
        if let Some(told) = report.connections.filter(|_| !tells_closes)
            && self.policy == Policy::LeastConn
        {
            worker.open = Open { told, reports: true, surveyed: BTreeMap::new() };
            self.surveyed.remove(&id);
            self.show_open(id);
        }
        if before.is_none() && !tells_closes {
            self.event(Event::TakesHints { worker: id });
        }
        if let Some(listens) = report.term.filter(|_| report.term != before.and_then(|before| before.term)) {
            self.event(Event::ListensToTerm { worker: id, listens });
        }
    }

    /// What will never be seen to end must not count for ever.
    pub(super) fn handle_survey_refused(&mut self, now: Time) {
        self.survey_refused = true;
        self.handle_surveyed(now, &BTreeSet::new());
    }

    pub(super) fn handle_surveyed(&mut self, since: Time, open: &BTreeSet<u64>) {
        for id in std::mem::take(&mut self.surveyed) {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            let before = worker.open.surveyed.len();
            worker.open.surveyed.retain(|cookie, taken| *taken > since || open.contains(cookie));
            let left = worker.open.surveyed.len();
            if left > 0 {
                self.surveyed.insert(id);
            }
            if left != before {
                self.show_open(id);
            }
        }
    }

    /// Lets the schedules know.
    pub(super) fn show_open(&mut self, id: WorkerId) {
        let Some(open) = self.workers.get(&id).map(|worker| worker.open.count()) else { return };
        self.change_load(id, |load| load.open = open);
    }
}
