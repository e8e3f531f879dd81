//! A worker in Rust: the same under a ganger primary and under Node's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ganger_proto::{
    Payload, Seq, Serialization, Slot, WorkerId,
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
    sync::{Notify, mpsc, oneshot, watch},
};

use super::listener::{Listener, Source};
use crate::{
    channel::{Flushed, LaneLink, Link, Message, READ_SIZE, SendError},
    handle::Handle,
    sys::watch::watch,
};

/// So many messages wait for [`Worker::recv`]; what comes then is lost.
const MESSAGES: usize = 4096;

/// What a worker finds in its environment, taken out of it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) channel: OwnedFd,
    pub(crate) serialization: Serialization,
    pub(crate) lane: Option<OwnedFd>,
}

/// A worker's side of the cluster. Cheap to clone; all clones are the same worker.
#[derive(Clone, Debug)]
pub struct Worker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    id: WorkerId,
    slot: Slot,
    inner: Mutex<Inner>,
    /// Something is to be written that the socket did not take.
    blocked: Notify,
    messages: tokio::sync::Mutex<mpsc::Receiver<Message>>,
    phase: watch::Sender<Phase>,
}

/// Whether the worker is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// The primary has asked it to leave, or it the primary.
    Stopping,
    /// The channel is closed.
    Disconnected,
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
    messages: mpsc::Sender<Message>,
    json: Vec<u8>,
}

#[derive(Debug)]
enum Listen {
    Asked(oneshot::Sender<io::Result<Opened>>),
    /// The way to the listener; closed, it is gone.
    Open(mpsc::UnboundedSender<(Seq, OwnedFd)>),
}

/// A socket that the primary has open for us.
#[derive(Debug)]
struct Opened {
    socket: Option<OwnedFd>,
    sockname: Option<Sockname>,
    connections: mpsc::UnboundedReceiver<(Seq, OwnedFd)>,
}

/// Where to listen: a port (on all addresses), a socket address, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress(Target);

impl From<u16> for ListenAddress {
    fn from(port: u16) -> Self {
        Self(Target::Tcp { host: None, port, ipv6_only: false })
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        (address.ip(), address.port()).into()
    }
}

impl From<(IpAddr, u16)> for ListenAddress {
    fn from((host, port): (IpAddr, u16)) -> Self {
        Self(Target::Tcp { host: Some(host.to_string()), port, ipv6_only: false })
    }
}

/// A Unix-domain socket. A relative path is relative to the worker's directory, as in Node.
impl From<&Path> for ListenAddress {
    fn from(path: &Path) -> Self {
        let path = resolved(path).to_string_lossy().into_owned();
        Self(Target::Unix { path, readable_all: false, writable_all: false })
    }
}

/// As Node's `path.resolve`: absolute, and without `..`. It is the text that workers share a socket by.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let mut resolved = PathBuf::new();
    for part in absolute.components() {
        if part == Component::ParentDir {
            resolved.pop();
        } else {
            resolved.push(part);
        }
    }
    resolved
}

impl From<PathBuf> for ListenAddress {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

impl Worker {
    /// Takes over the channel, says `online` and starts the task that serves it. Needs a tokio runtime.
    pub(crate) fn new(taken: Taken) -> io::Result<Self> {
        let link = Link::new(taken.channel, taken.serialization, Limits::default())?;
        let watched = watch(link.as_fd().try_clone_to_owned()?, Interest::READABLE | Interest::WRITABLE)?;
        let lane = taken.lane.map(LaneLink::new);
        // Where it cannot be watched or greeted, the primary goes on by the channel.
        let watched_lane = lane.as_ref().and_then(|lane| {
            let own = lane.as_fd().try_clone_to_owned().ok()?;
            let watched = watch(own, Interest::READABLE | Interest::WRITABLE).ok()?;
            lane.greet().ok().map(|()| watched)
        });
        let (sender, receiver) = mpsc::channel(MESSAGES);
        let inner = Inner {
            machine: Machine::new(),
            link: Some(link),
            lane: lane.filter(|_| watched_lane.is_some()),
            by_lane: BTreeSet::new(),
            packet: Vec::new(),
            listens: BTreeMap::new(),
            messages: sender,
            json: Vec::new(),
        };
        let shared = Arc::new(Shared {
            id: taken.id,
            slot: taken.slot,
            inner: Mutex::new(inner),
            blocked: Notify::new(),
            messages: tokio::sync::Mutex::new(receiver),
            phase: watch::Sender::new(Phase::Serving),
        });
        shared.with(|_| ());
        tokio::spawn(serve(shared.clone(), watched, watched_lane));
        Ok(Self { shared })
    }

    /// The worker's number.
    pub fn id(&self) -> WorkerId {
        self.shared.id
    }

    /// The worker's place in the gang; the number, less one, under a primary that knows no slots.
    pub fn slot(&self) -> Slot {
        self.shared.slot
    }

    /// Listens, by way of the primary: all workers that listen on the same address share its connections.
    /// Port 0 is the same port for all of them.
    ///
    /// # Errors
    /// What the primary met when it bound the socket, with its errno (`EADDRINUSE`, `EACCES`, …); `NotConnected`
    /// if the primary has gone.
    pub async fn listen(&self, address: impl Into<ListenAddress>) -> io::Result<Listener> {
        let ListenAddress(target) = address.into();
        let (sender, receiver) = oneshot::channel();
        let id = self.shared.with(|inner| {
            inner.link.is_some().then(|| {
                let id = inner.machine.listen(&target, None);
                inner.listens.insert(id, Listen::Asked(sender));
                id
            })
        });
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the primary has gone");
        let id = id.ok_or_else(gone)?;
        let wanted = Wanted { shared: &self.shared, id, armed: true };
        let opened = receiver.await.map_err(|_| gone())??;
        let source = match opened.socket {
            Some(socket) => Source::shared(socket, &target),
            None => Ok(Source::Queue(opened.connections)),
        };
        let source = source?;
        let address = match (&source, opened.sockname) {
            (Source::Queue(_), Some(name)) => {
                name.address.parse().ok().map(|ip| SocketAddr::new(ip, name.port))
            }
            (source, _) => source.local_addr(),
        };
        self.shared.with(|inner| inner.machine.listening(id, address.map(|address| address.port())));
        wanted.disarm();
        Ok(Listener::new(self.shared.clone(), id, source, address))
    }

    /// Sends the primary a message. `Ok(false)` means that something already waits to be read there.
    ///
    /// # Errors
    /// If the value has no JSON, or the channel is closed.
    pub fn send<T: serde::Serialize + ?Sized>(&self, message: &T) -> Result<bool, SendError> {
        self.send_with(message, None)
    }

    /// The same, with a socket that travels with the message.
    ///
    /// # Errors
    /// As [`Worker::send`]; the socket comes back in the error.
    pub fn send_with<T: serde::Serialize + ?Sized>(
        &self,
        message: &T,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        self.shared.with(|inner| {
            let Some(link) = inner.link.as_mut() else { return Err(SendError::closed(handle)) };
            let payload = Payload::of(link.session.serialization(), message);
            let (payload, handle) = SendError::check(payload, handle)?;
            link.post(&payload, handle)
        })
    }

    /// The next message of the primary; none when the channel is closed.
    pub async fn recv(&self) -> Option<Message> {
        let mut messages = self.shared.messages.lock().await;
        let mut phase = self.shared.phase.subscribe();
        tokio::select! {
            biased;
            message = messages.recv() => message,
            _ = phase.wait_for(|phase| *phase == Phase::Disconnected) => messages.try_recv().ok(),
        }
    }

    /// Resolves when the worker should finish what it has and end: the primary has asked it to, or it has
    /// called [`Worker::disconnect`], or the channel is closed.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.shared.stopping()
    }

    /// Leaves of its own accord: closes all listeners and tells the primary, which replaces the worker
    /// while it finishes what it has.
    pub fn disconnect(&self) {
        self.shared.with(|inner| inner.machine.disconnect());
    }

    /// Resolves when the channel is closed.
    pub(crate) fn disconnected(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut phase = self.shared.phase.subscribe();
        async move {
            let _ = phase.wait_for(|phase| *phase == Phase::Disconnected).await;
        }
    }

    /// Whether the channel may close without that being the primary's death.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.shared.phase.borrow() >= Phase::Stopping
    }

    /// Writes what is to be written and closes the channel.
    pub(crate) async fn close(&self) {
        self.shared.with(|inner| inner.link.as_mut().map(|link| link.session.disconnect()));
        self.disconnected().await;
    }
}

/// A request whose future may be dropped: then nobody will listen, and the primary must not count on it.
struct Wanted<'a> {
    shared: &'a Shared,
    id: ListenId,
    armed: bool,
}

impl Wanted<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.close(self.id);
        }
    }
}

impl Shared {
    /// Does something with the worker's state, then all that follows from it. Never waits.
    fn with<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> R {
        // A panic in the middle leaves nothing half done that the machine would not bear.
        let mut inner: MutexGuard<'_, Inner> = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut inner);
        let mut phase = Phase::Serving;
        inner.perform(&mut phase);
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
        if inner.link.is_none() {
            inner.lane = None;
            phase = Phase::Disconnected;
            inner.listens.clear();
            self.blocked.notify_one();
        }
        drop(inner);
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
        result
    }

    pub(super) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut phase = self.phase.subscribe();
        async move {
            // An error means that the worker itself is gone, which is as good.
            let _ = phase.wait_for(|phase| *phase >= Phase::Stopping).await;
        }
    }

    /// The program has taken a connection, or cannot.
    pub(super) fn answer(&self, seq: Seq, taken: bool) {
        self.with(|inner| if taken { inner.machine.accepted(seq) } else { inner.machine.rejected(seq) });
    }

    pub(super) fn close(&self, id: ListenId) {
        self.with(|inner| inner.machine.close(id));
    }
}

impl Inner {
    /// Tells the machine what the channel says, and does what it wants done.
    fn perform(&mut self, phase: &mut Phase) {
        loop {
            if let Some(effect) = self.machine.poll_effect() {
                self.perform_one(effect, phase);
            } else if let Some(event) = self.link.as_mut().and_then(|link| link.session.poll_event()) {
                match event {
                    Event::Cluster { message, handle } => {
                        // Connections that were sent before are still ours to serve.
                        if message.act == Act::Disconnect {
                            self.receive_lane();
                        }
                        self.machine.handle(message, handle);
                    }
                    Event::Message { payload, handle } => {
                        // Nobody takes them, it seems.
                        let message = Message::new(payload, handle.map(|(_, fd)| fd));
                        if self.messages.try_send(message).is_err() {
                            tracing::warn!("a message of the primary is lost: {MESSAGES} wait for recv()");
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
                Ok(Some((Packet::Connections { key, seqs }, connections))) => {
                    let mut connections = connections.into_iter();
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

    fn perform_one(&mut self, effect: Effect<OwnedFd>, phase: &mut Phase) {
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
            Effect::Connection { listen, seq, connection } => {
                let sent = match self.listens.get(&listen) {
                    Some(Listen::Open(sender)) => sender.send((seq, connection)).is_ok(),
                    Some(Listen::Asked(_)) | None => false,
                };
                if !sent {
                    self.machine.rejected(seq);
                }
            }
            Effect::Drop(fd) => drop(fd),
            Effect::Closed(listen) => drop(self.listens.remove(&listen)),
            Effect::Stopping => *phase = Phase::Stopping,
            Effect::CloseChannel => {
                if let Some(link) = &mut self.link {
                    link.session.disconnect();
                }
            }
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
    while *shared.phase.borrow() != Phase::Disconnected {
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
        }
    }
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
