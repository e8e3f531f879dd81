//! The agent, as the guard sees it: one process beside the workers, there before them and gone after them.
//!
//! ```text
//!   starting ──► Starting ── sign, or start time-out ──► Ready ──┐ dies: started again, 1 s later or after a pause
//!                    └── dies, the first time: the gang ends     │ (young deaths); asked to: at once
//!                ▲                                               │
//!                └───────────────────────────────────────────────┘
//! ```
//!
//! The workers are started when it is ready for the first time. There is never more than one: a new one is started when the
//! old one is reaped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Action, AgentNotice, Cause, Config, Exit, Guard, Illness, Notice, Panic, Sign, Then, Unfit, Verdict,
    cause::{self, Blows},
    ladder::{Hears, Ladder, Rung},
    restart::Backoff,
    ward::{DEATH_FOLLOWS, YOUNG},
};
use crate::{AgentId, Generation, Time};

/// It is started again so long after its death, at the earliest.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// One without a channel gives no sign, as a rule: it is ready when it has lived for so long.
const WITHOUT_SIGN: Duration = Duration::from_secs(3);
/// Of the stop time-out it has the part that the workers left, and at least this one.
const LEAST_PART: u32 = 10;

/// What happened to the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentInput {
    /// [`AgentAction::Start`] was done.
    Started {
        /// Who it is.
        agent: AgentId,
        /// Whether it has a channel.
        channel: bool,
    },
    /// [`AgentAction::Start`] could not be done.
    StartFailed {
        /// Why, in words.
        error: String,
    },
    /// It has said something on its channel.
    Online {
        /// Whether it has said that it can be asked to leave. Others are signalled.
        obeys: bool,
    },
    /// It shows that it is ready.
    Sign(Sign),
    /// Its channel is closed.
    Disconnected,
    /// It broke the wire's rules so badly that its channel was cut.
    Condemned(String),
    /// As [`Input::OutOfMemory`](super::Input::OutOfMemory).
    OutOfMemory {
        /// The cgroup's limit in bytes, if it has one.
        limit: Option<u64>,
    },
    /// As [`Input::Panicked`](super::Input::Panicked).
    Panicked(Panic),
    /// It is dead and reaped.
    Exited(Exit),
    /// Another one is wanted in its place: it is asked to leave, and the next one started when it has.
    Replace,
}

/// What the guard wants done with the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentAction {
    /// Start one; answered by [`AgentInput::Started`] or [`AgentInput::StartFailed`].
    Start(Generation),
    /// Ask it to leave, by protocol.
    Ask,
    /// Send it the stop signal.
    Terminate,
    /// Kill it and its process group.
    Kill,
}

/// The agent's place in the gang.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Agent {
    ward: Option<Ward>,
    /// When the next one is to be started.
    start_at: Option<Time>,
    /// Whether [`AgentAction::Start`] is under way.
    starting: bool,
    /// Whether one has been ready: the workers have been started.
    established: bool,
    /// The sign that the first one gave: required of the next ones.
    sign: Option<Sign>,
    backoff: Backoff,
    /// When the gang's stop should be over.
    stop_by: Option<Time>,
}

/// One agent, from its start to its exit.
#[derive(Debug, Serialize, Deserialize)]
struct Ward {
    id: AgentId,
    started: Time,
    ready: Option<Time>,
    /// Has spoken on its channel.
    online: bool,
    obeys: bool,
    /// Whether it may give a sign that it is ready: it has a channel, or the one before it gave one without.
    gives_sign: bool,
    /// Since when its channel is closed without an exit.
    silent_since: Option<Time>,
    leaving: Option<Ladder>,
    /// Whether it leaves to be replaced.
    replaced: bool,
    cause: Option<Cause>,
    blows: Blows,
}

impl Agent {
    /// When something is due.
    pub(super) fn timeout(&self, config: &Config) -> Option<Time> {
        let ward = self.ward.as_ref().and_then(|ward| ward.timeout(config));
        self.start_at.into_iter().chain(ward).min()
    }

    /// Whether it is there and not about to be replaced.
    pub(super) fn is_ready(&self) -> bool {
        self.ward.as_ref().is_some_and(|ward| ward.ready.is_some() && ward.leaving.is_none())
    }

    /// Whether there is a process, or is about to be.
    fn exists(&self) -> bool {
        self.ward.is_some() || self.starting
    }

    /// The gang ends: nothing more is started.
    pub(super) fn gang_ends(&mut self, now: Time, config: &Config) {
        self.start_at = None;
        self.stop_by = Some(now + config.stop_timeout);
    }

    /// A start that was decided is not done.
    pub(super) fn start_cancelled(&mut self) {
        self.starting = false;
    }

    /// For the agent that leaves last: what is left of the stop time-out.
    fn time_to_stop(&self, now: Time, config: &Config) -> Duration {
        let left = self.stop_by.filter(|by| *by > now).map_or(Duration::ZERO, |by| by - now);
        left.max(config.stop_timeout / LEAST_PART)
    }
}

impl Ward {
    fn is_young(&self, now: Time) -> bool {
        self.ready.is_none_or(|ready| now - ready < YOUNG)
    }

    /// How long it may take to get ready.
    fn patience(&self, config: &Config) -> Duration {
        if self.gives_sign { config.start_timeout } else { WITHOUT_SIGN.min(config.start_timeout) }
    }

    fn timeout(&self, config: &Config) -> Option<Time> {
        let silent = self.silent_since.map(|since| since + DEATH_FOLLOWS);
        let next = match &self.leaving {
            Some(ladder) => ladder.next(),
            None if self.ready.is_none() && self.cause.is_none() => {
                Some(self.started + self.patience(config))
            }
            None => None,
        };
        silent.into_iter().chain(next).min()
    }
}

impl Guard {
    pub(super) fn handle_agent(&mut self, now: Time, input: AgentInput) {
        if self.agent.is_none() {
            return;
        }
        match input {
            AgentInput::Started { agent, channel } => self.handle_agent_started(now, agent, channel),
            AgentInput::StartFailed { error } => self.handle_agent_start_failed(now, error),
            AgentInput::Online { obeys } => {
                if let Some(ward) = self.agent_ward() {
                    ward.online = true;
                    ward.obeys |= obeys;
                }
            }
            AgentInput::Sign(sign) => self.handle_agent_sign(now, sign),
            AgentInput::Disconnected => self.handle_agent_disconnected(now),
            AgentInput::Condemned(why) => self.kill_agent_for(Cause::Condemned(why)),
            AgentInput::OutOfMemory { limit } => {
                if let Some(ward) = self.agent_ward() {
                    ward.blows.out_of_memory = Some(limit);
                }
            }
            AgentInput::Panicked(panic) => {
                if let Some(ward) = self.agent_ward() {
                    cause::panicked(&mut ward.cause, panic);
                }
            }
            AgentInput::Exited(exit) => self.handle_agent_exited(now, exit),
            AgentInput::Replace => self.replace_agent(now),
        }
    }

    /// Time has passed.
    pub(super) fn handle_agent_timeout(&mut self, now: Time) {
        let ending = self.is_ending();
        let Some(agent) = &mut self.agent else { return };
        if agent.start_at.is_some_and(|at| at <= now) {
            return self.start_agent();
        }
        let Some(ward) = &mut agent.ward else { return };
        if ward.timeout(&self.config).is_none_or(|at| at > now) {
            return;
        }
        let id = ward.id;
        if ward.silent_since.take_if(|since| *since + DEATH_FOLLOWS <= now).is_some() {
            // In a gang that ends its turn comes when the workers are gone.
            if ward.leaving.is_none() && !ending {
                let illness = Illness::ChannelClosed;
                if !self.agent_fails_reload(now, Some(id), Unfit::Ill(illness)) {
                    self.notice_of_agent(AgentNotice::Ill { agent: id, illness });
                }
                self.retire_agent(now, self.config.stop_timeout);
            }
        } else if let Some(ladder) = &mut ward.leaving {
            match ladder.climb(now) {
                Some(Rung::Terminate) => self.act_on_agent(AgentAction::Terminate),
                Some(Rung::Kill) => {
                    let after = now - ladder.since();
                    self.act_on_agent(AgentAction::Kill);
                    self.notice_of_agent(AgentNotice::Killed { agent: id, after });
                }
                // No agent is given a hint.
                Some(Rung::Ask | Rung::Shed(_)) | None => {}
            }
        } else {
            let (after, gives_sign) = (ward.patience(&self.config), ward.gives_sign);
            if agent.sign.is_some() {
                return self.kill_agent_for(Cause::StartTimeout { after });
            }
            // That who has no channel gives none needs no words.
            if gives_sign {
                self.notice_of_agent(AgentNotice::NoSign { agent: id, after });
            }
            self.make_agent_ready(now);
        }
    }

    pub(super) fn start_agent(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        agent.start_at = None;
        agent.starting = true;
        self.act_on_agent(AgentAction::Start(self.generation));
    }

    /// The workers have gone. Whether the agent has too; if not, it is on its way.
    pub(super) fn agent_is_gone(&mut self, now: Time) -> bool {
        let Some(agent) = &self.agent else { return true };
        if agent.ward.as_ref().is_some_and(|ward| ward.leaving.is_none()) {
            self.retire_agent(now, agent.time_to_stop(now, &self.config));
        }
        self.agent.as_ref().is_none_or(|agent| !agent.exists())
    }

    /// Kills the agent, if there is one.
    pub(super) fn kill_agent(&mut self) {
        if self.agent_ward().is_some() {
            self.act_on_agent(AgentAction::Kill);
        }
    }

    fn handle_agent_started(&mut self, now: Time, id: AgentId, channel: bool) {
        let Some(agent) = &mut self.agent else { return };
        agent.starting = false;
        agent.ward = Some(Ward {
            id,
            started: now,
            ready: None,
            online: false,
            obeys: false,
            gives_sign: channel || agent.sign.is_some(),
            silent_since: None,
            leaving: None,
            replaced: false,
            cause: None,
            blows: Blows::default(),
        });
        self.notice_of_agent(AgentNotice::Started { agent: id });
        // The stop may have come while the process was being started.
        if self.is_ending() {
            self.finish_if_empty(now);
        }
    }

    fn handle_agent_start_failed(&mut self, now: Time, error: String) {
        let ending = self.is_ending();
        let Some(agent) = &mut self.agent else { return };
        agent.starting = false;
        if ending {
            return self.finish_if_empty(now);
        }
        if !agent.established {
            self.notice_of_agent(AgentNotice::StartFailed { error, retry_in: None });
            return self.end(now, Verdict::AgentStart);
        }
        let told = self.agent_fails_reload(now, None, Unfit::NotStarted(error.clone()));
        let retry_in = self.pause_after_agent(now, true);
        if !told {
            self.notice_of_agent(AgentNotice::StartFailed { error, retry_in });
        }
        match retry_in {
            Some(pause) => self.start_agent_at(now + pause),
            None => self.give_up_agent(now),
        }
    }

    /// As with workers, any sign will do until the first one has shown which it gives.
    fn handle_agent_sign(&mut self, now: Time, sign: Sign) {
        let ending = self.is_ending();
        let Some(agent) = &mut self.agent else { return };
        let waiting = |ward: &Ward| ward.ready.is_none() && ward.leaving.is_none() && ward.cause.is_none();
        let wanted = !ending && agent.ward.as_ref().is_some_and(waiting);
        if wanted && *agent.sign.get_or_insert(sign) == sign {
            self.make_agent_ready(now);
        }
    }

    fn make_agent_ready(&mut self, now: Time) {
        let Some(agent) = &mut self.agent else { return };
        let Some(ward) = &mut agent.ward else { return };
        ward.ready = Some(now);
        let (id, after) = (ward.id, now - ward.started);
        let first = !std::mem::replace(&mut agent.established, true);
        self.notice_of_agent(AgentNotice::Ready { agent: id, after });
        if first {
            self.start_workers();
        }
    }

    fn handle_agent_disconnected(&mut self, now: Time) {
        let Some(ward) = self.agent_ward() else { return };
        match &mut ward.leaving {
            Some(ladder) => ladder.channel_closed(now),
            // It never used the channel: it is a program that knows nothing of it.
            None if !ward.online => {}
            // A death in most cases, whose exit is not seen yet.
            None => ward.silent_since = Some(now),
        }
        ward.obeys = false;
    }

    fn handle_agent_exited(&mut self, now: Time, exit: Exit) {
        let Some(agent) = &mut self.agent else { return };
        let Some(ward) = agent.ward.take() else { return };
        let (id, age, young) = (ward.id, now - ward.started, ward.is_young(now));
        let asked = ward.leaving.is_some();
        let cause = ward.blows.cause(ward.cause, exit);
        let established = agent.established;
        if !young {
            agent.backoff.lived(age);
        }
        let died = |then| AgentNotice::Died { agent: id, age, cause: cause.clone(), then };
        if self.is_ending() {
            if !asked {
                self.notice_of_agent(died(Then::Nothing));
            }
            return self.finish_if_empty(now);
        }
        if !established {
            self.notice_of_agent(died(Then::GangEnds));
            return self.end(now, Verdict::AgentStart);
        }
        if ward.replaced {
            return self.start_agent();
        }
        let pause = self.pause_after_agent(now, young);
        let unfit = Unfit::Died { age, cause: Box::new(cause.clone()) };
        if !self.agent_fails_reload(now, Some(id), unfit) {
            let then = pause.map_or(Then::GangEnds, Then::RetryIn);
            self.notice_of_agent(AgentNotice::Died { agent: id, age, cause, then });
        }
        match pause {
            Some(pause) => self.start_agent_at(now + pause),
            None => self.give_up_agent(now),
        }
    }

    /// The pause before the next start after a death; none if there is no hope, nor a worker ready.
    fn pause_after_agent(&mut self, now: Time, young: bool) -> Option<Duration> {
        self.reckon();
        let agent = self.agent.as_mut().filter(|_| young);
        let Some(agent) = agent else { return Some(RESTART_AFTER) };
        let pause = agent.backoff.young_death(now, &mut self.random).max(RESTART_AFTER);
        let hopeless = agent.backoff.is_hopeless(now) && self.ready() == 0;
        (!hopeless).then_some(pause)
    }

    /// The agents die as fast as they are started.
    fn give_up_agent(&mut self, now: Time) {
        self.end(now, Verdict::AgentCrashLoop);
        self.kill_workers();
    }

    fn start_agent_at(&mut self, at: Time) {
        if !self.is_ending()
            && let Some(agent) = &mut self.agent
        {
            agent.start_at = Some(at);
        }
    }

    fn replace_agent(&mut self, now: Time) {
        let ending = self.is_ending();
        let Some(agent) = &mut self.agent else { return };
        // The first one is the newest as it is.
        if ending || !agent.established {
            return;
        }
        if let Some(ward) = &mut agent.ward {
            ward.replaced = true;
            if ward.leaving.is_none() {
                self.retire_agent(now, self.config.stop_timeout);
            }
        } else if !agent.starting {
            self.start_agent();
        }
    }

    /// Puts the agent on the ladder: who can be asked is asked, the others get the signal at once.
    fn retire_agent(&mut self, now: Time, timeout: Duration) {
        let Some(ward) = self.agent_ward() else { return };
        let ask = ward.obeys && ward.leaving.is_none();
        let hears = Hears { channel: ward.obeys, hint: false, signal: true };
        ward.leaving = Some(Ladder::stop(now, timeout, hears, false));
        if ask {
            self.act_on_agent(AgentAction::Ask);
        }
    }

    fn kill_agent_for(&mut self, cause: Cause) {
        if let Some(ward) = self.agent_ward() {
            ward.cause.get_or_insert(cause);
            self.act_on_agent(AgentAction::Kill);
        }
    }

    /// What is about to be done to the agent by signals.
    pub(super) fn agent_blows(&mut self) -> Option<&mut Blows> {
        Some(&mut self.agent_ward()?.blows)
    }

    fn agent_ward(&mut self) -> Option<&mut Ward> {
        self.agent.as_mut().and_then(|agent| agent.ward.as_mut())
    }

    fn act_on_agent(&mut self, action: AgentAction) {
        self.actions.push_back(Action::Agent(action));
    }

    fn notice_of_agent(&mut self, notice: AgentNotice) {
        self.notice(Notice::Agent(notice));
    }
}

#[cfg(test)]
mod tests;
