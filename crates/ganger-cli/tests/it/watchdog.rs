//! A worker that is stopped for ever is replaced, and nobody loses anything but those whom it was serving.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::harness::client::{Connection, answer, connect, get, request};
use super::harness::{Gang, Setup, on_every_node, rust_example};

const POLICIES: [&str; 3] = ["rr", "shared", "reuseport"];
/// So many clients come again and again.
const CLIENTS: usize = 3;

/// The same server as the Rust example.
const APP: &str = "
    const { id } = require('cluster').worker;
    const server = require('http').createServer((_, response) => response.end(`hello from worker ${id}\\n`));
    server.keepAliveTimeout = 0;
    server.listen(process.env.PORT);";

#[test]
fn a_stopped_node_is_replaced_and_only_its_own_clients_notice() {
    let test = |major, policy| stopped(Setup::new(major).file("app.js", APP).start(&words(policy, "app.js")));
    on_every_node("stopped worker", |major| test(major, "rr"));
    POLICIES.into_iter().skip(1).for_each(|policy| test("24", policy));
}

#[test]
fn a_stopped_rust_worker_is_replaced_and_only_its_own_clients_notice() {
    for policy in POLICIES {
        stopped(Setup::without_node().start(&words(policy, &rust_example("graceful"))));
    }
}

fn words(policy: &str, program: &str) -> String {
    format!("run -n 2 --watchdog 2s --schedule {policy} --log-format json {program}")
}

fn stopped(mut gang: Gang) {
    let listening = event(&gang, "listening");
    let port = listening["address"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    event(&gang, "ready");
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_default();
    let is_first = |line: &str| read(line)["event"] == "worker-ready" && read(line)["worker"] == 1;
    let first = read(&gang.lines().wait_for(false, 1, is_first)[0]);
    let (mut own, mut other) = (held_by(port, 1), held_by(port, 2));
    let (is_stopped, over, served) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
    let comes_again = || {
        while !over.load(Ordering::SeqCst) {
            // What it had taken when it was stopped is its own.
            let may_fail = !is_stopped.load(Ordering::SeqCst);
            match get(port, "/") {
                Ok(_) => drop(served.fetch_add(1, Ordering::SeqCst)),
                Err(error) => assert!(may_fail, "{error}: {}", gang.lines()),
            }
        }
    };
    let died = std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|_| drop(scope.spawn(comes_again)));
        let pid = first["pid"].as_i64().unwrap() as i32;
        kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
        is_stopped.store(true, Ordering::SeqCst);
        let died = event(&gang, "worker-died");
        over.store(true, Ordering::SeqCst);
        died
    });
    assert_eq!((&died["kind"], &died["pid"]), (&"unresponsive".into(), &first["pid"]), "{died}");
    let evidence = &died["evidence"];
    assert!(evidence["state"] == "stopped" && evidence["stack"].is_array(), "{died}");
    assert!(died["replaced_by"].is_number(), "{died}");
    assert!(served.into_inner() > 0);
    assert_eq!(ask(&mut other), "hello from worker 2\n");
    request(&mut own, "/", Connection::KeepAlive).and_then(|()| answer(&mut own)).unwrap_err();
    // There are two again.
    drop(held_by(port, 3));
    gang.stop();
}

/// A connection that is open and was served by this worker.
fn held_by(port: u16, worker: u32) -> TcpStream {
    loop {
        let mut stream = connect(port).unwrap();
        if ask(&mut stream) == format!("hello from worker {worker}\n") {
            return stream;
        }
    }
}

fn ask(stream: &mut TcpStream) -> String {
    request(stream, "/", Connection::KeepAlive).unwrap();
    answer(stream).unwrap()
}

fn event(gang: &Gang, name: &str) -> Value {
    serde_json::from_str(&gang.says(&format!(r#""event":"{name}""#))).unwrap()
}
