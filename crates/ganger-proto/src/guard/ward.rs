//! One worker, as the guard sees it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Cause, Config, Illness, cause::Blows, ladder::Ladder};
use crate::{Slot, Time, WorkerId};

/// A worker that dies within this time after it was ready died *young*.
pub(super) const YOUNG: Duration = Duration::from_secs(1);
/// A channel that closes is usually the first sign of a death: this long the guard waits for the second.
pub(super) const DEATH_FOLLOWS: Duration = Duration::from_secs(1);

/// A worker, from its start to its exit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ward {
    pub(super) slot: Slot,
    pub(super) started: Time,
    pub(super) ready: Option<Time>,
    /// Has spoken on its channel.
    pub(super) online: bool,
    pub(super) channel_open: bool,
    /// Since when it shows the first sign of a death (its channel is closed, it has panicked) without an exit.
    pub(super) silent_since: Option<Time>,
    pub(super) leaving: Option<Ladder>,
    /// Why it ends, where that is known before it does.
    pub(super) cause: Option<Cause>,
    pub(super) blows: Blows,
    /// It left its slot before its end; the replacement, once it is known.
    pub(super) replaced: Option<Option<WorkerId>>,
}

impl Ward {
    pub(super) fn is_young(&self, now: Time) -> bool {
        self.ready.is_none_or(|ready| now - ready < YOUNG)
    }

    /// What is wrong with it, if it lives on.
    pub(super) fn illness(&self) -> Illness {
        match self.cause {
            Some(Cause::Panicked(_)) => Illness::Panicked,
            _ => Illness::ChannelClosed,
        }
    }

    pub(super) fn timeout(&self, config: &Config) -> Option<Time> {
        let silent = self.silent_since.map(|since| since + DEATH_FOLLOWS);
        let next = match &self.leaving {
            Some(ladder) => ladder.next(),
            None if self.ready.is_none() && self.cause.is_none() => Some(self.started + config.start_timeout),
            None => None,
        };
        silent.into_iter().chain(next).min()
    }
}
