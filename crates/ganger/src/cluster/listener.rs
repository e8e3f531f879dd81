//! What a worker accepts connections from: a socket of its own, or what the primary hands over.

#[cfg(feature = "axum")]
mod axum;
mod connection;

use std::{
    future::{Future, poll_fn},
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::mpsc,
    time::Sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    Endpoint,
    worker::{Handed, Hold, Open, Shared},
};
use crate::{
    handle::{Handle, Kind},
    sys::socket,
};

pub use connection::Connection;

/// After an error that is not a single connection's (descriptors have run out), accepting pauses so long.
const PAUSE: Duration = Duration::from_millis(50);

/// A listening socket, which a worker shares with the others. Dropped, it is closed; what was handed over and not
/// accepted goes to the other workers.
///
/// It is a [`Stream`] of connections too, and with the feature `axum` a listener of axum's.
#[derive(Debug)]
pub struct Listener {
    source: Source,
    address: Endpoint,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Accepting is paused so long.
    pause: Option<Pin<Box<Sleep>>>,
    /// What of it the program has.
    open: Open,
    /// Behind the source: closed first, given back then.
    hold: Hold,
    /// When it is to stop: so many connections may still wait in a queue that is nobody else's.
    waiting: u32,
}

/// Where connections come from: one of the two, or both. A primary of ours also hands over what waits at the socket of
/// another slot that has no worker.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// What the primary accepts; each connection is answered for when it is taken.
    pub(super) queue: Option<Queue>,
    pub(super) socket: Option<Socket>,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) shared: Arc<Shared>,
    pub(super) connections: mpsc::UnboundedReceiver<Handed>,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn new(
        source: Source,
        address: Endpoint,
        stopping: CancellationToken,
        open: Open,
        hold: Hold,
        backlog: u32,
    ) -> Self {
        let stopping = Box::pin(stopping.cancelled_owned());
        let waiting = socket::capped_backlog(backlog).saturating_add(1);
        Self { source, address, stopping, pause: None, open, hold, waiting }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> &Endpoint {
        &self.address
    }

    /// The next connection; none when the listener is closed, which it is when the worker is to leave. What was handed
    /// to this worker before, or waits at a socket that nobody shares, comes first. Can be dropped and called again: no
    /// connection is lost by that.
    ///
    /// What fails is a single connection or a shortage that passes, so there is no error to handle.
    pub async fn accept(&mut self) -> Option<Connection> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The same for who polls.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Connection>> {
        match self.source.queue.as_mut().map(|queue| queue.poll(cx)) {
            Some(Poll::Ready(Some(connection))) => Poll::Ready(Some(connection)),
            Some(Poll::Pending) if self.source.socket.is_none() => Poll::Pending,
            Some(Poll::Pending | Poll::Ready(None)) | None => self.poll_socket(cx),
        }
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Option<Connection>> {
        let Some(socket) = &self.source.socket else { return Poll::Ready(None) };
        let stopping = self.stopping.as_mut().poll(cx).is_ready();
        if stopping {
            // Others accept from the same socket, or their primary keeps it.
            if self.hold.is_shared() || self.waiting == 0 {
                return Poll::Ready(None);
            }
            self.waiting -= 1;
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match socket.poll(cx) {
                Poll::Pending if stopping => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(connection)) => return Poll::Ready(Some(connection.served(self.open.one()))),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "cannot accept for now");
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }
}

impl Queue {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Connection>> {
        loop {
            let Some(Handed { seq, fd, serving }) = ready!(self.connections.poll_recv(cx)) else {
                return Poll::Ready(None);
            };
            match Connection::try_from(fd) {
                Ok(connection) => {
                    let connection = connection.served(serving).counted(self.shared.accepted(seq));
                    return Poll::Ready(Some(connection));
                }
                // Another worker may be able to.
                Err(_) => self.shared.rejected(seq),
            }
        }
    }
}

impl Socket {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(tcp, _)| tcp.into()),
            Self::Unix(listener) => listener.poll_accept(cx).map_ok(|(unix, _)| unix.into()),
        }
    }
}

impl Stream for Listener {
    type Item = Connection;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Connection>> {
        self.get_mut().poll_accept(cx)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(Queue { shared, connections }) = &mut self.source.queue {
            connections.close();
            while let Ok(Handed { seq, .. }) = connections.try_recv() {
                shared.rejected(seq);
            }
        }
    }
}

/// Fails with `InvalidData` for what does not listen.
impl TryFrom<OwnedFd> for Socket {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        let unfit = |_| io::Error::new(io::ErrorKind::InvalidData, "this is no socket that listens");
        let handle = Handle::try_from(fd)?;
        match handle.kind() {
            Kind::UnixListener => handle.try_into().map(Self::Unix).map_err(unfit),
            _ => handle.try_into().map(Self::Tcp).map_err(unfit),
        }
    }
}
