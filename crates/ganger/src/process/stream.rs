//! Our ends of a child's pipes, as tokio's readers and writers.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixStream, unix::pipe},
    sync::Notify,
};

use super::{Stdio, stdio::STANDARD};
use crate::sys::fd::set_blocking;

/// How many of a child's outputs are still open on our side.
#[derive(Debug, Default)]
pub(super) struct Open {
    count: AtomicUsize,
    fewer: Notify,
}

impl Open {
    pub(super) fn is_none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Resolves when one has ended since the last call.
    pub(super) async fn fewer(&self) {
        self.fewer.notified().await;
    }
}

/// One output that is open. It ends once.
#[derive(Debug)]
struct Part(Option<Arc<Open>>);

impl Part {
    fn of(open: &Arc<Open>) -> Self {
        open.count.fetch_add(1, Ordering::AcqRel);
        Self(Some(open.clone()))
    }

    fn end(&mut self) {
        if let Some(open) = self.0.take() {
            open.count.fetch_sub(1, Ordering::AcqRel);
            open.fewer.notify_one();
        }
    }

    /// Reads, and ends with the stream: after an error there is nothing to come either.
    fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining() > 0);
        let result = ready!(Pin::new(stream).poll_read(cx, buffer));
        if result.is_err() || (room && buffer.filled().len() == before) {
            self.end();
        }
        Poll::Ready(result)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.end();
    }
}

/// Our ends of a child's pipes; `None` for what is none.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Streams {
    /// Where its stdin is written.
    pub stdin: Option<ChildStdin>,
    /// Where its stdout is read.
    pub stdout: Option<ChildOutput>,
    /// Where its stderr is read.
    pub stderr: Option<ChildOutput>,
    /// The further ones by number; the first three are always `None`.
    pub pipes: Vec<Option<ChildPipe>>,
}

impl Streams {
    /// Of our ends by number. Nobody counts those that are open.
    pub(crate) fn of(ends: Vec<Option<OwnedFd>>) -> io::Result<Self> {
        Self::counted(ends, &Arc::default())
    }

    pub(super) fn counted(ends: Vec<Option<OwnedFd>>, open: &Arc<Open>) -> io::Result<Self> {
        let mut ends = ends.into_iter();
        let mut standard = || ends.next().flatten();
        let stdin = standard().map(ChildStdin::new).transpose()?;
        let stdout = standard().map(|end| ChildOutput::new(end, open)).transpose()?;
        let stderr = standard().map(|end| ChildOutput::new(end, open)).transpose()?;
        let further = ends.map(|end| end.map(|end| ChildPipe::new(end, open)).transpose());
        let pipes =
            [const { None }; STANDARD].map(Ok).into_iter().chain(further).collect::<io::Result<_>>()?;
        Ok(Self { stdin, stdout, stderr, pipes })
    }
}

/// The writing end of a child's stdin. Dropped, the child finds the end of its input. Writing when nobody reads
/// any more is an error (`BrokenPipe`) and no signal.
#[derive(Debug)]
pub struct ChildStdin(pipe::Sender);

impl ChildStdin {
    pub(super) fn new(end: OwnedFd) -> io::Result<Self> {
        pipe::Sender::from_owned_fd_unchecked(end).map(Self)
    }

    /// What another child may write to in our place.
    ///
    /// # Errors
    /// Those of making the pipe blocking again.
    pub fn into_stdio(self) -> io::Result<Stdio> {
        self.0.into_blocking_fd().map(Stdio::from)
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsFd for ChildStdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The reading end of a child's stdout or stderr. Nothing is buffered beyond the pipe: a child whose output
/// nobody reads waits.
#[derive(Debug)]
pub struct ChildOutput {
    pipe: pipe::Receiver,
    part: Part,
}

impl ChildOutput {
    pub(super) fn new(end: OwnedFd, open: &Arc<Open>) -> io::Result<Self> {
        Ok(Self { pipe: pipe::Receiver::from_owned_fd_unchecked(end)?, part: Part::of(open) })
    }

    /// What another child may read in our place: the way from one command into the next, without a copy by us.
    ///
    /// # Errors
    /// Those of making the pipe blocking again.
    pub fn into_stdio(self) -> io::Result<Stdio> {
        self.pipe.into_blocking_fd().map(Stdio::from)
    }
}

impl AsyncRead for ChildOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.part.poll_read(&mut this.pipe, cx, buffer)
    }
}

impl AsFd for ChildOutput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Our end of a pipe above the standard streams, which both sides read and write.
#[derive(Debug)]
pub struct ChildPipe {
    socket: UnixStream,
    part: Part,
}

impl ChildPipe {
    pub(super) fn new(end: OwnedFd, open: &Arc<Open>) -> io::Result<Self> {
        Ok(Self { socket: UnixStream::from_std(StdUnixStream::from(end))?, part: Part::of(open) })
    }

    /// What another child may use in our place.
    ///
    /// # Errors
    /// Those of making the socket blocking again.
    pub fn into_stdio(self) -> io::Result<Stdio> {
        let socket = self.socket.into_std()?;
        set_blocking(&socket)?;
        Ok(Stdio::from_fd(socket))
    }
}

impl AsyncRead for ChildPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.part.poll_read(&mut this.socket, cx, buffer)
    }
}

impl AsyncWrite for ChildPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl AsFd for ChildPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
