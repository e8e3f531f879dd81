//! Keeps a gang alive: every slot has a worker, and every death is explained.
//!
//! What to do is decided by [`ganger_proto::guard`]; this is its driver, a user of the [cluster](crate::cluster)
//! like any other. It owns the [`Primary`] and works while [`Guard::next`] is awaited.

mod agent;
mod cause;
mod graceful;
mod hearing;
mod output;
mod report;
mod revision;
mod trial;
mod vitals;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    time::Duration,
};

use ganger_proto::{
    AgentId, Generation, Slot, Time, WorkerId,
    guard::{self as proto, Action, Input},
};

use crate::{
    channel::Message,
    clock,
    cluster::{AgentInfo, Letter, Primary, Settings, WorkerFault, WorkerInfo},
};

pub use cause::{describe, unproven_in_words};
pub use ganger_proto::guard::{
    AgentNotice, Answer, Cause, Config, Illness, LastEnd, Limit, Newcomer, NoRestart, Notice, Panic,
    Readiness, Request, Restart, Sign, Then, Unfit, Unproven, Verdict, Why,
};
pub(crate) use graceful::{Kept, failure_of};
pub use graceful::{graceful, graceful_within};
pub use output::{Output, Source};
pub use report::DeathReport;

use revision::Revision;
use vitals::Vitals;

/// The stop signal.
const TERM: i32 = rustix::process::Signal::TERM.as_raw();
/// Last words are waited for this long: a descendant of the dead may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// At the end of the gang output is waited for this long after the last of it.
const AT_THE_END: Duration = Duration::from_secs(1);
/// And in all no longer than this.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// Something that a user of the guard wants to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Report {
    /// The guard has something to tell.
    Notice {
        /// What.
        notice: Notice,
        /// With a death: all that is known of it.
        death: Option<Box<DeathReport>>,
    },
    /// A socket is open; said once.
    Listening {
        /// Where, as a person would write it.
        address: String,
    },
    /// A worker could not have a socket; said once a socket, not once a worker.
    BindFailed {
        /// Who asked first.
        worker: WorkerId,
        /// For what.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// There is no place for the [hints](crate::cluster::Settings::hints), nor for the sockets that `NOTIFY_SOCKET` names:
    /// workers run without them; said once.
    NoPlace {
        /// What was met in the best place.
        error: io::Error,
    },
    /// The kernel does not tell which connections are open, so `least-conn` [counts less](crate::cluster::LeastConnBy); said once.
    NoSurvey {
        /// Why.
        error: io::Error,
    },
    /// A worker broke a rule; said once a worker and rule.
    Fault {
        /// Who.
        worker: WorkerId,
        /// Which, in words.
        fault: String,
    },
    /// A worker sent a message that is not for the guard.
    Message {
        /// Who.
        worker: WorkerInfo,
        /// What.
        message: Message,
    },
    /// The agent broke a rule; said once an agent and rule.
    AgentFault {
        /// Who.
        agent: AgentInfo,
        /// Which, in words.
        fault: String,
    },
    /// The agent sent a message that is neither for the guard nor a letter.
    AgentMessage {
        /// Who.
        agent: AgentInfo,
        /// What.
        message: Message,
    },
    /// A [letter](crate::cluster::messenger) to the primary.
    Letter(Letter),
    /// The gang has ended; nothing follows.
    End(Verdict),
}

/// A guarded cluster.
#[derive(Debug)]
pub struct Guard {
    primary: Primary,
    machine: proto::Guard,
    output: Option<Output>,
    reports: VecDeque<Report>,
    /// What workers say does not wait behind a report that is not complete.
    messages: VecDeque<Report>,
    /// Until when the first report waits for what belongs to it.
    waits_until: Option<Time>,
    workers: BTreeMap<WorkerId, WorkerInfo>,
    agent_pids: BTreeMap<AgentId, i32>,
    listening: BTreeSet<String>,
    /// The rules that workers broke, as far as they were told.
    faults: Vec<(WorkerId, WorkerFault)>,
    /// The same of the agent that runs.
    agent_faults: Vec<WorkerFault>,
    /// How much output had been passed on at the last look.
    passed: u64,
    /// Whose death was the last report.
    reported: Option<Source>,
    vitals: Vitals,
    revision: Revision,
    /// The path that new workers have to answer for.
    probe: Option<String>,
    answers: trial::Answers,
    /// How many deaths there were in each slot.
    deaths: BTreeMap<Slot, u32>,
    /// How many agents have died.
    agent_deaths: u32,
    /// Since when the gang has ended.
    ended: Option<Time>,
}

impl Guard {
    /// Guards the workers of `primary`, which should have none yet, and the agent that its settings name. If they
    /// write to pipes, `output` passes on what they write.
    pub fn new(mut primary: Primary, mut config: Config, output: Option<Output>) -> Self {
        config.agent = primary.has_agent();
        primary.set_watchdog(config.watchdog);
        Self {
            primary,
            probe: config.probe.clone(),
            answers: trial::Answers::default(),
            machine: proto::Guard::new(clock::now(), config),
            output,
            reports: VecDeque::new(),
            messages: VecDeque::new(),
            waits_until: None,
            workers: BTreeMap::new(),
            agent_pids: BTreeMap::new(),
            listening: BTreeSet::new(),
            faults: Vec::new(),
            agent_faults: Vec::new(),
            passed: 0,
            reported: None,
            vitals: Vitals::default(),
            revision: Revision::default(),
            deaths: BTreeMap::new(),
            agent_deaths: 0,
            ended: None,
        }
    }

    /// What workers are.
    pub fn settings(&self) -> &Settings {
        self.primary.settings()
    }

    /// The cluster, to look at or to send messages with.
    pub fn primary(&mut self) -> &mut Primary {
        &mut self.primary
    }

    /// A worker by its id, also one that died until its death has been reported.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerInfo> {
        self.workers.get(&id).copied()
    }

    /// Ends the gang, after the [delay](Config::drain_delay): workers are asked to finish, then signalled, then killed. Called
    /// again, at once.
    pub fn stop(&mut self) {
        self.machine.handle(clock::now(), Input::Stop);
    }

    /// Replaces every worker by one of the program as [`Settings`] say it now, one
    /// [batch](Config::batch) after the other and without losing a connection. Asked for again meanwhile, it follows.
    pub fn reload(&mut self) {
        self.machine.handle(clock::now(), Input::Reload);
    }

    /// Whether clients should be sent here: every slot has been ready, one is now, and nobody has asked for the end.
    pub fn is_ready(&self) -> bool {
        self.machine.is_ready()
    }

    /// How many slots there are meant to be.
    pub fn slots(&self) -> u32 {
        self.machine.workers()
    }

    /// There are to be so many slots, at least one: new ones are filled at once, those above are given up.
    pub fn scale(&mut self, workers: u32) {
        self.machine.handle(clock::now(), Input::Scale(workers));
    }

    /// A slot gets no connections for now, or gets them again.
    pub fn pause(&mut self, slot: Slot, paused: bool) {
        self.machine.handle(clock::now(), Input::Pause(slot, paused));
    }

    /// Ends the gang at once.
    pub fn kill(&mut self) {
        self.machine.handle(clock::now(), Input::Kill);
    }

    /// The next report; none after [`Report::End`]. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Report> {
        match self.reported.take() {
            Some(Source::Worker(worker, _)) => drop(self.workers.remove(&worker)),
            Some(Source::Agent(agent)) => drop(self.agent_pids.remove(&agent)),
            None => {}
        }
        loop {
            self.perform();
            if let Some(report) = self.messages.pop_front().or_else(|| self.take_report()) {
                return Some(report);
            }
            if self.ended.is_some() && self.reports.is_empty() {
                return None;
            }
            let waits_until = self.waits_until;
            let closed = self.output.as_ref().filter(|_| waits_until.is_some()).map(Output::closed);
            let closed = async {
                match closed {
                    Some(closed) => closed.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.primary.event() => self.handle(event),
                () = clock::at(self.machine.poll_timeout()) => self.machine.handle_timeout(clock::now()),
                () = clock::at(self.vitals.next()) => self.look(),
                (worker, answer) = self.answers.next() => {
                    self.machine.handle(clock::now(), Input::Tried(worker, answer));
                }
                () = closed => {}
                () = clock::at(waits_until) => {}
            }
        }
    }

    /// The first report, once all that belongs to it is there. Meanwhile the gang goes on.
    fn take_report(&mut self) -> Option<Report> {
        let silent = |source| self.output.as_ref().is_none_or(|output| output.is_closed(source));
        let complete = match self.reports.front()? {
            Report::Notice { notice, .. } => dead(notice).is_none_or(|source| silent(Some(source))),
            // A descendant that nobody could kill may go on writing for ever.
            Report::End(_) => {
                silent(None) || self.ended.is_some_and(|since| clock::now() - since > LAST_OUTPUT)
            }
            _ => true,
        };
        if !complete {
            let ending = matches!(self.reports.front(), Some(Report::End(_)));
            let passed = self.output.as_ref().map_or(0, Output::progress);
            // At the end nothing comes after it: as long as somebody reads, all is passed on.
            if ending && std::mem::replace(&mut self.passed, passed) != passed {
                self.waits_until = None;
            }
            let patience = if ending { AT_THE_END } else { LAST_WORDS };
            if clock::now() < *self.waits_until.get_or_insert(clock::now() + patience) {
                return None;
            }
        }
        self.waits_until = None;
        let mut report = self.reports.pop_front()?;
        if let Report::Notice { death: Some(death), .. } = &mut report {
            self.reported = Some(death.who);
            if let Some(output) = &self.output {
                death.last_words = output.take_last_words(death.who);
            }
        }
        Some(report)
    }

    fn perform(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Start(slot, generation) => self.start(slot, generation),
                Action::Hint(worker) => self.primary.drain(worker),
                Action::Shed(worker, over) => self.primary.shed(worker, over),
                Action::Retire(worker) => self.primary.disconnect(worker),
                Action::RetireSlot(slot) => self.primary.retire_slot(slot),
                Action::Pause(slot, paused) => self.primary.pause_slot(slot, paused),
                Action::HoldBack(worker) => self.primary.hold_back(worker),
                Action::Admit(worker) => self.primary.admit(worker),
                Action::Try(worker, within) => self.try_out(worker, within),
                Action::Probe(worker) => self.probe(worker),
                // A worker that is gone needs neither.
                Action::Terminate(worker) => drop(self.primary.kill(worker, TERM)),
                Action::Kill(worker) => {
                    if let Some(info) = self.workers.get(&worker) {
                        self.vitals.killing(Source::Worker(worker, info.slot));
                    }
                    self.primary.kill_group(worker);
                }
                Action::Agent(action) => self.perform_on_agent(action),
                Action::CloseSockets => self.primary.close_sockets(),
                Action::ReplacementsDue(due) => self.primary.set_replacements_due(due),
                Action::Notice(notice) => {
                    self.revise(&notice);
                    let death = self.death(&notice).map(Box::new);
                    self.reports.push_back(Report::Notice { notice, death });
                }
                Action::End(verdict) => {
                    self.ended = Some(clock::now());
                    self.reports.push_back(Report::End(verdict));
                }
            }
        }
        self.vitals.forget_the_dead();
    }

    /// All that is known of a death, but for its last words, which may still be on their way.
    fn death(&mut self, notice: &Notice) -> Option<DeathReport> {
        let (age, cause) = match notice {
            Notice::Died { age, cause, .. } | Notice::Agent(AgentNotice::Died { age, cause, .. }) => {
                (*age, cause.clone())
            }
            Notice::ReloadFailed { unfit: Unfit::Died { age, cause }, .. }
            | Notice::NotRecycled { unfit: Unfit::Died { age, cause }, .. } => (*age, Cause::clone(cause)),
            _ => return None,
        };
        let who = dead(notice)?;
        let deaths = match who {
            Source::Worker(_, slot) => self.deaths.entry(slot).or_default(),
            Source::Agent(_) => &mut self.agent_deaths,
        };
        let before = *deaths;
        *deaths += 1;
        Some(DeathReport::new(who, age, cause, before, self.vitals.take(who)))
    }

    /// Looks at everybody, if it is time.
    fn look(&mut self) {
        if self.vitals.look() {
            let now = clock::now();
            for (worker, used) in self.vitals.memory() {
                self.machine.handle(now, Input::Memory(worker, used));
            }
        }
    }

    /// Who cannot be asked just now counts as one that answers.
    fn probe(&mut self, worker: WorkerId) {
        if !self.primary.can_probe(worker) || self.primary.probe(worker).is_err() {
            self.machine.handle(clock::now(), Input::Answered(worker));
        }
    }

    fn start(&mut self, slot: Slot, generation: Generation) {
        let input = match self.primary.fork_in(slot, generation) {
            Ok(info) => {
                let worker = info.id;
                self.workers.insert(worker, info);
                self.vitals.started(Source::Worker(worker, slot), info.pid);
                let streams = self.primary.take_output(worker);
                if let Some(output) = &self.output {
                    output.pass(Source::Worker(worker, slot), streams);
                }
                let channel = self.primary.has_channel(worker);
                let no_restart_codes = self.primary.settings().no_restart_codes(slot).to_vec();
                Input::Started { slot, worker, channel, no_restart_codes }
            }
            Err(error) => Input::StartFailed { slot, error: error.to_string() },
        };
        self.machine.handle(clock::now(), input);
    }
}

/// Whose end a notice tells.
fn dead(notice: &Notice) -> Option<Source> {
    match notice {
        Notice::Died { worker, slot, .. }
        | Notice::Left { worker, slot, .. }
        | Notice::ReloadFailed {
            who: Newcomer::Worker { worker: Some(worker), slot },
            unfit: Unfit::Died { .. },
            ..
        }
        | Notice::NotRecycled { heir: Some(worker), slot, unfit: Unfit::Died { .. }, .. } => {
            Some(Source::Worker(*worker, *slot))
        }
        Notice::Agent(AgentNotice::Died { agent, .. })
        | Notice::ReloadFailed { who: Newcomer::Agent(Some(agent)), unfit: Unfit::Died { .. }, .. } => {
            Some(Source::Agent(*agent))
        }
        _ => None,
    }
}
