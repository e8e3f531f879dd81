//! Starts `ganger` in a directory of its own, collects what it writes, and leaves nothing behind.
//!
//! Every wait ends with the event that it waits for. [`LIMIT`] is a net: whoever falls into it is told all
//! that was written.

pub(crate) mod client;
mod lines;
pub(crate) mod load;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

pub(crate) use lines::Lines;

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The release lines of Node that are tested.
pub(crate) const MAJORS: [&str; 5] = ["18", "20", "22", "24", "26"];

/// The `node` of a release line.
pub(crate) fn node(major: &str) -> PathBuf {
    let node = told("GANGER_TEST_NODES").join(major).join("bin/node");
    assert!(node.is_file(), "{} is missing: run `cargo xtask test`", node.display());
    node
}

/// The npm packages.
pub(crate) fn modules() -> PathBuf {
    told("GANGER_TEST_MODULES")
}

fn told(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable);
    value.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`")).into()
}

/// The examples in JavaScript.
pub(crate) fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/node").join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display())).display().to_string()
}

/// An example in Rust, which cargo builds beside the tests.
pub(crate) fn rust_example(name: &str) -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_ganger")).with_file_name("examples").join(name);
    assert!(path.is_file(), "{} is missing: run `cargo xtask test`", path.display());
    path.display().to_string()
}

/// Runs `test` with each release line of Node, and notes in the matrix that the feature works there.
pub(crate) fn on_every_node(feature: &str, test: impl Fn(&'static str)) {
    on_nodes(&MAJORS, feature, test);
}

/// As [`on_every_node`], for some release lines.
pub(crate) fn on_nodes(majors: &[&'static str], feature: &str, test: impl Fn(&'static str)) {
    for major in majors {
        test(major);
        let Some(matrix) = std::env::var_os("GANGER_TEST_MATRIX") else { continue };
        let mut matrix = OpenOptions::new().append(true).create(true).open(matrix).unwrap();
        matrix.write_all(format!("{feature}\t{major}\tok\n").as_bytes()).unwrap();
    }
}

/// What a gang is started with.
pub(crate) struct Setup {
    directory: TempDir,
    env: BTreeMap<OsString, Option<OsString>>,
    terminal: bool,
    deaf: bool,
}

impl Setup {
    /// An empty working directory, and the `node` of a release line first on PATH.
    pub(crate) fn new(major: &str) -> Self {
        let mut setup = Self::without_node();
        let mut path = vec![node(major).parent().unwrap().to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        setup.set("PATH", Some(std::env::join_paths(path).unwrap()));
        setup
    }

    /// An empty working directory, and PATH as it is.
    pub(crate) fn without_node() -> Self {
        let directory = TempDir::with_prefix("ganger-test-").unwrap();
        let mut setup = Self { directory, env: BTreeMap::new(), terminal: false, deaf: false };
        let node = ["NODE_OPTIONS", "NODE_PATH", "NODE_CLUSTER_SCHED_POLICY"];
        for name in node.into_iter().chain(["RUST_BACKTRACE", "NO_COLOR", "FORCE_COLOR"]) {
            setup.set(name, None);
        }
        // Where a program takes its port from here, it is any free one.
        setup.env("PORT", "0")
    }

    /// A file in the working directory.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set(name, Some(value.into()));
        self
    }

    /// Input and output are a terminal.
    pub(crate) fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Nobody reads stderr any more once the gang is ready.
    pub(crate) fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    fn set(&mut self, name: &str, value: Option<OsString>) {
        self.env.insert(name.into(), value);
    }

    /// The working directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts `ganger` with these words.
    pub(crate) fn start(self, words: &str) -> Gang {
        self.start_program(env!("CARGO_BIN_EXE_ganger"), words.split_whitespace())
    }

    /// Starts a program that becomes `ganger`.
    pub(crate) fn start_program<'a>(self, program: &str, words: impl Iterator<Item = &'a str>) -> Gang {
        let mut command = Command::new(program);
        command.args(words).current_dir(self.path()).stdin(Stdio::null());
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let shown = format!("{command:?} in {}", self.path().display());
        let lines = Arc::new(Lines::new(shown));
        let master = if self.terminal {
            let (master, slave) = terminal();
            let end = || File::from(slave.try_clone().unwrap());
            command.stdin(end()).stdout(end()).stderr(end());
            Some(master)
        } else {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        };
        let mut child = command.spawn().unwrap();
        // It holds the terminal's other end.
        drop(command);
        let mut unread = None;
        match &master {
            Some(master) => lines.collect(File::from(master.try_clone().unwrap()), true),
            None => {
                lines.collect(child.stdout.take().unwrap(), true);
                if self.deaf {
                    unread = Some(fill_when_ready(child.stderr.take().unwrap(), &lines));
                } else {
                    lines.collect(child.stderr.take().unwrap(), false);
                }
            }
        }
        Gang { child, directory: self.directory, lines, _master: master, _unread: unread }
    }
}

/// Reads until the gang is ready, then fills the pipe to the brim: whoever writes to it has to wait.
fn fill_when_ready(stderr: ChildStderr, lines: &Lines) -> ChildStderr {
    let mut stderr = BufReader::new(stderr);
    let mut line = String::new();
    while !line.contains("ready in") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it did not start: {lines}");
    }
    let stderr = stderr.into_inner();
    // Opened anew it is the same pipe, and only this end of it does not wait.
    let path = format!("/proc/self/fd/{}", stderr.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let filler = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    for piece in [4096, 1] {
        while rustix::io::write(&filler, &vec![b'.'; piece]).is_ok() {}
    }
    stderr
}

fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(ptsname(&master, []).unwrap(), flags, Mode::empty()).unwrap();
    (master, slave)
}

/// A running `ganger`. Dropped, it is killed, and its workers with it.
pub(crate) struct Gang {
    child: Child,
    directory: TempDir,
    lines: Arc<Lines>,
    /// Closed, it would hang up on the terminal's programs.
    _master: Option<OwnedFd>,
    /// Closed, it would make every write fail, and none wait.
    _unread: Option<ChildStderr>,
}

impl Gang {
    /// The primary's process.
    pub(crate) fn pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    /// The working directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Everything that it and its workers have written.
    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Waits for a line of stderr with this text in it.
    pub(crate) fn says(&self, text: &str) -> String {
        self.lines.wait(false, |line| line.contains(text), text)
    }

    /// Waits for a line of stdout with this text in it.
    pub(crate) fn prints(&self, text: &str) -> String {
        self.lines.wait(true, |line| line.contains(text), text)
    }

    /// Waits until every worker is ready; their pids.
    pub(crate) fn ready(&self) -> Vec<i32> {
        let line = self.says("ready in");
        let (_, pids) = line.rsplit_once("(pid").unwrap_or_else(|| panic!("no pids: {line}"));
        let pids = pids.trim_start_matches('s').trim_end_matches(')').split(',');
        pids.map(|pid| pid.trim().parse().unwrap_or_else(|_| panic!("no pid: {line}"))).collect()
    }

    /// Waits until a port is open; which.
    pub(crate) fn port(&self) -> u16 {
        let line = self.says("listening on ");
        line.rsplit(':').next().unwrap().parse().unwrap_or_else(|_| panic!("no port: {line}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and that nobody holds its outputs any more: the exit code.
    pub(crate) fn ends(&mut self) -> Option<i32> {
        let status = xtask::process::wait(&mut self.child, LIMIT).unwrap();
        let Some(status) = status else { self.lines.fail("the end of the process") };
        self.lines.wait_for_end();
        status.code()
    }

    /// Stops it by SIGTERM, as every test that is not about stopping ends.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let code = self.ends();
        assert_eq!(code, Some(0), "{}", self.lines);
    }
}

impl Drop for Gang {
    fn drop(&mut self) {
        // Its workers die with it. It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process of somebody else, to be killed or waited for.
pub(crate) struct Process(OwnedFd);

impl Process {
    pub(crate) fn of(pid: i32) -> Self {
        Self(pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap())
    }

    pub(crate) fn kill(&self) {
        rustix::process::pidfd_send_signal(&self.0, Signal::KILL).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ends(&self) {
        assert!(readable(&self.0, LIMIT), "a process that should have ended lives");
    }
}

/// Waits until a descriptor is readable.
pub(crate) fn readable(fd: impl AsFd, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).unwrap();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}
