//! Child processes with a deadline.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Waits until `child` has ended, at most for `limit`; `None` when it is still there.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let pidfd = pidfd_open(pid(child), PidfdFlags::empty()).context("cannot watch a child process")?;
    let limit = Timespec::try_from(limit).context("a time limit out of range")?;
    retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)))
        .context("cannot wait for a child process")?;
    child.try_wait().context("cannot wait for a child process")
}

/// Ends `child`: TERM, then KILL if it is still there after `grace`. An ended child is no error.
pub fn stop(child: &mut Child, grace: Duration) -> Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    let pidfd = pidfd_open(pid(child), PidfdFlags::empty()).context("cannot watch a child process")?;
    pidfd_send_signal(&pidfd, Signal::TERM).context("cannot end a child process")?;
    if let Some(status) = wait(child, grace)? {
        return Ok(status);
    }
    child.kill().context("cannot kill a child process")?;
    child.wait().context("cannot wait for a child process")
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}
