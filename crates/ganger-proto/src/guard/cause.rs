//! Why a process ended: decided from how it ended, what was known before, and whose blow it was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, AgentAction, Guard, Panic, Unfit, Unproven};
use crate::{Time, WorkerId};

pub(super) const SIGKILL: i32 = 9;
/// What a shell says of a program that was killed.
const KILLED_IN_A_SHELL: i32 = 128 + SIGKILL;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
}

/// Why a worker or an agent ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// As its exit status says.
    Exit(Exit),
    /// The kernel killed it for memory: by a `SIGKILL` that was not ours, and its cgroup counts one more such death.
    OutOfMemory {
        /// The cgroup's limit in bytes, if it has one; otherwise the machine's memory was used up.
        limit: Option<u64>,
    },
    /// It answered nothing for so long, and was killed.
    Unresponsive {
        /// How long.
        after: Duration,
    },
    /// It did not get ready in time.
    StartTimeout {
        /// The time it had.
        after: Duration,
    },
    /// It did not answer well in time what it has to answer before it is ready.
    Unproven(Unproven),
    /// Something in it failed that nobody caught: a panic, an exception, the error that it returned.
    Panicked(Panic),
    /// It broke the wire's rules and was cut off.
    Condemned(String),
    /// It left of its own accord, by protocol.
    Left,
    /// It was to take over and could not.
    Unfit(Box<Unfit>),
    /// We had signalled it, whatever it then ended with.
    Asked,
}

impl Cause {
    /// Whether a worker that was asked to leave has done so, with whatever code.
    pub(super) fn is_as_asked(&self) -> bool {
        matches!(self, Self::Asked | Self::Left | Self::Unfit(_) | Self::Exit(Exit::Code(_)))
    }
}

/// What was done to a process by signals, as far as it is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Blows {
    /// Ours: to leave, or to end at once.
    asked: bool,
    /// Ours: to end at once.
    killed: bool,
    /// The kernel's, with the limit of the cgroup.
    pub(super) out_of_memory: Option<Option<u64>>,
}

impl Blows {
    /// The cause of death. What was `known` before it comes first, unless the kernel was quicker than a worker that was on
    /// its way out.
    pub(super) fn cause(self, known: Option<Cause>, exit: Exit) -> Cause {
        let was_killed = match exit {
            Exit::Signal { signal, .. } => signal == SIGKILL,
            Exit::Code(code) => code == KILLED_IN_A_SHELL,
        };
        let out_of_memory = self.out_of_memory.filter(|_| was_killed && !self.killed);
        match (known, out_of_memory) {
            (None | Some(Cause::Left), Some(limit)) => Cause::OutOfMemory { limit },
            (Some(cause), _) => cause,
            (None, None) if self.asked => Cause::Asked,
            (None, None) => Cause::Exit(exit),
        }
    }
}

/// Takes a panic for the cause, if there is none that came before it. Returns whether it was news.
pub(super) fn panicked(cause: &mut Option<Cause>, panic: Panic) -> bool {
    match cause {
        None | Some(Cause::Left) => {
            *cause = Some(Cause::Panicked(panic));
            true
        }
        Some(Cause::Panicked(known)) if known.is_same(&panic) => {
            known.backtrace = known.backtrace.take().or(panic.backtrace);
            false
        }
        _ => false,
    }
}

impl Guard {
    /// An action leaves for the driver: from now on a death by this signal is ours.
    pub(super) fn note_blow(&mut self, action: &Action) {
        let (blows, kill) = match action {
            Action::Terminate(worker) => (self.blows(*worker), false),
            Action::Kill(worker) => (self.blows(*worker), true),
            Action::Agent(AgentAction::Terminate) => (self.agent_blows(), false),
            Action::Agent(AgentAction::Kill) => (self.agent_blows(), true),
            _ => return,
        };
        if let Some(blows) = blows {
            blows.asked = true;
            blows.killed |= kill;
        }
    }

    fn blows(&mut self, worker: WorkerId) -> Option<&mut Blows> {
        Some(&mut self.wards.get_mut(&worker)?.blows)
    }

    /// A worker says what failed in it. It is replaced at this moment, and finishes what it has.
    pub(super) fn handle_panicked(&mut self, now: Time, worker: WorkerId, panic: Panic) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if panicked(&mut ward.cause, panic) && ward.leaving.is_none() {
            // Its death follows at once, as a rule, and tells all.
            ward.silent_since = Some(now);
            self.replace_ill(now, worker);
        }
    }
}

#[cfg(test)]
mod tests;
