//! What the system tells about processes, read from `/proc`. Nothing here changes anything.

use std::path::PathBuf;

/// The program that process `pid` runs. If its file was replaced or removed since, the kernel's name for it
/// ends in ` (deleted)`. `None` if there is no such process, or if it is another user's.
pub fn executable(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// How many threads this process has. `None` without `/proc`.
pub fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// The resident memory of process `pid` in bytes. `None` if there is no such process; 0 for a zombie.
pub fn resident(pid: i32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Whether the calling thread is the one that `main` runs on.
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_this_process() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        assert_eq!(executable(pid), Some(std::env::current_exe().unwrap()));
        assert!(resident(pid).unwrap() > 64 * 1024);
        assert!(threads().unwrap() >= 1);
        std::thread::spawn(|| {
            assert!(!is_main_thread());
            assert!(threads().unwrap() >= 2);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_process_that_is_not_there_has_nothing() {
        assert_eq!(executable(i32::MAX), None);
        assert_eq!(resident(i32::MAX), None);
    }
}
