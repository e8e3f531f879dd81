//! Whether and when a dead worker's slot is filled again.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Exit;
use crate::Time;

/// The first pause after a young death; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A worker that lived this long wipes the slate clean.
const RESET_AFTER: Duration = Duration::from_secs(30);
/// So many young deaths of one slot …
const HOPELESS_DEATHS: usize = 8;
/// … within this time, with no worker ready, end the gang.
const HOPELESS_WITHIN: Duration = Duration::from_secs(60);
/// The space between restarts above the limit.
const SPACE: Duration = Duration::from_secs(1);

/// Whether somebody takes the place of a worker that has ended unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Whatever it ended with.
    #[default]
    Always,
    /// Unless it ended with code 0.
    OnFailure,
    /// Nobody does.
    No,
}

/// Why a slot is not filled again after its worker's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoRestart {
    /// The exit code is one of those by which the program asks for it.
    Code,
    /// [`Config::restart`](super::Config::restart) says so.
    Policy(Restart),
}

/// An end after which nobody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEnd {
    /// Why nobody does.
    pub why: NoRestart,
    /// Whether it was a failure: anything but code 0.
    pub failed: bool,
}

impl Restart {
    /// Whether an end like this is the slot's last one. The program's `codes` ask for it whatever the policy is.
    pub(super) fn last_end(self, exit: Exit, codes: &[u8]) -> Option<LastEnd> {
        let failed = exit != Exit::Code(0);
        let why = match (self, exit) {
            (_, Exit::Code(code)) if codes.iter().any(|known| i32::from(*known) == code) => NoRestart::Code,
            (Self::No, _) | (Self::OnFailure, Exit::Code(0)) => NoRestart::Policy(self),
            (Self::Always | Self::OnFailure, _) => return None,
        };
        Some(LastEnd { why, failed })
    }
}

/// How many restarts are taken as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// So many.
    pub count: u32,
    /// In this time.
    pub within: Duration,
}

/// One slot's young deaths.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Backoff {
    in_a_row: u32,
    deaths: VecDeque<Time>,
}

impl Backoff {
    /// A worker died young: how long to wait before the next try.
    pub(super) fn young_death(&mut self, now: Time, jitter: &mut Jitter) -> Duration {
        self.deaths.push_back(now);
        if self.deaths.len() > HOPELESS_DEATHS {
            self.deaths.pop_front();
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.in_a_row.min(16)).min(LONGEST_PAUSE);
        self.in_a_row += 1;
        jitter.around(pause)
    }

    /// A worker died after `age`.
    pub(super) fn lived(&mut self, age: Duration) {
        if age >= RESET_AFTER {
            *self = Self::default();
        }
    }

    /// Whether the slot's workers die as fast as they are started.
    pub(super) fn is_hopeless(&self, now: Time) -> bool {
        self.deaths.len() >= HOPELESS_DEATHS
            && self.deaths.front().is_some_and(|first| now - *first <= HOPELESS_WITHIN)
    }
}

/// All restarts of the gang, against its limit.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Spacing {
    /// The restarts within the limit's time.
    recent: VecDeque<Time>,
    spacing: bool,
}

pub(super) struct Spaced {
    /// How long to wait; none for now.
    pub(super) pause: Option<Duration>,
    /// The limit has just been passed.
    pub(super) newly: bool,
}

impl Spacing {
    pub(super) fn next(&mut self, now: Time, limit: Limit) -> Spaced {
        while self.recent.front().is_some_and(|first| now - *first > limit.within) {
            self.recent.pop_front();
        }
        let last = self.recent.back().copied();
        // Nobody overtakes those that wait already.
        let waits = last.is_some_and(|last| last > now);
        let above = waits || self.recent.len() >= limit.count as usize;
        let newly = above && !self.spacing;
        self.spacing = above;
        let at = if above { last.map_or(now, |last| now.max(last + SPACE)) } else { now };
        self.recent.push_back(at);
        if self.recent.len() > limit.count as usize + 1 {
            self.recent.pop_front();
        }
        Spaced { pause: (at > now).then(|| at - now), newly }
    }
}

/// Spreads pauses by ± 20 % and lifetimes by ± 10 %, from a seed (xorshift64*).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        // The generator must not start at zero.
        Self(seed | 1)
    }

    fn around(&mut self, pause: Duration) -> Duration {
        self.spread(pause, 200)
    }

    /// The same within ± 10 %.
    pub(super) fn within_a_tenth(&mut self, time: Duration) -> Duration {
        self.spread(time, 100)
    }

    fn spread(&mut self, time: Duration, permille: u64) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % (2 * permille + 1);
        time * u32::try_from(1000 - permille + drawn).unwrap_or(1000) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Time {
        Time::from_zero(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn who_is_started_again() {
        let killed = Exit::Signal { signal: 9, core_dumped: false };
        let last = |policy: Restart, exit| policy.last_end(exit, &[0, 78]).map(|end| (end.why, end.failed));
        for policy in [Restart::Always, Restart::OnFailure, Restart::No] {
            assert_eq!(last(policy, Exit::Code(78)), Some((NoRestart::Code, true)));
            assert_eq!(last(policy, Exit::Code(0)), Some((NoRestart::Code, false)));
            let ends = [Exit::Code(0), Exit::Code(1), killed].map(|exit| policy.last_end(exit, &[]));
            let ends = ends.map(|end| end.map(|end| end.failed));
            assert_eq!(
                ends,
                match policy {
                    Restart::Always => [None, None, None],
                    Restart::OnFailure => [Some(false), None, None],
                    Restart::No => [Some(false), Some(true), Some(true)],
                }
            );
        }
        // A code has eight bits, a process may have ended otherwise.
        assert_eq!(Restart::Always.last_end(Exit::Code(256), &[0]), None);
    }

    #[test]
    fn pauses_double_up_to_15_s_within_a_fifth() {
        let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(7));
        for death in 0..12 {
            let expected = (0.1 * f64::from(1 << death)).min(15.0);
            let pause = backoff.young_death(at(0.0), &mut jitter).as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&pause), "{death}: {pause}");
        }
        backoff.lived(Duration::from_secs(29));
        assert!(backoff.young_death(at(0.0), &mut jitter) > Duration::from_secs(1));
        backoff.lived(Duration::from_secs(30));
        assert!(backoff.young_death(at(0.0), &mut jitter) < Duration::from_millis(121));
    }

    #[test]
    fn eight_young_deaths_in_a_minute_are_hopeless_and_seven_are_not() {
        let (mut backoff, mut jitter) = (Backoff::default(), Jitter::new(7));
        for death in 0..7 {
            backoff.young_death(at(f64::from(death) * 8.0), &mut jitter);
        }
        assert!(!backoff.is_hopeless(at(48.0)));
        backoff.young_death(at(61.0), &mut jitter);
        assert!(!backoff.is_hopeless(at(61.0)), "the first of the eight was 61 s ago");
        backoff.young_death(at(62.0), &mut jitter);
        assert!(backoff.is_hopeless(at(62.0)));
    }

    #[test]
    fn above_the_limit_restarts_are_a_second_apart_and_it_is_said_once() {
        let limit = Limit { count: 3, within: Duration::from_secs(60) };
        let mut spacing = Spacing::default();
        for _ in 0..3 {
            assert!(spacing.next(at(1.0), limit).pause.is_none());
        }
        let fourth = spacing.next(at(1.0), limit);
        assert!(fourth.newly);
        assert_eq!(fourth.pause, Some(Duration::from_secs(1)));
        let fifth = spacing.next(at(1.0), limit);
        assert!(!fifth.newly);
        assert_eq!(fifth.pause, Some(Duration::from_secs(2)));
        assert!(spacing.next(at(100.0), limit).pause.is_none());
    }

    #[test]
    fn nobody_overtakes_those_that_wait() {
        let limit = Limit { count: 3, within: Duration::from_secs(1) };
        let mut spacing = Spacing::default();
        let mut at_once = |now| spacing.next(at(now), limit).pause.map(|pause| (at(now) + pause) - at(0.0));
        for _ in 0..3 {
            assert_eq!(at_once(1.0), None);
        }
        let waits: Vec<_> = (0..4).map(|_| at_once(1.0)).collect();
        assert_eq!(waits, [2, 3, 4, 5].map(|seconds| Some(Duration::from_secs(seconds))));
        // By now most of them are long ago, and one is still to come.
        assert_eq!(at_once(4.5), Some(Duration::from_secs(6)));
        assert_eq!(at_once(8.0), None);
    }
}
