//! The IPC channel: a [`Session`](ganger_proto::Session) on its socket. Here descriptors and messages meet for the
//! first time.

mod flusher;
mod lane;
mod lent;
mod link;
mod message;
mod pace;
mod patience;
mod unread;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::Poll,
};

use ganger_proto::{
    Payload, Serialization, Time, Value,
    node::{HandleKind, LentMessage},
    session::Event,
};
use serde::Serialize;
use tokio::{
    io::{Interest, Ready, unix::AsyncFd},
    runtime,
};

use crate::{clock, handle::Handle, sys::watch::watch};

pub use ganger_proto::session::{Fault, Limits, ParseError, SendErrorReason, WriteError};
pub use lane::{DESCRIPTORS, Lane};
pub use lent::NoReply;
pub use message::{Message, Received, SendError};
pub use unread::Unread;

use flusher::Flusher;
use lent::Borrowed;
use unread::Backlog;

pub(crate) use lane::{Arrived, LaneLink, Moved};
pub(crate) use link::{Flushed, Link, READ_SIZE, attachment};
pub(crate) use pace::Pace;
pub(crate) use patience::Patience;

/// One end of a channel, for anybody who has a parent or a child that speaks Node's wire.
///
/// Messages without a handle are queued by [`Channel::send`] and written together: when the runtime next has a moment,
/// when the channel is awaited, or when much has come together, whichever is first; the first one after something was read,
/// which may be its answer, is written at once. Nothing is read but while [`Channel::recv`] or
/// [`Channel::flush`] is awaited, so an idle channel keeps no program alive. Dropped, it writes what the socket takes
/// at once, and closes.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    buffer: Box<[u8]>,
    pace: Pace,
    patience: Patience,
    lane: Option<Lane>,
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
    /// Something was read, and nothing written since.
    unanswered: bool,
    /// What was heard and not told yet.
    received: Backlog,
    /// Answers about sockets that were lent.
    answers: VecDeque<LentMessage>,
    /// Where this is, for the flusher and for those who hold sockets of the peer's.
    own: Weak<Shared>,
}

/// What there is to wait for.
#[derive(Clone, Copy, Debug)]
struct Wait {
    flushed: Flushed,
    /// Since when, where nothing was written since the last read.
    unanswered: Option<Time>,
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
        let shared = Arc::new_cyclic(|own| {
            let state = State {
                link,
                socket,
                writable: Weak::new(),
                flusher: None,
                unanswered: false,
                received: Backlog::default(),
                answers: VecDeque::new(),
                own: own.clone(),
            };
            Shared { serialization, state: Mutex::new(state), watched: OnceLock::new() }
        });
        let (pace, patience) = (Pace::default(), Patience::default());
        Ok(Self { shared, buffer: Box::default(), pace, patience, lane: None })
    }

    pub(crate) fn with_lane(mut self, lane: Option<OwnedFd>) -> Self {
        self.lane = lane.map(Lane::new);
        self
    }

    /// Takes the [lane](Lane) that lies beside it, if there is one.
    pub fn take_lane(&mut self) -> Option<Lane> {
        self.lane.take()
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
        self.post(handle, |link, handle| link.post_owned(payload, handle))
    }

    /// Queues a value of JavaScript's, for what serde has no words for.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_value(&self, value: &Value, handle: Option<Handle>) -> Result<bool, SendError> {
        let (payload, handle) =
            SendError::check(Payload::of_value(self.shared.serialization, value), handle)?;
        self.post(handle, |link, handle| link.post_owned(payload, handle))
    }

    /// Queues what was received elsewhere, as it is. What was written in the other serialization is refused, and what is
    /// no value at all, which a Node would die of: it is [looked at](Payload::check) once, unless it was parsed before.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_payload(&self, payload: &Payload, handle: Option<Handle>) -> Result<bool, SendError> {
        if payload.check().is_err() {
            return Err(SendError::Refused { reason: SendErrorReason::Unspeakable, handle });
        }
        self.post(handle, |link, handle| link.post(payload, handle))
    }

    fn post(
        &self,
        mut handle: Option<Handle>,
        post: impl FnOnce(&mut Link<OwnedFd>, Option<Handle>) -> Result<bool, SendError>,
    ) -> Result<bool, SendError> {
        // A handle shares its write with nobody, so it need not wait for others.
        let mut at_once = handle.is_some();
        // What goes on to somebody else is here no more. The lease may be one of this very channel's, and so is not given
        // back while its state is held.
        let _lease = handle.as_mut().and_then(Handle::take_lease);
        let mut state = self.shared.state();
        let room = post(&mut state.link, handle)?;
        // Who asked waits for the answer; and to wake somebody who writes it costs more than to write it.
        at_once |= std::mem::take(&mut state.unanswered);
        if at_once || state.link.session.queued() >= AT_ONCE {
            state.link.flush();
        }
        if state.link.session.wants_write() {
            state.flush_later();
        }
        Ok(room)
    }

    /// Waits until all that was sent is with the kernel: when Node would call `send`'s callback. What waits behind a
    /// handle goes out when the handle is acknowledged, so this may take as long as the peer does. Messages that come
    /// meanwhile are kept for [`Channel::recv`], up to [a limit](Limits::unread).
    ///
    /// # Errors
    /// `BrokenPipe` if the channel ends before; [`Unread`], as an [`io::Error`], if more messages come than are kept: receive
    /// some, and flush again.
    pub async fn flush(&mut self) -> io::Result<()> {
        loop {
            let wait = {
                let mut state = self.shared.state();
                state.hear();
                let flushed = state.link.flush();
                if state.link.session.is_flushed() {
                    return Ok(());
                }
                if flushed == Flushed::Broken || state.link.session.wants_close() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                state.room_to_hear()?;
                state.wait(flushed)
            };
            if !self.progress(wait).await {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }

    /// The next message, or none when the channel has ended. Can be dropped and called again.
    pub async fn recv(&mut self) -> Option<Received> {
        loop {
            let wait = {
                let mut state = self.shared.state();
                if let Poll::Ready(received) = state.next() {
                    return received;
                }
                let flushed = state.link.flush();
                state.wait(flushed)
            };
            if !self.progress(wait).await {
                return None;
            }
        }
    }

    /// Waits for the socket, and reads what is there. `false` if the runtime cannot watch it, or is gone.
    async fn progress(&mut self, wait: Wait) -> bool {
        let Some(watched) = self.shared.watched() else { return false };
        // Nobody else waits for this, so the simpler way to wait will do.
        let readable = poll_fn(|context| watched.poll_read_ready(context));
        let ready = if wait.flushed == Flushed::Blocked {
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
        if self.pace.is_flood(wait.unanswered.map(|since| clock::now() - since)) {
            let now = clock::now();
            if self.patience.allows(now) {
                // Woken for each message, we would keep the peer from writing them, where it has the same CPU.
                std::thread::yield_now();
                // The socket is full long before the peer's turn is over: how much there is says nothing.
                self.patience.handle_return(now, clock::now(), 0);
            }
        }
        let mut state = self.shared.state();
        // Once: behind a handle there is mostly no more before it is answered.
        if state.link.receive_once(&mut self.buffer) > 0 {
            state.unanswered = !state.link.session.wants_write();
        }
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
        let mut state = self.shared.state();
        state.link.session.disconnect();
        state.link.flush();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.link.flush();
        if let Some(flusher) = state.flusher.take() {
            flusher.abort();
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
        if let Some(received) = self.received.take() {
            return Poll::Ready(Some(received));
        }
        while let Some(event) = self.link.session.poll_event() {
            if let Some(received) = self.sort(event) {
                return Poll::Ready(Some(received));
            }
            if let Some(received) = self.received.take() {
                return Poll::Ready(Some(received));
            }
        }
        if self.has_ended() {
            self.link.close_if_ended();
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    /// Keeps all that the session has to say, for who waits for something else.
    fn hear(&mut self) {
        while let Some(event) = self.link.session.poll_event() {
            if let Some(received) = self.sort(event) {
                self.received.keep(received);
            }
        }
    }

    /// Whether more may be read by who waits for something else than messages.
    fn room_to_hear(&self) -> Result<(), Unread> {
        self.received.within(self.link.session.limits().unread)
    }

    fn wait(&self, flushed: Flushed) -> Wait {
        Wait { flushed, unanswered: self.unanswered.then(clock::now) }
    }

    /// Whether nothing more will be heard.
    fn has_ended(&self) -> bool {
        self.link.session.wants_close()
    }

    /// What is to be told of an event.
    fn sort(&mut self, event: Event<OwnedFd>) -> Option<Received> {
        match event {
            Event::Message { payload, handle } => {
                let handle = handle.and_then(|(kind, fd)| self.restore(kind, fd));
                Some(Received::Message(Message::with_handle(payload, handle)))
            }
            Event::Fault(fault) => Some(Received::Fault(fault)),
            Event::Lent(answer) => {
                // Of answers that nobody waits for the last few are enough.
                if self.answers.len() == ANSWERS {
                    self.answers.pop_front();
                }
                self.answers.push_back(answer);
                None
            }
            Event::Returned { handle, .. } => Handle::try_from(handle).ok().map(Received::Undelivered),
            Event::Disconnected => {
                let left = self.link.session.take_undelivered();
                let handles = left.filter_map(|(_, fd)| Handle::try_from(fd).ok());
                handles.map(Received::Undelivered).for_each(|handle| self.received.keep(handle));
                None
            }
            // The cluster's business is not ours; a delivered handle is closed by being dropped.
            _ => None,
        }
    }

    /// The socket that came with a message, with a lease if somebody counts it.
    fn restore(&self, kind: HandleKind, fd: OwnedFd) -> Option<Handle> {
        // What is no socket cannot have been meant.
        let handle = Handle::try_from(fd).ok()?;
        Some(match kind {
            HandleKind::NetNative | HandleKind::DgramNative => handle.native(),
            HandleKind::NetSocket { key: Some(server) } => {
                let lease = Borrowed { server: server.clone(), channel: self.own.clone() };
                handle.lent_by(server, Box::new(lease))
            }
            _ => handle,
        })
    }

    /// Lets what waits be written when there is a moment.
    fn flush_later(&mut self) {
        if let Some(flusher) = self.flusher.as_mut().filter(|flusher| flusher.is_alive()) {
            return flusher.wake();
        }
        match runtime::Handle::try_current() {
            Ok(runtime) => self.flusher = Some(Flusher::start(&runtime, self.own.clone())),
            // Without a runtime there is no later moment to wait for.
            Err(_) => drop(self.link.flush()),
        }
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
}

/// So many answers are kept for those who wait for them.
const ANSWERS: usize = 64;
/// So much is written at once, and not when there is a moment.
const AT_ONCE: usize = 32 << 10;
