//! What the guard is to keep.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Limit, Restart, Sign};

/// What the guard is to keep, with its defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// How many slots. Default: 1.
    pub workers: u32,
    /// What shows that a worker is ready. Default: its first sign.
    pub ready: Readiness,
    /// How long a worker may take to get ready. Default: 30 s.
    pub start_timeout: Duration,
    /// The path that a new worker has to answer an HTTP request for, with 2xx and on a connection of its own, before it is ready;
    /// it gets no other connections before, unless the kernel shares them out. `None` = none has to, which is the default.
    pub probe: Option<String>,
    /// How long a stop may take before workers are killed. Default: 25 s.
    pub stop_timeout: Duration,
    /// How long the gang serves on after it was asked to stop, while it is [not ready](super::Guard::is_ready) any more. Default: 0.
    pub drain_delay: Duration,
    /// How long an ill worker may finish what it has. Default: 60 s.
    pub drain_timeout: Duration,
    /// Whether a worker that has ended is started again. When nobody is left who may be, the gang ends. Default: always.
    pub restart: Restart,
    /// Above this many restarts they are spaced. `None` = no limit. Default: 60 in 60 s.
    pub restart_limit: Option<Limit>,
    /// How many slots are reloaded at a time. Default: 1.
    pub batch: u32,
    /// A reload goes on only while at most so many workers are on their way out. Default: a quarter of the slots, at least 1.
    pub max_draining: Option<u32>,
    /// Above so much memory, in bytes, a worker is replaced. `None` = no limit, which is the default.
    pub max_memory: Option<u64>,
    /// So long a worker serves before it is replaced, within a tenth. `None` = no limit, which is the default.
    pub max_lifetime: Option<Duration>,
    /// A worker that answers nothing for so long is killed and replaced. `None` = it is only told, which is the default.
    pub watchdog: Option<Duration>,
    /// Whether there is an agent, to be ready before the workers are started. Default: false.
    pub agent: bool,
    /// Where the jitter of pauses comes from.
    pub seed: u64,
}

/// What shows that a worker is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// The first sign that it gives; that of the slot's first worker is required of the next ones. If that one gives none, the end of
    /// the start time-out.
    #[default]
    Auto,
    /// This sign and no other. Who does not give it in time is killed.
    Sign(Sign),
    /// That it has lived for so long ([`Sign::Age`]); what else may be wanted of it has the start time-out from then on.
    After(Duration),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 1,
            ready: Readiness::Auto,
            start_timeout: Duration::from_secs(30),
            probe: None,
            stop_timeout: Duration::from_secs(25),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(60),
            restart: Restart::Always,
            restart_limit: Some(Limit { count: 60, within: Duration::from_secs(60) }),
            batch: 1,
            max_draining: None,
            max_memory: None,
            max_lifetime: None,
            watchdog: None,
            agent: false,
            seed: 0,
        }
    }
}

/// No time is longer than this (about 30 years), so that sums of them are times as well.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

impl Config {
    /// The same with times that can be reckoned with.
    pub(super) fn bounded(mut self) -> Self {
        for time in
            [&mut self.start_timeout, &mut self.stop_timeout, &mut self.drain_delay, &mut self.drain_timeout]
        {
            *time = (*time).min(LONGEST);
        }
        for time in [&mut self.watchdog, &mut self.max_lifetime] {
            *time = time.filter(|time| !time.is_zero()).map(|time| time.min(LONGEST));
        }
        if let Readiness::After(age) = &mut self.ready {
            *age = (*age).min(LONGEST);
        }
        if let Some(limit) = &mut self.restart_limit {
            limit.within = limit.within.min(LONGEST);
        }
        self
    }

    /// How long a worker may take to get ready.
    pub(super) fn patience(&self) -> Duration {
        match self.ready {
            Readiness::After(age) => age + self.start_timeout,
            Readiness::Auto | Readiness::Sign(_) => self.start_timeout,
        }
    }

    pub(super) fn max_draining(&self) -> u32 {
        self.max_draining.unwrap_or((self.workers / 4).max(1))
    }
}
