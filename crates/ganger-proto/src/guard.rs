//! The guard: keeps every slot filled. It decides and never acts; it uses the cluster as anybody could.
//!
//! A worker's life, as the guard sees it:
//!
//! ```text
//!              sign of readiness
//!   Starting ───────────────────► Ready ──────────────┐ dies, or says that it is ill
//!      │  start time-out (a sign was                   ▼
//!      │  required), garbage         ┌──────► replaced: at once, or after a pause if it died young
//!      ├──────────► Killed ──────────┘                 │ (ill: it may finish what it has)
//!      │ stop                                          ▼
//!      └──────────────────────────────────────────► Leaving ──► exit    (the ladder, see [`ladder`])
//! ```
//!
//! An agent, where there is one, is ready before the workers are started and ends after them.
//!
//! Invariants: a slot has at most one occupant. After [`Guard::handle`] said *stop*, nothing is started.
//! [`Action::End`] comes last and once, when no process is left.

mod agent;
mod cause;
mod config;
mod death;
mod end;
mod ladder;
mod limits;
mod notice;
mod reload;
mod restart;
mod scale;
mod seam;
mod slots;
mod start;
mod succession;
mod trial;
mod ward;
mod wards;
mod watch;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use agent::{AgentAction, AgentInput};
pub use cause::{Cause, Exit};
pub use config::{Config, Readiness};
pub use notice::{AgentNotice, Illness, Newcomer, Notice, Request, Sign, Then, Unfit, Verdict};
pub use restart::{LastEnd, Limit, NoRestart, Restart};
pub use seam::{Action, Input};
pub use succession::Why;
pub use trial::{Answer, Unproven};

pub use crate::node::Panic;

use crate::{Generation, Time, WorkerId};
use restart::Backoff;
use ward::{DEATH_FOLLOWS, Ward};
use wards::Wards;

/// The guard's machine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Guard {
    config: Config,
    phase: Phase,
    generation: Generation,
    slots: slots::Slots,
    wards: Wards,
    /// None where none is wanted.
    agent: Option<agent::Agent>,
    restarts: restart::Spacing,
    random: restart::Jitter,
    began: Time,
    /// Whether every slot has been ready at the same time.
    complete: bool,
    replacements_due: bool,
    /// Whether the slots were told to fill: an agent comes first.
    workers_are_started: bool,
    /// When the stop begins that was asked for.
    stop_at: Option<Time>,
    reload: Option<reload::Reload>,
    /// Another one is to follow.
    reload_again: bool,
    actions: VecDeque<Action>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    /// No worker has been ready yet: the first exit ends the gang.
    First,
    Running,
    Ending(Verdict),
    Ended,
}

/// A slot.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    occupant: Option<WorkerId>,
    /// Whether the occupant is ready and serves whoever comes, as of the last [reckoning](Guard::reckon).
    good: bool,
    /// When the next occupant is to be started, if it is not at once.
    start_at: Option<Time>,
    /// Whether [`Action::Start`] is under way.
    starting: bool,
    /// The worker whose replacement is being started.
    predecessor: Option<WorkerId>,
    /// A death to be told together with its replacement.
    obituary: Option<Obituary>,
    /// The sign that the slot's first occupant gave: required of the next ones.
    sign: Option<Sign>,
    backoff: Backoff,
    /// How its last worker ended, if nobody is to follow.
    over: Option<LastEnd>,
    /// A new worker that is to take over from the occupant.
    succession: Option<succession::Succession>,
    /// It gets no connections.
    paused: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Obituary {
    worker: WorkerId,
    age: Duration,
    cause: Cause,
}

impl Guard {
    /// A guard whose slots are still empty; its first actions fill them, or start the agent.
    pub fn new(now: Time, config: Config) -> Self {
        let config = config.bounded();
        let mut guard = Self {
            phase: Phase::First,
            generation: Generation(0),
            slots: (0..config.workers).map(|_| Place::default()).collect(),
            wards: Wards::default(),
            agent: config.agent.then(Default::default),
            restarts: Default::default(),
            random: restart::Jitter::new(config.seed),
            began: now,
            complete: false,
            replacements_due: false,
            workers_are_started: false,
            stop_at: None,
            reload: None,
            reload_again: false,
            actions: VecDeque::new(),
            config,
        };
        match guard.agent {
            Some(_) => guard.start_agent(),
            None => guard.start_workers(),
        }
        guard.announce();
        guard
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front()?;
        self.note_blow(&action);
        Some(action)
    }

    /// When [`Guard::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let (slots, wards) = (self.slots.timeout(), self.wards.timeout(&self.config));
        let agent = self.agent.as_ref().and_then(|agent| agent.timeout(&self.config));
        [slots, wards, agent, self.recycling_timeout(), self.stop_at].into_iter().flatten().min()
    }

    /// Whether the gang is on its way to its end.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_) | Phase::Ended)
    }

    /// Whether the gang is on its way to its end, or is to be before long.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop_at.is_some() || self.is_ending()
    }

    /// Whether clients should be sent here: every slot has been ready, one is now, and nobody has asked for the end.
    pub fn is_ready(&self) -> bool {
        self.complete && !self.is_stopping() && self.ready() > 0
    }

    /// How many slots have a ready worker. One whose channel has closed is not: it serves nobody new.
    pub fn ready(&self) -> usize {
        self.slots.good()
    }

    /// Something happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Started { slot, worker, channel, no_restart_codes } => {
                let ward = Ward::new(slot, now, channel, no_restart_codes);
                self.handle_started(now, worker, ward);
            }
            Input::StartFailed { slot, error } => self.handle_start_failed(now, slot, error),
            Input::Online(worker) => {
                if let Some(ward) = self.wards.get_mut(&worker) {
                    ward.online = true;
                }
            }
            Input::Opened(worker, address) => {
                if let Some(ward) = self.wards.get_mut(&worker) {
                    ward.opened(address);
                }
            }
            Input::Sign(worker, sign) => self.handle_sign(now, worker, sign),
            Input::TakesHints(worker) => {
                if let Some(ward) = self.wards.get_mut(&worker) {
                    ward.takes_hints = true;
                }
            }
            Input::Watchable(worker) => self.handle_watchable(now, worker),
            Input::HearsSignal(worker, on) => {
                if let Some(ward) = self.wards.get_mut(&worker) {
                    ward.hears_signal = on;
                    if let Some(ladder) = &mut ward.leaving {
                        ladder.hears_signal(on);
                    }
                }
            }
            Input::Answered(worker) => self.handle_answered(now, worker),
            Input::Pinged(worker) => self.handle_pinged(now, worker),
            Input::Memory(worker, used) => self.handle_memory(now, worker, used),
            Input::Tried(worker, answer) => self.handle_tried(now, worker, answer),
            Input::Reload => self.handle_reload(now),
            Input::Scale(workers) => self.handle_scale(now, workers),
            Input::Revised(workers) => self.handle_revised(now, workers),
            Input::Pause(slot, paused) => self.handle_pause(slot, paused),
            Input::Leaving(worker) => self.handle_ill(now, worker, Illness::Leaving),
            Input::Disconnected(worker) => self.handle_disconnected(now, worker),
            Input::Condemned(worker, why) => self.kill(worker, Cause::Condemned(why)),
            Input::Panicked(worker, panic) => self.handle_panicked(now, worker, panic),
            Input::OutOfMemory { worker, limit } => {
                if let Some(ward) = self.wards.get_mut(&worker) {
                    ward.blows.out_of_memory = Some(limit);
                }
            }
            Input::Exited(worker, exit) => self.handle_exited(now, worker, exit),
            Input::Agent(input) => self.handle_agent(now, input),
            Input::Stop => self.handle_stop(now),
            Input::Kill => {
                if !self.is_ending() {
                    self.end(now, Verdict::Stopped);
                }
                self.kill_all();
            }
        }
        self.proceed(now);
    }

    /// Goes on with what waits for its turn.
    fn proceed(&mut self, now: Time) {
        self.proceed_reload(now);
        self.proceed_recycling(now);
        self.end_if_over(now);
        self.announce();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.excuse(now);
        if self.stop_at.is_some_and(|at| at <= now) {
            self.end(now, Verdict::Stopped);
        }
        self.reckon();
        self.slots.due(now).into_iter().for_each(|slot| self.start(slot));
        self.wards.due(now).into_iter().for_each(|worker| self.handle_worker_timeout(now, worker));
        self.handle_agent_timeout(now);
        self.proceed(now);
    }

    fn handle_worker_timeout(&mut self, now: Time, worker: WorkerId) {
        let ending = self.is_ending();
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        let slot = ward.slot;
        if ward.silent_since.take_if(|since| *since + DEATH_FOLLOWS <= now).is_some() {
            if ward.leaving.is_none() {
                return self.handle_ill(now, worker, Illness::ChannelClosed);
            }
            // One that was good and asked to go does just that.
            let told = ward.replaced.is_some() || !(ward.dismissed || ending);
            if told {
                let (illness, replaced_by) = (ward.illness(), ward.replaced.flatten());
                self.notice(Notice::Ill { worker, slot, illness, replaced_by });
            }
        } else if let Some(ladder) = &mut ward.leaving {
            match ladder.climb(now) {
                Some(ladder::Rung::Ask) => self.actions.push_back(Action::Retire(worker)),
                Some(ladder::Rung::Shed(over)) => self.actions.push_back(Action::Shed(worker, over)),
                Some(ladder::Rung::Terminate) => self.actions.push_back(Action::Terminate(worker)),
                Some(ladder::Rung::Kill) => {
                    let after = now - ladder.since();
                    self.actions.push_back(Action::Kill(worker));
                    self.notice(Notice::Killed { worker, slot, after });
                }
                None => {}
            }
        } else if ward.ready.is_some() {
            self.watch(now, worker);
        } else {
            self.handle_start_timeout(now, worker);
        }
    }

    /// Says when it changes whether a vacant slot is about to be filled.
    fn announce(&mut self) {
        self.reckon();
        let due = !self.is_ending() && !self.slots.are_complete();
        if std::mem::replace(&mut self.replacements_due, due) == due {
            return;
        }
        // What was to be said and has changed back needs no words.
        match self.actions.iter().position(|action| matches!(action, Action::ReplacementsDue(_))) {
            Some(unsaid) => drop(self.actions.remove(unsaid)),
            None => self.actions.push_front(Action::ReplacementsDue(due)),
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.actions.push_back(Action::Notice(notice));
    }
}

#[cfg(test)]
mod tests;
