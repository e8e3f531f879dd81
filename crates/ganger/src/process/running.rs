//! A process that was started: its number, its descriptor, and the signals that can never be another's.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::event::{PollFd, PollFlags};

use super::Exit;
use crate::sys::pidfd::{self, PidFd};

/// A process of ours.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    pidfd: Arc<PidFd>,
    /// Whether it leads a process group of its own.
    leader: bool,
    /// Whether its exit status was taken: from then on its number may be another's.
    reaped: Mutex<bool>,
}

impl Process {
    pub(super) fn new(pid: i32, pidfd: PidFd, leader: bool) -> Self {
        Self { pid, pidfd: Arc::new(pidfd), leader, reaped: Mutex::new(false) }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> &Arc<PidFd> {
        &self.pidfd
    }

    /// Whether it leads a process group of its own.
    pub(super) fn is_leader(&self) -> bool {
        self.leader
    }

    /// Sends it a signal.
    pub(crate) fn kill(&self, signal: i32) -> io::Result<()> {
        self.pidfd.kill(signal)
    }

    /// Sends a signal to all that is left of its process group, also when it has ended itself; until it is reaped.
    ///
    /// # Errors
    /// `ESRCH` once it is reaped; `EPERM` if it leads none, since the group is ours then.
    pub(crate) fn kill_group(&self, signal: i32) -> io::Result<()> {
        if !self.leader {
            return Err(rustix::io::Errno::PERM.into());
        }
        // Held, so that nobody reaps it before the signal is sent.
        let reaped = self.lock();
        if *reaped {
            return Err(rustix::io::Errno::SRCH.into());
        }
        pidfd::kill_group(self.pid, signal)
    }

    /// Sends a signal to as much as is its own: its group if it leads one, else itself.
    pub(super) fn kill_all(&self, signal: i32) -> io::Result<()> {
        if self.leader { self.kill_group(signal) } else { self.kill(signal) }
    }

    /// How it ended, if it has. It stays as a zombie until [`Process::try_wait`].
    pub(super) fn peek(&self) -> io::Result<Option<Exit>> {
        self.pidfd.peek()
    }

    /// How it ended, if it has. Nothing of it is left then.
    pub(crate) fn try_wait(&self) -> io::Result<Option<Exit>> {
        let mut reaped = self.lock();
        let exit = self.pidfd.try_wait()?;
        *reaped |= exit.is_some();
        Ok(exit)
    }

    pub(super) fn is_reaped(&self) -> bool {
        *self.lock()
    }

    /// Ends it at once and leaves nothing of it.
    pub(crate) fn end(&self) {
        // Who is dead already needs no signal, and who cannot be waited for has been reaped.
        let _ = self.kill_all(KILL);
        let _ = self.kill(KILL);
        let mut fds = [PollFd::new(&*self.pidfd, PollFlags::IN)];
        let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None));
        let _ = self.try_wait();
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.reaped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends signals to a child, for whoever does not have the child itself. It never hits another process: after the
/// child's end it hits nobody.
#[derive(Clone, Debug)]
pub struct Killer(pub(super) Arc<Process>);

impl Killer {
    /// Sends the child a signal (0 only asks); `false` if it has ended.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal (Node's `ERR_UNKNOWN_SIGNAL`); `EPERM`.
    pub fn kill(&self, signal: i32) -> io::Result<bool> {
        sent(self.0.kill(signal))
    }

    /// Sends a signal to the child's process group, also when the child itself has ended; `false` once its end is
    /// known and all its streams are closed.
    ///
    /// # Errors
    /// `EPERM` for a child that has no group of its own, since the group is ours then
    /// ([`Command::kill_group`](super::Command::kill_group), [`Command::detached`](super::Command::detached));
    /// `EINVAL`.
    pub fn kill_group(&self, signal: i32) -> io::Result<bool> {
        sent(self.0.kill_group(signal))
    }

    /// The child's number.
    pub fn pid(&self) -> i32 {
        self.0.pid()
    }
}

fn sent(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) const KILL: i32 = rustix::process::Signal::KILL.as_raw();
