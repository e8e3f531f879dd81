//! The duty of a process that orphans come to: PID 1, or a subreaper.

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

/// Whether orphaned descendants become children of this process.
pub fn is_reaper() -> bool {
    getpid().is_init() || matches!(rustix::process::child_subreaper(), Ok(Some(_)))
}

/// Reaps children that have ended and that are not `ours`, by their number, so that nobody's exit status is
/// taken from him. Returns how many it were.
pub fn strangers(ours: impl Fn(i32) -> bool) -> usize {
    let ended = |pid: &i32| {
        Pid::from_raw(*pid).is_some_and(|pid| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
        })
    };
    children().into_iter().filter(|pid| !ours(*pid)).filter(ended).count()
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

    #[test]
    #[expect(clippy::zombie_processes, reason = "the stranger is reaped as one")]
    fn strangers_are_reaped_and_our_own_are_left_alone() {
        let mut ours = Command::new("true").spawn().unwrap();
        let stranger = Command::new("true").spawn().unwrap();
        let is_zombie = |pid: u32| {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        };
        while !(is_zombie(ours.id()) && is_zombie(stranger.id())) {
            std::thread::yield_now();
        }
        // Other tests have children as well: only this one is nobody's.
        let reaped = strangers(|pid| pid != stranger.id() as i32);
        assert_eq!(reaped, 1);
        assert!(ours.wait().unwrap().success());
    }
}
