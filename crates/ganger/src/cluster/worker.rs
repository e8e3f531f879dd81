//! A worker in Rust: the same under a ganger primary, under Node's own, and alone.

mod agent;
mod connected;
mod failing;
mod inbox;
mod inherited;
mod life;
mod notifier;
mod open;
mod signals;
mod start;

use std::{
    future::Future,
    io,
    net::{Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Once},
    time::Duration,
};

use ganger_proto::{Payload, Serialization, Slot, WorkerId, node::Target};

use super::{
    Endpoint, UdpSocket, endpoint,
    listen::{Flow, Listen},
    listener::{Listener, Queue, Source},
    sockets::{Bound, bind},
};
use crate::{
    channel::{Message, SendError},
    handle::Handle,
    sys::socket::{self, SocketFile},
};

use connected::{Lease, Opened};
use inherited::{Held, Inherited};
use life::Life;
use notifier::Notifier;

pub use agent::Agent;
pub(crate) use agent::NewAgent;
pub(super) use connected::{Handed, Shared, Tally};
pub(super) use open::{Open, Serving};
pub use start::{NewWorker, worker};
pub(crate) use start::{Role, no_agent, take};

/// The first request on a connection is waited for so long, when the worker is to leave.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// A worker's side of the cluster. Cheap to clone; all clones are the same worker.
///
/// The same code works in three situations:
///
/// | | under a ganger or Node primary | alone |
/// |---|---|---|
/// | started by | `ganger run`, [`Primary::fork`](super::Primary::fork), `cluster.fork()` | anybody |
/// | [`listen`](Self::listen), [`bind_udp`](Self::bind_udp) | asks the primary, and shares with the other workers | opens the socket itself |
/// | [`stopping`](Self::stopping), [`closing`](Self::closing) | when the primary asks it to leave, or has gone | at `SIGTERM` or Ctrl-C |
/// | [`send`](Self::send), [`recv`](Self::recv) | speak with the primary | drops it; nothing comes |
/// | [`id`](Self::id), [`slot`](Self::slot) | the primary's, 1… and 0… | 0 and 0 |
///
/// In each of them a socket that the process was started with (`LISTEN_FDS`, as systemd does it) is taken where `listen`
/// names its address.
#[derive(Clone, Debug)]
pub struct Worker {
    member: Arc<Member>,
}

#[derive(Debug)]
struct Member {
    id: WorkerId,
    slot: Slot,
    /// None where the worker is alone.
    primary: Option<Arc<Shared>>,
    inherited: Inherited,
    /// To whom it says what it does not say by its channel, if there is somebody.
    notifier: Option<Arc<Notifier>>,
    life: Life,
    /// Whether the signals are heeded that stop a worker that is alone.
    heeding: Once,
}

/// Whose a socket is. Dropped, it is given back.
#[derive(Debug)]
pub(super) enum Hold {
    /// The primary's.
    Primary(#[expect(dead_code, reason = "it gives back")] Lease),
    /// It was there before us.
    Inherited(#[expect(dead_code, reason = "it gives back")] Held),
    /// Ours, with its file.
    Own(#[expect(dead_code, reason = "it removes its file")] Option<SocketFile>),
}

impl Hold {
    /// Whether somebody else has it as well.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Primary(_) | Self::Inherited(_) => true,
            Self::Own(_) => false,
        }
    }
}

impl Worker {
    fn new(member: Member) -> Self {
        Self { member: Arc::new(member) }
    }

    /// The worker's number, never used again. Alone it is 0, unless a ganger without a channel has given it one.
    pub fn id(&self) -> WorkerId {
        self.member.id
    }

    /// The worker's place in the gang; the number, less one, under a primary that knows no slots, and 0 alone.
    pub fn slot(&self) -> Slot {
        self.member.slot
    }

    /// Whether there is no primary, and never was.
    pub fn is_alone(&self) -> bool {
        self.member.primary.is_none()
    }

    /// Listens: on a port, a socket address, a path, or what [`Listen`] says of them.
    ///
    /// Under a primary it does so by way of the primary: all workers that listen on the same address share its
    /// connections, and port 0 is the same port for all of them. What is [exclusive](Listen::exclusive), and all else
    /// where there is no primary, is opened here. If the worker is to leave, or its primary has gone, the listener is closed from
    /// the beginning: [`accept`](Listener::accept) returns nothing, and its address is what was asked for.
    ///
    /// # Errors
    /// What was met in binding the socket, here or by the primary, with its errno (`EADDRINUSE`, `EACCES`, …).
    pub async fn listen(&self, address: impl Into<Listen>) -> io::Result<Listener> {
        let listen = address.into();
        let target = listen.target(Flow::Connections)?;
        let backlog = listen.effective_backlog();
        let (source, address, hold) = match self.find(&listen, Flow::Connections).await? {
            Found::Here(fd, hold) => {
                let address = match &target {
                    Target::Unix { .. } => of_target(&target),
                    _ => endpoint::of_socket(&fd)?,
                };
                let source = Source { queue: None, socket: Some(fd.try_into()?) };
                self.member.tell_ready();
                (source, address, hold)
            }
            Found::Nothing => (Source::default(), of_target(&target), Hold::Own(None)),
            Found::Opened(shared, lease, opened) => {
                let address = match (&target, &opened.socket, &opened.sockname) {
                    (Target::Tcp { .. } | Target::Fd(_), Some(socket), _) => endpoint::of_socket(socket)?,
                    (_, None, Some(name)) => {
                        endpoint::of_ip(&name.address, name.port).unwrap_or_else(|| of_target(&target))
                    }
                    _ => of_target(&target),
                };
                let socket = match opened.socket {
                    Some(socket) => {
                        is_bound(&address, &target)?;
                        // A Node primary leaves that to the worker.
                        socket::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
                        Some(socket.try_into()?)
                    }
                    None => None,
                };
                let queue = Queue { shared: shared.clone(), connections: opened.connections };
                let source = Source { queue: Some(queue), socket };
                lease.listening(address.port());
                (source, address, Hold::Primary(lease))
            }
        };
        let life = &self.member.life;
        // What comes at a socket of its own while its clients are led away comes to nobody else.
        let until = if hold.is_shared() { life.stopping() } else { life.closing() };
        Ok(Listener::new(source, address, until.clone(), life.open().clone(), hold, backlog))
    }

    /// Binds a UDP socket, on a port (of all IPv4 addresses) or an address. Under a primary all workers that bind the
    /// same address share one socket, and a datagram goes to whichever reads first; under the policy `reuseport` each slot
    /// has one of its own on it, among which the kernel spreads the senders. If the worker is to leave, or its primary has gone, it
    /// is bound to nothing, and [`receive`](UdpSocket::receive) returns nothing.
    ///
    /// # Errors
    /// As [`Worker::listen`]; `InvalidInput` for a path, or a descriptor that is no UDP socket.
    pub async fn bind_udp(&self, address: impl Into<Listen>) -> io::Result<UdpSocket> {
        let listen = address.into();
        let target = listen.target(Flow::Datagrams)?;
        let stopping = self.member.life.stopping().clone();
        match self.find(&listen, Flow::Datagrams).await? {
            Found::Here(fd, hold) => {
                let socket = UdpSocket::new(fd, stopping, hold)?;
                self.member.tell_ready();
                Ok(socket)
            }
            Found::Nothing => UdpSocket::new(socket::unbound_udp()?, stopping, Hold::Own(None)),
            Found::Opened(_, lease, opened) => {
                let none = || io::Error::new(io::ErrorKind::InvalidData, "the primary sent no socket");
                let fd = opened.socket.ok_or_else(none)?;
                let address = endpoint::of_socket(&fd)?;
                is_bound(&address, &target)?;
                lease.listening(address.port());
                UdpSocket::new(fd, stopping, Hold::Primary(lease))
            }
        }
    }

    /// The socket that was inherited, is opened here, or comes from the primary.
    async fn find(&self, listen: &Listen, flow: Flow) -> io::Result<Found<'_>> {
        let Member { primary, inherited, life, .. } = &*self.member;
        self.member.heed_signals();
        if life.is_stopping() {
            return Ok(Found::Nothing);
        }
        if let Some(found) = inherited.find(listen, flow) {
            let (fd, held) = found?;
            return Ok(Found::Here(fd, Hold::Inherited(held)));
        }
        if let Some(shared) = primary.as_ref().filter(|_| !listen.is_own()) {
            let backlog = listen.wanted_backlog().filter(|_| flow == Flow::Connections);
            let opened = shared.open(&listen.target(flow)?, backlog).await?;
            return Ok(opened.map_or(Found::Nothing, |(lease, opened)| Found::Opened(shared, lease, opened)));
        }
        let Bound { fd, file } =
            bind(&listen.target(flow)?, listen.effective_backlog(), listen.port_sharing())?;
        Ok(Found::Here(fd, Hold::Own(file)))
    }

    /// Sends the primary a message. `Ok(false)` means that something already waits to be read there. Alone, it is dropped:
    /// nobody is there who could want it.
    ///
    /// # Errors
    /// If the value has no JSON, or the channel is closed.
    pub fn send<T: serde::Serialize + ?Sized>(&self, message: &T) -> Result<bool, SendError> {
        self.send_with(message, None)
    }

    /// The same, with a socket that travels with the message.
    ///
    /// # Errors
    /// As [`Worker::send`], and alone; the socket comes back in the error.
    pub fn send_with<T: serde::Serialize + ?Sized>(
        &self,
        message: &T,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        match (&self.member.primary, handle) {
            (Some(shared), handle) => shared.send(message, handle),
            (None, None) => {
                // What could not be sent is a mistake here too.
                SendError::check(Payload::of(Serialization::Json, message), None)?;
                Ok(true)
            }
            (None, handle) => Err(SendError::closed(handle)),
        }
    }

    /// The next message of the primary; none when the channel is closed. Alone there is none to come, and it resolves when
    /// the worker is to leave. So that a program that never takes them does not grow by them, no more than 4,096 messages wait,
    /// and none is added to 64 MiB of them: what comes then is lost, with a warning.
    pub async fn recv(&self) -> Option<Message> {
        match &self.member.primary {
            Some(shared) => shared.recv().await,
            None => {
                self.member.life.stopping().cancelled().await;
                None
            }
        }
    }

    /// Resolves when the worker should finish what it has and end: the primary has asked it to, or has told it to
    /// [drain](super::Primary::drain), or it has called [`Worker::disconnect`], or the channel is closed.
    ///
    /// Alone it is `SIGTERM` or `SIGINT` (Ctrl-C) that asks, and a second one ends the process at once. They are heeded
    /// from the first `listen`, `bind_udp` or `stopping` on; a program that does none of these they end as any other.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let member = self.member.clone();
        async move {
            member.heed_signals();
            member.life.stopping().cancelled().await;
        }
    }

    /// Whether the worker is to leave, so that an answer over HTTP had better say `Connection: close`.
    pub fn is_stopping(&self) -> bool {
        self.member.life.is_stopping()
    }

    /// Resolves when connections that wait for a request may be closed: the worker is to leave, as [`Worker::stopping`] says; if
    /// it was told to drain first, its clients have had their time to go (ganger's guard gives them a second); and something has
    /// been read from every connection that it has accepted, or a second has passed.
    ///
    /// It is what an HTTP server begins its graceful shutdown by. A server that begins it when `stopping` resolves closes
    /// connections whose first request is still on its way, and their clients lose it.
    ///
    /// # Panics
    /// Without a tokio runtime that has time, when it is awaited.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        let (stopping, life) = (self.stopping(), self.member.life.clone());
        async move {
            stopping.await;
            let open = life.open();
            tokio::select! {
                () = life.closing().cancelled() => {}
                // Nothing new comes: there is nobody to lead away.
                () = open.none() => {}
            }
            let _ = tokio::time::timeout(FIRST_REQUEST, open.none_fresh()).await;
        }
    }

    /// Leaves of its own accord: closes all listeners and tells the primary, which replaces the worker while it finishes
    /// what it has. The channel stays open until its connections are closed. Alone it is the same as a `SIGTERM`.
    pub fn disconnect(&self) {
        match &self.member.primary {
            Some(shared) => shared.disconnect(),
            None => self.member.life.stop(),
        }
    }

    /// The program's own future, as long as there is a primary that wants it to run.
    async fn serve<T>(&self, worker: impl Future<Output = T>) -> T {
        let mut worker = std::pin::pin!(worker);
        tokio::select! {
            biased;
            result = &mut worker => return result,
            () = self.member.life.disconnected() => {}
        }
        if self.member.life.is_lost() {
            std::process::exit(0);
        }
        worker.await
    }

    /// Writes what is to be written and closes the channel.
    async fn close(&self) {
        if let Some(shared) = &self.member.primary {
            shared.close().await;
        }
    }
}

impl Member {
    /// It listens on a socket that the primary did not open, so it does not hear of it otherwise.
    fn tell_ready(&self) {
        self.notifier.iter().for_each(|notifier| notifier.ready());
    }

    /// Where there is no primary to ask us, the signals do.
    fn heed_signals(&self) {
        if self.primary.is_none() {
            self.heeding.call_once(|| {
                if let Err(error) = signals::heed(&self.life) {
                    tracing::warn!(%error, "signals will end this process and not stop it");
                }
            });
        }
    }
}

/// Where a socket comes from.
enum Found<'a> {
    Here(OwnedFd, Hold),
    /// The primary has it open.
    Opened(&'a Arc<Shared>, Lease, Opened),
    /// The worker is to leave.
    Nothing,
}

/// If binding failed late in a Node primary, finding that out is left to the worker as well (`lib/net.js`,
/// `listenOnPrimaryHandle`).
fn is_bound(address: &Endpoint, target: &Target) -> io::Result<()> {
    match target {
        Target::Tcp { port, .. } | Target::Udp { port, .. }
            if *port != 0 && address.port() != Some(*port) =>
        {
            Err(rustix::io::Errno::ADDRINUSE.into())
        }
        _ => Ok(()),
    }
}

/// Where it was asked for.
fn of_target(target: &Target) -> Endpoint {
    match target {
        Target::Tcp { host, port, .. } => {
            let host = host.as_deref().unwrap_or("::");
            endpoint::of_ip(host, *port)
                .unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)).into())
        }
        Target::Unix { path, .. } => Endpoint::Unix(Some(path.into())),
        Target::Udp { .. } | Target::Fd(_) | Target::UdpFd(_) => Endpoint::Unix(None),
    }
}
