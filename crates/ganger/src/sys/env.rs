//! Variables that are meant for this process and not for its children: read and removed in one step.
//!
//! The process environment is shared by all threads and can be changed soundly only while there is one. This
//! module is the only place that changes it.

use std::ffi::OsString;

use crate::sys::process;

/// The environment cannot be changed any more: other threads run already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the environment must be taken before the first thread starts ({}): call this first thing in main",
    .threads.map_or_else(|| "the number of threads is unknown".to_owned(), |n| format!("{n} threads run"))
)]
pub struct TooLate {
    /// How many threads run; `None` where that cannot be found out (no `/proc`).
    pub threads: Option<usize>,
}

/// Reads `names` and removes them from the process's environment, so that no child inherits them. The answers
/// come in the order of the names; `None` for a variable that is not set.
///
/// # Errors
/// [`TooLate`] if the process has more than one thread, or if that cannot be found out. Nothing is removed
/// then, whether the variables are set or not: the mistake shows on the first run, not on the first run that
/// matters.
///
/// # Panics
/// If a name is empty or has `=` or NUL in it.
pub fn take(names: &[&str]) -> Result<Vec<Option<OsString>>, TooLate> {
    match process::threads() {
        Some(1) => {}
        threads => return Err(TooLate { threads }),
    }
    Ok(names
        .iter()
        .map(|name| {
            let value = std::env::var_os(name);
            if value.is_some() {
                // SAFETY: this is the only thread of the process (counted above), and only it could start
                // another, so nobody reads the environment at the same time.
                unsafe { std::env::remove_var(name) };
            }
            value
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fixture;

    /// A test has a thread of its own beside the main one; a forked process has one alone.
    #[test]
    fn taken_with_one_thread_and_refused_with_two() {
        let path = concat!(module_path!(), "::taken_with_one_thread_and_refused_with_two");
        fixture::own_process(path, || {
            let late = take(&["PATH"]).unwrap_err();
            assert_eq!(late, TooLate { threads: Some(2) });
            assert!(late.to_string().contains("2 threads run"), "{late}");
            assert!(std::env::var_os("PATH").is_some());

            // SAFETY: the child only reads and changes its environment, and leaves by `_exit`. The other
            // thread of this process is waiting for the test, and holds no lock of the allocator.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: ends the child without unwinding into the test harness's copy.
                unsafe { libc::_exit(if taken_once() { 0 } else { 1 }) };
            }
            let mut status = -1;
            // SAFETY: a pid and a place for the status.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
        });
    }

    fn taken_once() -> bool {
        let path = std::env::var_os("PATH");
        path.is_some()
            && take(&["GANGER_NOT_SET", "PATH"]) == Ok(vec![None, path])
            && std::env::var_os("PATH").is_none()
            && take(&["PATH"]) == Ok(vec![None])
    }
}
