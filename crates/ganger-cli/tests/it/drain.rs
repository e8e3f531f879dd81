//! The way out of a worker that is not wanted any more: no request fails, whoever accepts, and none has to be repeated.

use std::io::Read;
use std::net::TcpStream;
use std::thread;

use rustix::process::Signal;

use super::harness::client::{Connection, connect, request};
use super::harness::load::{Outcome, under_load};
use super::harness::{Gang, MAJORS, Setup, example, on_nodes, rust_example};

/// Half of the clients keep their connection.
const CLIENTS: [Connection; 4] =
    [Connection::Close, Connection::KeepAlive, Connection::Close, Connection::KeepAlive];
const SCHEDULES: [&str; 2] = ["rr", "reuseport"];
const RELOADS: usize = 10;

const APP: &str = "
    require('http').createServer((request, response) => response.end('one ' + process.pid))
      .listen(process.env.PORT ?? 0);";

/// Each of these release lines of Node, and of these words, at the same time.
fn on_nodes_at_once(
    majors: &[&'static str],
    feature: &str,
    words: &[&str],
    test: impl Fn(Setup, &str) + Sync,
) {
    let test = &test;
    thread::scope(|scope| {
        for major in majors {
            for word in words {
                scope.spawn(move || {
                    on_nodes(&[major], &format!("{feature} ({word})"), |major| {
                        test(Setup::new(major).file("app.js", APP), &format!("--schedule {word} app.js"));
                    });
                });
            }
        }
    });
}

fn on_rust_at_once(examples: &[&str], words: &[&str], test: impl Fn(Setup, &str) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for example in examples {
            for word in words {
                let words = format!("--schedule {word} {}", rust_example(example));
                scope.spawn(move || test(Setup::without_node(), &words));
            }
        }
    });
}

fn reloads(setup: Setup, words: &str, clients: &[Connection]) -> (Gang, Outcome) {
    let gang = setup.start(&format!("run -n 2 --max-draining 4 {words}"));
    gang.ready();
    let ((), outcome) = under_load(gang.port(), clients, || {
        for times in 1..=RELOADS {
            gang.signal(Signal::HUP);
            gang.lines().wait_for(false, times, |line| line.starts_with("ganger: reloaded 2 workers in "));
        }
    });
    (gang, outcome)
}

fn no_request_fails(setup: Setup, words: &str) {
    let (mut gang, outcome) = reloads(setup, words, &CLIENTS);
    assert!(outcome.failed.is_empty() && outcome.repeated == 0, "{outcome:?}\n{}", gang.lines());
    assert!(outcome.answered > 0);
    gang.stop();
}

#[test]
fn ten_reloads_cost_no_request_and_no_repeat() {
    on_nodes_at_once(&MAJORS, "ten reloads under load", &SCHEDULES, no_request_fails);
}

#[test]
fn ten_reloads_of_a_rust_program_cost_no_request_and_no_repeat() {
    on_rust_at_once(&["graceful"], &["least-conn", "sticky", "shared"], no_request_fails);
    on_rust_at_once(&["graceful", "axum"], &SCHEDULES, no_request_fails);
}

/// Who keeps connections meets an end of them without hints, and asks again. A Node 26 resets what it has accepted in the moment in
/// which it is asked to leave.
#[test]
fn without_hints_ten_reloads_cost_no_request_on_a_new_connection() {
    let feature = "ten reloads without hints";
    let no_request_fails = |setup: Setup, words: &str| {
        let (mut gang, outcome) = reloads(setup, &format!("--no-hints {words}"), &[Connection::Close; 4]);
        assert!(outcome.failed.is_empty(), "{outcome:?}\n{}", gang.lines());
        gang.stop();
    };
    on_nodes_at_once(&MAJORS, feature, &["rr"], no_request_fails);
    on_nodes_at_once(&MAJORS[..4], feature, &["reuseport"], no_request_fails);
}

/// Two to eight and back.
fn scales(setup: Setup, words: &str) {
    let gang = setup.start(&format!("run -n 2 {words}"));
    gang.ready();
    let ((), outcome) = under_load(gang.port(), &CLIENTS, || {
        for round in 1..=2 {
            for step in 2..8 {
                gang.signal(Signal::TTIN);
                let said = format!("ganger: from {step} workers to {}", step + 1);
                gang.lines().wait_for(false, round, |line| line.starts_with(&said));
            }
            gang.lines().wait_for(false, round * 6, |line| line.contains(") is ready after "));
            for step in (2..8).rev() {
                gang.signal(Signal::TTOU);
                let said = format!("ganger: from {} workers to {step}", step + 1);
                gang.lines().wait_for(false, round, |line| line.starts_with(&said));
            }
        }
    });
    assert!(outcome.failed.is_empty() && outcome.repeated == 0, "{outcome:?}\n{}", gang.lines());
    let mut gang = gang;
    gang.stop();
}

#[test]
fn from_two_to_eight_and_back_costs_no_request() {
    on_nodes_at_once(&["18", "26"], "from 2 to 8 and back under load", &SCHEDULES, scales);
}

#[test]
fn from_two_to_eight_and_back_costs_no_request_of_a_rust_program() {
    on_rust_at_once(&["graceful"], &SCHEDULES, scales);
}

/// Streams without an end: their clients are not all sent away in one moment, and the worker is not killed.
fn what_lasts_ends_gradually(setup: Setup, words: &str) {
    let mut gang = setup.start(&format!("run -n 1 --drain-timeout 16s {words}"));
    gang.ready();
    let port = gang.port();
    let streams: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect(port).unwrap();
            request(&mut stream, "/", Connection::KeepAlive).unwrap();
            // It is there.
            assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
            stream
        })
        .collect();
    gang.signal(Signal::HUP);
    // One event a second comes by each of them.
    let mut events = streams.into_iter().map(|mut stream| {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).matches("data: ").count()
    });
    let (first, last) = (events.next().unwrap(), events.next_back().unwrap());
    assert!(first < last, "the first ended after {first} events and the last after {last}\n{}", gang.lines());
    gang.stop();
    let said = gang.lines().to_string();
    assert!(!said.contains("killed"), "{said}");
}

#[test]
fn streams_end_one_after_another() {
    thread::scope(|scope| {
        for major in MAJORS {
            scope.spawn(move || {
                on_nodes(&[major], "streams end one after another", |major| {
                    what_lasts_ends_gradually(Setup::new(major), &example("events.js"));
                });
            });
        }
        scope.spawn(|| what_lasts_ends_gradually(Setup::without_node(), &rust_example("events")));
    });
}
