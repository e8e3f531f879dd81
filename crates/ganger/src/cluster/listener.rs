//! What a worker accepts connections from: a socket of its own, or what the primary hands over.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ganger_proto::{
    Seq,
    cluster::worker::ListenId,
    node::{DEFAULT_BACKLOG, Target},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
};

use super::worker::Shared;
use crate::{
    handle::{Handle, Kind},
    sys::socket,
};

/// After an error that is not a single connection's (descriptors have run out), accepting pauses so long.
const PAUSE: Duration = Duration::from_millis(50);

/// A listening socket that a worker shares with the others. Dropped, it is closed; what it has not taken
/// goes to the other workers.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    id: ListenId,
    source: Source,
    address: Option<SocketAddr>,
}

#[derive(Debug)]
pub(super) enum Source {
    /// The primary accepts; each connection is answered for when it is taken.
    Queue(mpsc::UnboundedReceiver<(Seq, OwnedFd)>),
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection, TCP or Unix-domain.
#[derive(Debug)]
pub enum Connection {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A connection over a Unix-domain socket.
    Unix(UnixStream),
}

impl Listener {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: ListenId,
        source: Source,
        address: Option<SocketAddr>,
    ) -> Self {
        Self { shared, id, source, address }
    }

    /// The address that is listened on; none for a path.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The next connection; none when the listener is closed, which it is when the worker is to leave. Can
    /// be dropped and called again: no connection is lost by that.
    ///
    /// What fails is a single connection or a shortage that passes, so there is no error to handle.
    pub async fn accept(&mut self) -> Option<Connection> {
        let closed = self.shared.stopping();
        match &mut self.source {
            Source::Queue(connections) => loop {
                let (seq, fd) = connections.recv().await?;
                match Connection::try_from(fd) {
                    Ok(connection) => {
                        self.shared.answer(seq, true);
                        return Some(connection);
                    }
                    // Another worker may be able to.
                    Err(_) => self.shared.answer(seq, false),
                }
            },
            Source::Tcp(listener) => {
                or(closed, async {
                    retry(|cx| listener.poll_accept(cx)).await.map(|(tcp, _)| Connection::Tcp(tcp))
                })
                .await
            }
            Source::Unix(listener) => {
                or(closed, async {
                    retry(|cx| listener.poll_accept(cx)).await.map(|(unix, _)| Connection::Unix(unix))
                })
                .await
            }
        }
    }
}

/// What comes, unless it is closed first.
async fn or<T>(closed: impl Future<Output = ()>, accept: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::select! {
        biased;
        () = closed => None,
        accepted = accept => accepted,
    }
}

async fn retry<T>(mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> Option<T> {
    loop {
        match poll_fn(&mut accept).await {
            Ok(accepted) => return Some(accepted),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept for now");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Source::Queue(connections) = &mut self.source {
            connections.close();
            while let Ok((seq, _)) = connections.try_recv() {
                self.shared.answer(seq, false);
            }
        }
        self.shared.close(self.id);
    }
}

impl Source {
    /// A socket that the primary bound. A Node primary leaves listening to the worker, and if binding failed
    /// late, finding that out as well (`lib/net.js`, `listenOnPrimaryHandle`).
    pub(super) fn shared(fd: OwnedFd, target: &Target) -> io::Result<Self> {
        let bound = socket::local_addr(&fd)?;
        if let (Target::Tcp { port, .. }, Some(bound)) = (target, bound)
            && *port != 0
            && bound.port() != *port
        {
            return Err(rustix::io::Errno::ADDRINUSE.into());
        }
        socket::listen(&fd, i32::try_from(DEFAULT_BACKLOG).unwrap_or(i32::MAX))?;
        let unfit =
            |_| io::Error::new(io::ErrorKind::InvalidData, "the primary sent something else than a listener");
        let handle = Handle::try_from(fd)?;
        match handle.kind() {
            Kind::UnixListener => handle.try_into().map(Self::Unix).map_err(unfit),
            _ => handle.try_into().map(Self::Tcp).map_err(unfit),
        }
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Queue(_) | Self::Unix(_) => None,
        }
    }
}

impl TryFrom<OwnedFd> for Connection {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        match socket::kind(&fd)? {
            Kind::UnixStream => {
                let stream = std::os::unix::net::UnixStream::from(fd);
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Self::Unix)
            }
            _ => {
                let stream = std::net::TcpStream::from(fd);
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream).map(Self::Tcp)
            }
        }
    }
}

macro_rules! either {
    ($connection:expr, $stream:ident => $call:expr) => {
        match $connection {
            Connection::Tcp($stream) => $call,
            Connection::Unix($stream) => $call,
        }
    };
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
