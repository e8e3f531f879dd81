//! A session and its socket: moves bytes between the two, without waiting. The cluster's loops own theirs
//! directly.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use ganger_proto::{
    Payload, Serialization, Session,
    node::HandleKind,
    session::{self, Attachment, Flow, Limits, Order},
};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::SendError;
use crate::{
    handle::{Handle, Kind},
    sys::{fd, socket},
};

/// How much is read at once; Node's own size.
pub(crate) const READ_SIZE: usize = 64 << 10;
/// So many reads in a row before others have their turn. libuv takes 32, for whom nobody else waits.
const READS: usize = 4;

/// A session and its socket.
#[derive(Debug)]
pub(crate) struct Link<H> {
    pub(crate) session: Session<H>,
    socket: Arc<OwnedFd>,
    /// Writing has failed: only what the peer still says is of interest.
    broken: bool,
    /// The last read took all that there was. The end may have come since, unannounced.
    drained: bool,
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
    pub(crate) fn new(socket: OwnedFd, serialization: Serialization, limits: Limits) -> io::Result<Self> {
        fd::set_nonblocking(&socket)?;
        fd::set_cloexec(&socket, true)?;
        let session = Session::with_serialization(serialization, limits);
        Ok(Self { session, socket: Arc::new(socket), broken: false, drained: false })
    }

    /// The socket, to be watched.
    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        self.socket.clone()
    }

    /// Reads what is there into the session, by way of the loop's one buffer. Returns how many bytes it was.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let mut total = 0;
        for _ in 0..READS {
            let read = self.receive_once(buffer);
            total += read;
            if read == 0 || self.drained {
                break;
            }
        }
        total
    }

    /// The same with one read, where whoever waits comes back for the rest.
    pub(crate) fn receive_once(&mut self, buffer: &mut [u8]) -> usize {
        let mut handles = Vec::new();
        self.drained = false;
        match socket::receive(self.socket.as_fd(), buffer, &mut handles) {
            Ok(received) if received.bytes > 0 => {
                // A read stops after a descriptor, otherwise only where there is no more.
                let stopped = !handles.is_empty() || received.truncated;
                self.session.handle_input(&buffer[..received.bytes], handles.into_iter().map(H::from));
                self.drained = received.bytes < buffer.len() && !stopped;
                received.bytes
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.drained = true;
                0
            }
            Ok(_) | Err(_) => {
                self.session.handle_eof();
                0
            }
        }
    }

    /// Whether the last [`Link::receive`] took all bytes that there were. It does not say whether the end followed.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// How many bytes wait to be read.
    pub(crate) fn unread(&self) -> usize {
        fd::unread(&self.socket)
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
        self.close_if_ended();
        if self.broken { Flushed::Broken } else { Flushed::All }
    }

    /// Lets the peer see the end, once there is nothing left to say; whoever owns this may keep it for long.
    pub(crate) fn close_if_ended(&self) {
        if self.session.wants_close() {
            // Fails if the peer was first.
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        }
    }
}

impl Link<OwnedFd> {
    /// Queues a user's message with what travels with it.
    pub(crate) fn post(&mut self, payload: &Payload, handle: Option<Handle>) -> Result<bool, SendError> {
        let attachment = handle.map(attachment).transpose()?;
        told(self.session.send(payload, attachment))
    }

    /// The same with a message that nobody else needs.
    pub(crate) fn post_owned(&mut self, payload: Payload, handle: Option<Handle>) -> Result<bool, SendError> {
        let attachment = handle.map(attachment).transpose()?;
        told(self.session.send_owned(payload, attachment))
    }
}

/// What travels with a user's message.
pub(crate) fn attachment<H: From<OwnedFd>>(handle: Handle) -> Result<Attachment<H>, SendError> {
    match wire_kind(&handle) {
        Some(kind) => {
            let handle = H::from(OwnedFd::from(handle));
            Ok(Attachment { kind, handle, tag: 0, order: Order::Barrier })
        }
        // A Node that gets such a one never takes another.
        None => Err(SendError::Unsendable { handle }),
    }
}

fn told(sent: Result<Flow, session::SendError<OwnedFd>>) -> Result<bool, SendError> {
    sent.map(|flow| flow == Flow::Ready).map_err(|error| SendError::Refused {
        reason: error.reason,
        handle: error.handle.and_then(|fd| Handle::try_from(fd).ok()),
    })
}

/// What a Node makes of a handle: its own `net.Server`, `net.Socket` or `dgram.Socket`, as if a Node had sent
/// it (`handleConversion` in `lib/internal/child_process.js`), unless it is to have the raw one. None for what it has no
/// object for.
fn wire_kind(handle: &Handle) -> Option<HandleKind> {
    Some(match handle.kind() {
        Kind::Udp if handle.is_native() => HandleKind::DgramNative,
        Kind::TcpListener | Kind::UnixListener | Kind::TcpStream | Kind::UnixStream if handle.is_native() => {
            HandleKind::NetNative
        }
        Kind::TcpListener | Kind::UnixListener => HandleKind::NetServer,
        Kind::TcpStream | Kind::UnixStream => HandleKind::NetSocket { key: handle.server().map(Into::into) },
        Kind::Udp => {
            let address = socket::local_addr(handle).ok().flatten();
            HandleKind::DgramSocket { v6: address.is_some_and(|address| address.is_ipv6()) }
        }
        Kind::UnixDatagram | Kind::Other => return None,
    })
}

impl<H> AsFd for Link<H> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
