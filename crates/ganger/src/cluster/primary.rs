//! The primary's driver: performs what the machine decides, and tells it what happened.
//!
//! One loop owns the machine, every worker's session and every socket, so a connection takes one hop from
//! `accept` to `sendmsg`. All descriptors are watched by one [`Poller`], and all channels are read through
//! one buffer: an idle worker costs next to nothing. There is no decision in here that is not about
//! descriptors.

mod accept;
mod agent;
mod hearing;
mod lane;
mod letters;
mod life;
mod notify;
mod peek;
mod perform;
mod ports;
mod private;
mod start;
mod survey;
mod token;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use ganger_proto::{
    Slot, SocketId, Time, WorkerId,
    cluster::{self as proto, Snapshot},
    messenger::Messenger,
    session::Fault,
};
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, oneshot},
};

use peek::Peeks;
use ports::Port;
use survey::Survey;

use super::{Event, Settings, WorkerFault, WorkerInfo, orphans::Orphans, place::Place, sockets::Socket};
use crate::{
    channel::{Flushed, Link, Pace, Patience, READ_SIZE},
    clock,
    process::abandon,
    sys::{
        fd::Reserve,
        poll::{Interest, Poller, Readiness},
        process, reap, watch,
    },
};

pub use worker::WorkerHandle;

use token::Token;
use worker::{Cargo, Worker};

/// So many turns of the loop come in a row, if there is always something to do.
const TURNS: u32 = 8;
/// So much is done for others in a row.
const CALLS: usize = 64;
/// So many bytes of its users' messages may wait for a worker or the agent: more is refused.
const QUEUE: usize = 8 << 20;
/// A worker may leave so much unread before it is cut off. Users' messages alone do not bring it there.
const DEAF_AFTER: usize = 2 * QUEUE;

/// A cluster's primary: forks workers, owns their sockets, shares out connections.
///
/// It works while [`Primary::next`] is awaited. Dropped, it kills its workers and its agent with all that they have
/// started: whoever wants them to finish [asks](Self::disconnect_all) them to leave, and waits until they have.
#[derive(Debug)]
pub struct Primary {
    settings: Arc<Settings>,
    place: Place,
    /// Nothing more is to lie there: something could not be put there.
    place_is_refused: bool,
    /// How long workers are told that they may be silent.
    watchdog: Option<Duration>,
    /// Whether the settings have been told of.
    is_set_up: bool,
    machine: proto::Primary<OwnedFd>,
    workers: BTreeMap<WorkerId, Worker>,
    agent: Option<agent::Agent>,
    /// How many agents there have been.
    agents: u32,
    messenger: Messenger,
    sockets: BTreeMap<SocketId, Socket>,
    /// Those that may be waiting for descriptors.
    short: BTreeSet<SocketId>,
    poller: AsyncFd<Poller>,
    readiness: Vec<Readiness>,
    buffer: Box<[u8]>,
    /// Where messages are written before they go into a session.
    json: Vec<u8>,
    reserve: Reserve,
    /// Workers with something to write.
    dirty: Vec<WorkerId>,
    events: VecDeque<Event>,
    /// Turns of the loop since others had theirs.
    turns: u32,
    /// All that the poller had was dealt with: its next news wakes us.
    drained: bool,
    pace: Pace,
    patience: Patience,
    /// So much was said about sockets and connections in this turn.
    answers: u32,
    orphans: Orphans,
    /// What others want of it, from their own tasks.
    calls: mpsc::UnboundedSender<Call>,
    called: mpsc::UnboundedReceiver<Call>,
    /// So many inspectors got a port of their own.
    inspected: u16,
    /// Who waits until there is no worker.
    waiting: Vec<oneshot::Sender<()>>,
    peeks: Peeks,
    survey: Survey,
    ports: Vec<Port>,
}

impl Drop for Primary {
    fn drop(&mut self) {
        for worker in self.workers.values() {
            abandon(&worker.process);
            life::lock(&worker.life).abandoned();
        }
        if let Some(agent) = &self.agent {
            abandon(&agent.process);
        }
    }
}

/// What somebody wants of a primary.
pub(super) type Call = Box<dyn FnOnce(&mut Primary) + Send>;

impl Primary {
    /// A primary without workers. Needs a tokio runtime.
    ///
    /// # Errors
    /// If descriptors have run out.
    pub fn new(settings: Settings) -> io::Result<Self> {
        // Ignored, as some parents leave it, it would keep every exit status from us.
        reap::heed_children()?;
        let (calls, called) = mpsc::unbounded_channel();
        Ok(Self {
            machine: proto::Primary::new(settings.policy.clone()),
            settings: Arc::new(settings),
            place: Place::default(),
            place_is_refused: false,
            watchdog: None,
            is_set_up: false,
            workers: BTreeMap::new(),
            agent: None,
            agents: 0,
            messenger: Messenger::new(std::process::id().cast_signed(), clock::seed()),
            sockets: BTreeMap::new(),
            short: BTreeSet::new(),
            poller: watch::watch(Poller::new()?, tokio::io::Interest::READABLE)?,
            readiness: Vec::new(),
            buffer: vec![0; READ_SIZE].into(),
            json: Vec::new(),
            reserve: Reserve::new()?,
            dirty: Vec::new(),
            events: VecDeque::new(),
            turns: 0,
            drained: true,
            pace: Pace::default(),
            patience: Patience::default(),
            answers: 0,
            orphans: Orphans::new()?,
            calls,
            called,
            inspected: 0,
            waiting: Vec::new(),
            peeks: Peeks::default(),
            survey: Survey::default(),
            ports: Vec::new(),
        })
    }

    /// What workers are: Node's `cluster.settings`.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sets what workers are, for those that are forked from now on, and tells it as [`Event::Setup`]: Node's
    /// `cluster.setupPrimary()`. The policy is fixed from the first setup or fork on, as in Node: later it stays what it is.
    pub fn setup(&mut self, change: impl FnOnce(&mut Settings)) {
        let settings = Arc::make_mut(&mut self.settings);
        let policy = settings.policy.clone();
        change(settings);
        if self.is_set_up {
            settings.policy = policy;
        } else {
            self.machine.set_policy(settings.policy.clone());
        }
        self.tell_setup();
    }

    fn tell_setup(&mut self) {
        self.is_set_up = true;
        self.events.push_back(Event::Setup { settings: self.settings.clone() });
    }

    /// The state of the cluster now.
    pub fn snapshot(&self) -> Snapshot {
        self.machine.snapshot()
    }

    /// Whether somebody is about to fill a vacant slot. While it is so, sockets that nobody holds stay open
    /// for the newcomer; otherwise they are closed half a second after their last holder has gone.
    pub fn set_replacements_due(&mut self, due: bool) {
        self.machine.set_replacements_due(clock::now(), due);
    }

    /// The slot is not to be filled again, unless somebody forks a worker into it all the same. Where each slot has a
    /// socket of its own, new connections are led past it from now on, and once its worker has left, what still waits
    /// there goes to the others.
    pub fn retire_slot(&mut self, slot: Slot) {
        self.machine.retire_slot(clock::now(), slot);
    }

    /// A slot gets no connections for now, whoever fills it, or gets them again. Where all workers accept from one socket
    /// (`shared`) the kernel gives them to whom it likes, and nothing changes.
    pub fn pause_slot(&mut self, slot: Slot, paused: bool) {
        self.machine.pause_slot(clock::now(), slot, paused);
    }

    /// Takes a worker out of dispatch, before it is [asked to leave](Self::disconnect).
    pub fn withdraw(&mut self, id: WorkerId) {
        self.messenger.worker_leaves(id);
        self.machine.withdraw(clock::now(), id);
    }

    /// Whether the worker can be [asked](Self::probe): it has a channel, and nobody debugs it: it is not traced (`ptrace`), and no
    /// Node that was started with an inspector.
    pub fn can_probe(&self, id: WorkerId) -> bool {
        let traced = |pid| process::is_traced(pid).unwrap_or(false);
        let debugged = |worker: &Worker| worker.is_inspected || traced(worker.info.pid);
        self.machine.can_probe(id) && self.workers.get(&id).is_some_and(|worker| !debugged(worker))
    }

    /// Asks a worker whether it is there. The answer is [`Event::Probed`]. A Node and a worker of this library answer from their
    /// event loops; of any other the answer for the oldest connection that it was handed is waited for, if there is one.
    ///
    /// # Errors
    /// If descriptors have run out.
    pub fn probe(&mut self, id: WorkerId) -> io::Result<()> {
        // A Node dies of a question without a connection.
        let (theirs, _ours) = std::os::unix::net::UnixStream::pair()?;
        self.machine.probe(clock::now(), id, theirs.into());
        Ok(())
    }

    /// Stops listening everywhere. What the kernel has completed by now is still shared out.
    pub fn close_sockets(&mut self) {
        self.machine.close_sockets();
        // Before anybody is told to leave: it is still here to take its share.
        self.perform_effects();
    }

    /// Whoever wants something of this primary says so here.
    pub(super) fn calls(&self) -> mpsc::UnboundedSender<Call> {
        self.calls.clone()
    }

    /// Resolves when no worker is left, also at once, as long as somebody drives the primary.
    pub(super) fn gone(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let (sender, gone) = oneshot::channel();
        if !self.workers.is_empty() {
            self.waiting.push(sender);
        }
        // Dropped, it says so too.
        async move { drop(gone.await) }
    }

    /// The next event; none when there is no worker left, no agent and nothing more to tell. Can be dropped and
    /// called again.
    pub async fn next(&mut self) -> Option<Event> {
        self.perform();
        if self.workers.is_empty() && self.agent.is_none() && self.events.is_empty() {
            None
        } else {
            Some(self.event().await)
        }
    }

    /// The next event, waiting for one also while there is no worker. Can be dropped and called again.
    pub async fn event(&mut self) -> Event {
        loop {
            // Whoever keeps us busy must not keep the signals and the clock from being seen.
            self.turns = (self.turns + 1) % TURNS;
            if self.turns == 0 {
                tokio::task::yield_now().await;
            }
            if self.timeout().is_some_and(|moment| moment <= clock::now()) {
                self.handle_timeout();
            }
            self.perform();
            for _ in 0..CALLS {
                let Ok(call) = self.called.try_recv() else { break };
                call(self);
                self.perform();
            }
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let timeout = self.timeout();
            let since = clock::now();
            let mut turn = None;
            tokio::select! {
                biased;
                ready = self.poller.readable() => match ready {
                    Ok(mut ready) => {
                        // Workers on our CPU get more done if they are given several connections at once, and as long as they
                        // have some the next is in no hurry. What is there by then is all dealt with before we wait again, so
                        // that strangers on our CPU cost us one turn each.
                        let now = clock::now();
                        let flood = self.pace.is_flood(Some(now - since)) || self.machine.is_ahead();
                        let flood = flood && self.patience.allows(now);
                        let mut yielded = flood && self.drained;
                        if yielded {
                            std::thread::yield_now();
                        }
                        // A poller without news must be seen once, or its next news would not wake us.
                        let poller = ready.get_inner();
                        let mut news = poller.wait(&mut self.readiness).is_ok() && !self.readiness.is_empty();
                        if !news && flood {
                            // Asleep, we would be woken, in the place of a worker, by the first of its answers.
                            std::thread::yield_now();
                            yielded = true;
                            news = poller.wait(&mut self.readiness).is_ok() && !self.readiness.is_empty();
                        }
                        turn = yielded.then(|| (now, clock::now()));
                        self.drained = !news;
                        if !news {
                            ready.clear_ready();
                        }
                    }
                    // The runtime is going down: so is whoever waits for us.
                    Err(_) => std::future::pending().await,
                },
                Some(call) = self.called.recv() => call(self),
                () = clock::at(timeout) => self.handle_timeout(),
                () = self.orphans.due() => {
                    self.orphans.look();
                }
            }
            self.answers = 0;
            self.handle_readiness();
            if let Some((since, now)) = turn {
                self.patience.handle_return(since, now, self.answers);
            }
            self.plan_survey();
        }
    }

    fn timeout(&self) -> Option<Time> {
        let paused = self.accepting_timeout();
        let all = [self.machine.poll_timeout(), self.peeks.timeout(), self.survey.timeout(), paused];
        all.into_iter().flatten().min()
    }

    fn handle_timeout(&mut self) {
        let now = clock::now();
        self.accept_again(now);
        self.end_peeks(now);
        self.look_around(now);
        self.machine.handle_timeout(now);
    }

    fn handle_readiness(&mut self) {
        let mut readiness = std::mem::take(&mut self.readiness);
        for ready in readiness.drain(..) {
            match Token::from(ready.token) {
                Token::Channel(id) => {
                    if ready.writable {
                        self.dirty.push(id);
                    }
                    if ready.readable || ready.hangup {
                        self.receive(id);
                    }
                }
                Token::Lane(id) => {
                    if ready.writable {
                        self.dirty.push(id);
                    }
                    if ready.readable || ready.hangup {
                        self.receive_lane(id);
                    }
                }
                Token::Process(id) => self.reap(id),
                Token::AgentChannel(_) => {
                    if ready.writable {
                        self.agent.iter_mut().for_each(|agent| agent.dirty = true);
                    }
                    if ready.readable || ready.hangup {
                        self.receive_agent();
                    }
                }
                Token::AgentProcess(_) => self.reap_agent(),
                Token::Notify(id) => self.receive_notifications(id),
                Token::AgentNotify(_) => self.receive_agents_notifications(),
                Token::Socket(id) => self.accept(id),
                Token::Peek(number) => self.peek_again(number),
            }
            self.perform();
        }
        self.readiness = readiness;
    }

    fn flush(&mut self) {
        self.flush_agent();
        while let Some(id) = self.dirty.pop() {
            // First what is told of a socket, then the connections that come from it.
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            let Some(link) = worker.link.as_mut() else { continue };
            let blocked = link.flush() == Flushed::Blocked;
            life::lock(&worker.life).set_queued(link.session.queued());
            if blocked != worker.blocked {
                worker.blocked = blocked;
                let interest = if blocked { Interest::ReadWrite } else { Interest::Read };
                let _ = self.poller.get_ref().modify(&*link, Token::Channel(id).into(), interest);
            }
            self.flush_lane(id);
        }
    }
}

/// A worker that does not read what it is sent.
fn deaf() -> WorkerFault {
    WorkerFault::Wire(Fault::Deaf { bytes: DEAF_AFTER })
}
