//! What the system tells about processes, read from `/proc`. Nothing here changes anything.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The program that process `pid` runs. If its file was replaced or removed since, the kernel's name for it
/// ends in ` (deleted)`. `None` if there is no such process, or if it is another user's.
pub fn executable(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The path of this process's own program, as of the first call: after a deploy the kernel names the old file,
/// which is gone, and whoever is started then should run the new one. So whatever belongs first in `main` calls it.
///
/// # Errors
/// Those of reading `/proc/self/exe`.
pub fn own_executable() -> io::Result<PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = PATH.get() {
        return Ok(path.clone());
    }
    let path = std::env::current_exe()?;
    // Asked too late; the new file has the old one's name.
    let path = match path.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(name) if !path.exists() => std::ffi::OsString::from_vec(name.into()).into(),
        _ => as_it_was_called(&path).unwrap_or(path),
    };
    Ok(PATH.get_or_init(|| path).clone())
}

/// The path by which the program `path` was called, links unresolved: where `current` leads to the newest release,
/// a deploy changes the link and not the file.
fn as_it_was_called(path: &Path) -> Option<PathBuf> {
    let name = std::env::args_os().next().filter(|name| name.as_bytes().contains(&b'/'))?;
    let called = std::env::current_dir().ok()?.join(name);
    (called.canonicalize().ok()? == path).then_some(called)
}

/// What the kernel appends to the name of a program whose file was removed or replaced.
const DELETED: &[u8] = b" (deleted)";

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

/// Whether somebody traces the process, as a debugger does (`TracerPid` in `/proc/PID/status`).
///
/// # Errors
/// If there is no such process, or no `/proc`.
pub fn is_traced(pid: i32) -> io::Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(tracer.is_some_and(|tracer| tracer.trim() != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_this_process() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        assert_eq!(executable(pid), Some(std::env::current_exe().unwrap()));
        assert_eq!(own_executable().unwrap().canonicalize().unwrap(), std::env::current_exe().unwrap());
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
