//! Tests that change something process-wide run in a process of their own.

use std::process::Command;

/// Runs `body` in a new process: the test binary again, for the test `path` alone (`module_path!()` and the
/// function's name). The test fails if `body` panics, and is ended by `SIGALRM` after a minute.
#[track_caller]
pub(crate) fn own_process(path: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some_and(|mark| mark == path) {
        // SAFETY: an integer in, an integer out.
        unsafe { libc::alarm(60) };
        return body();
    }
    let test = path.split_once("::").expect("module_path begins with the crate").1;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MARK, path)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{test} in its own process: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
}

const MARK: &str = "GANGER_TEST_PROCESS";
