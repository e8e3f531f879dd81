//! The one ladder that every worker climbs on its way out: out of dispatch, with a hint to those who take one; asked by
//! protocol; then the stop signal, then the kill.
//!
//! A worker that was asked closes its channel when its servers and connections are closed; a second later
//! it gets the signal, if it is still there. In any case it gets it 5 s after the start of a stop, or at
//! 5/6 of a drain. At the end it is killed with its group.
//!
//! Connections that last (WebSocket, events) are not all ended in one moment, since their clients come back at once. Who takes
//! hints is told at half of a drain to end them one after another, over a quarter of it; in a stop so is who does not listen to the signal. Whoever does not
//! take any gets the signal at a moment of its own between half and 5/6 of the drain.
//!
//! The signal before the end is for those who listen to it: it says that now is the time to close what is left. A program that is
//! known not to listen dies of it at once, with every request that is still open, although the time that it was given to finish
//! them is not over. It gets the signal only a second after its channel has closed, when it has nothing left to lose and
//! something else keeps it (a timer, a connection to a database); as long as its channel is open it is left alone until
//! the kill. Who says nothing of the matter is taken for one that listens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Time;

/// After the channel has closed a process should end by itself; this long it may take.
const AFTER_CHANNEL: Duration = Duration::from_secs(1);
/// Between the hint and the request it tells its clients to go.
const AFTER_HINT: Duration = Duration::from_secs(1);
/// The latest moment of the signal in a stop.
const STOP_SIGNAL: Duration = Duration::from_secs(5);

/// By which words a process can be told to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hears {
    /// Its channel is open, and it is one that can be asked.
    pub(super) channel: bool,
    /// It heeds a hint before it is asked.
    pub(super) hint: bool,
    /// The stop signal does not just end it, as far as that is known.
    pub(super) signal: bool,
}

/// Where a leaving worker stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ladder {
    since: Time,
    /// Whether the closing of its channel means that it is done.
    asked: bool,
    /// When it is asked by protocol, if it is given a hint first.
    ask_at: Option<Time>,
    /// When it is to begin with ending its connections, and over which time.
    shed: Option<(Time, Duration)>,
    /// When it gets the signal at the latest, if it listens to it; none once it has.
    signal_at: Option<Time>,
    /// When it gets the signal for it is done.
    done_at: Option<Time>,
    hears_signal: bool,
    kill_at: Option<Time>,
}

/// A step that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    Ask,
    Shed(Duration),
    Terminate,
    Kill,
}

impl Ladder {
    /// A stop: `timeout` until the kill. A program without a channel is signalled at once; one that `was_asked` before is not asked
    /// again.
    pub(super) fn stop(now: Time, timeout: Duration, hears: Hears, was_asked: bool) -> Self {
        let signal = if hears.channel { STOP_SIGNAL.min(timeout * 5 / 6) } else { Duration::ZERO };
        let ask = (hears.hint && !was_asked).then_some(AFTER_HINT.min(timeout / 5));
        // To whoever listens the signal says what is to be done, in good time.
        let shed = hears.channel && hears.hint && !hears.signal;
        let shed = shed.then_some((now + timeout / 2, timeout / 4));
        Self { shed, ..Self::new(now, true, ask, signal, timeout, hears) }
    }

    /// A worker that is good and not wanted any more: `timeout` until the kill. Out of dispatch, it has a second in which those
    /// that it was handed last say what they want, and in which it tells its clients to go, if it takes the hint: asked to leave,
    /// it closes what is idle. A program without a channel is signalled at once. Of all `moment`s for the signal to those who take
    /// no hints 0 is the first, 1 the last.
    pub(super) fn dismiss(now: Time, timeout: Duration, hears: Hears, moment: f64) -> Self {
        let (ask, last) = (AFTER_HINT.min(timeout / 2), timeout * 5 / 6);
        // Asked, it has a while for what is short.
        let first = (timeout / 2).max(ask + timeout / 4);
        let signal = match (hears.channel, hears.hint) {
            (false, _) => Duration::ZERO,
            (true, true) => last,
            (true, false) => first + (last - first).mul_f64(moment),
        };
        let shed = (hears.channel && hears.hint).then_some((now + timeout / 2, timeout / 4));
        Self { shed, ..Self::new(now, true, hears.channel.then_some(ask), signal, timeout, hears) }
    }

    /// A worker that is ill finishes what it has; its channel may be closed already.
    pub(super) fn drain(now: Time, timeout: Duration, hears: Hears) -> Self {
        Self::new(now, false, None, timeout * 5 / 6, timeout, hears)
    }

    fn new(
        now: Time,
        asked: bool,
        ask: Option<Duration>,
        signal: Duration,
        timeout: Duration,
        hears: Hears,
    ) -> Self {
        Self {
            since: now,
            asked,
            ask_at: ask.map(|after| now + after),
            shed: None,
            signal_at: Some(now + signal),
            done_at: None,
            hears_signal: hears.signal,
            kill_at: Some(now + timeout),
        }
    }

    /// Whether the closing of its channel means that it is done.
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    /// Whether it was given a hint and not been asked yet.
    pub(super) fn is_hinted(&self) -> bool {
        self.ask_at.is_some()
    }

    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Its channel has closed: who was asked to leave has nothing left to finish.
    pub(super) fn channel_closed(&mut self, now: Time) {
        if self.asked {
            self.shed = None;
            self.done_at.get_or_insert(now + AFTER_CHANNEL);
        }
    }

    /// It listens to the stop signal from now on, or no more.
    pub(super) fn hears_signal(&mut self, on: bool) {
        self.hears_signal = on;
    }

    /// When the signal is due, if it was not sent yet.
    fn signal(&self) -> Option<Time> {
        let latest = self.signal_at?;
        let latest = self.hears_signal.then_some(latest);
        latest.into_iter().chain(self.done_at).min()
    }

    /// When the next step is due.
    pub(super) fn next(&self) -> Option<Time> {
        let shed = self.shed.map(|(at, _)| at);
        self.ask_at.or_else(|| shed.into_iter().chain(self.signal()).chain(self.kill_at).min())
    }

    /// Takes the step that is due.
    pub(super) fn climb(&mut self, now: Time) -> Option<Rung> {
        if self.ask_at.take_if(|at| *at <= now).is_some() {
            return Some(Rung::Ask);
        }
        if self.ask_at.is_some() {
            return None;
        }
        if self.kill_at.take_if(|at| *at <= now).is_some() {
            (self.shed, self.signal_at) = (None, None);
            return Some(Rung::Kill);
        }
        if let Some((_, over)) = self.shed.take_if(|(at, _)| *at <= now) {
            return Some(Rung::Shed(over));
        }
        if self.signal().is_some_and(|at| at <= now) {
            self.signal_at = None;
            return Some(Rung::Terminate);
        }
        None
    }
}
