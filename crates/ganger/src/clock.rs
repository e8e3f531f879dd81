//! The clock that drivers read for the core, and chance.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use ganger_proto::Time;

/// Now, on `CLOCK_MONOTONIC`: the same zero for all processes of one boot.
pub(crate) fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Time::from_zero(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default()))
}

/// A number that nobody foresees.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Resolves at the moment, or never.
pub(crate) async fn at(moment: Option<Time>) {
    match moment {
        Some(moment) => tokio::time::sleep(moment - now()).await,
        None => std::future::pending().await,
    }
}
