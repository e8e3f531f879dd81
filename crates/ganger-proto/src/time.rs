//! The clock as an argument.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A moment on a monotonic clock that the driver reads and the core only compares.
///
/// It counts from a point that stays the same for all processes of one boot (`CLOCK_MONOTONIC`), so a
/// deadline survives when the state moves into another program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(Duration);

impl Time {
    /// The moment `since` after the clock's zero.
    pub const fn from_zero(since: Duration) -> Self {
        Self(since)
    }

    /// How long after the clock's zero this is.
    pub const fn since_zero(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, after: Duration) -> Time {
        Time(self.0.saturating_add(after))
    }
}

/// How long it is from the earlier moment to this one; zero if it is the later one.
impl Sub for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
