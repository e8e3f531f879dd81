//! Workers that do not answer.
//!
//! A worker is asked. One question is under way to it at a time; half the watchdog's time without an answer is one failure, all
//! of it the second, and that is the end. One that says by itself that it is there (`WATCHDOG=1`) is not asked any more: it is to
//! say so twice in the watchdog's time, and one time without a word is its end. Our own lateness is no fault of the worker's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Cause, Config, Guard, Notice};
use crate::{Time, WorkerId};

/// Silence of so long is told, with or without a watchdog.
pub(super) const TOLD_AFTER: Duration = Duration::from_secs(10);
/// Without a watchdog a worker is asked so often.
const EVERY: Duration = Duration::from_secs(5);
/// If the guard itself is called so late, answers may be late as well.
const LATE: Duration = Duration::from_millis(500);

/// What is known of whether a worker is there.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    way: Way,
    /// Since when nothing was heard of it: when it was asked, if it has not answered; its last word, if it speaks unasked.
    since: Option<Time>,
    /// When it is asked next.
    next: Option<Time>,
    /// Whether its silence was told.
    told: bool,
}

/// How a worker shows that it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    /// It does not.
    #[default]
    None,
    Asked,
    Unasked,
}

impl Watch {
    /// When it is to be looked at.
    pub(super) fn timeout(&self, config: &Config) -> Option<Time> {
        match self.since {
            Some(since) => {
                let end = config.watchdog.map(|watchdog| since + watchdog);
                let told = (!self.told).then(|| since + self.told_after(config));
                end.into_iter().chain(told).min()
            }
            None => self.next.filter(|_| self.way == Way::Asked),
        }
    }

    /// Who speaks unasked is not late before half the time has passed.
    fn told_after(&self, config: &Config) -> Duration {
        match (self.way, config.watchdog) {
            (Way::Unasked, Some(watchdog)) => watchdog / 2 + TOLD_AFTER,
            _ => TOLD_AFTER,
        }
    }

    /// What it said or did not say until now does not count.
    pub(super) fn begin(&mut self, now: Time) {
        self.since = self.since.map(|_| now);
        self.next = self.next.map(|next| next.max(now));
    }
}

fn interval(config: &Config) -> Duration {
    config.watchdog.map_or(EVERY, |watchdog| (watchdog / 2).min(EVERY))
}

impl Guard {
    /// The worker can be asked.
    pub(super) fn handle_watchable(&mut self, now: Time, worker: WorkerId) {
        let next = now + interval(&self.config);
        if let Some(ward) = self.wards.get_mut(&worker)
            && ward.watch.way == Way::None
        {
            ward.watch = Watch { way: Way::Asked, next: Some(next), ..Watch::default() };
        }
    }

    /// The worker has answered.
    pub(super) fn handle_answered(&mut self, now: Time, worker: WorkerId) {
        let next = now + interval(&self.config);
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        // What somebody had asked before it began to speak by itself does not matter any more.
        if ward.watch.way == Way::Asked {
            self.heard_of(now, worker, Watch { way: Way::Asked, next: Some(next), ..Watch::default() });
        }
    }

    /// The worker has spoken. Where nobody was asked to it means nothing.
    pub(super) fn handle_pinged(&mut self, now: Time, worker: WorkerId) {
        if self.config.watchdog.is_some() {
            self.heard_of(now, worker, Watch { way: Way::Unasked, since: Some(now), ..Watch::default() });
        }
    }

    fn heard_of(&mut self, now: Time, worker: WorkerId, watch: Watch) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        let (slot, before) = (ward.slot, std::mem::replace(&mut ward.watch, watch));
        if let Some(since) = before.since.filter(|_| before.told) {
            self.notice(Notice::Answers { worker, slot, after: now - since });
        }
    }

    /// If we were called late, so may the answers have been: their time begins anew.
    pub(super) fn excuse(&mut self, now: Time) {
        if self.poll_timeout().is_none_or(|due| due + LATE > now) {
            return;
        }
        self.wards.values_mut().for_each(|ward| ward.watch.begin(now));
    }

    pub(super) fn watch(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if ward.watch.timeout(&self.config).is_none_or(|at| at > now) {
            return;
        }
        let slot = ward.slot;
        let Some(since) = ward.watch.since else {
            ward.watch.since = Some(now);
            return self.actions.push_back(Action::Probe(worker));
        };
        let silent = now - since;
        if self.config.watchdog.is_some_and(|watchdog| silent >= watchdog) && ward.cause.is_none() {
            ward.watch = Watch::default();
            return self.kill(worker, Cause::Unresponsive { after: silent });
        }
        if silent >= ward.watch.told_after(&self.config) && !ward.watch.told {
            ward.watch.told = true;
            let watchdog = self.config.watchdog;
            self.notice(Notice::Silent { worker, slot, after: silent, watchdog });
        }
    }
}
