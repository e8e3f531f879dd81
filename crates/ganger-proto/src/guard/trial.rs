//! The request that a new worker has to answer with 2xx before it is ready, if one is [configured](super::Config::probe).
//!
//! ```text
//!   all else is there ──► asked ──── 2xx ────► ready, in dispatch
//!                           ▲ │ anything else
//!                           └─┘ a second later, until the start time-out
//! ```
//!
//! Each time it is asked brings one answer, if only that there was none: the next one is never mistaken for the last.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Action, Guard, Notice, ward::Ward};
use crate::{Time, WorkerId};

/// Who has not answered well is asked again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// It has so long for each answer. That the time to start is over by then needs nobody to say.
const PATIENCE: Duration = Duration::from_secs(5);
/// More headers need not be looked at to know the status.
const HEADERS: usize = 64;

/// What a worker did about the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Answer {
    /// It answered with this status.
    Status(u16),
    /// It closed the connection without an answer, or did not take it.
    Closed,
    /// It did not answer in the time that it had.
    Unanswered,
    /// It answered something that is not HTTP/1.
    Garbage,
    /// There is no address on which it is known to listen.
    Nowhere,
    /// There could be no connection to it, for want of what we need ourselves.
    NotAsked(String),
}

/// A worker that was not ready in time for want of a good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// What it was asked for.
    pub path: String,
    /// What it said last; none if it said nothing.
    pub answer: Option<Answer>,
    /// The time that it had.
    pub after: Duration,
}

/// How far a worker is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Trial {
    state: State,
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[default]
    NotBegun,
    Asked,
    /// It is to be asked again then.
    Waits(Time),
    Passed,
}

impl Answer {
    /// What the bytes of a response say; none as long as its head is not complete.
    pub fn read(mut bytes: &[u8]) -> Option<Self> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            let length = match response.parse(bytes) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) => return None,
                Err(httparse::Error::TooManyHeaders) => bytes.len(),
                Err(_) => return Some(Self::Garbage),
            };
            match response.code {
                // The answer proper is still to come.
                Some(100..=199) => bytes = &bytes[length..],
                Some(status) => return Some(Self::Status(status)),
                None => return Some(Self::Garbage),
            }
        }
    }

    fn is_good(&self) -> bool {
        matches!(self, Self::Status(200..=299))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "it answered with status {status}"),
            Self::Closed => f.write_str("it closed the connection without an answer"),
            Self::Unanswered => f.write_str("it did not answer"),
            Self::Garbage => f.write_str("what it answered is not HTTP/1"),
            Self::Nowhere => f.write_str("it listens nowhere that is known"),
            Self::NotAsked(error) => write!(f, "it could not be asked ({error})"),
        }
    }
}

impl Trial {
    /// When it is to be asked again.
    pub(super) fn again_at(&self) -> Option<Time> {
        match self.state {
            State::Waits(at) => Some(at),
            State::NotBegun | State::Asked | State::Passed => None,
        }
    }
}

impl Guard {
    /// What it lacks whose trial is not over.
    pub(super) fn unproven(&self, ward: &Ward) -> Option<Unproven> {
        let path = self.config.probe.clone()?;
        let Trial { state, answer } = &ward.trial;
        let answer = match state {
            State::Passed => return None,
            // Without a sign of it there is nothing to ask it by.
            State::NotBegun => Some(Answer::Nowhere),
            State::Asked | State::Waits(_) => answer.clone(),
        };
        Some(Unproven { path, answer, after: self.config.patience() })
    }

    /// Asks the worker, unless it has been asked.
    pub(super) fn try_out(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        let due = match ward.trial.state {
            State::NotBegun => true,
            State::Waits(at) => at <= now,
            State::Asked | State::Passed => false,
        };
        if due {
            ward.trial.state = State::Asked;
            self.actions.push_back(Action::Try(worker, PATIENCE));
        }
    }

    pub(super) fn handle_tried(&mut self, now: Time, worker: WorkerId, answer: Answer) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if ward.trial.state != State::Asked {
            return;
        }
        if answer.is_good() {
            ward.trial.state = State::Passed;
            return self.proceed_start(now, worker);
        }
        ward.trial.state = State::Waits(now + AGAIN_AFTER);
        let slot = ward.slot;
        let is_news = ward.trial.answer.as_ref() != Some(&answer) && ward.may_get_ready();
        ward.trial.answer = Some(answer.clone());
        if let Some(path) = self.config.probe.clone().filter(|_| is_news) {
            self.notice(Notice::NotReadyYet { worker, slot, path, answer });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: Option<Answer>) {
        assert_eq!(Answer::read(bytes.as_bytes()), expected, "{bytes:?}");
    }

    #[test]
    fn the_status_is_read_as_soon_as_it_is_there() {
        let ok = Some(Answer::Status(200));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ok.clone());
        check("HTTP/1.0 200\r\n\r\n", ok.clone());
        check("HTTP/1.1 503 Service Unavailable\nRetry-After: 1\n\n", Some(Answer::Status(503)));
        check("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ok.clone());
        check(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(HEADERS + 1)), ok);
        for part in ["", "HT", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 103 x\r\n\r\nHTTP"] {
            check(part, None);
        }
        for garbage in ["hello\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 two hundred\r\n\r\n", "\0\0\x12\x04"] {
            check(garbage, Some(Answer::Garbage));
        }
        assert!(Answer::Status(204).is_good() && !Answer::Status(301).is_good());
    }
}
