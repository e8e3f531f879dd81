//! A running child: its streams, its channel, its events in Node's order.
//!
//! ```text
//!                 ┌─ Message … Disconnect ─┐       the channel, to its end
//!   Spawn ────────┼─ Exit ─────────────────┼────► Close
//!                 └─ outputs read, or dropped ┘    stdout, stderr and further pipes
//! ```
//!
//! Nothing runs behind the child's back but its [limits](super::limits): all else is done while [`Child::next`],
//! [`Child::wait`] or one of their like is awaited.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    future::{pending, poll_fn},
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ganger_proto::Value;
use serde::Serialize;
use tokio::io::{AsyncRead, Interest, ReadBuf, unix::AsyncFd};

use super::{
    ChildOutput, ChildPipe, ChildStdin, Command, Exit, Killer, SpawnError,
    limits::{Interventions, Limits, Terms},
    reaper,
    running::{Process, refused},
    start::Started,
    stream::{Open, Streams},
};
use crate::{
    Channel, Handle,
    channel::{Fault, Lane, Message, Received, SendError},
    sys::{pidfd::PidFd, watch::watch},
};

/// What happens to a child, in Node's words.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// It runs: always the first.
    Spawn,
    /// It sent a message.
    Message(Message),
    /// A socket that was sent to it did not arrive: see [`Received::Undelivered`].
    Undelivered(Handle),
    /// Something went wrong that is not the end of it.
    Error(ChildError),
    /// Its channel is closed, by either side. No message follows.
    Disconnect,
    /// It has ended. Its streams may still hold something, and its channel messages.
    Exit(Exit),
    /// It has ended, its outputs are closed and so is its channel; always the last. `None` if how it ended could
    /// not be learnt ([`ChildError::Lost`]).
    Close(Option<Exit>),
}

/// What can go wrong with a child that runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// Its [token](Command::cancellation) was cancelled, and it was sent the kill signal: Node's `ABORT_ERR`.
    #[error("the child was aborted")]
    Aborted,
    /// Its time limit had passed or its token was cancelled, and it may not be signalled (`EPERM`): it goes on.
    #[error("the child cannot be ended before its time: {0}")]
    Kill(#[source] io::Error),
    /// It broke a rule of the channel.
    #[error("the child is not understood: {0}")]
    Fault(Fault),
    /// Somebody else has waited for it, and knows how it ended.
    #[error("how the child ended was taken by somebody else: {0}")]
    Lost(#[source] io::Error),
}

/// A running child. Dropped, it goes on ([`Command::kill_on_drop`] decides otherwise); it never stays as a zombie.
#[derive(Debug)]
pub struct Child {
    /// Where its stdin is written, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    /// Where its stdout is read, if that is a pipe. Whoever wants to see the end of the child ([`Event::Close`])
    /// reads it or drops it; left here, it is read and thrown away once the child has ended.
    pub stdout: Option<ChildOutput>,
    /// The same for its stderr.
    pub stderr: Option<ChildOutput>,
    /// Its further pipes by number; `None` for what is none. The first three are always `None`.
    pub pipes: Vec<Option<ChildPipe>>,
    process: Arc<Process>,
    watch: AsyncFd<Arc<PidFd>>,
    channel: Option<Channel>,
    /// Outputs that are open on our side, wherever they are.
    open: Arc<Open>,
    interventions: Arc<Interventions>,
    limits: Option<Limits>,
    events: VecDeque<Event>,
    /// How many bytes of messages are among them.
    kept: usize,
    state: State,
    killed: bool,
    /// What it gets when it is dropped.
    drop_signal: Option<i32>,
    program: OsString,
    args: Vec<OsString>,
}

/// How far the child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// `None` if it is not known how.
    Exited(Option<Exit>),
    Closed(Option<Exit>),
}

impl Command {
    /// Starts the process: Node's `spawn`, and `fork`. What happens then comes from [`Child::next`].
    ///
    /// # Errors
    /// [`SpawnError`]; nothing of the process is left.
    ///
    /// # Panics
    /// Outside of a tokio runtime; with a time limit, in one without a clock.
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        // First, since it may panic.
        let terms = Terms::of(self);
        let started = self.start()?;
        let process = started.process.clone();
        Child::new(self, terms, started).map_err(|source| {
            process.end();
            self.failed(source)
        })
    }
}

impl Child {
    fn new(command: &Command, terms: Terms, started: Started) -> io::Result<Self> {
        let Started { process, ends, channel, lane, program, args } = started;
        let open = Arc::new(Open::default());
        let interventions = Arc::new(Interventions::default());
        let Streams { stdin, stdout, stderr, pipes } = Streams::counted(ends, &open)?;
        let limits = Limits::start(terms, &process, &interventions);
        Ok(Self {
            stdin,
            stdout,
            stderr,
            pipes,
            watch: watch(process.pidfd().clone(), Interest::READABLE)?,
            process,
            channel: channel
                .map(|socket| Channel::with_serialization(socket, command.serialization))
                .transpose()?
                .map(|channel| channel.with_lane(lane)),
            open,
            interventions,
            limits,
            events: VecDeque::from([Event::Spawn]),
            kept: 0,
            state: State::Running,
            killed: false,
            drop_signal: command.kill_on_drop.then_some(command.kill_signal),
            program,
            args,
        })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// What was executed: the program, or what a script or a command line runs under (Node's `spawnfile`).
    pub fn spawn_file(&self) -> &OsStr {
        &self.program
    }

    /// The arguments it was started with, without its own name.
    pub fn spawn_args(&self) -> &[OsString] {
        &self.args
    }

    /// How it ended, as far as that is known: [`Child::next`] or [`Child::wait`] have to have seen it.
    pub fn exit(&self) -> Option<Exit> {
        match self.state {
            State::Running => None,
            State::Exited(exit) | State::Closed(exit) => exit,
        }
    }

    /// Whether [`Child::kill`] has sent it a signal; it need not have died of it.
    pub fn killed(&self) -> bool {
        self.killed
    }

    /// Whether its [time limit](Command::timeout) has passed and found it alive.
    pub fn timed_out(&self) -> bool {
        self.interventions.timed_out()
    }

    /// Sends it a signal, and never hits another process. 0 only asks. `false` if it has ended.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal (Node's `ERR_UNKNOWN_SIGNAL`); `EPERM`.
    pub fn kill(&mut self, signal: i32) -> io::Result<bool> {
        if self.state != State::Running {
            return Ok(false);
        }
        let sent = self.killer().kill(signal)?;
        self.killed |= sent;
        Ok(sent)
    }

    /// Sends a signal to its process group: see [`Killer::kill_group`].
    ///
    /// # Errors
    /// As [`Killer::kill_group`].
    pub fn kill_group(&mut self, signal: i32) -> io::Result<bool> {
        let sent = self.killer().kill_group(signal)?;
        self.killed |= sent;
        Ok(sent)
    }

    /// What can signal it from elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(self.process.clone())
    }

    /// Takes one of its pipes above 2. As long as it is neither read to its end nor dropped, it counts as open for
    /// [`Event::Close`].
    pub fn take_pipe(&mut self, number: usize) -> Option<ChildPipe> {
        self.pipes.get_mut(number)?.take()
    }

    /// Whether messages can be sent to it: it has a channel, and neither side has closed it.
    pub fn is_connected(&self) -> bool {
        self.channel.as_ref().is_some_and(Channel::is_connected)
    }

    /// Sends it a message: see [`Channel::send`].
    ///
    /// # Errors
    /// As [`Channel::send`]; also if it has no channel.
    pub fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<bool, SendError> {
        self.send_with(message, None)
    }

    /// Sends it a message with a socket: see [`Channel::send_with`].
    ///
    /// # Errors
    /// As [`Channel::send_with`]; also if it has no channel.
    pub fn send_with<T: Serialize + ?Sized>(
        &mut self,
        message: &T,
        handle: Option<Handle>,
    ) -> Result<bool, SendError> {
        match &mut self.channel {
            Some(channel) => channel.send_with(message, handle),
            None => Err(SendError::closed(handle)),
        }
    }

    /// Sends it a value of JavaScript's: see [`Channel::send_value`].
    ///
    /// # Errors
    /// As [`Channel::send_value`]; also if it has no channel.
    pub fn send_value(&mut self, value: &Value, handle: Option<Handle>) -> Result<bool, SendError> {
        match &mut self.channel {
            Some(channel) => channel.send_value(value, handle),
            None => Err(SendError::closed(handle)),
        }
    }

    /// Waits until all messages are with the kernel: see [`Channel::flush`].
    ///
    /// # Errors
    /// `BrokenPipe` if the channel ends before, or is not there.
    pub async fn flush(&mut self) -> io::Result<()> {
        match &mut self.channel {
            Some(channel) => channel.flush().await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Closes the channel when all that was sent is delivered. [`Event::Disconnect`] tells when; unlike in Node,
    /// [`Event::Close`] comes afterwards as ever.
    pub fn disconnect(&mut self) {
        if let Some(channel) = &mut self.channel {
            channel.disconnect();
        }
    }

    /// Takes the [lane](crate::channel::Lane) that lies beside its channel, if [`Command::lane`] asked for one.
    pub fn take_lane(&mut self) -> Option<Lane> {
        self.channel.as_mut().and_then(Channel::take_lane)
    }

    /// Takes the channel out: its messages come from there then, and [`Event::Close`] does not wait for it.
    pub fn take_channel(&mut self) -> Option<Channel> {
        self.channel.take()
    }

    /// What happens next; none after [`Event::Close`]. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.take_event() {
                return Some(event);
            }
            if matches!(self.state, State::Closed(_)) {
                return None;
            }
            self.progress().await;
        }
    }

    /// Waits until it has ended, and says how. A stdin that is still here is closed first, as it would wait for it.
    /// Its output is not read: a child with more of it than a pipe holds waits for a reader. Its events are kept for
    /// [`Child::next`], up to 64 MiB of messages; a child that sends more waits as well. Can be dropped and called again.
    ///
    /// # Errors
    /// If somebody else has waited for it.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        drop(self.stdin.take());
        loop {
            match self.state {
                State::Exited(Some(exit)) | State::Closed(Some(exit)) => return Ok(exit),
                State::Exited(None) | State::Closed(None) => return Err(rustix::io::Errno::CHILD.into()),
                State::Running => self.progress().await,
            }
        }
    }

    /// Waits for one thing to happen, and does what follows from it.
    pub(super) async fn progress(&mut self) {
        // The channel may have been taken out, and the streams dropped, since the last time.
        if self.settle() {
            return;
        }
        let running = self.state == State::Running;
        // Who only waits does not collect messages without end; of the dead there are no more than were sent.
        let listens = !running || self.kept < KEPT;
        let received = async {
            match &mut self.channel {
                Some(channel) if listens => channel.recv().await,
                _ => pending().await,
            }
        };
        let drained = drain(&mut self.stdout, &mut self.stderr, &mut self.pipes);
        tokio::select! {
            biased;
            received = received => match received {
                Some(Received::Message(message)) => {
                    self.kept += message.payload().as_bytes().len();
                    self.events.push_back(Event::Message(message));
                }
                Some(Received::Fault(fault)) => self.error(ChildError::Fault(fault)),
                Some(Received::Undelivered(handle)) => self.events.push_back(Event::Undelivered(handle)),
                None => {
                    self.channel = None;
                    self.events.push_back(Event::Disconnect);
                }
            },
            () = self.interventions.happened(), if self.limits.is_some() => self.tell_of_interventions(),
            exit = ended(&self.watch, &self.process), if running => self.handle_exit(exit),
            () = drained, if !running => {}
            () = self.open.fewer(), if !running => {}
        }
        self.settle();
    }

    /// Whether nothing is left to wait for.
    fn settle(&mut self) -> bool {
        let State::Exited(exit) = self.state else { return false };
        if !self.open.is_none() || self.channel.is_some() {
            return false;
        }
        self.state = State::Closed(exit);
        self.limits = None;
        self.events.push_back(Event::Close(exit));
        // Of a leader something was left, so that nobody else could have its group.
        reaper::adopt(&self.process);
        true
    }

    fn handle_exit(&mut self, exit: io::Result<Exit>) {
        self.tell_of_interventions();
        self.stdin = None;
        let exit = exit.map_err(|error| self.error(ChildError::Lost(error))).ok();
        self.state = State::Exited(exit);
        self.events.extend(exit.map(Event::Exit));
    }

    fn tell_of_interventions(&mut self) {
        if self.interventions.take_aborted() {
            self.error(ChildError::Aborted);
        }
        if let Some(refused) = self.interventions.take_refused() {
            self.error(ChildError::Kill(refused));
        }
    }

    fn error(&mut self, error: ChildError) {
        self.events.push_back(Event::Error(error));
    }

    /// What has happened and was not told yet.
    pub(super) fn take_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Message(message) = &event {
            self.kept -= message.payload().as_bytes().len();
        }
        Some(event)
    }

    /// Whether the time limit has passed, be it that only the streams are still open.
    pub(super) fn expired(&self) -> bool {
        self.interventions.expired()
    }

    /// Ends it before its time, with all that is its own. The error is a refusal.
    pub(super) fn end(&mut self, signal: i32) -> Option<io::Error> {
        let sent = self.process.kill_all(signal);
        self.killed |= sent.is_ok();
        refused(sent)
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_closed() {
            return;
        }
        if let Some(signal) = self.drop_signal {
            // Who has ended needs none.
            let _ = self.process.kill_all(signal);
        }
        if let Some(limits) = self.limits.take().filter(|_| self.state == State::Running) {
            limits.detach();
        }
        reaper::adopt(&self.process);
    }
}

/// How the process ended, when it has. Who leads a group stays as a zombie, so that the group's number is nobody
/// else's as long as it may be signalled.
async fn ended(watch: &AsyncFd<Arc<PidFd>>, process: &Process) -> io::Result<Exit> {
    loop {
        let mut ready = watch.readable().await?;
        let exit = if process.is_leader() { process.peek() } else { process.try_wait() };
        if let Some(exit) = exit? {
            return Ok(exit);
        }
        ready.clear_ready();
    }
}

/// Reads what nobody wants of a child that has ended (`flushStdio` in Node's `lib/internal/child_process.js`).
/// Never resolves: that a stream has ended shows elsewhere.
async fn drain(
    stdout: &mut Option<ChildOutput>,
    stderr: &mut Option<ChildOutput>,
    pipes: &mut [Option<ChildPipe>],
) {
    poll_fn(|cx| {
        drain_one(cx, stdout);
        drain_one(cx, stderr);
        pipes.iter_mut().for_each(|pipe| drain_one(cx, pipe));
        Poll::Pending
    })
    .await
}

fn drain_one(cx: &mut Context<'_>, stream: &mut Option<impl AsyncRead + Unpin>) {
    let mut space = [MaybeUninit::uninit(); 4096];
    while let Some(open) = stream {
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(open).poll_read(cx, &mut buffer) {
            Poll::Pending => return,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            Poll::Ready(_) => *stream = None,
        }
    }
}

/// So many bytes of messages are kept for who does not look at them.
const KEPT: usize = 64 << 20;
