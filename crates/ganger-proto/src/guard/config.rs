//! What the guard is to keep.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Limit;

/// What the guard is to keep, with its defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// How many slots. Default: 1.
    pub workers: u32,
    /// How long a worker may take to get ready. Default: 30 s.
    pub start_timeout: Duration,
    /// How long a stop may take before workers are killed. Default: 25 s.
    pub stop_timeout: Duration,
    /// How long an ill worker may finish what it has. Default: 60 s.
    pub drain_timeout: Duration,
    /// Above this many restarts they are spaced. `None` = no limit. Default: 60 in 60 s.
    pub restart_limit: Option<Limit>,
    /// Whether there is an agent, to be ready before the workers are started. Default: false.
    pub agent: bool,
    /// Where the jitter of pauses comes from.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 1,
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(25),
            drain_timeout: Duration::from_secs(60),
            restart_limit: Some(Limit { count: 60, within: Duration::from_secs(60) }),
            agent: false,
            seed: 0,
        }
    }
}
