//! A socket that travels with a message.

mod lent;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::sys::{fd, socket};

pub use crate::sys::socket::Kind;
pub use lent::Lent;

/// A socket received with a message, or to be sent with one. Its kind was asked of the kernel when it
/// arrived, so what it turns into is what it is.
///
/// Node aborts when it is sent anything but a socket or a pipe, so nothing else becomes a `Handle`.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    kind: Kind,
    /// It travels as the raw handle that it is, and not as an object of Node's.
    native: bool,
    /// The server that accepted it, where its sockets are counted.
    server: Option<String>,
    /// Who lent it to us learns when this is dropped.
    lease: Option<Box<dyn Lease>>,
}

/// What is kept with a socket that somebody lent to us, and dropped with it.
pub(crate) trait Lease: fmt::Debug + Send + Sync {}

impl Handle {
    fn new(fd: OwnedFd, kind: Kind) -> Self {
        Self { fd, kind, native: false, server: None, lease: None }
    }

    /// What kind of socket it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Another handle of the same socket: to send one and keep one, Node's `keepOpen`.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone(&self) -> io::Result<Self> {
        let copy = Self::new(self.fd.try_clone()?, self.kind);
        Ok(Self { native: self.native, server: self.server.clone(), ..copy })
    }

    /// To be sent as Node's `net.Native` or `dgram.Native`: a Node gets the raw handle, for `net.Server`'s `listen(handle)` or
    /// `dgram.Socket`'s `bind(handle)`, and not a server or socket that is running already. Between two ends of ours
    /// nothing is different.
    #[must_use]
    pub fn native(mut self) -> Self {
        self.native = true;
        self
    }

    /// Whether it came, or is to be sent, as a [raw handle](Handle::native).
    pub fn is_native(&self) -> bool {
        self.native
    }

    /// The label of the server that accepted this connection: in Node `addressType:address:port` as it was asked to
    /// listen, `4:127.0.0.1:8000`.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Labels the connection with the server that accepted it, so that
    /// [`Channel::lent_sockets`](crate::Channel::lent_sockets) can ask how many of them are open at the other end. Any text
    /// will do.
    #[must_use]
    pub fn with_server(mut self, label: impl Into<String>) -> Self {
        self.server = Some(label.into());
        self
    }

    /// The socket, in a wrapper that keeps count for whoever lent it to us: as long as it is there, a Node's
    /// `server.getConnections()` counts it and `server.close()` waits for it. Converted into a socket of its own, it counts
    /// as closed.
    ///
    /// # Errors
    /// The handle, if it is of another kind.
    pub fn into_lent<T: TryFrom<Self, Error = Self>>(mut self) -> Result<Lent<T>, Self> {
        let lease = self.lease.take();
        match T::try_from(self) {
            Ok(socket) => Ok(Lent::new(socket, lease)),
            Err(mut handle) => {
                handle.lease = lease;
                Err(handle)
            }
        }
    }

    /// Dropped, it tells the lender.
    pub(crate) fn take_lease(&mut self) -> Option<Box<dyn Lease>> {
        self.lease.take()
    }

    pub(crate) fn lent_by(mut self, server: String, lease: Box<dyn Lease>) -> Self {
        self.server = Some(server);
        self.lease = Some(lease);
        self
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Handle> for OwnedFd {
    fn from(handle: Handle) -> Self {
        handle.fd
    }
}

/// Fails with `InvalidInput` if the descriptor is not a socket. The socket becomes non-blocking, since a
/// blocking one freezes the event loop of a Node that receives it.
impl TryFrom<OwnedFd> for Handle {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        let kind = socket::kind(&fd)?;
        if kind == Kind::Other {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "only sockets can be sent as handles"));
        }
        fd::set_nonblocking(&fd)?;
        Ok(Self::new(fd, kind))
    }
}

macro_rules! conversions {
    ($($std:ty, $tokio:ty, $kind:path;)*) => {$(
        /// The socket becomes non-blocking.
        impl From<$std> for Handle {
            fn from(socket: $std) -> Self {
                let fd = OwnedFd::from(socket);
                // Cannot fail on a socket that is open.
                let _ = fd::set_nonblocking(&fd);
                Self::new(fd, $kind)
            }
        }

        /// Fails if the runtime that watched it is gone.
        impl TryFrom<$tokio> for Handle {
            type Error = io::Error;

            fn try_from(socket: $tokio) -> io::Result<Self> {
                socket.into_std().map(Self::from)
            }
        }

        /// Gives the handle back if it is of another kind. The socket is non-blocking.
        impl TryFrom<Handle> for $std {
            type Error = Handle;

            fn try_from(handle: Handle) -> Result<Self, Handle> {
                if handle.kind == $kind { Ok(handle.fd.into()) } else { Err(handle) }
            }
        }

        /// Gives the handle back if it is of another kind, or if there is no tokio runtime to watch it.
        impl TryFrom<Handle> for $tokio {
            type Error = Handle;

            fn try_from(handle: Handle) -> Result<Self, Handle> {
                if handle.kind != $kind || tokio::runtime::Handle::try_current().is_err() {
                    return Err(handle);
                }
                // A copy goes to tokio, so that the handle is still whole if it is refused.
                let copy = handle.fd.try_clone().map(<$std>::from).and_then(Self::from_std);
                copy.map_err(|_| handle)
            }
        }
    )*};
}

conversions! {
    std::net::TcpListener, tokio::net::TcpListener, Kind::TcpListener;
    std::net::TcpStream, tokio::net::TcpStream, Kind::TcpStream;
    std::net::UdpSocket, tokio::net::UdpSocket, Kind::Udp;
    std::os::unix::net::UnixListener, tokio::net::UnixListener, Kind::UnixListener;
    std::os::unix::net::UnixStream, tokio::net::UnixStream, Kind::UnixStream;
    std::os::unix::net::UnixDatagram, tokio::net::UnixDatagram, Kind::UnixDatagram;
}
