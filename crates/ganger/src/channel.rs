//! The IPC channel: a [`Session`] on its socket. Here descriptors and messages meet for the first time.
//!
//! `Link` moves bytes between the two, without waiting: the cluster's loops own theirs directly.
//! [`Channel`] is the same for a library's user, with `await`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use ganger_proto::{
    Session,
    node::HandleKind,
    session::{self, Attachment, Event, Flow, Limits, Order},
};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{Interest, Ready, unix::AsyncFd};

use crate::{
    handle::{Handle, Kind},
    sys::{fd, socket, watch::watch},
};

pub use ganger_proto::session::Fault;

/// How much is read at once; Node's own size.
pub(crate) const READ_SIZE: usize = 64 << 10;
/// So many reads in a row before others have their turn. libuv takes 32, for whom nobody else waits.
const READS: usize = 4;

/// A session and its socket.
#[derive(Debug)]
pub(crate) struct Link<H> {
    pub(crate) session: Session<H>,
    socket: OwnedFd,
    /// Writing has failed: only what the peer still says is of interest.
    broken: bool,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing waits.
    All,
    /// The socket is full.
    Blocked,
    /// The peer is gone.
    Broken,
}

impl<H: AsFd + From<OwnedFd>> Link<H> {
    /// Takes over our end of a channel.
    pub(crate) fn new(socket: OwnedFd, limits: Limits) -> io::Result<Self> {
        fd::set_nonblocking(&socket)?;
        fd::set_cloexec(&socket, true)?;
        Ok(Self { session: Session::new(limits), socket, broken: false })
    }

    /// Reads what is there into the session, by way of the loop's one buffer. Returns how many bytes it was.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let mut handles = Vec::new();
        let mut total = 0;
        for _ in 0..READS {
            match socket::receive(self.socket.as_fd(), buffer, &mut handles) {
                Ok(received) if received.bytes > 0 => {
                    total += received.bytes;
                    let with_handles = !handles.is_empty();
                    self.session.handle_input(&buffer[..received.bytes], handles.drain(..).map(H::from));
                    // A read stops after a descriptor, otherwise only where there is no more.
                    if received.bytes < buffer.len() && !with_handles {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => {
                    self.session.handle_eof();
                    break;
                }
            }
        }
        total
    }

    /// How many bytes wait to be read.
    pub(crate) fn unread(&self) -> usize {
        rustix::io::ioctl_fionread(&self.socket)
            .ok()
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(0)
    }

    /// Whether something can be read, or the end of the stream.
    pub(crate) fn more_to_read(&self) -> bool {
        let socket = self.socket.as_fd();
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        matches!(rustix::event::poll(&mut fds, Some(&Timespec::default())), Ok(1..))
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Flushed {
        while let Some(transmit) = self.session.poll_transmit().filter(|_| !self.broken) {
            let handle = transmit.handle.map(AsFd::as_fd);
            match socket::send(self.socket.as_fd(), transmit.bytes, handle) {
                Ok(count) => self.session.transmitted(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                // Too many descriptors are on their way (ETOOMANYREFS): it goes on after the next ACK.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::TOOMANYREFS.raw_os_error()) => {
                    return Flushed::All;
                }
                // The peer is gone; its end of the stream will be read in its turn.
                Err(_) => self.broken = true,
            }
        }
        if self.broken { Flushed::Broken } else { Flushed::All }
    }
}

impl Link<OwnedFd> {
    /// Queues a user's message with what travels with it, and writes what the socket takes.
    pub(crate) fn post(&mut self, json: &str, handle: Option<Handle>) -> Result<bool, SendError> {
        let attachment = handle.map(|handle| Attachment {
            kind: wire_kind(&handle),
            handle: OwnedFd::from(handle),
            tag: 0,
            order: Order::Barrier,
        });
        let flow = self.session.send(json, attachment).map_err(|error| SendError::Refused {
            reason: error.reason,
            handle: error.handle.and_then(|fd| Handle::try_from(fd).ok()),
        })?;
        self.flush();
        Ok(flow == Flow::Ready)
    }
}

/// What a Node makes of a handle: its own `net.Server`, `net.Socket` or `dgram.Socket`, as if a Node had sent
/// it (`handleConversion` in `lib/internal/child_process.js`).
fn wire_kind(handle: &Handle) -> HandleKind {
    match handle.kind() {
        Kind::TcpListener | Kind::UnixListener => HandleKind::NetServer,
        Kind::TcpStream | Kind::UnixStream => HandleKind::NetSocket { key: None },
        Kind::Udp => {
            let address = socket::local_addr(handle).ok().flatten();
            HandleKind::DgramSocket { v6: address.is_some_and(|address| address.is_ipv6()) }
        }
        Kind::UnixDatagram | Kind::Other => HandleKind::NetNative,
    }
}

impl<H> AsFd for Link<H> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What came over a channel.
#[derive(Debug)]
pub struct Message {
    json: String,
    /// The socket that came with it.
    pub handle: Option<Handle>,
}

impl Message {
    pub(crate) fn new(json: String, handle: Option<OwnedFd>) -> Self {
        // What is no socket cannot have been meant.
        Self { json, handle: handle.and_then(|fd| Handle::try_from(fd).ok()) }
    }

    /// The message as it came: one JSON value; empty if a handle came without one.
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// The message parsed. It is parsed now, not before.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.json)
    }
}

/// What a channel has to say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Received {
    /// A message.
    Message(Message),
    /// The peer broke a rule; the channel goes on, unless [`Fault::is_fatal`].
    Fault(Fault),
}

/// A message could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The value has no JSON.
    #[error("the message cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The channel did not take it; what was to travel with it comes back.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: session::SendErrorReason,
        /// The socket.
        handle: Option<Handle>,
    },
}

impl SendError {
    /// There is no channel (any more).
    pub(crate) fn closed(handle: Option<Handle>) -> Self {
        Self::Refused { reason: session::SendErrorReason::Closed, handle }
    }
}

/// One end of a channel, for anybody who has a parent or a child that speaks Node's wire.
///
/// Nothing runs behind its back: it reads and writes while [`Channel::recv`] or [`Channel::flush`] is
/// awaited, so an idle channel keeps no program alive.
#[derive(Debug)]
pub struct Channel {
    link: Link<OwnedFd>,
    /// The same socket under a number of its own …
    socket: Option<OwnedFd>,
    /// … which the runtime watches from the first `await` on.
    watched: Option<AsyncFd<OwnedFd>>,
    buffer: Box<[u8]>,
}

impl Channel {
    /// Takes over a channel's socket. It needs a tokio runtime from the first `await` on, not before.
    ///
    /// # Errors
    /// `EMFILE`; those of `fcntl`, for what is no open descriptor.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let link = Link::new(socket, Limits::default())?;
        let socket = Some(link.as_fd().try_clone_to_owned()?);
        Ok(Self { link, socket, watched: None, buffer: Box::default() })
    }

    /// Whether messages can be sent.
    pub fn is_connected(&self) -> bool {
        self.link.session.is_connected()
    }

    /// Queues a message and writes what the socket takes. `Ok(false)` means that something already waits
    /// and that it would be wise to [`flush`](Channel::flush); nothing is lost either way.
    pub fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<bool, SendError> {
        self.send_with(message, None)
    }

    /// The same, with a socket that travels with the message. The receiver gets a copy; ours is closed when
    /// it has arrived.
    pub fn send_with<T: Serialize + ?Sized>(
        &mut self,
        message: &T,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        let json = serde_json::to_string(message)?;
        self.link.post(&json, handle)
    }

    /// Waits until all that was sent is with the kernel. What waits behind a handle goes out when the handle
    /// is acknowledged, so this may take as long as the peer does.
    ///
    /// # Errors
    /// `BrokenPipe` if the channel ends before.
    pub async fn flush(&mut self) -> io::Result<()> {
        loop {
            let flushed = self.link.flush();
            if self.link.session.is_flushed() {
                return Ok(());
            }
            if flushed == Flushed::Broken || self.link.session.wants_close() || !self.progress(flushed).await
            {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }

    /// The next message, or none when the channel has ended. Can be dropped and called again.
    pub async fn recv(&mut self) -> Option<Received> {
        loop {
            let link = &mut self.link;
            match link.session.poll_event() {
                Some(Event::Message { json, handle }) => {
                    let handle = handle.map(|(_, fd)| fd);
                    return Some(Received::Message(Message::new(json, handle)));
                }
                Some(Event::Fault(fault)) => return Some(Received::Fault(fault)),
                Some(Event::Disconnected) => return None,
                // The cluster's business is not ours; a delivered handle is closed by being dropped.
                Some(_) => continue,
                None if link.session.wants_close() => return None,
                None => {}
            }
            let flushed = link.flush();
            if !self.progress(flushed).await {
                return None;
            }
        }
    }

    /// Waits for the socket, and reads what is there. `false` if the runtime cannot watch it, or is gone.
    async fn progress(&mut self, flushed: Flushed) -> bool {
        let write = if flushed == Flushed::Blocked { Interest::WRITABLE } else { Interest::READABLE };
        if let Some(socket) = self.socket.take() {
            let Ok(watched) = watch(socket, Interest::READABLE | Interest::WRITABLE) else { return false };
            self.watched = Some(watched);
            self.buffer = vec![0; READ_SIZE].into();
        }
        let Some(watched) = &self.watched else { return false };
        let Ok(mut ready) = watched.ready(Interest::READABLE | write).await else { return false };
        if ready.ready().is_readable() {
            self.link.receive(&mut self.buffer);
            // Level-triggered by hand: if there is more, the next read says so.
            if !self.link.more_to_read() {
                ready.clear_ready_matching(Ready::READABLE | Ready::READ_CLOSED);
            }
        } else {
            ready.clear_ready_matching(Ready::WRITABLE);
        }
        true
    }

    /// Ends the channel when all that was sent is delivered; [`Channel::recv`] then returns what is left.
    pub fn disconnect(&mut self) {
        self.link.session.disconnect();
    }
}
