//! The one place that starts processes.
//!
//! ```text
//!  parent                                    child (the same memory, the parent's thread waits)
//!  Plan::new: every string, table, buffer
//!  block all signals
//!  clone(VM | VFORK | PIDFD) ──────────────► signals · group · descriptors · directory · limit
//!      ⋮                                     groups, gid, uid · parent-death signal · pid variable
//!      ⋮ ◄──────────────── exec, or the failure is written to the plan and the child exits
//!  unblock; on failure reap and report
//! ```
//!
//! The child borrows the parent's memory instead of copying it, so the cost does not grow with the parent.
//! Hence the invariants: all is prepared before, and the child makes system calls and nothing else. It never
//! allocates, locks, logs or panics.
//!
//! The calling thread is held until the program executes, as with `posix_spawn`.

mod child;
mod plan;
mod spawner;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use crate::sys::pidfd::PidFd;
use crate::sys::process;
use plan::Plan;

/// A process to be started. Signals are at their defaults in it and unblocked; of our descriptors it has those
/// named here and no other, close-on-exec or not; the limit of descriptors is the one that we were started with
/// ([`crate::sys::fd::raise_nofile`]).
#[derive(Debug, Default)]
pub struct Spawn {
    /// The program: a path if it has a `/` in it, else looked for in the `PATH` of `env` (`/bin:/usr/bin` without
    /// one). A relative path is relative to `cwd`.
    pub program: OsString,
    /// All arguments, the program's own name (`argv[0]`) included.
    pub argv: Vec<OsString>,
    /// The complete environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory; `None` is ours.
    pub cwd: Option<PathBuf>,
    /// The descriptors of the child by number: the entry at 0 becomes its standard input. `None`, and every
    /// number beyond the end, is closed in the child.
    pub fds: Vec<Option<Source>>,
    /// The user to become. With this or `gid`, supplementary groups are dropped if we have the right to (libuv's
    /// `uv__process_child_init`).
    pub uid: Option<u32>,
    /// The group to become.
    pub gid: Option<u32>,
    /// Which process group it belongs to.
    pub process_group: Group,
    /// The signal it gets when this process ends, however it ends. The kernel means the *thread* that started
    /// it: off the main thread, such a process is started by a thread that never ends.
    pub parent_death_signal: Option<i32>,
    /// A variable whose value is the child's own pid in decimal (`LISTEN_PID`). It replaces one in `env`.
    pub pid_variable: Option<OsString>,
}

/// Where a child's descriptor comes from.
#[derive(Debug)]
pub enum Source {
    /// A descriptor of ours that is for the child alone: closed here when the child has been started.
    Owned(OwnedFd),
    /// The descriptor that has this number here, which stays open here: `Inherit(1)` shares our standard output.
    Inherit(RawFd),
}

/// The process group of a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Group {
    /// Ours.
    #[default]
    Same,
    /// A new one of its own, in our session: `setpgid(0, 0)`.
    Own,
    /// A new session without a terminal, as Node's `detached`: `setsid()`.
    Session,
}

/// A process that was started, and is executing its program.
#[derive(Debug)]
pub struct Spawned {
    /// Its number.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: PidFd,
}

/// What was being done when starting a process failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Before anything was started: an argument is invalid (NUL byte), or memory is short.
    Prepare,
    /// Making the process: too many of them, or a kernel without `CLONE_PIDFD`.
    Clone,
    /// `setpgid` or `setsid`.
    Group,
    /// Giving the child its descriptors.
    Descriptors,
    /// Changing to its working directory.
    Chdir,
    /// Restoring the limit of open descriptors.
    Limit,
    /// Dropping supplementary groups.
    Setgroups,
    /// Becoming its group.
    Setgid,
    /// Becoming its user.
    Setuid,
    /// Asking for the parent-death signal.
    ParentDeathSignal,
    /// Executing the program: not found, not executable, …
    Exec,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Prepare => "prepare the process",
            Step::Clone => "make a process",
            Step::Group => "give the process its process group",
            Step::Descriptors => "give the process its descriptors",
            Step::Chdir => "change to the working directory",
            Step::Limit => "restore the limit of open descriptors",
            Step::Setgroups => "drop the supplementary groups",
            Step::Setgid => "become the group",
            Step::Setuid => "become the user",
            Step::ParentDeathSignal => "ask for the parent-death signal",
            Step::Exec => "execute the program",
        })
    }
}

/// Why a process was not started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct SpawnError {
    /// What was being done.
    pub step: Step,
    /// The errno.
    pub source: io::Error,
}

impl Spawn {
    /// Starts the process, and returns when it executes its program (or could not). The descriptors in
    /// [`Source::Owned`] are closed here, either way.
    ///
    /// # Errors
    /// [`SpawnError`] says at which step; no process is left behind.
    pub fn spawn(self) -> Result<Spawned, SpawnError> {
        let dies_with_thread = self.parent_death_signal.is_some();
        let plan = Plan::new(self).map_err(|source| SpawnError { step: Step::Prepare, source })?;
        if dies_with_thread && !process::is_main_thread() { spawner::start(plan) } else { plan.start() }
    }
}
