//! One worker, as the guard sees it.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Cause, Config, Illness, Readiness, Sign,
    cause::Blows,
    ladder::{Hears, Ladder},
    succession::Why,
    trial::Trial,
    watch::Watch,
};
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
    /// It was good, and was asked to go: that it ends is no news.
    pub(super) dismissed: bool,
    /// The signs that it gave.
    pub(super) signs: Vec<Sign>,
    /// Where it listens.
    pub(super) addresses: BTreeSet<String>,
    /// Whether it heeds a hint before it is asked to leave.
    pub(super) takes_hints: bool,
    /// Whether it listens to the stop signal, as far as that is known.
    pub(super) hears_signal: bool,
    /// Why it is to be replaced, as soon as its turn comes.
    pub(super) recycle: Option<Why>,
    pub(super) recycle_not_before: Option<Time>,
    /// When it has served for long enough.
    pub(super) old_at: Option<Time>,
    pub(super) watch: Watch,
    pub(super) trial: Trial,
    /// The exit codes after which nobody takes its place.
    pub(super) no_restart_codes: Vec<u8>,
}

/// So many addresses of a worker are required of its heir.
const ADDRESSES: usize = 256;

impl Ward {
    pub(super) fn new(slot: Slot, started: Time, channel_open: bool, no_restart_codes: Vec<u8>) -> Self {
        Self {
            slot,
            started,
            ready: None,
            online: false,
            channel_open,
            silent_since: None,
            leaving: None,
            cause: None,
            blows: Blows::default(),
            replaced: None,
            dismissed: false,
            signs: Vec::new(),
            addresses: BTreeSet::new(),
            takes_hints: false,
            hears_signal: true,
            recycle: None,
            recycle_not_before: None,
            old_at: None,
            watch: Watch::default(),
            trial: Trial::default(),
            no_restart_codes,
        }
    }

    /// Whether it is on its way to be ready.
    pub(super) fn may_get_ready(&self) -> bool {
        self.ready.is_none() && self.leaving.is_none() && self.cause.is_none()
    }

    pub(super) fn gave(&self, sign: Sign) -> bool {
        self.signs.contains(&sign)
    }

    pub(super) fn opened(&mut self, address: String) {
        if self.addresses.len() < ADDRESSES {
            self.addresses.insert(address);
        }
    }

    pub(super) fn is_young(&self, now: Time) -> bool {
        self.ready.is_none_or(|ready| now - ready < YOUNG)
    }

    /// When it gives the sign of [its age](Sign::Age), if that is wanted and it has not yet.
    pub(super) fn of_age_at(&self, config: &Config) -> Option<Time> {
        let Readiness::After(age) = config.ready else { return None };
        (!self.gave(Sign::Age)).then_some(self.started + age)
    }

    /// Whether it serves whoever comes.
    pub(super) fn is_good(&self) -> bool {
        self.ready.is_some() && self.silent_since.is_none() && self.leaving.is_none()
    }

    /// By which words it can be told to go.
    pub(super) fn hears(&self) -> Hears {
        Hears { channel: self.channel_open, hint: self.takes_hints, signal: self.hears_signal }
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
            None if self.may_get_ready() => {
                let over = Some(self.started + config.patience());
                over.into_iter().chain(self.of_age_at(config)).chain(self.trial.again_at()).min()
            }
            None if self.cause.is_none() => self.watch.timeout(config),
            None => None,
        };
        silent.into_iter().chain(next).min()
    }
}
