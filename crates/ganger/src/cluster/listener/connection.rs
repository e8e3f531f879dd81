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
    cluster::{
        Endpoint,
        worker::{Serving, Tally},
    },
    handle::{Handle, Kind},
    sys::{fd, socket},
};

/// A connection, TCP or Unix-domain: tokio's, whichever it is. Where the primary goes by how many connections its workers
/// have open (`least-conn`), it is counted as open until it is dropped, or made a stream of tokio's. Until then, too, a worker
/// that is to leave may end it when it has lasted for [long enough](crate::cluster::Primary::shed): reading finds its end, as if
/// the client had left.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    tally: Option<Tally>,
    serving: Option<Serving>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($connection:expr, $stream:ident => $call:expr) => {
        match $connection {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl Connection {
    /// Who is at the other end.
    ///
    /// # Errors
    /// `ENOTCONN` if it has gone already.
    pub fn peer_addr(&self) -> io::Result<Endpoint> {
        either!(&self.stream, stream => stream.peer_addr().map(Endpoint::from))
    }

    /// Our end. Of a Unix-domain socket it is the name under which it was bound, which is a temporary one where the
    /// primary or this crate did it; [`Listener::local_addr`](super::Listener::local_addr) knows the path.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<Endpoint> {
        either!(&self.stream, stream => stream.local_addr().map(Endpoint::from))
    }

    /// Sends small pieces at once (`TCP_NODELAY`). A Unix-domain socket always does.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_nodelay(nodelay),
            Stream::Unix(_) => Ok(()),
        }
    }

    /// The same, counted as one that the program has.
    pub(super) fn served(self, serving: Serving) -> Self {
        Self { serving: Some(serving), ..self }
    }

    /// The same, counted as open.
    pub(super) fn counted(self, tally: Option<Tally>) -> Self {
        Self { tally, ..self }
    }
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), tally: None, serving: None }
    }
}

impl From<UnixStream> for Connection {
    fn from(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), tally: None, serving: None }
    }
}

/// The socket becomes non-blocking. Fails with `InvalidData` for what is no connection.
impl TryFrom<OwnedFd> for Connection {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        let kind = socket::kind(&fd)?;
        fd::set_nonblocking(&fd)?;
        match kind {
            Kind::UnixStream => UnixStream::from_std(fd.into()).map(Self::from),
            Kind::TcpStream => TcpStream::from_std(fd.into()).map(Self::from),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "this is no connection")),
        }
    }
}

/// Gives the connection back if it is the other sort.
impl TryFrom<Connection> for TcpStream {
    type Error = Connection;

    fn try_from(connection: Connection) -> Result<Self, Connection> {
        let Connection { stream, tally, serving } = connection;
        match stream {
            Stream::Tcp(stream) => Ok(stream),
            stream @ Stream::Unix(_) => Err(Connection { stream, tally, serving }),
        }
    }
}

/// Gives the connection back if it is the other sort.
impl TryFrom<Connection> for UnixStream {
    type Error = Connection;

    fn try_from(connection: Connection) -> Result<Self, Connection> {
        let Connection { stream, tally, serving } = connection;
        match stream {
            Stream::Unix(stream) => Ok(stream),
            stream @ Stream::Tcp(_) => Err(Connection { stream, tally, serving }),
        }
    }
}

/// To be sent on to another process. Fails if the runtime that watched it is gone.
impl TryFrom<Connection> for Handle {
    type Error = io::Error;

    fn try_from(connection: Connection) -> io::Result<Self> {
        either!(connection.stream, stream => stream.try_into())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(&self.stream, stream => stream.as_fd())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, serving, .. } = self.get_mut();
        if serving.as_ref().is_some_and(|serving| serving.poll_end(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        let read = either!(stream, stream => Pin::new(stream).poll_read(cx, buffer));
        if let (Poll::Ready(_), Some(serving)) = (&read, serving) {
            serving.was_read();
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(&mut self.get_mut().stream, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut self.get_mut().stream, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.get_mut().stream, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.get_mut().stream, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
