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
mod config;
mod ladder;
mod notice;
mod restart;
mod seam;
mod ward;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use agent::{AgentAction, AgentInput};
pub use config::Config;
pub use notice::{AgentNotice, Cause, Exit, Illness, Notice, Sign, Then, Verdict};
pub use restart::Limit;
pub use seam::{Action, Input};

use crate::{Generation, Slot, Time, WorkerId};
use ladder::Ladder;
use restart::Backoff;
use ward::{DEATH_FOLLOWS, Ward};

/// The guard's machine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Guard {
    config: Config,
    phase: Phase,
    generation: Generation,
    slots: Vec<Place>,
    wards: BTreeMap<WorkerId, Ward>,
    /// None where none is wanted.
    agent: Option<agent::Agent>,
    restarts: restart::Spacing,
    random: restart::Jitter,
    began: Time,
    /// Whether every slot has been ready at the same time.
    complete: bool,
    replacements_due: bool,
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
        let mut guard = Self {
            phase: Phase::First,
            generation: Generation(0),
            slots: (0..config.workers).map(|_| Place::default()).collect(),
            wards: BTreeMap::new(),
            agent: config.agent.then(Default::default),
            restarts: Default::default(),
            random: restart::Jitter::new(config.seed),
            began: now,
            complete: false,
            replacements_due: false,
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
        self.actions.pop_front()
    }

    /// When [`Guard::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let places = self.slots.iter().filter_map(|place| place.start_at);
        let wards = self.wards.values().filter_map(|ward| ward.timeout(&self.config));
        let agent = self.agent.as_ref().and_then(|agent| agent.timeout(&self.config));
        places.chain(wards).chain(agent).min()
    }

    /// Whether the gang is on its way to its end.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_) | Phase::Ended)
    }

    /// How many slots have a ready worker. One whose channel has closed is not: it serves nobody new.
    pub fn ready(&self) -> usize {
        let occupants = self.slots.iter().filter_map(|place| self.wards.get(&place.occupant?));
        occupants.filter(|ward| ward.ready.is_some() && ward.silent_since.is_none()).count()
    }

    /// Something happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Started { slot, worker, channel } => self.handle_started(now, slot, worker, channel),
            Input::StartFailed { slot, error } => self.handle_start_failed(now, slot, error),
            Input::Online(worker) => {
                if let Some(ward) = self.wards.get_mut(&worker) {
                    ward.online = true;
                }
            }
            Input::Sign(worker, sign) => self.handle_sign(now, worker, sign),
            Input::Leaving(worker) => self.handle_ill(now, worker, Illness::Leaving),
            Input::Disconnected(worker) => self.handle_disconnected(now, worker),
            Input::Condemned(worker, why) => self.kill(worker, Cause::Condemned(why)),
            Input::Exited(worker, exit) => self.handle_exited(now, worker, exit),
            Input::Agent(input) => self.handle_agent(now, input),
            Input::Stop if self.is_ending() => self.kill_all(),
            Input::Stop => self.end(now, Verdict::Stopped),
            Input::Kill => {
                if !self.is_ending() {
                    self.end(now, Verdict::Stopped);
                }
                self.kill_all();
            }
        }
        self.announce();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].start_at.is_some_and(|at| at <= now) {
                self.start(Slot(slot as u32));
            }
        }
        let due = |ward: &Ward| ward.timeout(&self.config).is_some_and(|at| at <= now);
        let due: Vec<WorkerId> = self.wards.iter().filter(|(_, ward)| due(ward)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|worker| self.handle_worker_timeout(now, worker));
        self.handle_agent_timeout(now);
        self.announce();
    }

    fn handle_worker_timeout(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        let slot = ward.slot;
        if ward.silent_since.take_if(|since| *since + DEATH_FOLLOWS <= now).is_some() {
            if ward.leaving.is_none() {
                return self.handle_ill(now, worker, Illness::ChannelClosed);
            }
            if let Some(replaced_by) = ward.replaced {
                let illness = Illness::ChannelClosed;
                self.notice(Notice::Ill { worker, slot, illness, replaced_by });
            }
        } else if let Some(ladder) = &mut ward.leaving {
            match ladder.climb(now) {
                Some(ladder::Rung::Terminate) => self.actions.push_back(Action::Terminate(worker)),
                Some(ladder::Rung::Kill) => {
                    let after = now - ladder.since();
                    self.actions.push_back(Action::Kill(worker));
                    self.notice(Notice::Killed { worker, slot, after });
                }
                None => {}
            }
        } else if self.slots[slot.0 as usize].sign.is_some() {
            let after = self.config.start_timeout;
            self.kill(worker, Cause::StartTimeout { after });
        } else {
            self.notice(Notice::NoSign { worker, slot, after: self.config.start_timeout });
            self.make_ready(now, worker);
        }
    }

    fn handle_started(&mut self, now: Time, slot: Slot, worker: WorkerId, channel_open: bool) {
        let place = &mut self.slots[slot.0 as usize];
        place.starting = false;
        place.occupant = Some(worker);
        let obituary = place.obituary.take();
        if let Some(predecessor) = place.predecessor.take().and_then(|id| self.wards.get_mut(&id)) {
            predecessor.replaced = Some(Some(worker));
        }
        let ward = Ward {
            slot,
            started: now,
            ready: None,
            online: false,
            channel_open,
            silent_since: None,
            leaving: None,
            cause: None,
            replaced: None,
        };
        self.wards.insert(worker, ward);
        match obituary {
            Some(Obituary { worker: dead, age, cause }) => {
                self.notice(Notice::Died { worker: dead, slot, age, cause, then: Then::ReplacedBy(worker) });
            }
            None => self.notice(Notice::Started { worker, slot }),
        }
        // The stop may have come while the process was being started.
        if self.is_ending() {
            self.retire(now, worker);
        }
    }

    fn handle_start_failed(&mut self, now: Time, slot: Slot, error: String) {
        let place = &mut self.slots[slot.0 as usize];
        place.starting = false;
        place.predecessor = None;
        if let Some(Obituary { worker, age, cause }) = place.obituary.take() {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::Nothing });
        }
        if self.is_ending() {
            return self.finish_if_empty(now);
        }
        if self.phase == Phase::First {
            self.notice(Notice::StartFailed { slot, error: error.clone(), retry_in: None });
            self.end(now, Verdict::FirstStart);
            return self.kill_workers();
        }
        let retry_in = self.pause_after_young_death(now, slot);
        self.notice(Notice::StartFailed { slot, error, retry_in });
        self.start_after(now, slot, retry_in);
    }

    fn handle_sign(&mut self, now: Time, worker: WorkerId, sign: Sign) {
        let Some(ward) = self.wards.get(&worker) else { return };
        if ward.ready.is_none() && self.is_ready(ward, sign) {
            self.slots[ward.slot.0 as usize].sign.get_or_insert(sign);
            self.make_ready(now, worker);
        }
    }

    /// The one place that decides whether a sign makes a worker ready: any of them does, until the slot's
    /// first worker has shown which one it gives.
    fn is_ready(&self, ward: &Ward, sign: Sign) -> bool {
        let wanted = ward.leaving.is_none() && ward.cause.is_none() && !self.is_ending();
        wanted && self.slots[ward.slot.0 as usize].sign.is_none_or(|required| required == sign)
    }

    fn make_ready(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        ward.ready = Some(now);
        let (slot, after) = (ward.slot, now - ward.started);
        if self.phase == Phase::First {
            self.phase = Phase::Running;
        }
        self.notice(Notice::WorkerReady { worker, slot, after });
        if !self.complete && self.ready() == self.slots.len() {
            self.complete = true;
            self.notice(Notice::GangReady { workers: self.config.workers, after: now - self.began });
        }
    }

    fn handle_disconnected(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        ward.channel_open = false;
        match &mut ward.leaving {
            Some(ladder) => ladder.channel_closed(now),
            // It never used the channel: it is a program that knows nothing of it.
            None if !ward.online => {}
            None => {
                // A death in most cases, whose exit is not seen yet. Who was established is replaced at
                // once; who is young is waited for, since its death decides what is done next.
                ward.silent_since = Some(now);
                if !ward.is_young(now) {
                    self.replace_ill(now, worker);
                }
            }
        }
    }

    fn handle_ill(&mut self, now: Time, worker: WorkerId, illness: Illness) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if ward.leaving.is_some() || ward.cause.is_some() {
            return;
        }
        if illness == Illness::Leaving {
            ward.cause = Some(Cause::Left);
        }
        let slot = ward.slot;
        self.replace_ill(now, worker);
        let replaced_by = self.wards.get(&worker).and_then(|ward| ward.replaced.flatten());
        if illness == Illness::ChannelClosed {
            self.notice(Notice::Ill { worker, slot, illness, replaced_by });
        }
    }

    /// Takes the worker out of its slot while it lives: the number of workers at work stays the same.
    fn replace_ill(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        let (slot, young) = (ward.slot, ward.is_young(now));
        ward.leaving = Some(Ladder::drain(now, self.config.drain_timeout));
        ward.replaced = Some(None);
        self.actions.push_back(Action::Retire(worker));
        if self.slots[slot.0 as usize].occupant == Some(worker) {
            self.slots[slot.0 as usize].occupant = None;
            let pause = if young { self.pause_after_young_death(now, slot) } else { self.pause(now) };
            if self.is_ending() {
                return;
            }
            self.slots[slot.0 as usize].predecessor = Some(worker);
            self.start_after(now, slot, pause);
        }
    }

    fn handle_exited(&mut self, now: Time, worker: WorkerId, exit: Exit) {
        let Some(ward) = self.wards.remove(&worker) else { return };
        let (slot, age) = (ward.slot, now - ward.started);
        let young = ward.is_young(now);
        let cause = match ward.cause {
            Some(cause) => cause,
            None => Cause::Exit(exit),
        };
        let held_slot = self.slots[slot.0 as usize].occupant == Some(worker);
        if held_slot {
            self.slots[slot.0 as usize].occupant = None;
        }
        if self.is_ending() {
            if ward.leaving.is_none() {
                self.notice(Notice::Died { worker, slot, age, cause, then: Then::Nothing });
            }
            return self.finish_if_empty(now);
        }
        if self.phase == Phase::First {
            self.notice(Notice::Died { worker, slot, age, cause, then: Then::GangEnds });
            self.end(now, Verdict::FirstStart);
            return self.kill_workers();
        }
        if !held_slot {
            let then = match ward.replaced {
                Some(Some(by)) => Then::ReplacedBy(by),
                _ => Then::Nothing,
            };
            return self.notice(Notice::Died { worker, slot, age, cause, then });
        }
        if !young {
            self.slots[slot.0 as usize].backoff.lived(now - ward.started);
        }
        let pause = if young { self.pause_after_young_death(now, slot) } else { self.pause(now) };
        if self.is_ending() {
            return self.notice(Notice::Died { worker, slot, age, cause, then: Then::GangEnds });
        }
        match pause {
            None => self.slots[slot.0 as usize].obituary = Some(Obituary { worker, age, cause }),
            Some(pause) => {
                self.notice(Notice::Died { worker, slot, age, cause, then: Then::RetryIn(pause) });
            }
        }
        self.start_after(now, slot, pause);
    }

    /// The pause before the next start after a young death. Too many of them, and no worker ready: the
    /// gang ends.
    fn pause_after_young_death(&mut self, now: Time, slot: Slot) -> Option<Duration> {
        let pause = self.slots[slot.0 as usize].backoff.young_death(now, &mut self.random);
        if self.slots[slot.0 as usize].backoff.is_hopeless(now) && self.ready() == 0 {
            self.end(now, Verdict::CrashLoop { slot });
            self.kill_workers();
        }
        Some(pause)
    }

    /// The pause before the next start after a death in good age: none, up to the limit.
    fn pause(&mut self, now: Time) -> Option<Duration> {
        let limit = self.config.restart_limit?;
        let spaced = self.restarts.next(now, limit);
        if spaced.newly {
            self.notice(Notice::RestartsSpaced { limit });
        }
        spaced.pause
    }

    fn start_after(&mut self, now: Time, slot: Slot, pause: Option<Duration>) {
        match pause {
            None => self.start(slot),
            Some(pause) => self.slots[slot.0 as usize].start_at = Some(now + pause),
        }
    }

    fn start_workers(&mut self) {
        (0..self.config.workers).for_each(|slot| self.start(Slot(slot)));
    }

    fn start(&mut self, slot: Slot) {
        let place = &mut self.slots[slot.0 as usize];
        place.start_at = None;
        place.starting = true;
        self.actions.push_back(Action::Start(slot, self.generation));
    }

    fn kill(&mut self, worker: WorkerId, cause: Cause) {
        if let Some(ward) = self.wards.get_mut(&worker) {
            ward.cause.get_or_insert(cause);
            self.actions.push_back(Action::Kill(worker));
        }
    }

    fn retire(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if ward.leaving.is_none() {
            self.actions.push_back(Action::Retire(worker));
        }
        let mut ladder = Ladder::stop(now, self.config.stop_timeout, ward.channel_open);
        if ward.leaving.is_some() && !ward.channel_open {
            ladder.channel_closed(now);
        }
        ward.leaving = Some(ladder);
    }

    fn end(&mut self, now: Time, verdict: Verdict) {
        if self.is_ending() {
            return;
        }
        self.phase = Phase::Ending(verdict);
        for place in &mut self.slots {
            place.start_at = None;
        }
        if let Some(agent) = &mut self.agent {
            agent.gang_ends(now, &self.config);
        }
        // What was decided and not done yet is not done any more.
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Agent(AgentAction::Start(_)) => {
                    self.agent.iter_mut().for_each(agent::Agent::start_cancelled);
                }
                Action::Start(slot, _) => self.slots[slot.0 as usize].starting = false,
                action => self.actions.push_back(action),
            }
        }
        self.actions.push_back(Action::CloseSockets);
        let workers: Vec<WorkerId> = self.wards.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.retire(now, worker));
        self.finish_if_empty(now);
    }

    fn kill_all(&mut self) {
        self.kill_workers();
        self.kill_agent();
    }

    /// Kills the workers; the agent has done nothing, and leaves by its ladder.
    fn kill_workers(&mut self) {
        self.actions.extend(self.wards.keys().map(|worker| Action::Kill(*worker)));
    }

    pub(super) fn finish_if_empty(&mut self, now: Time) {
        let starting = self.slots.iter().any(|place| place.starting);
        if self.wards.is_empty()
            && !starting
            && self.agent_is_gone(now)
            && let Phase::Ending(verdict) = std::mem::replace(&mut self.phase, Phase::Ended)
        {
            self.actions.push_back(Action::End(verdict));
        }
    }

    /// Says when it changes whether a vacant slot is about to be filled.
    fn announce(&mut self) {
        let due = !self.is_ending() && self.ready() < self.slots.len();
        if std::mem::replace(&mut self.replacements_due, due) != due {
            self.actions.push_front(Action::ReplacementsDue(due));
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.actions.push_back(Action::Notice(notice));
    }
}

#[cfg(test)]
mod tests;
