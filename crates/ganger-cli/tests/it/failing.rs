//! A Rust worker that panics loses the request that it panicked in, and nothing else.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use super::harness::client::{Connection, answer, answer_to_end, connect, get, request};
use super::harness::{Gang, Setup, rust_example};

/// So many panics under load: fewer than a slot would be given up for.
const PANICS: u32 = 6;
/// So many clients ask meanwhile.
const CLIENTS: usize = 4;

fn start(options: &str) -> (Gang, u16) {
    let gang = Setup::without_node().start(&format!("run {options} {}", rust_example("graceful")));
    let port = gang.port();
    gang.ready();
    (gang, port)
}

#[test]
fn only_the_request_fails_in_which_it_panicked() {
    for schedule in ["rr", "shared", "reuseport", "least-conn"] {
        let (mut gang, port) = start(&format!("-n 2 --schedule {schedule}"));
        let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        get(port, "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for count in 1..=PANICS {
                get(port, "/panic").unwrap_err();
                gang.lines().wait_for(false, count as usize, |line| line.contains(": panicked at "));
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(asked.load(Ordering::Relaxed) > CLIENTS, "{}", gang.lines());
        gang.stop();
    }
}

#[test]
fn what_it_had_is_finished_and_who_waits_is_told_to_go() {
    for schedule in ["rr", "shared"] {
        let (mut gang, port) = start(&format!("-n 1 --schedule {schedule}"));
        // A connection that waits for its next request, two that wait for their answers.
        let mut idle = connect(port).unwrap();
        request(&mut idle, "/", Connection::KeepAlive).unwrap();
        assert_eq!(answer(&mut idle).unwrap(), "hello from worker 1\n");
        let [mut kept, mut last] = [0, 1].map(|_| connect(port).unwrap());
        request(&mut kept, "/last", Connection::KeepAlive).unwrap();
        request(&mut last, "/last", Connection::Close).unwrap();
        gang.lines().wait_for(true, 2, |line| line.contains("owes an answer"));

        get(port, "/panic").unwrap_err();
        let mut answered = String::new();
        kept.read_to_string(&mut answered).unwrap();
        assert!(answered.to_ascii_lowercase().contains("connection: close\r\n"), "{answered}");
        assert!(answered.ends_with("the last answer\n"), "{answered}");
        assert_eq!(answer_to_end(last).unwrap(), "the last answer\n");
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
        assert_eq!(get(port, "/").unwrap(), "hello from worker 2\n");
        let died = gang.says("died");
        assert!(died.starts_with("ganger: worker 1 (pid "), "{died}");
        let (_, cause) = died.split_once(": panicked at ").unwrap();
        assert!(cause.contains("examples/graceful.rs:"), "{died}");
        // Who dies young is replaced after a moment: by then it may be gone itself.
        let (_, then) =
            cause.split_once(": nobody has thought of this; ").unwrap_or_else(|| panic!("{died}"));
        assert!(then == "replaced by worker 2" || then.starts_with("trying again in "), "{died}");
        gang.stop();
    }
}

#[test]
fn the_line_for_machines_has_place_and_backtrace() {
    let (mut gang, port) = {
        let words = format!("run -n 1 --log-format json {}", rust_example("graceful"));
        // A backtrace of many lines does not push out what it is of.
        let gang = Setup::without_node().env("RUST_BACKTRACE", "1").start(&words);
        let listening: Value = serde_json::from_str(&gang.says(r#""event":"listening""#)).unwrap();
        let port = listening["address"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        gang.says(r#""event":"ready""#);
        (gang, port)
    };
    get(port, "/panic").unwrap_err();
    let died: Value = serde_json::from_str(&gang.says(r#""event":"worker-died""#)).unwrap();
    assert_eq!((&died["kind"], &died["exit_code"]), (&"panic".into(), &1.into()), "{died}");
    assert_eq!((&died["worker"], &died["slot"], &died["restarts"]), (&1.into(), &0.into(), &0.into()));
    assert_eq!(died["panic"]["message"], "nobody has thought of this", "{died}");
    assert!(died["panic"]["place"].as_str().unwrap().contains("examples/graceful.rs:"), "{died}");
    assert!(died["panic"]["backtrace"].as_str().unwrap().contains("graceful::answer"), "{died}");
    assert_eq!(died["connections"]["under_way"], 0, "{died}");
    let words = died["last_words"].as_array().unwrap();
    assert!(words.iter().any(|line| line.as_str().unwrap().contains("panicked at ")), "{died}");
    gang.stop();
}
