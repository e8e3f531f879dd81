//! Which connections are still open: for workers that do not say when they close one.

use std::{collections::BTreeSet, time::Duration};

use ganger_proto::{Time, cluster::Input};

use super::Primary;
use crate::{
    clock,
    sys::{diag, socket},
};

/// As long as there are connections of that kind they are looked at so often.
const EVERY: Duration = Duration::from_millis(100);

/// When to look next.
#[derive(Debug, Default)]
pub(super) struct Survey {
    next: Option<Time>,
    /// The kernel does not tell: only what is under way counts.
    refused: bool,
}

impl Survey {
    pub(super) fn timeout(&self) -> Option<Time> {
        self.next
    }

    /// Whether the end of connections can be seen at all.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }
}

impl Primary {
    /// Sees to it that the next survey comes, if there is need of one.
    pub(super) fn plan_survey(&mut self) {
        if self.survey.next.is_none() && !self.survey.refused && self.machine.wants_survey() {
            self.survey.next = Some(clock::now() + EVERY);
        }
    }

    pub(super) fn look_around(&mut self, now: Time) {
        if self.survey.next.take_if(|at| *at <= now).is_none() {
            return;
        }
        let port = |socket: &super::Socket| Some(socket::local_addr(socket).ok()??.port());
        let ports: BTreeSet<u16> = self.sockets.values().filter_map(port).collect();
        match diag::open_connections(&ports) {
            Ok(open) => self.machine.handle(now, Input::Surveyed { since: now, open }),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not tell which connections are open: least-conn goes by what is unanswered");
                self.survey.refused = true;
                // What will never be seen to end must not count for ever.
                self.machine.handle(now, Input::Surveyed { since: now, open: BTreeSet::new() });
            }
        }
        self.plan_survey();
    }
}
