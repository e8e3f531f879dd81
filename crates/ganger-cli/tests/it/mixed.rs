//! Gangs of several programs: Node beside Rust on one port, as `[[worker]]` groups.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::harness::client::{Connection, answer_to_end, connect_from, request};
use super::harness::{Gang, Process, Setup, example, on_every_node, on_nodes, rust_example};

fn mixed(setup: Setup, schedule: &str) -> Setup {
    let (node, rust) = (example("plain.js"), rust_example("hello"));
    setup.file(
        "ganger.toml",
        &format!(
            "name = 'shop'\n\
             schedule = '{schedule}'\n\
             [[worker]]\nname = 'web'\nprogram = '{node}'\n\
             [[worker]]\nname = 'rust'\nprogram = '{rust}'\ncount = 2"
        ),
    )
}

/// Which program answers a client at this address.
fn who_answers(gang: &Gang, port: u16, client: u8) -> &'static str {
    let answer = connect_from(Ipv4Addr::new(127, 0, 0, client), port)
        .and_then(|mut stream| request(&mut stream, "/", Connection::Close).map(|()| stream))
        .and_then(answer_to_end);
    match answer.unwrap_or_else(|error| panic!("{error}: {}", gang.lines())).as_str() {
        "hello world\n" => "rust",
        answer if answer.starts_with("hello from process ") => "node",
        answer => panic!("{answer}: {}", gang.lines()),
    }
}

/// That both programs answer: the Node, whose pid is the first of these, and the Rust ones.
fn both_answer(gang: &Gang, port: u16, schedule: &str, pids: &[i32]) {
    if schedule == "shared" {
        // Whom the kernel likes better is its own affair; who does not run gets nothing.
        for (stopped, other) in [(&pids[..1], "rust"), (&pids[1..], "node")] {
            let _stopped: Vec<_> = stopped.iter().copied().map(Stopped::new).collect();
            assert_eq!(who_answers(gang, port, 1), other, "{}", gang.lines());
        }
        return;
    }
    let mut answered = BTreeSet::new();
    for client in 1..=250 {
        answered.insert(who_answers(gang, port, client));
        if answered.len() == 2 {
            return;
        }
    }
    panic!("only {answered:?} answers: {}", gang.lines());
}

/// A process that does not run until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: i32) -> Self {
        let stopped = Self(Pid::from_raw(pid).unwrap());
        kill_process(stopped.0, Signal::STOP).unwrap();
        while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ") {
            std::thread::yield_now();
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed since.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Kills one worker of each program: the others serve on, and a worker of the same program takes its place.
fn they_serve_and_come_back(mut gang: Gang, schedule: &str) {
    let (mut pids, port) = (gang.ready(), gang.port());
    both_answer(&gang, port, schedule, &pids);
    for (worker, group) in [(1, "web"), (3, "rust")] {
        let (pid, program) = (pids[worker - 1], program_of(pids[worker - 1]));
        Process::of(pid).kill();
        gang.says(&format!("worker {worker} ({group}, pid {pid}) died"));
        who_answers(&gang, port, 1);
        let is_ready =
            |line: &str| line.contains(&format!("({group}, pid ")) && line.contains("is ready after");
        let ready = gang.lines().wait(false, is_ready, "the replacement");
        let (_, pid) = ready.split_once(", pid ").unwrap();
        pids[worker - 1] = pid.split(')').next().unwrap().parse().unwrap();
        assert_eq!(program_of(pids[worker - 1]), program, "{}", gang.lines());
        both_answer(&gang, port, schedule, &pids);
    }
    gang.stop();
}

fn program_of(pid: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

#[test]
fn node_and_rust_serve_one_port_and_come_back_as_what_they_were() {
    on_every_node("mixed gang by ganger.toml", |major| {
        let gang = mixed(Setup::new(major), "rr").start("run");
        gang.says("ganger.toml says what is run");
        gang.says("shop: starting 3 workers (rr)");
        let table =
            [format!("web  1 × node {}", example("plain.js")), format!("rust 2 × {}", rust_example("hello"))];
        table.iter().for_each(|line| drop(gang.says(line)));
        they_serve_and_come_back(gang, "rr");
    });
}

#[test]
fn so_they_do_whoever_accepts_and_whoever_picks() {
    for schedule in ["least-conn", "sticky", "shared", "reuseport"] {
        on_nodes(&["18", "24", "26"], &format!("mixed gang ({schedule})"), |major| {
            they_serve_and_come_back(mixed(Setup::new(major), schedule).start("run"), schedule);
        });
    }
}

#[test]
fn the_example_of_a_mixed_gang_works() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/mixed");
    let text = std::fs::read_to_string(directory.join("ganger.toml")).unwrap();
    // Where cargo builds for the tests, and where the file is.
    let text = text.replace("../../target/debug/examples/hello", &rust_example("hello"));
    let text = text.replace("../node", Path::new(&example("plain.js")).parent().unwrap().to_str().unwrap());
    let mut gang = Setup::new("24").file("ganger.toml", &text).start("run");
    both_answer(&gang, gang.port(), "rr", &gang.ready());
    gang.stop();
}

#[test]
fn they_share_an_abstract_name_as_well() {
    on_nodes(&["18", "24", "26"], "mixed gang on an abstract name", |major| {
        let setup = Setup::new(major);
        let name = format!("{}/name", setup.path().display());
        let server = "require('http').createServer((_, response) => response.end('node'))";
        let setup = setup
            .env("PORT", format!("unix:@{name}"))
            .file("web.js", &format!("{server}.listen('\\0' + process.env.PORT.slice('unix:@'.length))"));
        let web = setup.path().join("web.js").display().to_string();
        let groups = format!(
            "[[worker]]\nname = 'web'\nprogram = '{web}'\n[[worker]]\nname = 'rust'\nprogram = '{}'",
            rust_example("graceful")
        );
        let mut gang = setup.file("ganger.toml", &groups).start("run");
        assert_eq!(gang.ready().len(), 2, "{}", gang.lines());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let is_node = |_| {
            let mut client = UnixStream::connect_addr(&address).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer.ends_with("node")
        };
        assert_eq!((0..4).map(is_node).collect::<BTreeSet<_>>().len(), 2, "in turn: {}", gang.lines());
        gang.stop();
    });
}
