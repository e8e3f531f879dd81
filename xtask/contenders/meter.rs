//! Counts for a time, after a time in which all gets warm; for the contenders in Rust.

use std::{
    error::Error,
    time::{Duration, Instant},
};

/// The time in which nothing counts, from the first count on.
const WARM_UP: Duration = Duration::from_millis(200);

/// What was counted, and since when.
pub(crate) struct Meter {
    time: Duration,
    /// So seldom the clock is looked at.
    every: u64,
    total: u64,
    first: Option<Instant>,
    /// When it was warm, and how much had been counted until then.
    warm: Option<(Instant, u64)>,
}

impl Meter {
    /// Counts for so many seconds, and looks at the clock once in `every` counts.
    pub(crate) fn new(seconds: &str, every: u64) -> Result<Self, Box<dyn Error>> {
        let time = Duration::from_secs_f64(seconds.parse()?);
        Ok(Self { time, every, total: 0, first: None, warm: None })
    }

    /// Counts `more`. Once the time is over: whatever `cargo xtask bench` wants to read.
    pub(crate) fn count(&mut self, more: u64) -> Option<String> {
        let before = self.total / self.every;
        self.total += more;
        if self.total / self.every == before {
            return None;
        }
        let now = Instant::now();
        match self.warm {
            None => {
                if now - *self.first.get_or_insert(now) >= WARM_UP {
                    self.warm = Some((now, self.total));
                }
                None
            }
            Some((since, _)) if now - since < self.time => None,
            Some((since, already)) => {
                Some(format!("{} {}", self.total - already, (now - since).as_secs_f64()))
            }
        }
    }
}
