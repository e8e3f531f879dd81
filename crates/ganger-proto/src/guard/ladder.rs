//! The one ladder that every worker climbs on its way out: out of dispatch, with a hint to those who take one; asked by
//! protocol; then the stop signal, then the kill.
//!
//! A worker that was asked closes its channel when its servers and connections are closed; a second later
//! it gets the signal, if it is still there. In any case it gets it 5 s after the start of a stop, or at
//! 5/6 of a drain. At the end it is killed with its group.
//!
//! Connections that last (WebSocket, events) are not all ended in one moment, since their clients come back at once. Who takes
//! hints is told at half of a drain to end them one after another, over a quarter of it. Whoever does not
//! take any gets the signal at a moment of its own between half and 5/6 of the drain.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Time;

/// After the channel has closed a process should end by itself; this long it may take.
const AFTER_CHANNEL: Duration = Duration::from_secs(1);
/// Between the hint and the request it tells its clients to go.
const AFTER_HINT: Duration = Duration::from_secs(1);
/// The latest moment of the signal in a stop.
const STOP_SIGNAL: Duration = Duration::from_secs(5);

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
    terminate_at: Option<Time>,
    kill_at: Option<Time>,
}

/// How a worker that is dismissed parts from its last connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Parting {
    /// It takes hints: from one after another.
    Gradual,
    /// From all of them with the signal, at a moment of its own: 0 is the first that there is, 1 the last.
    Sudden(f64),
    /// It has no channel to be told by.
    Mute,
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
    /// A stop: `timeout` until the kill. A program without a channel is signalled at once.
    pub(super) fn stop(now: Time, timeout: Duration, channel: bool, hint: bool) -> Self {
        let signal = if channel { STOP_SIGNAL.min(timeout * 5 / 6) } else { Duration::ZERO };
        Self {
            since: now,
            asked: true,
            ask_at: hint.then_some(now + AFTER_HINT.min(timeout / 5)),
            shed: None,
            terminate_at: Some(now + signal),
            kill_at: Some(now + timeout),
        }
    }

    /// Whether it was given a hint and not been asked yet.
    pub(super) fn is_hinted(&self) -> bool {
        self.ask_at.is_some()
    }

    /// A worker that is good and not wanted any more: `timeout` until the kill. Out of dispatch, it has a second in which those
    /// that it was handed last say what they want, and in which it tells its clients to go, if it takes the hint: asked to leave,
    /// it closes what is idle. A program without a channel is signalled at once.
    pub(super) fn dismiss(now: Time, timeout: Duration, parting: Parting) -> Self {
        let signal = match parting {
            Parting::Gradual => timeout * 5 / 6,
            Parting::Sudden(moment) => timeout / 2 + (timeout / 3).mul_f64(moment),
            Parting::Mute => Duration::ZERO,
        };
        let channel = parting != Parting::Mute;
        Self {
            since: now,
            asked: true,
            ask_at: channel.then_some(now + AFTER_HINT.min(timeout / 2)),
            shed: (parting == Parting::Gradual).then_some((now + timeout / 2, timeout / 4)),
            terminate_at: Some(now + signal),
            kill_at: Some(now + timeout),
        }
    }

    /// A worker that is ill finishes what it has; its channel may be closed already.
    pub(super) fn drain(now: Time, timeout: Duration) -> Self {
        Self {
            since: now,
            asked: false,
            ask_at: None,
            shed: None,
            terminate_at: Some(now + timeout * 5 / 6),
            kill_at: Some(now + timeout),
        }
    }

    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Its channel has closed: who was asked to leave has nothing left to finish.
    pub(super) fn channel_closed(&mut self, now: Time) {
        if self.asked {
            self.shed = None;
            self.terminate_at = self.terminate_at.map(|at| at.min(now + AFTER_CHANNEL));
        }
    }

    /// When the next step is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.ask_at.or(self.shed.map(|(at, _)| at)).or(self.terminate_at).or(self.kill_at)
    }

    /// Takes the step that is due.
    pub(super) fn climb(&mut self, now: Time) -> Option<Rung> {
        if self.ask_at.take_if(|at| *at <= now).is_some() {
            Some(Rung::Ask)
        } else if self.ask_at.is_some() {
            None
        } else if let Some((_, over)) = self.shed.take_if(|(at, _)| *at <= now) {
            Some(Rung::Shed(over))
        } else if self.shed.is_some() {
            None
        } else if self.terminate_at.take_if(|at| *at <= now).is_some() {
            Some(Rung::Terminate)
        } else if self.terminate_at.is_none() && self.kill_at.take_if(|at| *at <= now).is_some() {
            Some(Rung::Kill)
        } else {
            None
        }
    }
}
