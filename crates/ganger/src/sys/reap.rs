//! The duty of a process that orphans come to: PID 1, or a subreaper.

use std::{
    collections::BTreeSet,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

/// Whether orphaned descendants become children of this process.
pub fn is_reaper() -> bool {
    getpid().is_init() || matches!(rustix::process::child_subreaper(), Ok(Some(_)))
}

/// Puts the signal that tells of dead children to its default if it is ignored: then the kernel would reap them
/// itself, and nobody would learn how they ended.
///
/// # Errors
/// Those of `sigaction`.
pub fn heed_children() -> io::Result<()> {
    let mut current = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: reads the disposition into memory of its type, which is valid when all zero.
    let current = unsafe {
        if libc::sigaction(libc::SIGCHLD, std::ptr::null(), current.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        current.assume_init()
    };
    if current.sa_sigaction == libc::SIG_IGN {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }
    Ok(())
}

/// A child that somebody is going to wait for, in his own time: it is no stranger, and as long as it is a zombie its
/// number is nobody else's. Dropped, it is waited for or given up.
#[derive(Debug)]
pub struct Claim(i32);

impl Claim {
    /// Claims the child of this number.
    pub fn new(pid: i32) -> Self {
        claimed().insert(pid);
        Self(pid)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        claimed().remove(&self.0);
    }
}

fn claimed() -> MutexGuard<'static, BTreeSet<i32>> {
    static CLAIMED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The dead children that nobody has reaped, as of the last look.
#[derive(Debug, Default)]
pub struct Strangers(Vec<i32>);

impl Strangers {
    /// Looks for children that have ended and that nobody has [claimed](Claim), and reaps those that were there at
    /// the last look already: who has a child of his own waits for it, and must find its status. Returns whether it
    /// should be looked again, after a while.
    pub fn look(&mut self) -> bool {
        let mut dead = children();
        dead.retain(|pid| is_dead(*pid));
        let claimed = claimed();
        dead.retain(|pid| !claimed.contains(pid));
        let (old, new): (Vec<i32>, Vec<i32>) = dead.into_iter().partition(|pid| self.0.contains(pid));
        for pid in old.into_iter().filter_map(Pid::from_raw) {
            // Somebody has been quicker, at worst.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
        self.0 = new;
        !self.0.is_empty()
    }
}

fn is_dead(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let wait = |pid| waitid(WaitId::Pid(pid), options);
    Pid::from_raw(pid).is_some_and(|pid| matches!(wait(pid), Ok(Some(_))))
}

/// All children of this process, the dead that nobody has reaped included.
fn children() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::sys::fixture;

    /// In a process of its own: other tests have children as well, which are nobody's.
    #[test]
    fn strangers_are_reaped_at_the_second_look_and_who_is_claimed_never() {
        fixture::own_process(
            concat!(module_path!(), "::strangers_are_reaped_at_the_second_look_and_who_is_claimed_never"),
            || {
                let mut ours = Command::new("true").spawn().unwrap();
                let stranger = Command::new("true").spawn().unwrap().id() as i32;
                let mine = ours.id() as i32;
                let claim = Claim::new(mine);
                while !(is_dead(mine) && is_dead(stranger)) {
                    std::thread::yield_now();
                }
                let mut strangers = Strangers::default();
                assert!(strangers.look());
                assert!(is_dead(stranger));
                assert!(!strangers.look());
                assert!(!is_dead(stranger));
                assert!(!strangers.look());
                assert!(ours.wait().unwrap().success());
                drop(claim);
            },
        );
    }
}
