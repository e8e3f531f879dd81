//! A port that only root may have, asked for by a gang that is not root's, in a network of its own, where that is so.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Asks for the port, then for one that anybody may have; says what came of the first.
const APP: &str = "
    const net = require('net');
    net.createServer().on('error', ({ code }) => {
      net.createServer().listen(3000, () => console.log(`heard ${code}`));
    }).listen(80);";

/// `ganger run` as nobody, who may read what root may.
fn start(words: &[&str], program: &Path) -> Child {
    Command::new("unshare")
        .args(["--net", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"])
        .args([env!("CARGO_BIN_EXE_ganger"), "run", "-n", "2"])
        .args(words)
        .arg(program)
        .env("PORT", "80")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare and setpriv of util-linux")
}

/// Its exit code, once it has ended, and that it told of the port once.
fn told_once(mut gang: Child) -> Option<i32> {
    let mut said = String::new();
    gang.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let code = gang.wait().unwrap().code();
    let told = "cannot listen on :80: no permission (ports below 1024 need root or CAP_NET_BIND_SERVICE)";
    assert_eq!(said.matches(told).count(), 1, "{said}");
    code
}

#[test]
fn node_workers_hear_eacces_and_it_is_told_once() {
    let nodes = PathBuf::from(std::env::var_os("GANGER_TEST_NODES").expect("run by `cargo xtask test`"));
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("app.js");
    std::fs::write(&script, APP).unwrap();
    for major in ["18", "20", "22", "24", "26"] {
        for schedule in ["rr", "shared", "reuseport"] {
            let node = nodes.join(major).join("bin/node");
            let mut gang = start(&["--schedule", schedule, "--runtime", node.to_str().unwrap()], &script);
            let lines = BufReader::new(gang.stdout.take().unwrap()).lines().map_while(Result::ok);
            let heard = lines.filter(|line| line.contains("heard EACCES")).take(2);
            assert_eq!(heard.count(), 2, "Node {major}, {schedule}");
            kill_process(Pid::from_child(&gang), Signal::TERM).unwrap();
            assert_eq!(told_once(gang), Some(0));
        }
    }
}

#[test]
fn a_rust_worker_fails_with_it_and_so_does_the_gang() {
    let example = Path::new(env!("CARGO_BIN_EXE_ganger")).with_file_name("examples/hello");
    for schedule in ["rr", "shared", "reuseport"] {
        assert_eq!(told_once(start(&["--schedule", schedule], &example)), Some(1));
    }
}
