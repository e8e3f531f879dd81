//! What the primary costs: the resident memory of the release binary with two Node workers, before and after
//! a hundred thousand connections. In a binary of its own, so that nothing runs beside it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The most that it may take, in bytes.
const MOST: u64 = 8 << 20;
/// The most that it may grow by: allocators round up.
const GROWTH: u64 = 512 << 10;
const WARM_UP: usize = 10_000;
const CONNECTIONS: usize = 100_000;
const CLIENTS: usize = 8;
const NODE: &str = "24";

#[test]
fn the_primary_is_small_and_does_not_grow() {
    // Where the workers accept, the primary has nothing to do with connections.
    for (schedule, connections) in [("rr", CONNECTIONS), ("shared", WARM_UP)] {
        let gang = Gang::start(schedule);
        connect(gang.port, WARM_UP);
        let before = gang.resident();
        assert!(before < MOST, "{schedule}: {before} bytes with two workers");
        connect(gang.port, connections);
        let after = gang.resident();
        assert!(after < MOST, "{schedule}: {after} bytes after {connections} connections");
        assert!(after < before + GROWTH, "{schedule}: from {before} to {after} bytes");
    }
}

struct Gang {
    child: Child,
    port: u16,
}

impl Gang {
    fn start(schedule: &str) -> Self {
        let told = |name| {
            let value = std::env::var_os(name);
            PathBuf::from(value.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test`")))
        };
        let byte = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/node/byte.js");
        let mut child = Command::new(told("GANGER_TEST_RELEASE"))
            .args(["run", "-n", "2", "--schedule", schedule, "--runtime"])
            .args([told("GANGER_TEST_NODES").join(NODE).join("bin/node"), byte])
            .env("PORT", "0")
            .env_remove("NODE_OPTIONS")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let mut gang = Self { child, port: 0 };
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        loop {
            let Some(Ok(line)) = lines.next() else { panic!("it did not start: {said:?}") };
            if let Some((_, address)) = line.split_once("listening on ") {
                gang.port = address.rsplit(':').next().unwrap().parse().unwrap();
            }
            let ready = line.contains("2 workers ready");
            said.push(line);
            if ready {
                break;
            }
        }
        // It goes on talking, and somebody has to listen.
        thread::spawn(move || lines.for_each(drop));
        gang
    }

    /// Its resident memory in bytes.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Gang {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// So many connections, each of which gets its byte.
fn connect(port: u16, connections: usize) {
    let client = || {
        for _ in 0..connections / CLIENTS {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"x");
        }
    };
    thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(client))));
}
