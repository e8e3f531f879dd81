//! A worker that has a primary: its end of the channel and the lane, and the machine that speaks over them.

mod failure;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use ganger_proto::{
    Payload, Seq, Serialization,
    cluster::worker::{Effect, ListenId, Worker as Machine},
    node::{Act, ClusterMessage, Sockname, Target},
    session::{Event, Limits},
    wire::lane::{self, Packet},
};
use tokio::{
    io::{
        Interest,
        unix::{AsyncFd, AsyncFdReadyGuard},
    },
    sync::{Notify, mpsc, oneshot},
};

use super::{inbox::Inbox, life::Life, open::Serving};
use crate::{
    channel::{Arrived, Flushed, LaneLink, Link, Message, READ_SIZE, SendError},
    handle::Handle,
    sys::watch::watch,
};

/// What a worker finds of its primary, taken out of the environment.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) channel: OwnedFd,
    pub(super) serialization: Serialization,
    pub(super) lane: Option<OwnedFd>,
}

/// What all clones of a worker and all of its listeners have in common.
#[derive(Debug)]
pub(in crate::cluster) struct Shared {
    inner: Mutex<Inner>,
    /// Something is to be written that the socket did not take.
    blocked: Notify,
    inbox: Arc<Inbox>,
    /// Connections that were closed and the primary was not told of, where it wants to know.
    closes: AtomicU32,
    closed: Notify,
    life: Life,
}

/// A connection that the primary counts as open, until this is dropped.
#[derive(Debug)]
pub(in crate::cluster) struct Tally(Arc<Shared>);

impl Drop for Tally {
    fn drop(&mut self) {
        // Several at a time are told together.
        if self.0.closes.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.closed.notify_one();
        }
    }
}

#[derive(Debug)]
struct Inner {
    machine: Machine<OwnedFd>,
    link: Option<Link<OwnedFd>>,
    lane: Option<LaneLink>,
    /// Connections that came by the lane: their answers go back by it.
    by_lane: BTreeSet<Seq>,
    /// What the lane is read into.
    packet: Vec<u8>,
    listens: BTreeMap<ListenId, Listen>,
    inbox: Arc<Inbox>,
    json: Vec<u8>,
    life: Life,
    /// What failed is being told: the channel is not closed before.
    telling: bool,
    close_when_told: bool,
    /// The program's function is through: nothing is waited for.
    finished: bool,
}

#[derive(Debug)]
enum Listen {
    Asked(oneshot::Sender<io::Result<Opened>>),
    /// The way to the listener; closed, it is gone.
    Open(mpsc::UnboundedSender<Handed>),
}

/// A connection that the primary has handed over.
#[derive(Debug)]
pub(in crate::cluster) struct Handed {
    pub(in crate::cluster) seq: Seq,
    pub(in crate::cluster) fd: OwnedFd,
    /// Before the program has accepted it, too, it is one that the worker has.
    pub(in crate::cluster) serving: Serving,
}

/// A socket that the primary has open for us.
#[derive(Debug)]
pub(super) struct Opened {
    /// The socket itself, where it is shared.
    pub(super) socket: Option<OwnedFd>,
    pub(super) sockname: Option<Sockname>,
    /// What the primary accepts from it, where it is not.
    pub(super) connections: mpsc::UnboundedReceiver<Handed>,
}

/// A socket that the primary holds open for this worker, until this is dropped. While the primary has not answered,
/// nobody will listen then, and it must not count on it.
#[derive(Debug)]
pub(in crate::cluster) struct Lease {
    shared: Arc<Shared>,
    id: ListenId,
}

impl Lease {
    /// Tells the primary that we listen, at this port.
    pub(super) fn listening(&self, port: Option<u16>) {
        self.shared.with(|inner| inner.machine.listening(self.id, port));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.with(|inner| inner.machine.close(self.id));
    }
}

impl Shared {
    /// Takes over the channel, says `online` and starts the task that serves it. Needs a tokio runtime.
    pub(super) fn start(taken: Taken, life: Life) -> io::Result<Arc<Self>> {
        let link = Link::new(taken.channel, taken.serialization, Limits::default())?;
        let watched = watch(link.as_fd().try_clone_to_owned()?, Interest::READABLE | Interest::WRITABLE)?;
        let lane = taken.lane.map(LaneLink::new);
        // Where it cannot be watched or greeted, the primary goes on by the channel.
        let watched_lane = lane.as_ref().and_then(|lane| {
            let own = lane.as_fd().try_clone_to_owned().ok()?;
            let watched = watch(own, Interest::READABLE | Interest::WRITABLE).ok()?;
            lane.greet().ok().map(|()| watched)
        });
        let inbox = Arc::<Inbox>::default();
        let inner = Inner {
            machine: Machine::new(),
            link: Some(link),
            lane: lane.filter(|_| watched_lane.is_some()),
            by_lane: BTreeSet::new(),
            packet: Vec::new(),
            listens: BTreeMap::new(),
            inbox: inbox.clone(),
            json: Vec::new(),
            life: life.clone(),
            telling: false,
            close_when_told: false,
            finished: false,
        };
        let shared = Arc::new(Self {
            inner: Mutex::new(inner),
            blocked: Notify::new(),
            inbox,
            closes: AtomicU32::new(0),
            closed: Notify::new(),
            life,
        });
        shared.with(|_| ());
        tokio::spawn(serve(shared.clone(), watched, watched_lane));
        tokio::spawn(shared.life.clone().shed_when_told());
        tokio::spawn(close_when_finished(shared.clone()));
        Ok(shared)
    }

    /// Asks the primary for a socket; none where the worker is to leave, or the primary has gone.
    pub(super) async fn open(
        self: &Arc<Self>,
        target: &Target,
        backlog: Option<u32>,
    ) -> io::Result<Option<(Lease, Opened)>> {
        let (sender, receiver) = oneshot::channel();
        let id = self.with(|inner| {
            inner.link.is_some().then(|| {
                let id = inner.machine.listen(target, backlog);
                inner.listens.insert(id, Listen::Asked(sender));
                id
            })
        });
        let Some(id) = id else { return Ok(None) };
        let lease = Lease { shared: self.clone(), id };
        let opened = receiver.await.ok().transpose()?;
        Ok(opened.map(|opened| (lease, opened)))
    }

    pub(super) fn send<T: serde::Serialize + ?Sized>(
        &self,
        message: &T,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        self.with(|inner| {
            let Some(link) = inner.link.as_mut() else { return Err(SendError::closed(handle)) };
            let payload = Payload::of(link.session.serialization(), message);
            let (payload, handle) = SendError::check(payload, handle)?;
            link.post(&payload, handle)
        })
    }

    /// The next message of the primary; none when the channel is closed.
    pub(super) async fn recv(&self) -> Option<Message> {
        self.inbox.next(self.life.disconnected()).await
    }

    /// Closes all listeners and tells the primary. The channel is closed when the connections are, as Node does it.
    pub(super) fn disconnect(&self) {
        self.with(|inner| inner.machine.disconnect());
    }

    /// Writes what is to be written and closes the channel, once the primary has heard that we leave if it was told.
    pub(super) async fn close(&self) {
        self.with(|inner| {
            // Who is done before it is asked to leave has not ended by accident.
            if inner.machine.is_draining() {
                inner.machine.disconnect();
            }
            inner.finished = true;
            if !inner.machine.is_leaving() {
                inner.close_channel();
            }
        });
        self.life.disconnected().await;
    }

    /// The program has taken a connection.
    pub(in crate::cluster) fn accepted(self: &Arc<Self>, seq: Seq) -> Option<Tally> {
        let counts = self.with(|inner| {
            inner.machine.accepted(seq);
            inner.machine.tells_closes()
        });
        counts.then(|| Tally(self.clone()))
    }

    /// The program cannot take a connection.
    pub(in crate::cluster) fn rejected(&self, seq: Seq) {
        self.with(|inner| inner.machine.rejected(seq));
    }

    /// Does something with the worker's state, then all that follows from it. Never waits.
    fn with<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> R {
        // A panic in the middle leaves nothing half done that the machine would not bear.
        self.act(self.inner.lock().unwrap_or_else(PoisonError::into_inner), act)
    }

    fn act<R>(&self, mut inner: MutexGuard<'_, Inner>, act: impl FnOnce(&mut Inner) -> R) -> R {
        let result = act(&mut inner);
        inner.perform();
        if let Some(link) = &mut inner.link {
            if link.flush() == Flushed::Blocked {
                self.blocked.notify_one();
            }
            if link.session.wants_close() {
                inner.link = None;
            }
        }
        if let Some(lane) = &mut inner.lane
            && lane.flush().flushed == Flushed::Blocked
        {
            self.blocked.notify_one();
        }
        let closed = inner.link.is_none();
        if closed {
            inner.lane = None;
            inner.listens.clear();
            self.blocked.notify_one();
        }
        drop(inner);
        if closed {
            self.life.disconnect();
        }
        result
    }
}

impl Inner {
    /// Tells the machine what the channel says, and does what it wants done.
    fn perform(&mut self) {
        loop {
            if let Some(effect) = self.machine.poll_effect() {
                self.perform_one(effect);
            } else if let Some(event) = self.link.as_mut().and_then(|link| link.session.poll_event()) {
                match event {
                    Event::Cluster { message, handle } => {
                        // Connections that were sent before are still ours to serve.
                        if matches!(message.act, Act::Drain | Act::Disconnect) {
                            self.receive_lane();
                        }
                        self.machine.handle(message, handle);
                    }
                    Event::Message { payload, handle } => {
                        // Nobody takes them, it seems.
                        let message = Message::new(payload, handle.map(|(_, fd)| fd));
                        if !self.inbox.push(message) {
                            tracing::warn!("a message of the primary is lost: too many wait for recv()");
                        }
                    }
                    Event::Fault(fault) => tracing::warn!(%fault, "the primary broke a rule of the wire"),
                    Event::Disconnected => self.link = None,
                    // Our copy is closed by being dropped.
                    _ => {}
                }
            } else {
                return;
            }
        }
    }

    /// Reads the lane to its end. The channel was read before: what it says of a socket comes before its connections.
    fn receive_lane(&mut self) {
        self.packet.resize(lane::LONGEST, 0);
        while let Some(lane) = &self.lane {
            match lane.receive(&mut self.packet) {
                Ok(Some(Arrived { packet: Ok(Packet::Connections { key, seqs }), descriptors, .. })) => {
                    let mut connections = descriptors.into_iter();
                    for seq in seqs {
                        self.by_lane.insert(seq);
                        match connections.next() {
                            Some(connection) => {
                                let act = Act::NewConn { key: key.clone() };
                                self.machine.handle(ClusterMessage { seq: Some(seq), act }, Some(connection));
                            }
                            // This process had no room for it: another worker may.
                            None => self.refuse(seq),
                        }
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                // The channel tells what it means.
                Err(_) => self.lane = None,
            }
        }
    }

    fn refuse(&mut self, seq: Seq) {
        self.by_lane.remove(&seq);
        if let Some(lane) = &mut self.lane {
            lane.answer(seq, false);
        }
    }

    fn perform_one(&mut self, effect: Effect<OwnedFd>) {
        match effect {
            Effect::Send(ClusterMessage { act: Act::Accepted { ack, accepted }, .. })
                if self.by_lane.remove(&ack) =>
            {
                if let Some(lane) = &mut self.lane {
                    lane.answer(ack, accepted);
                }
            }
            Effect::Send(message) => {
                self.json.clear();
                message.write(&mut self.json);
                if let (Some(link), Ok(json)) = (&mut self.link, std::str::from_utf8(&self.json)) {
                    // A closed channel has its own event.
                    let _ = link.session.send_json(json, None);
                }
            }
            Effect::Opened { listen, socket, sockname } => {
                let (sender, connections) = mpsc::unbounded_channel();
                let asked = self.listens.insert(listen, Listen::Open(sender));
                if let Some(Listen::Asked(waiting)) = asked
                    && waiting.send(Ok(Opened { socket, sockname, connections })).is_err()
                {
                    // Nobody waits for it any more.
                    self.machine.close(listen);
                }
            }
            Effect::Failed { listen, errno } => {
                if let Some(Listen::Asked(waiting)) = self.listens.remove(&listen) {
                    let _ = waiting.send(Err(io::Error::from_raw_os_error(errno)));
                }
            }
            Effect::Connection { listen, seq, connection: fd } => {
                let sent = match self.listens.get(&listen) {
                    Some(Listen::Open(sender)) => {
                        sender.send(Handed { seq, fd, serving: self.life.open().one() }).is_ok()
                    }
                    Some(Listen::Asked(_)) | None => false,
                };
                if !sent {
                    self.machine.rejected(seq);
                }
            }
            Effect::Drop(fd) => drop(fd),
            Effect::Closed(listen) => drop(self.listens.remove(&listen)),
            Effect::Draining => self.life.drain(),
            Effect::Shed(over) => self.life.shed(over),
            Effect::Stopping => self.life.stop(),
            Effect::MayCloseChannel if self.finished => self.close_when_possible(),
            Effect::MayCloseChannel => self.life.may_close(),
        }
    }

    /// Not before it is told what failed.
    fn close_when_possible(&mut self) {
        if self.telling {
            self.close_when_told = true;
        } else {
            self.close_channel();
        }
    }

    fn close_channel(&mut self) {
        if let Some(link) = &mut self.link {
            link.session.disconnect();
        }
    }
}

/// Reads channel and lane as long as the channel is open, and writes what did not fit before.
async fn serve(shared: Arc<Shared>, watched: AsyncFd<OwnedFd>, mut lane: Option<AsyncFd<OwnedFd>>) {
    let mut buffer = vec![0; READ_SIZE];
    let mut blocked = false;
    // All that the channel has, unless it is too much for one turn.
    let receive = |inner: &mut Inner, buffer: &mut [u8]| {
        let Some(link) = &mut inner.link else { return false };
        link.receive(buffer);
        link.more_to_read()
    };
    while !shared.life.is_disconnected() {
        tokio::select! {
            ready = watched.readable() => {
                let Ok(mut ready) = ready else { return };
                if !shared.with(|inner| receive(inner, &mut buffer)) {
                    ready.clear_ready();
                }
            }
            ready = ready(&lane, Interest::READABLE) => {
                let Some(mut ready) = ready else { return };
                ready.clear_ready();
                // What the channel says of a socket comes before the connections from it.
                while shared.with(|inner| receive(inner, &mut buffer)) {}
                let open = shared.with(|inner| {
                    inner.receive_lane();
                    inner.lane.is_some()
                });
                if !open {
                    lane = None;
                }
            }
            ready = watched.writable(), if blocked => {
                let Ok(mut ready) = ready else { return };
                ready.clear_ready();
                blocked = false;
                shared.with(|_| ());
            }
            ready = ready(&lane, Interest::WRITABLE), if blocked => {
                let Some(mut ready) = ready else { return };
                ready.clear_ready();
                blocked = false;
                shared.with(|_| ());
            }
            () = shared.blocked.notified() => blocked = true,
            () = shared.closed.notified() => {
                let count = shared.closes.swap(0, Ordering::Relaxed);
                shared.with(|inner| inner.machine.closed(count));
            }
        }
    }
}

/// Closes the channel of a worker that leaves of its own accord, once it has no connection any more.
async fn close_when_finished(shared: Arc<Shared>) {
    shared.life.left().await;
    shared.with(Inner::close_when_possible);
}

/// Resolves when the lane is ready; never, without one.
async fn ready(
    lane: &Option<AsyncFd<OwnedFd>>,
    interest: Interest,
) -> Option<AsyncFdReadyGuard<'_, OwnedFd>> {
    match lane {
        Some(lane) => lane.ready(interest).await.ok(),
        None => std::future::pending().await,
    }
}
