//! A memory cgroup of our own, with the kernel's OOM killer in it: the version that this machine has.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

/// Enough for the command and two workers; a leak is over soon.
const LIMIT: u64 = 320 << 20;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cgroup with a limit; removed in the end.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Self {
        let name = format!("ganger-test-{name}-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/memory");
        let (path, file) = if first.is_dir() {
            (first.join(name), "memory.limit_in_bytes")
        } else {
            let root = Path::new("/sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+memory")
                .expect("a cgroup hierarchy to write to");
            (root.join(name), "memory.max")
        };
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let group = Self(path);
        fs::write(group.0.join(file), LIMIT.to_string()).unwrap();
        // What is swapped out is not killed for.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        let _ = fs::write(group.0.join("memory.swappiness"), "0");
        group
    }

    /// The command, started in it with all that it starts.
    fn start(&self, words: &[&str]) -> Gang {
        let nodes = std::env::var_os("GANGER_TEST_NODES").expect("the tests are run by `cargo xtask test`");
        let script = format!("echo $$ >'{}/cgroup.procs' && exec \"$@\"", self.0.display());
        let mut child = Command::new("sh")
            .args([
                "-c",
                &script,
                "sh",
                env!("CARGO_BIN_EXE_ganger"),
                "run",
                "--log-format",
                "json",
                "--runtime",
            ])
            .arg(PathBuf::from(nodes).join("24/bin/node"))
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Gang { child, lines }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last of them may be on their way out; what is left of it then is empty and does no harm.
        while fs::read_to_string(self.0.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty()) {
            thread::yield_now();
        }
        let _ = fs::remove_dir(&self.0);
    }
}

struct Gang {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Gang {
    /// The next event of this name.
    fn event(&self, name: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no {name}: {error}"));
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == name {
                return event;
            }
        }
    }

    fn port(&self) -> u16 {
        let listening = self.event("listening");
        listening["address"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    }
}

impl Drop for Gang {
    fn drop(&mut self) {
        // Its workers die with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says which worker it is, and does what it is asked.
const APP: &str = r#"
const kept = [];
function leak() {
  // Touched, so that it is there; not so fast that nobody sees it grow.
  kept.push(Buffer.alloc(1 << 20, 1));
  setTimeout(leak, 10);
}
const child = require('node:child_process').spawn('tail', ['-f', '/dev/null'], { stdio: 'ignore' });
require('node:http').createServer((request, response) => {
  response.end(`${process.pid} ${child.pid}`);
  if (request.url === '/leak') leak();
}).listen(0);
"#;

/// Who answers, and what it has started.
fn get(port: u16, path: &str) -> [i32; 2] {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (worker, child) = answer.rsplit("\r\n\r\n").next().unwrap().split_once(' ').unwrap();
    [worker, child].map(|pid| pid.parse().unwrap_or_else(|_| panic!("{answer:?}")))
}

fn script(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("app.js"), text).unwrap();
    directory
}

#[test]
fn who_leaks_until_the_kernel_takes_it_died_of_memory_and_is_replaced() {
    let directory = script(APP);
    let app = directory.path().join("app.js").display().to_string();
    let group = Group::new("leak");
    let gang = group.start(&["-n", "2", &app]);
    let port = gang.port();
    gang.event("ready");
    let [leaking, child] = get(port, "/leak");
    let died = gang.event("worker-died");
    assert_eq!((&died["kind"], &died["pid"]), (&"out-of-memory".into(), &leaking.into()), "{died}");
    assert_eq!((&died["signal"], &died["restarts"]), (&9.into(), &0.into()), "{died}");
    let cause = died["cause"].as_str().unwrap();
    assert!(cause.starts_with("out of memory: killed by the kernel (320 MB "), "{died}");
    let memory: Vec<u64> =
        died["memory"].as_array().unwrap().iter().map(|used| used.as_u64().unwrap()).collect();
    // Pages of files count as its own here, whoever pays for them: it may be more than the limit.
    assert!(memory.iter().max() > Some(&(LIMIT / 8)), "{memory:?}");
    assert!(died["replaced_by"].is_number(), "{died}");
    gone(child);

    // Who is started in the middle of such a death can die of the same.
    loop {
        get(port, "/leak");
        let died = gang.event("worker-died");
        assert_eq!(died["kind"], "out-of-memory", "{died}");
        if died["worker"].as_u64() > Some(2) {
            break;
        }
    }

    // Somebody else's kill is no kill of the kernel's, although it counts one by now.
    let [next, child] = get(port, "/");
    kill(next);
    let died = gang.event("worker-died");
    assert_eq!((&died["kind"], &died["pid"]), (&"signal".into(), &next.into()), "{died}");
    assert_eq!(died["cause"], "signal SIGKILL");
    gone(child);
}

fn kill(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

/// Waits for the end of somebody else's process.
fn gone(pid: i32) {
    // Without one it has ended already.
    let Ok(process) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { return };
    let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)), Ok(1), "{pid} lives on");
}
