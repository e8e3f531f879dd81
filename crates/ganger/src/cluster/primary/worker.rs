//! A worker as its primary has it: its process, our end of its channel, and what others hold of it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex},
    time::Duration,
};

use ganger_proto::{
    Generation, Payload, Serialization, Slot, WorkerId,
    cluster::{Held, WorkerState},
    node::{HandleKind, hints::Report},
    session::{Flow, SendErrorReason},
};
use tokio::sync::mpsc;

use super::{
    Call, Primary,
    life::{Life, lock},
    notify::NotifySocket,
};
use crate::{
    channel::{LaneLink, Link, Message, SendError, attachment},
    clock,
    cluster::WorkerInfo,
    handle::{Handle, Lease},
    process::{Exit, Killer, Process, Streams},
};

pub(super) const KILL: i32 = rustix::process::Signal::KILL.as_raw();
const TERM: i32 = rustix::process::Signal::TERM.as_raw();

/// A worker's process and our end of its channel.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) info: WorkerInfo,
    pub(super) process: Arc<Process>,
    pub(super) link: Option<Link<Cargo>>,
    pub(super) lane: Option<LaneEnd>,
    pub(super) notify: Option<NotifySocket>,
    /// Whether it is a Node that may stand at a breakpoint.
    pub(super) is_inspected: bool,
    /// Whether the poller reports when its channel can be written.
    pub(super) blocked: bool,
    pub(super) exit: Option<Exit>,
    /// What it had of connections when its channel closed.
    pub(super) held: Held,
    pub(super) life: Arc<Mutex<Life>>,
}

/// Our end of a worker's native lane.
#[derive(Debug)]
pub(super) struct LaneEnd {
    pub(super) link: LaneLink,
    /// It has said that it speaks our version: from then on connections go here.
    pub(super) agreed: bool,
    /// Whether the poller reports when it can be written.
    pub(super) blocked: bool,
}

/// What travels to a worker.
#[derive(Debug)]
pub(super) enum Cargo {
    /// Counted by the machine.
    Connection(OwnedFd),
    /// A socket of ours, which we keep.
    Socket(Arc<OwnedFd>),
    /// With a message of a user's; nobody else's business.
    User(OwnedFd),
}

impl Cargo {
    /// What travels with a user's message.
    pub(super) fn into_users(self) -> Option<OwnedFd> {
        match self {
            Self::User(fd) => Some(fd),
            Self::Connection(_) | Self::Socket(_) => None,
        }
    }
}

impl AsFd for Cargo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Connection(fd) | Self::User(fd) => fd.as_fd(),
            Self::Socket(fd) => fd.as_fd(),
        }
    }
}

/// What comes from a worker comes with a message of its own.
impl From<OwnedFd> for Cargo {
    fn from(fd: OwnedFd) -> Self {
        Self::User(fd)
    }
}

/// A worker, to be kept and used from anywhere, also when it is dead: Node's `Worker` in the primary. Cheap to clone. What
/// is asked of it is done by whoever drives the [`Primary`], in the order of the calls.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    info: WorkerInfo,
    process: Arc<Process>,
    serialization: Serialization,
    life: Arc<Mutex<Life>>,
    calls: mpsc::UnboundedSender<Call>,
}

impl WorkerHandle {
    /// Which worker.
    pub fn info(&self) -> WorkerInfo {
        self.info
    }

    /// Its number, never used again.
    pub fn id(&self) -> WorkerId {
        self.info.id
    }

    /// Its place in the gang.
    pub fn slot(&self) -> Slot {
        self.info.slot
    }

    /// The state of the program that it was started from.
    pub fn generation(&self) -> Generation {
        self.info.generation
    }

    /// Its process, to be signalled: Node's `worker.process.kill()`, and its number.
    pub fn process(&self) -> Killer {
        Killer::of(self.process.clone())
    }

    /// Our ends of its pipes, once, also when it has ended: what it has written until then can still be read. They stay open until
    /// they are taken or the last handle of it is dropped.
    ///
    /// # Errors
    /// If they cannot be watched; then they are closed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn take_streams(&self) -> io::Result<Streams> {
        let ends = std::mem::take(&mut lock(&self.life).ends);
        Streams::of(ends)
    }

    /// Node's `worker.state`.
    pub fn state(&self) -> WorkerState {
        let state = lock(&self.life).state();
        // Of one that was killed with its primary nobody else tells.
        let is_dead = state == WorkerState::Disconnected && self.process.is_reaped();
        if is_dead { WorkerState::Dead } else { state }
    }

    /// Whether its channel is open: from the start on, long before it is online.
    pub fn is_connected(&self) -> bool {
        lock(&self.life).is_connected()
    }

    /// Whether it has ended and is reaped.
    pub fn is_dead(&self) -> bool {
        self.state() == WorkerState::Dead
    }

    /// Whether it goes, or went, of its own accord or because it was asked to disconnect; none as long as neither is
    /// known.
    pub fn exited_after_disconnect(&self) -> Option<bool> {
        lock(&self.life).exited_after_disconnect()
    }

    /// Sends it a message. `Ok(false)` means that it is slow to read, and whoever can wait should: with this message 128 KiB or
    /// more, which is Node's mark, wait for it, in the primary and beyond what the kernel holds.
    ///
    /// # Errors
    /// [`SendError`]: the value cannot be written, the channel is closed, or it would be more than 8 MiB that wait
    /// ([`QueueFull`](SendErrorReason::QueueFull)): then it is not sent, and the worker is not blamed. What becomes known later (the
    /// worker ends before it reads it) is nobody's error, as in Node.
    pub fn send<T: serde::Serialize + ?Sized>(&self, message: &T) -> Result<bool, SendError> {
        self.send_with(message, None)
    }

    /// The same, with a socket that travels with the message. If it does not arrive, it comes back as
    /// [`Event::Undelivered`](super::super::Event::Undelivered).
    ///
    /// # Errors
    /// As [`WorkerHandle::send`]; the socket comes back in the error.
    pub fn send_with<T: serde::Serialize + ?Sized>(
        &self,
        message: &T,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        let (payload, handle) = SendError::check(Payload::of(self.serialization, message), handle)?;
        let size = payload.as_bytes().len();
        {
            let mut life = lock(&self.life);
            if !life.is_connected() || self.calls.is_closed() {
                return Err(SendError::closed(handle));
            }
            if !life.has_room(size) {
                return Err(SendError::Refused { reason: SendErrorReason::QueueFull, handle });
            }
            life.promise(size);
        }
        let (id, life) = (self.info.id, self.life.clone());
        let call = move |primary: &mut Primary| {
            lock(&life).keep(size);
            primary.post_late(id, &payload, handle);
        };
        // Whoever drives the primary may just have dropped it: then the worker is gone, too.
        let _ = self.calls.send(Box::new(call));
        Ok(!lock(&self.life).is_slow())
    }

    /// Takes it out of dispatch and has its clients go: see [`Primary::drain`].
    pub fn drain(&self) {
        let id = self.info.id;
        // Without a primary its channel is closed.
        let _ = self.calls.send(Box::new(move |primary| primary.drain(id)));
    }

    /// Has it end the connections that it still has, over this time: see [`Primary::shed`].
    pub fn shed(&self, over: Duration) {
        let id = self.info.id;
        // Without a primary its channel is closed.
        let _ = self.calls.send(Box::new(move |primary| primary.shed(id, over)));
    }

    /// Takes it out of dispatch and asks it to close its servers, finish and leave: Node's `worker.disconnect()`. It
    /// takes as long as it takes.
    pub fn disconnect(&self) {
        lock(&self.life).asked();
        let id = self.info.id;
        // Without a primary its channel is closed.
        let _ = self.calls.send(Box::new(move |primary| primary.disconnect(id)));
    }

    /// Closes its channel once all that waits is written: Node's `worker.process.disconnect()`. A worker that was not
    /// asked to leave takes it for the primary's death, and ends at once.
    pub fn close_channel(&self) {
        let id = self.info.id;
        // Without a primary it is closed.
        let _ = self.calls.send(Box::new(move |primary| primary.close_channel_of(id)));
    }

    /// Sends its process a signal, at once: Node's `worker.kill()` in the primary, which is no disconnect. `false` if
    /// it has ended or the signal is none.
    pub fn kill(&self, signal: i32) -> bool {
        self.process.kill(signal).is_ok()
    }

    /// Sends it `SIGTERM`: Node's `worker.destroy()`. Harmless when it has ended.
    pub fn destroy(&self) -> bool {
        self.kill(TERM)
    }
}

impl Primary {
    /// The workers that have not been reaped.
    pub fn workers(&self) -> impl Iterator<Item = WorkerInfo> + '_ {
        self.workers.values().filter(|worker| worker.exit.is_none()).map(|worker| worker.info)
    }

    /// A worker by its id, until it is reaped.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerHandle> {
        self.workers.get(&id).map(|worker| self.handle_of(worker))
    }

    /// Which worker has an id, until it is reaped.
    pub(super) fn info(&self, id: WorkerId) -> Option<WorkerInfo> {
        self.workers.get(&id).map(|worker| worker.info)
    }

    /// Whether a worker has an open channel.
    pub(crate) fn has_channel(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.link.is_some())
    }

    pub(super) fn handle_of(&self, worker: &Worker) -> WorkerHandle {
        let serialization =
            worker.link.as_ref().map_or(Serialization::Json, |link| link.session.serialization());
        WorkerHandle {
            info: worker.info,
            process: worker.process.clone(),
            serialization,
            life: worker.life.clone(),
            calls: self.calls.clone(),
        }
    }

    /// Sends a worker a message. `Ok(false)` means that it is slow to read: 128 KiB or more wait for it, or a message behind a
    /// handle that it has not acknowledged.
    ///
    /// # Errors
    /// [`SendError`], with the reason; as [`WorkerHandle::send`], for which the same 8 MiB hold.
    pub fn send<T: serde::Serialize + ?Sized>(
        &mut self,
        id: WorkerId,
        message: &T,
    ) -> Result<bool, SendError> {
        self.send_with(id, message, None)
    }

    /// The same, with a socket that travels with the message. If it does not arrive, it comes back as
    /// [`Event::Undelivered`](super::super::Event::Undelivered).
    ///
    /// # Errors
    /// As [`Primary::send`]; the socket comes back in the error.
    pub fn send_with<T: serde::Serialize + ?Sized>(
        &mut self,
        id: WorkerId,
        message: &T,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        let link = self.workers.get_mut(&id).and_then(|worker| worker.link.as_mut());
        let Some(link) = link else { return Err(SendError::closed(handle)) };
        let payload = Payload::of(link.session.serialization(), message);
        let (payload, handle) = SendError::check(payload, handle)?;
        self.send_payload(id, &payload, handle)
    }

    /// The same with what is written already: a message passed on.
    ///
    /// # Errors
    /// As [`Primary::send`]; the socket comes back in the error.
    pub fn send_payload(
        &mut self,
        id: WorkerId,
        payload: &Payload,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        let Some(worker) = self.workers.get(&id) else { return Err(SendError::closed(handle)) };
        if worker.link.is_some() && !lock(&worker.life).has_room(payload.as_bytes().len()) {
            return Err(SendError::Refused { reason: SendErrorReason::QueueFull, handle });
        }
        self.keep(id, payload, handle)
    }

    /// Puts a user's message, for which there is room, into a worker's session.
    fn keep(&mut self, id: WorkerId, payload: &Payload, handle: Option<Handle>) -> Result<bool, SendError> {
        let Some(worker) = self.workers.get_mut(&id) else { return Err(SendError::closed(handle)) };
        let Some(link) = worker.link.as_mut() else { return Err(SendError::closed(handle)) };
        let sent = link.session.send(payload, handle.map(attachment::<Cargo>).transpose()?);
        lock(&worker.life).set_queued(link.session.queued());
        let flow = sent.map_err(|error| SendError::Refused {
            reason: error.reason,
            handle: error.handle.and_then(Cargo::into_users).and_then(|fd| Handle::try_from(fd).ok()),
        })?;
        self.dirty.push(id);
        Ok(flow == Flow::Ready)
    }

    /// Of what was promised to be sent nobody hears an error any more.
    fn post_late(&mut self, id: WorkerId, payload: &Payload, handle: Option<Handle>) {
        let Err(error) = self.keep(id, payload, handle) else { return };
        let Some(worker) = self.info(id) else { return };
        if let Some(handle) = error.into_handle() {
            self.undelivered(worker, Some(handle.into()));
        }
    }

    /// A message that came, with its socket. A Node that lent it wants to know when it is closed.
    pub(super) fn message(
        &self,
        worker: WorkerId,
        payload: Payload,
        handle: Option<(HandleKind, Cargo)>,
    ) -> Message {
        let Some((kind, cargo)) = handle else { return Message::new(payload, None) };
        let mut message = Message::new(payload, cargo.into_users());
        if let HandleKind::NetSocket { key: Some(server) } = kind {
            let lease = Borrowed { worker, server: server.clone(), calls: self.calls.clone() };
            message.handle = message.handle.take().map(|handle| handle.lent_by(server, Box::new(lease)));
        }
        message
    }

    /// Takes a worker out of dispatch and has its clients go: where it has [hints](crate::cluster::Settings::hints), each
    /// HTTP response of it says `Connection: close` from now on, and HTTP/2 clients are told to open no more streams.
    /// Idle connections stay; so do its servers and its channel. A Rust worker accepts nothing new, and its
    /// [`Worker::stopping`](crate::cluster::Worker::stopping) resolves. [`Primary::disconnect`] follows, a little later. Any other
    /// worker ignores it.
    pub fn drain(&mut self, id: WorkerId) {
        self.messenger.worker_leaves(id);
        self.machine.drain(clock::now(), id);
    }

    /// Has a worker that [drains](Self::drain) end the connections that it still has, one after another over this time, so that
    /// their clients do not all come back in one moment: WebSockets, streams of events, all that would last. Rust workers do so,
    /// and those with [hints](crate::cluster::Settings::hints); any other ignores it.
    pub fn shed(&mut self, id: WorkerId, over: Duration) {
        self.machine.shed(id, over);
    }

    /// What a worker said last of how it is; none before it has, and without [hints](crate::cluster::Settings::hints).
    pub fn report(&self, id: WorkerId) -> Option<Report> {
        self.machine.report(id)
    }

    /// Takes a worker out of dispatch and asks it to finish and leave: Node's `worker.disconnect()`.
    pub fn disconnect(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get(&id) {
            lock(&worker.life).asked();
        }
        self.messenger.worker_leaves(id);
        self.machine.disconnect(clock::now(), id);
    }

    /// Asks all workers to finish and leave: Node's `cluster.disconnect()`. They have gone when [`Primary::next`] has
    /// nothing more to tell.
    pub fn disconnect_all(&mut self) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.disconnect(id));
    }

    fn close_channel_of(&mut self, id: WorkerId) {
        if let Some(link) = self.workers.get_mut(&id).and_then(|worker| worker.link.as_mut()) {
            link.session.disconnect();
            self.messenger.worker_leaves(id);
            self.dirty.push(id);
        }
    }

    /// Sends a worker's process a signal: Node's `worker.kill()`. `false` if there is no such process.
    pub fn kill(&self, id: WorkerId, signal: i32) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.process.kill(signal).is_ok())
    }

    /// Kills a worker with its process group, at once.
    pub fn kill_group(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.process.kill_all(KILL).is_ok())
    }
}

/// A socket that a worker has lent to us. Dropped, it is said to be closed.
#[derive(Debug)]
struct Borrowed {
    worker: WorkerId,
    server: String,
    calls: mpsc::UnboundedSender<Call>,
}

impl Lease for Borrowed {}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let (worker, server) = (self.worker, std::mem::take(&mut self.server));
        let call = move |primary: &mut Primary| {
            let link = primary.workers.get_mut(&worker).and_then(|worker| worker.link.as_mut());
            if let Some(link) = link {
                link.session.lent_socket_closed(&server);
                primary.dirty.push(worker);
            }
        };
        // Without a primary there is nobody to tell.
        let _ = self.calls.send(Box::new(call));
    }
}
