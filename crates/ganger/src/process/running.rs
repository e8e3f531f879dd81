//! A process that was started: its number, its descriptor, and the signals that can never be another's.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::event::{PollFd, PollFlags};

use super::Exit;
use crate::sys::{
    pidfd::{self, PidFd},
    reap::Claim,
};

/// A process of ours.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    pidfd: Arc<PidFd>,
    /// Whether it leads a process group of its own.
    leader: bool,
    /// Until its exit status is taken: from then on its number may be another's.
    claim: Mutex<Option<Claim>>,
}

impl Process {
    pub(super) fn new(pid: i32, pidfd: PidFd, leader: bool) -> Self {
        Self { pid, pidfd: Arc::new(pidfd), leader, claim: Mutex::new(Some(Claim::new(pid))) }
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
        let claim = self.lock();
        if claim.is_none() {
            return Err(rustix::io::Errno::SRCH.into());
        }
        pidfd::kill_group(self.pid, signal)
    }

    /// Sends a signal to all that is its own: itself, and its group if it leads one. Nobody gets it twice.
    pub(crate) fn kill_all(&self, signal: i32) -> io::Result<()> {
        if !self.leader {
            return self.kill(signal);
        }
        self.kill_group(signal)?;
        // It may have left the group that it was to lead.
        if pidfd::group_of(self.pid).is_ok_and(|group| group != self.pid) {
            self.kill(signal)
        } else {
            Ok(())
        }
    }

    /// Whether it has ended, be it that nobody has reaped it.
    fn has_ended(&self) -> bool {
        !matches!(self.peek(), Ok(None))
    }

    /// How it ended, if it has. It stays as a zombie until [`Process::try_wait`].
    pub(super) fn peek(&self) -> io::Result<Option<Exit>> {
        self.pidfd.peek()
    }

    /// How it ended, if it has. Nothing of it is left then.
    pub(crate) fn try_wait(&self) -> io::Result<Option<Exit>> {
        let mut claim = self.lock();
        let exit = self.pidfd.try_wait();
        // An error means that somebody else has waited for it.
        if !matches!(exit, Ok(None)) {
            *claim = None;
        }
        exit
    }

    pub(crate) fn is_reaped(&self) -> bool {
        self.lock().is_none()
    }

    /// As [`Process::try_wait`]; what is left of its process group is killed before, unless it has ended well. Who ends
    /// with code 0 knows what it leaves behind; the others had no time to think of it.
    pub(crate) fn bury(&self) -> io::Result<Option<Exit>> {
        // As long as it is a zombie, the group's number is nobody else's.
        if self.leader && self.peek()?.is_some_and(|exit| exit != Exit::Code(0)) {
            let _ = self.kill_group(KILL);
        }
        self.try_wait()
    }

    /// Ends it at once and leaves nothing of it.
    pub(crate) fn end(&self) {
        // Who is dead already needs no signal, and who cannot be waited for has been reaped.
        let _ = self.kill_all(KILL);
        let mut fds = [PollFd::new(&*self.pidfd, PollFlags::IN)];
        let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None));
        let _ = self.try_wait();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Claim>> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends signals to a child, for whoever does not have the child itself. It never hits another process: after the
/// child's end it hits nobody.
#[derive(Clone, Debug)]
pub struct Killer(pub(super) Arc<Process>);

impl Killer {
    pub(crate) fn of(process: Arc<Process>) -> Self {
        Self(process)
    }

    /// Sends the child a signal (0 only asks); `false` if it has ended.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no signal (Node's `ERR_UNKNOWN_SIGNAL`); `EPERM`.
    pub fn kill(&self, signal: i32) -> io::Result<bool> {
        if self.0.has_ended() { Ok(false) } else { sent(self.0.kill(signal)) }
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

/// Why a signal was refused. That nobody was there to get it is no refusal.
pub(super) fn refused(result: io::Result<()>) -> Option<io::Error> {
    sent(result).err()
}

pub(super) const KILL: i32 = rustix::process::Signal::KILL.as_raw();
