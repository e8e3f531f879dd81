//! The primary's driver: performs what the machine decides, and tells it what happened.
//!
//! One loop owns the machine, every worker's session and every socket, so a connection takes one hop from
//! `accept` to `sendmsg`. All descriptors are watched by one [`Poller`], and all channels are read through
//! one buffer: an idle worker costs next to nothing. There is no decision in here that is not about
//! descriptors.

mod agent;
mod lane;
mod letters;
mod perform;
mod token;

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use ganger_proto::{
    Generation, Payload, Seq, Slot, SocketId, Time, WorkerId,
    cluster::{self as proto, Capabilities, Input, Snapshot},
    messenger::{Messenger, Party},
    node::{Act, ClusterMessage},
    session::{self, Fault, Limits},
};
use tokio::io::unix::AsyncFd;

use super::{
    Event, ForkError, Settings, WorkerFault, WorkerInfo, environment, orphans::Orphans, sockets::Socket,
};
use crate::{
    channel::{Flushed, LaneLink, Link, Message, READ_SIZE, SendError},
    clock,
    process::{Command, Exit, Process, Started, Stdio},
    sys::{
        fd::Reserve,
        poll::{Interest, Poller, Readiness},
        process, reap, watch,
    },
};

use token::Token;

/// So many turns of the loop come in a row, if there is always something to do.
const TURNS: u32 = 8;
/// So many connections are accepted before others have their turn.
const ACCEPTS: usize = 16;
/// A worker may leave so much unread before it is cut off.
const DEAF_AFTER: usize = 8 << 20;
/// A worker's channel is this descriptor in it, as in Node.
const CHANNEL: usize = 3;
const KILL: i32 = rustix::process::Signal::KILL.as_raw();

/// A cluster's primary: forks workers, owns their sockets, shares out connections.
///
/// It works while [`Primary::next`] is awaited. Dropped, it leaves its workers to the kernel, which kills
/// them.
#[derive(Debug)]
pub struct Primary {
    settings: Settings,
    machine: proto::Primary<OwnedFd>,
    workers: BTreeMap<WorkerId, Worker>,
    agent: Option<agent::Agent>,
    /// How many agents there have been.
    agents: u32,
    messenger: Messenger,
    sockets: BTreeMap<SocketId, Socket>,
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
    orphans: Orphans,
}

/// A worker's process and our end of its channel.
#[derive(Debug)]
struct Worker {
    info: WorkerInfo,
    process: Arc<Process>,
    /// The reading ends of its stdout and stderr, until somebody takes them.
    output: [Option<OwnedFd>; 2],
    link: Option<Link<Cargo>>,
    lane: Option<LaneEnd>,
    /// Whether the poller reports when its channel can be written.
    blocked: bool,
    exit: Option<Exit>,
}

/// Our end of a worker's native lane.
#[derive(Debug)]
struct LaneEnd {
    link: LaneLink,
    /// It has said that it speaks our version: from then on connections go here.
    agreed: bool,
    /// Whether the poller reports when it can be written.
    blocked: bool,
}

/// What travels to a worker.
#[derive(Debug)]
enum Cargo {
    Connection(OwnedFd),
    /// A socket of ours, which we keep.
    Socket(Arc<OwnedFd>),
}

impl AsFd for Cargo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Connection(fd) => fd.as_fd(),
            Self::Socket(fd) => fd.as_fd(),
        }
    }
}

/// What comes from a worker with a message of its own.
impl From<OwnedFd> for Cargo {
    fn from(fd: OwnedFd) -> Self {
        Self::Connection(fd)
    }
}

impl Primary {
    /// A primary without workers. Needs a tokio runtime.
    ///
    /// # Errors
    /// If descriptors have run out.
    pub fn new(settings: Settings) -> io::Result<Self> {
        // Ignored, as some parents leave it, it would keep every exit status from us.
        reap::heed_children()?;
        Ok(Self {
            machine: proto::Primary::new(settings.policy),
            settings,
            workers: BTreeMap::new(),
            agent: None,
            agents: 0,
            messenger: Messenger::new(std::process::id().cast_signed(), clock::seed()),
            sockets: BTreeMap::new(),
            poller: watch::watch(Poller::new()?, tokio::io::Interest::READABLE)?,
            readiness: Vec::new(),
            buffer: vec![0; READ_SIZE].into(),
            json: Vec::new(),
            reserve: Reserve::new()?,
            dirty: Vec::new(),
            events: VecDeque::new(),
            turns: 0,
            orphans: Orphans::new()?,
        })
    }

    /// What workers are, for those that are forked from now on. The policy is fixed from the start, as in
    /// Node.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The state of the cluster now.
    pub fn snapshot(&self) -> Snapshot {
        self.machine.snapshot()
    }

    /// The workers that have not been reaped.
    pub fn workers(&self) -> impl Iterator<Item = WorkerInfo> + '_ {
        self.workers.values().filter(|worker| worker.exit.is_none()).map(|worker| worker.info)
    }

    /// A worker by its id, until it is reaped.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerInfo> {
        self.workers.get(&id).map(|worker| worker.info)
    }

    /// Starts a worker in the lowest slot that nobody holds.
    ///
    /// # Errors
    /// If its process cannot be started; then there is no new worker.
    pub fn fork(&mut self) -> Result<WorkerInfo, ForkError> {
        let taken = |slot| self.workers.values().any(|worker| worker.info.slot == slot);
        let free = (0..).map(Slot).find(|slot| !taken(*slot)).unwrap_or(Slot(0));
        self.fork_in(free, Generation::default())
    }

    /// Starts a worker of a generation in a slot: of the slot's group, where there are [groups](Settings::groups).
    ///
    /// # Errors
    /// If its process cannot be started; then there is no new worker.
    pub fn fork_in(&mut self, slot: Slot, generation: Generation) -> Result<WorkerInfo, ForkError> {
        let channel = self.settings.launch(slot).channel;
        let id = self.machine.fork(slot, generation, channel);
        match self.start(id, slot, generation) {
            Ok(info) => {
                self.events.push_back(Event::Fork { worker: info });
                Ok(info)
            }
            Err(error) => {
                self.machine.fork_failed(id);
                Err(error)
            }
        }
    }

    fn start(&mut self, id: WorkerId, slot: Slot, generation: Generation) -> Result<WorkerInfo, ForkError> {
        let settings = &self.settings;
        let launch = settings.launch(slot);
        let mut command = Command::new(launch.program);
        command.args(launch.args.iter().cloned());
        command.guarded(true).stdin(Stdio::Inherit);
        command.stdout(settings.output.clone()).stderr(settings.output.clone());
        if launch.channel {
            command.descriptor(CHANNEL, Stdio::Ipc).serialization(launch.serialization);
            command.lane(launch.lane && !is_runtime(launch.program));
        }
        for (name, value) in environment::of_worker(settings, &launch, id, slot) {
            command.env(name, value);
        }
        if let Some(cwd) = launch.cwd {
            command.cwd(cwd);
        }
        let Started { process, mut ends, channel, lane, .. } = command.start()?;
        let info = WorkerInfo { id, slot, generation, pid: process.pid(), group: launch.group };
        let limits = Limits { validate: true, queue: DEAF_AFTER, ..Limits::default() };
        let link = channel.map(|socket| Link::new(socket, launch.serialization, limits)).transpose();
        let watched = link.and_then(|link| {
            self.poller.get_ref().add(&**process.pidfd(), Token::Process(id).into(), Interest::Read)?;
            if let Some(link) = &link {
                self.poller.get_ref().add(link, Token::Channel(id).into(), Interest::Read)?;
            }
            let lane =
                lane.map(|socket| LaneEnd { link: LaneLink::new(socket), agreed: false, blocked: false });
            if let Some(lane) = &lane {
                self.poller.get_ref().add(&lane.link, Token::Lane(id).into(), Interest::Read)?;
            }
            Ok((link, lane))
        });
        // Nobody would see what it says or that it ends.
        let (link, lane) = match watched {
            Ok(watched) => watched,
            Err(error) => {
                process.end();
                return Err(command.failed(error).into());
            }
        };
        if link.is_some() {
            self.messenger.worker_joined(id, slot, info.pid);
        }
        let output = [1, 2].map(|number| ends.get_mut(number).and_then(Option::take));
        self.workers.insert(id, Worker { info, process, output, link, lane, blocked: false, exit: None });
        Ok(info)
    }

    /// Whether a worker has an open channel.
    pub(crate) fn has_channel(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.link.is_some())
    }

    /// The reading ends of a worker's stdout and stderr, once, if [`Settings::output`] is a pipe.
    pub(crate) fn take_output(&mut self, id: WorkerId) -> [Option<OwnedFd>; 2] {
        self.workers.get_mut(&id).map(|worker| std::mem::take(&mut worker.output)).unwrap_or_default()
    }

    /// Sends a worker a message. `Ok(false)` means that it is slow to read.
    ///
    /// # Errors
    /// [`SendError`], with the reason.
    pub fn send<T: serde::Serialize + ?Sized>(
        &mut self,
        id: WorkerId,
        message: &T,
    ) -> Result<bool, SendError> {
        let link = self.workers.get_mut(&id).and_then(|worker| worker.link.as_mut());
        let link = link.ok_or(SendError::closed(None))?;
        let (payload, _) = SendError::check(Payload::of(link.session.serialization(), message), None)?;
        let flow = link.session.send(&payload, None);
        let flow = flow.map_err(|error| SendError::Refused { reason: error.reason, handle: None })?;
        self.dirty.push(id);
        Ok(flow == session::Flow::Ready)
    }

    /// Takes a worker out of dispatch and asks it to finish and leave: Node's `worker.disconnect()`.
    pub fn disconnect(&mut self, id: WorkerId) {
        self.messenger.worker_leaves(id);
        self.machine.disconnect(clock::now(), id);
    }

    /// Sends a worker's process a signal: Node's `worker.kill()`. `false` if there is no such process.
    pub fn kill(&self, id: WorkerId, signal: i32) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.process.kill(signal).is_ok())
    }

    /// Kills a worker with its process group, at once.
    pub fn kill_group(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.process.kill_all(KILL).is_ok())
    }

    /// Whether somebody is about to fill a vacant slot. While it is so, sockets that nobody holds stay open
    /// for the newcomer; otherwise they are closed half a second after their last holder has gone.
    pub fn set_replacements_due(&mut self, due: bool) {
        self.machine.set_replacements_due(clock::now(), due);
    }

    /// Stops listening everywhere. What the kernel has completed by now is still shared out.
    pub fn close_sockets(&mut self) {
        self.machine.close_sockets();
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
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            tokio::select! {
                biased;
                ready = self.poller.readable() => match ready {
                    Ok(mut ready) => {
                        // A poller without news must be seen once, or its next news would not wake us.
                        if ready.get_inner().wait(&mut self.readiness).is_err() || self.readiness.is_empty() {
                            ready.clear_ready();
                        }
                    }
                    // The runtime is going down: so is whoever waits for us.
                    Err(_) => std::future::pending().await,
                },
                () = clock::at(self.timeout()) => self.handle_timeout(),
                () = self.orphans.due() => {
                    self.orphans.look();
                }
            }
            self.handle_readiness();
        }
    }

    fn timeout(&self) -> Option<Time> {
        let paused = self.sockets.values().filter_map(|socket| socket.paused_until);
        self.machine.poll_timeout().into_iter().chain(paused).min()
    }

    fn handle_timeout(&mut self) {
        let now = clock::now();
        for (id, socket) in &mut self.sockets {
            if socket.paused_until.take_if(|until| *until <= now).is_some() && socket.accepting {
                // What cannot be watched any more is looked at when its socket changes.
                let _ = self.poller.get_ref().modify(&*socket, Token::Socket(*id).into(), Interest::Read);
            }
        }
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
                Token::Socket(id) => self.accept(id),
            }
            self.perform();
        }
        self.readiness = readiness;
    }

    fn accept(&mut self, id: SocketId) {
        let now = clock::now();
        for _ in 0..ACCEPTS {
            let Some(socket) = self.sockets.get_mut(&id).filter(|socket| socket.accepting) else { return };
            let connection = socket.accept(&mut self.reserve, now);
            let paused = socket.paused_until.is_some();
            if paused {
                // Level-triggered, it would wake us without end.
                let _ = self.poller.get_ref().modify(&*socket, Token::Socket(id).into(), Interest::None);
            }
            let Some(connection) = connection else { return };
            self.machine.handle(now, Input::Accepted { socket: id, connection });
            if paused {
                return;
            }
        }
    }

    /// Reads a worker's channel and tells the machine what it says.
    fn receive(&mut self, id: WorkerId) {
        let Some(link) = self.workers.get_mut(&id).and_then(|worker| worker.link.as_mut()) else { return };
        link.receive(&mut self.buffer);
        self.hear(id);
    }

    fn hear(&mut self, id: WorkerId) {
        let now = clock::now();
        while let Some(worker) = self.workers.get_mut(&id) {
            let info = worker.info;
            let Some(event) = worker.link.as_mut().and_then(|link| link.session.poll_event()) else { break };
            match event {
                session::Event::Cluster { message, .. } => self.handle_cluster(now, info, message),
                session::Event::Message { payload, handle } => {
                    if self.take_letter(Party::Worker(id), &payload, handle.is_some()) {
                        continue;
                    }
                    let handle = handle.and_then(|(_, cargo)| match cargo {
                        Cargo::Connection(fd) => Some(fd),
                        Cargo::Socket(_) => None,
                    });
                    let message = Message::new(payload, handle);
                    // What the worker said before comes before.
                    self.perform_effects();
                    self.events.push_back(Event::Message { worker: info, message });
                }
                session::Event::Delivered { tag, handle: Cargo::Connection(connection) } => {
                    self.machine.handle(now, Input::Delivered { worker: id, seq: Seq(tag), connection });
                }
                session::Event::Returned { tag, handle: Cargo::Connection(connection) } => {
                    self.machine.handle(now, Input::Returned { worker: id, seq: Seq(tag), connection });
                }
                session::Event::Fault(fault) => {
                    self.perform_effects();
                    self.fault(info, WorkerFault::Wire(fault));
                }
                session::Event::Disconnected => {
                    self.close_channel(now, id);
                    return;
                }
                // Our own socket, delivered or not: we have it still.
                _ => {}
            }
        }
        // ACKs wait to be written.
        self.dirty.push(id);
    }

    fn handle_cluster(&mut self, now: Time, info: WorkerInfo, message: ClusterMessage) {
        if let Act::Online { ganger: None } = message.act
            && is_node(info.pid)
        {
            self.machine.set_capabilities(now, info.id, Capabilities::NODE);
        }
        self.machine.handle(now, Input::Message { worker: info.id, message });
    }

    fn fault(&mut self, worker: WorkerInfo, fault: WorkerFault) {
        self.events.push_back(Event::Fault { worker, fault });
    }

    fn close_channel(&mut self, now: Time, id: WorkerId) {
        // What it answered before is there already.
        self.receive_lane(id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(mut link) = worker.link.take() else { return };
        let _ = self.poller.get_ref().remove(&link);
        self.messenger.gone(Party::Worker(id));
        let connections = link.session.take_undelivered().filter_map(|(tag, cargo)| match cargo {
            Cargo::Connection(connection) => Some((Seq(tag), connection)),
            Cargo::Socket(_) => None,
        });
        let mut undelivered: Vec<(Seq, OwnedFd)> = connections.collect();
        if let Some(mut lane) = worker.lane.take() {
            let _ = self.poller.get_ref().remove(&lane.link);
            undelivered.extend(lane.link.take_connections().map(|(_, seq, connection)| (seq, connection)));
        }
        self.machine.handle(now, Input::ChannelClosed { worker: id, undelivered });
    }

    /// A worker's process has ended. What it wrote before is still in its channel: that comes first.
    fn reap(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Ok(Some(exit)) = worker.process.try_wait() else { return };
        let _ = self.poller.get_ref().remove(&**worker.process.pidfd());
        worker.exit = Some(exit);
        // All that the dead process wrote is there already. What a descendant that inherited the channel
        // still writes is nobody's word.
        let mut left = worker.link.as_ref().map_or(0, Link::unread);
        while let Some(link) = self.workers.get_mut(&id).and_then(|worker| worker.link.as_mut()) {
            match link.receive(&mut self.buffer) {
                read if read > 0 && read < left => left -= read,
                _ => link.session.handle_eof(),
            }
            self.hear(id);
        }
        self.machine.handle(clock::now(), Input::Exited { worker: id });
    }

    fn flush(&mut self) {
        self.flush_agent();
        while let Some(id) = self.dirty.pop() {
            // First what is told of a socket, then the connections that come from it.
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            let Some(link) = worker.link.as_mut() else { continue };
            let blocked = link.flush() == Flushed::Blocked;
            if blocked != worker.blocked {
                worker.blocked = blocked;
                let interest = if blocked { Interest::ReadWrite } else { Interest::Read };
                let _ = self.poller.get_ref().modify(&*link, Token::Channel(id).into(), interest);
            }
            self.flush_lane(id);
        }
    }
}

/// Whether the process is a real Node, whose receiver is known to take several hand-offs at once.
fn is_node(pid: i32) -> bool {
    let executable = process::executable(pid);
    let name = executable.as_deref().and_then(|path| path.file_name());
    name.is_some_and(|name| name == "node" || name == "nodejs")
}

/// Whether a program is a JavaScript runtime, which has no lane.
fn is_runtime(program: &OsStr) -> bool {
    let name = Path::new(program).file_stem().and_then(OsStr::to_str);
    name.is_some_and(|name| ["node", "nodejs", "bun", "deno"].contains(&name))
}

/// A worker that does not read what it is sent.
fn deaf() -> WorkerFault {
    WorkerFault::Wire(Fault::Deaf { bytes: DEAF_AFTER })
}
