//! The IPC channel: a [`Session`](ganger_proto::Session) on its socket. Here descriptors and messages meet for the
//! first time.

mod link;
mod message;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use ganger_proto::{
    Payload, Serialization, Value,
    session::{Event, Limits},
};
use serde::Serialize;
use tokio::{
    io::{Interest, Ready, unix::AsyncFd},
    runtime,
    task::AbortHandle,
};

use crate::{handle::Handle, sys::watch::watch};

pub use ganger_proto::session::{Fault, ParseError, SendErrorReason, WriteError};
pub use message::{Message, Received, SendError};

pub(crate) use link::{Flushed, Link, READ_SIZE};

/// One end of a channel, for anybody who has a parent or a child that speaks Node's wire.
///
/// Messages without a handle are queued by [`Channel::send`] and written together: when the runtime next has a moment,
/// when the channel is awaited, or when much has come together, whichever is first. Nothing is read but while [`Channel::recv`] or
/// [`Channel::flush`] is awaited, so an idle channel keeps no program alive. Dropped, it writes what the socket takes
/// at once, and closes.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    buffer: Box<[u8]>,
}

/// What the channel and its flusher have in common.
#[derive(Debug)]
struct Shared {
    serialization: Serialization,
    state: Mutex<State>,
    /// The same socket under a number of its own, which the runtime watches from the first `await` on, for reading.
    watched: OnceLock<AsyncFd<OwnedFd>>,
}

#[derive(Debug)]
struct State {
    link: Link<OwnedFd>,
    socket: Option<OwnedFd>,
    /// Watched for writing, as long as somebody waits for it: otherwise whatever the peer reads would wake us.
    writable: Weak<AsyncFd<Arc<OwnedFd>>>,
    /// Who writes what waits, once something did.
    flusher: Option<Flusher>,
    /// What did not arrive, once the channel has ended.
    undelivered: VecDeque<OwnedFd>,
    /// What came while somebody waited for something else.
    early: VecDeque<Event<OwnedFd>>,
}

/// A task that stays: a new one each time would cost as much as a message.
#[derive(Debug)]
struct Flusher {
    task: AbortHandle,
    /// What wakes it, once it has slept.
    waker: Option<Waker>,
    /// It has been woken and is not done yet.
    awake: bool,
}

impl Flusher {
    /// Until it is woken.
    fn sleep(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.awake {
            return Poll::Ready(());
        }
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Channel {
    /// Takes over a channel's socket, in Node's default serialization. It needs a tokio runtime from the first `await`
    /// on, not before.
    ///
    /// # Errors
    /// `EMFILE`; those of `fcntl`, for what is no open descriptor.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Self::with_serialization(socket, Serialization::Json)
    }

    /// Takes over a channel's socket. Both ends have to mean the same serialization.
    ///
    /// # Errors
    /// As [`Channel::new`].
    pub fn with_serialization(socket: OwnedFd, serialization: Serialization) -> io::Result<Self> {
        Self::with_limits(socket, serialization, Limits::default())
    }

    /// The same, with limits of what is taken from the peer and kept for it.
    ///
    /// # Errors
    /// As [`Channel::new`].
    pub fn with_limits(socket: OwnedFd, serialization: Serialization, limits: Limits) -> io::Result<Self> {
        let link = Link::new(socket, serialization, limits)?;
        let socket = Some(link.as_fd().try_clone_to_owned()?);
        let state = State {
            link,
            socket,
            writable: Weak::new(),
            flusher: None,
            undelivered: VecDeque::new(),
            early: VecDeque::new(),
        };
        let shared = Arc::new(Shared { serialization, state: Mutex::new(state), watched: OnceLock::new() });
        Ok(Self { shared, buffer: Box::default() })
    }

    /// How values are written on it.
    pub fn serialization(&self) -> Serialization {
        self.shared.serialization
    }

    /// Whether messages can be sent: neither side has closed it.
    pub fn is_connected(&self) -> bool {
        self.shared.state().link.session.is_connected()
    }

    /// Queues a message. `Ok(false)` means that much already waits and that it would be wise to
    /// [`flush`](Channel::flush); nothing is lost either way. The limit is 64 MiB.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> Result<bool, SendError> {
        self.send_with(message, None)
    }

    /// The same, with a socket that travels with the message. The receiver gets a copy; ours is closed when it has
    /// arrived. To keep one, send a [copy](Handle::try_clone): Node's `keepOpen`.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_with<T: Serialize + ?Sized>(
        &self,
        message: &T,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        let (payload, handle) = SendError::check(Payload::of(self.shared.serialization, message), handle)?;
        self.post(handle.is_some(), |link| link.post_owned(payload, handle))
    }

    /// Queues a value of JavaScript's, for what serde has no words for.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_value(&self, value: &Value, handle: Option<Handle>) -> Result<bool, SendError> {
        let (payload, handle) =
            SendError::check(Payload::of_value(self.shared.serialization, value), handle)?;
        self.post(handle.is_some(), |link| link.post_owned(payload, handle))
    }

    /// Queues what was received elsewhere, as it is. What was written in the other serialization is refused.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_payload(&self, payload: &Payload, handle: Option<Handle>) -> Result<bool, SendError> {
        self.post(handle.is_some(), |link| link.post(payload, handle))
    }

    /// A handle shares its write with nobody, so it need not wait for others: it is `alone`.
    fn post(
        &self,
        alone: bool,
        post: impl FnOnce(&mut Link<OwnedFd>) -> Result<bool, SendError>,
    ) -> Result<bool, SendError> {
        let mut state = self.shared.state();
        let room = post(&mut state.link)?;
        if alone || state.link.session.queued() >= AT_ONCE {
            state.link.flush();
        }
        if state.link.session.wants_write() {
            state.flush_later(&self.shared);
        }
        Ok(room)
    }

    /// Waits until all that was sent is with the kernel: when Node would call `send`'s callback. What waits behind a
    /// handle goes out when the handle is acknowledged, so this may take as long as the peer does.
    ///
    /// # Errors
    /// `BrokenPipe` if the channel ends before.
    pub async fn flush(&mut self) -> io::Result<()> {
        loop {
            let flushed = {
                let mut state = self.shared.state();
                state.drop_delivered();
                let flushed = state.link.flush();
                if state.link.session.is_flushed() {
                    return Ok(());
                }
                if flushed == Flushed::Broken || state.link.session.wants_close() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                flushed
            };
            if !self.progress(flushed).await {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }

    /// The next message, or none when the channel has ended. Can be dropped and called again.
    pub async fn recv(&mut self) -> Option<Received> {
        loop {
            let flushed = {
                let mut state = self.shared.state();
                match state.next() {
                    Poll::Ready(received) => return received,
                    Poll::Pending => state.link.flush(),
                }
            };
            if !self.progress(flushed).await {
                return None;
            }
        }
    }

    /// Waits for the socket, and reads what is there. `false` if the runtime cannot watch it, or is gone.
    async fn progress(&mut self, flushed: Flushed) -> bool {
        let Some(watched) = self.shared.watched() else { return false };
        // Nobody else waits for this, so the simpler way to wait will do.
        let readable = poll_fn(|context| watched.poll_read_ready(context));
        let ready = if flushed == Flushed::Blocked {
            tokio::select! {
                ready = readable => ready,
                writable = self.shared.writable() => return writable.is_some(),
            }
        } else {
            readable.await
        };
        let Ok(mut ready) = ready else { return false };
        if self.buffer.is_empty() {
            self.buffer = vec![0; READ_SIZE].into();
        }
        let mut state = self.shared.state();
        state.link.receive(&mut self.buffer);
        // What has to be answered is answered before anybody looks at it: the peer waits.
        state.link.flush();
        // The end is announced once, perhaps with the bytes before it, so that it stays.
        if state.link.is_drained() {
            ready.clear_ready_matching(Ready::READABLE);
        }
        true
    }

    /// Ends the channel when all that was sent is delivered; [`Channel::recv`] then returns what is left.
    pub fn disconnect(&mut self) {
        self.shared.state().link.session.disconnect();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.link.flush();
        if let Some(flusher) = state.flusher.take() {
            flusher.task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket as the runtime watches it; none if it cannot.
    fn watched(&self) -> Option<&AsyncFd<OwnedFd>> {
        if self.watched.get().is_none() {
            let socket = self.state().socket.take()?;
            let watched = watch(socket, Interest::READABLE).ok()?;
            // The socket was there once, so nobody else has been quicker.
            let _ = self.watched.set(watched);
        }
        self.watched.get()
    }

    /// Waits until the socket may take more; none if the runtime cannot watch it, or is gone.
    async fn writable(&self) -> Option<()> {
        let watched = self.state().watch_writable()?;
        watched.writable().await.ok()?.clear_ready();
        Some(())
    }
}

impl State {
    /// What is to be told next: `Ready(None)` is the end.
    fn next(&mut self) -> Poll<Option<Received>> {
        loop {
            if let Some(fd) = self.undelivered.pop_front() {
                if let Ok(handle) = Handle::try_from(fd) {
                    return Poll::Ready(Some(Received::Undelivered(handle)));
                }
                continue;
            }
            let received = match self.early.pop_front().or_else(|| self.link.session.poll_event()) {
                Some(Event::Message { payload, handle }) => {
                    Received::Message(Message::new(payload, handle.map(|(_, fd)| fd)))
                }
                Some(Event::Fault(fault)) => Received::Fault(fault),
                Some(Event::Returned { handle, .. }) => {
                    self.undelivered.push_back(handle);
                    continue;
                }
                Some(Event::Disconnected) => {
                    self.undelivered = self.link.session.take_undelivered().map(|(_, fd)| fd).collect();
                    continue;
                }
                // The cluster's business is not ours; a delivered handle is closed by being dropped.
                Some(_) => continue,
                None if self.link.session.wants_close() => return Poll::Ready(None),
                None => return Poll::Pending,
            };
            return Poll::Ready(Some(received));
        }
    }

    /// Lets what waits be written when there is a moment.
    fn flush_later(&mut self, shared: &Arc<Shared>) {
        if let Some(flusher) = self.flusher.as_mut().filter(|flusher| !flusher.task.is_finished()) {
            if let (false, Some(waker)) = (std::mem::replace(&mut flusher.awake, true), &flusher.waker) {
                waker.wake_by_ref();
            }
            return;
        }
        let Ok(runtime) = runtime::Handle::try_current() else {
            // Without a runtime there is no later moment to wait for.
            self.link.flush();
            return;
        };
        let task = runtime.spawn(flush_when_woken(Arc::downgrade(shared))).abort_handle();
        self.flusher = Some(Flusher { task, waker: None, awake: true });
    }

    /// One for all who wait: a number can be watched once.
    fn watch_writable(&mut self) -> Option<Arc<AsyncFd<Arc<OwnedFd>>>> {
        if let Some(watched) = self.writable.upgrade() {
            return Some(watched);
        }
        let watched = Arc::new(watch(self.link.socket(), Interest::WRITABLE).ok()?);
        self.writable = Arc::downgrade(&watched);
        Some(watched)
    }

    /// Closes what has been delivered: whoever only sends has nobody else who does.
    fn drop_delivered(&mut self) {
        while let Some(event) = self.link.session.poll_event() {
            if !matches!(event, Event::Delivered { .. }) {
                self.early.push_back(event);
            }
        }
    }
}

/// Writes what waits, once whoever queued it has had its turn, until nothing does.
async fn flush_when_woken(shared: Weak<Shared>) {
    let woken = |context: &mut Context<'_>| match shared.upgrade() {
        Some(shared) => {
            shared.state().flusher.as_mut().map_or(Poll::Pending, |flusher| flusher.sleep(context))
        }
        None => Poll::Ready(()),
    };
    loop {
        poll_fn(woken).await;
        loop {
            // Whoever drops the channel has written what could be written.
            let Some(shared) = shared.upgrade() else { return };
            {
                let mut state = shared.state();
                if state.link.flush() != Flushed::Blocked {
                    if let Some(flusher) = &mut state.flusher {
                        flusher.awake = false;
                    }
                    break;
                }
            }
            if shared.writable().await.is_none() {
                return;
            }
        }
    }
}

/// So much is written at once, and not when there is a moment.
const AT_ONCE: usize = 32 << 10;
