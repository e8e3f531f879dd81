//! Which connections are still open: for workers that do not say when they close one.

use std::{collections::BTreeSet, io, time::Duration};

use ganger_proto::{Time, cluster::Input};

use super::{Primary, notify::SHORTAGES};
use crate::{
    clock,
    cluster::Event,
    sys::{diag, socket},
};

/// As long as there are connections of that kind they are looked at so often.
const EVERY: Duration = Duration::from_millis(100);

/// When to look next.
#[derive(Debug, Default)]
pub(super) struct Survey {
    next: Option<Time>,
}

impl Survey {
    pub(super) fn timeout(&self) -> Option<Time> {
        self.next
    }
}

impl Primary {
    /// Sees to it that the next survey comes, if there is need of one.
    pub(super) fn plan_survey(&mut self) {
        if self.survey.next.is_none() && self.machine.wants_survey() {
            self.survey.next = Some(clock::now() + EVERY);
        }
    }

    pub(super) fn look_around(&mut self, now: Time) {
        if self.survey.next.take_if(|at| *at <= now).is_none() {
            return;
        }
        let port = |socket: &super::Socket| Some(socket::local_addr(socket).ok()??.port());
        let ports: BTreeSet<u16> = self.sockets.values().filter_map(port).collect();
        self.surveyed(now, diag::open_connections(&ports));
        self.plan_survey();
    }

    fn surveyed(&mut self, now: Time, outcome: io::Result<BTreeSet<u64>>) {
        match outcome {
            Ok(open) => self.machine.handle(now, Input::Surveyed { since: now, open }),
            // The next one may have a descriptor.
            Err(error) if SHORTAGES.contains(&error.raw_os_error()) => {}
            Err(error) => {
                self.machine.handle(now, Input::SurveyRefused);
                self.events.push_back(Event::NoSurvey { error });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::cluster::{LeastConnBy, Policy, Settings};

    #[test]
    fn a_kernel_that_does_not_tell_is_told_of() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut settings = Settings::new("worker");
            settings.policy = Policy::LeastConn;
            let mut primary = Primary::new(settings).unwrap();
            primary.surveyed(clock::now(), Err(Errno::MFILE.into()));
            assert_eq!(primary.snapshot().least_conn_by, Some(LeastConnBy::Open));
            primary.surveyed(clock::now(), Err(Errno::PERM.into()));
            assert_eq!(primary.snapshot().least_conn_by, Some(LeastConnBy::UnderWay));
            let Event::NoSurvey { error } = primary.event().await else {
                panic!("something else comes first")
            };
            assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error()));
        });
    }
}
