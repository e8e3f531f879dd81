//! A socket that travels with a message.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::sys::{fd, socket};

pub use crate::sys::socket::Kind;

/// A socket received with a message, or to be sent with one. Its kind was asked of the kernel when it
/// arrived, so what it turns into is what it is.
///
/// Node aborts when it is sent anything but a socket or a pipe, so nothing else becomes a `Handle`.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    kind: Kind,
}

impl Handle {
    /// What kind of socket it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Another handle of the same socket: to send one and keep one, Node's `keepOpen`.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, kind: self.kind })
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
        Ok(Self { fd, kind })
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
                Self { fd, kind: $kind }
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
}
