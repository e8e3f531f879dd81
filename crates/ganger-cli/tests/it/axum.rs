//! `examples/axum.rs`, one program in three situations: alone, under the command, and as the worker of Node's own
//! cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use super::harness::client::{Connection, answer_to_end, connect, get, request};
use super::harness::{Gang, Setup, node, on_every_node, rust_example};

fn axum() -> String {
    rust_example("axum")
}

fn start_alone(setup: Setup) -> Gang {
    setup.start_program(&axum(), std::iter::empty())
}

/// What it says behind `mark` in its first line.
fn listens(gang: &Gang) -> String {
    let line = gang.prints("listens on ");
    line.split_once("listens on ").unwrap().1.to_owned()
}

fn port_of(address: &str) -> u16 {
    address.parse::<SocketAddr>().unwrap().port()
}

/// Asks what is answered when the worker is to leave, and sees that it is being served.
fn ask_last(gang: &Gang, port: u16) -> TcpStream {
    let mut waiting = connect(port).unwrap();
    request(&mut waiting, "/last", Connection::Close).unwrap();
    gang.prints("owes an answer");
    waiting
}

/// Stops it while it owes an answer, and reads that.
fn stop(gang: &mut Gang, port: u16, signal: Signal) {
    let waiting = ask_last(gang, port);
    gang.signal(signal);
    assert_eq!(answer_to_end(waiting).unwrap(), "the last answer\n");
    assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
}

#[test]
fn alone_it_is_a_server_like_any_other() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut gang = start_alone(Setup::without_node());
        let port = port_of(&listens(&gang));
        assert_eq!(get(port, "/").unwrap(), "hello from worker 0\n");
        let mut client = connect(port).unwrap();
        request(&mut client, "/peer", Connection::Close).unwrap();
        let own = client.local_addr().unwrap().port();
        assert_eq!(port_of(&answer_to_end(client).unwrap()), own);
        stop(&mut gang, port, signal);
    }
}

#[test]
fn alone_a_second_signal_ends_it_at_once() {
    let mut gang = start_alone(Setup::without_node());
    let port = port_of(&listens(&gang));
    // A request that is never finished.
    let mut hanging = connect(port).unwrap();
    hanging.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let last = ask_last(&gang, port);
    gang.signal(Signal::INT);
    // It has heard the first.
    assert_eq!(answer_to_end(last).unwrap(), "the last answer\n");
    gang.signal(Signal::INT);
    assert_eq!(gang.ends(), Some(130), "{}", gang.lines());
    let _ = hanging.read(&mut [0]);
}

#[test]
fn alone_it_removes_its_socket_file() {
    let setup = Setup::without_node().env("PORT", "unix:app.sock");
    let path = setup.path().join("app.sock");
    let mut gang = start_alone(setup);
    assert_eq!(listens(&gang), path.canonicalize().unwrap().display().to_string());
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"GET /peer HTTP/1.0\r\n\r\n").unwrap();
    let last = BufReader::new(client).lines().last().unwrap().unwrap();
    assert_eq!(last, "unnamed");
    gang.signal(Signal::TERM);
    assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    assert!(!path.exists());
}

#[test]
fn several_serve_under_the_command() {
    for schedule in ["rr", "shared"] {
        let mut gang = Setup::without_node().start(&format!("run -n 2 --schedule {schedule} {}", axum()));
        let port = gang.port();
        gang.ready();
        let mut seen: Vec<String> = (0..10).map(|_| get(port, "/").unwrap()).collect();
        seen.sort();
        seen.dedup();
        if schedule == "rr" {
            assert_eq!(seen, ["hello from worker 1\n", "hello from worker 2\n"]);
        }
        stop(&mut gang, port, Signal::TERM);
    }
}

/// A cluster of Node's whose workers are another program.
const PRIMARY: &str = "
    const cluster = require('cluster');
    process.execPath = process.argv[2];
    cluster.setupPrimary({ exec: process.argv[2], args: [], execArgv: [] });
    cluster.on('exit', ({ id, exitedAfterDisconnect }, code, signal) => {
      console.log('exit', id, code ?? signal, exitedAfterDisconnect);
    });
    process.on('SIGTERM', () => cluster.disconnect());
    cluster.fork();
    cluster.fork();";

#[test]
fn it_is_a_worker_of_nodes_cluster() {
    for schedule in ["rr", "none"] {
        on_every_node(&format!("axum.rs as Node's worker ({schedule})"), |major| {
            let setup = Setup::new(major).file("primary.js", PRIMARY);
            let setup = setup.env("NODE_CLUSTER_SCHED_POLICY", schedule);
            let node = node(major).display().to_string();
            let mut gang = setup.start_program(&node, ["primary.js", &axum()].into_iter());
            let both = gang.lines().wait_for(true, 2, |line| line.contains("listens on "));
            let ports: Vec<u16> =
                both.iter().map(|line| port_of(line.split_once("listens on ").unwrap().1)).collect();
            assert_eq!(ports[0], ports[1], "{}", gang.lines());
            assert!(get(ports[0], "/").unwrap().starts_with("hello from worker "), "{}", gang.lines());
            stop(&mut gang, ports[0], Signal::TERM);
            gang.prints("exit 1 0 true");
            gang.prints("exit 2 0 true");
        });
    }
}
