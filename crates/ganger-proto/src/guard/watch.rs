//! Workers that do not answer.
//!
//! One question is under way to a worker at a time; it is answered by its event loop. Half the watchdog's time without an
//! answer is one failure, all of it the second, and that is the end. Our own lateness is no fault of the worker's.

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

/// What is known of a worker's event loop.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    /// Whether it can be asked.
    on: bool,
    /// When it was asked, if it has not answered.
    asked: Option<Time>,
    next: Option<Time>,
    /// Whether its silence was told.
    told: bool,
}

impl Watch {
    pub(super) fn timeout(&self, config: &Config) -> Option<Time> {
        match self.asked {
            Some(asked) => {
                let end = config.watchdog.map(|watchdog| asked + watchdog);
                let told = (!self.told).then_some(asked + TOLD_AFTER);
                end.into_iter().chain(told).min()
            }
            None => self.next.filter(|_| self.on),
        }
    }
}

fn interval(config: &Config) -> Duration {
    config.watchdog.map_or(EVERY, |watchdog| (watchdog / 2).min(EVERY))
}

impl Guard {
    /// The worker can be asked from now on, or no more (a debugger is attached).
    pub(super) fn handle_watchable(&mut self, now: Time, worker: WorkerId, on: bool) {
        let next = now + interval(&self.config);
        if let Some(ward) = self.wards.get_mut(&worker) {
            ward.watch = Watch { on, next: Some(next), ..Watch::default() };
        }
    }

    /// The worker has answered.
    pub(super) fn handle_answered(&mut self, now: Time, worker: WorkerId) {
        let next = now + interval(&self.config);
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        let slot = ward.slot;
        let (asked, told) = (ward.watch.asked.take(), std::mem::take(&mut ward.watch.told));
        ward.watch.next = Some(next);
        if let Some(asked) = asked.filter(|_| told) {
            self.notice(Notice::Answers { worker, slot, after: now - asked });
        }
    }

    /// If we were called late, so may the answers have been: their time begins anew.
    pub(super) fn excuse(&mut self, now: Time) {
        if self.poll_timeout().is_none_or(|due| due + LATE > now) {
            return;
        }
        for ward in self.wards.values_mut() {
            ward.watch.asked = ward.watch.asked.map(|_| now);
        }
    }

    pub(super) fn watch(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if ward.watch.timeout(&self.config).is_none_or(|at| at > now) {
            return;
        }
        let slot = ward.slot;
        let Some(asked) = ward.watch.asked else {
            ward.watch.asked = Some(now);
            return self.actions.push_back(Action::Probe(worker));
        };
        let silent = now - asked;
        if self.config.watchdog.is_some_and(|watchdog| silent >= watchdog) && ward.cause.is_none() {
            ward.watch = Watch::default();
            return self.kill(worker, Cause::Unresponsive { after: silent });
        }
        if silent >= TOLD_AFTER && !ward.watch.told {
            ward.watch.told = true;
            self.notice(Notice::Silent { worker, slot, after: silent });
        }
    }
}
