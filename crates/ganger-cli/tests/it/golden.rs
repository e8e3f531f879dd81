//! What ganger's primary sends, byte for byte what Node's own sends: `cargo xtask golden` took it down.

use std::fs;
use std::path::{Path, PathBuf};

use super::harness::{Setup, node, on_nodes};

/// The transcripts are of these release lines, with workers of the same.
const MAJORS: [&str; 3] = ["22", "24", "26"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The relay between the primary and the worker, which cargo builds beside the tests.
fn wiretap() -> PathBuf {
    let wiretap = Path::new(env!("CARGO_BIN_EXE_ganger")).with_file_name("examples").join("wiretap");
    assert!(wiretap.is_file(), "{} is missing: run `cargo xtask test`", wiretap.display());
    wiretap
}

fn check(script: &str, policy: &str) {
    on_nodes(&MAJORS, &format!("Node's bytes: {script} ({policy})"), |major| {
        let (directory, wiretap) = (directory(), wiretap());
        let setup = Setup::new(major).env("WIRETAP_NODE", node(major));
        let out = setup.path().to_owned();
        let words = format!(
            "run -n 1 --schedule {policy} --log-format json --runtime {} {}/{script}.js",
            wiretap.display(),
            directory.display()
        );
        let gang = setup.env("WIRETAP_OUT", &out).start(&words);
        gang.lines().wait(false, is_end_of_the_first, "the end of worker 1");
        let transcript = fs::read_to_string(out.join("1.primary"))
            .unwrap_or_else(|error| panic!("no transcript: {error}\n{}", gang.lines()));
        let golden = fs::read_to_string(directory.join(format!("{script}.{policy}.txt"))).unwrap();
        let golden: String = golden.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
        let transcript = xtask::golden::normalise(&transcript);
        assert!(
            transcript == golden,
            "Node {major}, {script} under {policy}\n--- ours\n{transcript}--- Node's\n{golden}{}",
            gang.lines()
        );
    });
}

fn is_end_of_the_first(line: &str) -> bool {
    let object: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    object["event"] == "worker-died" && object["worker"] == 1
}

#[test]
fn tcp() {
    check("tcp", "rr");
    check("tcp", "none");
}

#[test]
fn http() {
    check("http", "rr");
    check("http", "none");
}

#[test]
fn unix() {
    check("unix", "rr");
    check("unix", "none");
}

#[test]
fn udp() {
    check("udp", "rr");
    check("udp", "none");
}

#[test]
fn kill() {
    check("kill", "rr");
    check("kill", "none");
}

/// Not under `none`, where ganger listens before it replies and so finds out earlier than Node.
#[test]
fn in_use() {
    check("in-use", "rr");
}
