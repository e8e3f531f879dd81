//! A connection that a worker has accepted.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::{
    cluster::Endpoint,
    handle::{Handle, Kind},
    sys::{fd, socket},
};

/// A connection, TCP or Unix-domain: tokio's, whichever it is.
#[derive(Debug)]
pub enum Connection {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A connection over a Unix-domain socket.
    Unix(UnixStream),
}

macro_rules! either {
    ($connection:expr, $stream:ident => $call:expr) => {
        match $connection {
            Connection::Tcp($stream) => $call,
            Connection::Unix($stream) => $call,
        }
    };
}

impl Connection {
    /// Who is at the other end.
    ///
    /// # Errors
    /// `ENOTCONN` if it has gone already.
    pub fn peer_addr(&self) -> io::Result<Endpoint> {
        either!(self, stream => stream.peer_addr().map(Endpoint::from))
    }

    /// Our end. Of a Unix-domain socket it is the name under which it was bound, which is a temporary one where the
    /// primary or this crate did it; [`Listener::local_addr`](super::Listener::local_addr) knows the path.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<Endpoint> {
        either!(self, stream => stream.local_addr().map(Endpoint::from))
    }

    /// Sends small pieces at once (`TCP_NODELAY`). A Unix-domain socket always does.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(nodelay),
            Self::Unix(_) => Ok(()),
        }
    }
}

/// The socket becomes non-blocking. Fails with `InvalidData` for what is no connection.
impl TryFrom<OwnedFd> for Connection {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        let kind = socket::kind(&fd)?;
        fd::set_nonblocking(&fd)?;
        match kind {
            Kind::UnixStream => UnixStream::from_std(fd.into()).map(Self::Unix),
            Kind::TcpStream => TcpStream::from_std(fd.into()).map(Self::Tcp),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "this is no connection")),
        }
    }
}

/// Gives the connection back if it is the other sort.
impl TryFrom<Connection> for TcpStream {
    type Error = Connection;

    fn try_from(connection: Connection) -> Result<Self, Connection> {
        match connection {
            Connection::Tcp(stream) => Ok(stream),
            other @ Connection::Unix(_) => Err(other),
        }
    }
}

/// Gives the connection back if it is the other sort.
impl TryFrom<Connection> for UnixStream {
    type Error = Connection;

    fn try_from(connection: Connection) -> Result<Self, Connection> {
        match connection {
            Connection::Unix(stream) => Ok(stream),
            other @ Connection::Tcp(_) => Err(other),
        }
    }
}

/// To be sent on to another process. Fails if the runtime that watched it is gone.
impl TryFrom<Connection> for Handle {
    type Error = io::Error;

    fn try_from(connection: Connection) -> io::Result<Self> {
        either!(connection, stream => stream.try_into())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, stream => stream.as_fd())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
