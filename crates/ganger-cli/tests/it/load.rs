//! Many connections: none is lost, and the primary keeps none.

use std::fs;
use std::net::TcpStream;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::harness::client::{Connection, answer, answer_to_end, connect, get, request};
use super::harness::{Gang, LIMIT, Process, Setup, example, on_every_node};

const KEPT_ALIVE: usize = 5000;
const WAITING: usize = 200;

fn descriptors(gang: &Gang) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gang.pid())).unwrap().count()
}

#[test]
fn the_primary_keeps_no_descriptor_of_a_served_connection() {
    // For this process, whose connections they are; the others raise their own.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut gang = Setup::new("24").start(&format!("run -n 2 --schedule rr {}", example("plain.js")));
    gang.ready();
    let port = gang.port();
    get(port, "/").unwrap();
    let before = descriptors(&gang);
    let open: Vec<TcpStream> = (0..KEPT_ALIVE)
        .map(|_| {
            let mut stream = connect(port).unwrap();
            request(&mut stream, "/", Connection::KeepAlive).unwrap();
            answer(&mut stream).unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
            stream
        })
        .collect();
    settles(&gang, before);
    drop(open);
    settles(&gang, before);
    gang.stop();
}

/// Waits, one round through the primary's loop at a time, until it has so many descriptors.
fn settles(gang: &Gang, expected: usize) {
    let began = Instant::now();
    for round in 1.. {
        if descriptors(gang) == expected {
            return;
        }
        assert!(began.elapsed() < LIMIT, "{} descriptors, not {expected}", descriptors(gang));
        let before = gang.lines().of(false).iter().filter(|line| line.contains("SIGUSR1")).count();
        gang.signal(Signal::USR1);
        gang.lines().wait_for(false, before + 1, |line| line.contains("SIGUSR1"));
        assert!(round < 10_000);
    }
}

/// `/block` holds its worker up until there is a file.
const BLOCKS: &str = "
    const fs = require('fs');
    require('http').createServer((request, response) => {
      if (request.url === '/block') {
        console.log('blocked', process.pid);
        while (!fs.existsSync('go'));
      }
      response.end(String(process.pid));
    }).listen(0);";

#[test]
fn connections_that_wait_outlive_the_worker_they_wait_for() {
    for schedule in ["rr", "shared"] {
        on_every_node(&format!("waiting connections survive kill -9 ({schedule})"), |major| {
            let words = format!("run -n 2 --schedule {schedule} app.js");
            let mut gang = Setup::new(major).file("app.js", BLOCKS).start(&words);
            let workers = gang.ready();
            let port = gang.port();
            let blocked: Vec<TcpStream> = (1..=2).map(|count| block(&gang, port, count)).collect();
            let waiting: Vec<TcpStream> = (0..WAITING)
                .map(|_| {
                    let mut stream = connect(port).unwrap();
                    request(&mut stream, "/", Connection::Close).unwrap();
                    stream
                })
                .collect();
            Process::of(workers[0]).kill();
            gang.says(&format!("worker 1 (pid {}) died", workers[0]));
            fs::write(gang.path().join("go"), "").unwrap();
            for (index, stream) in waiting.into_iter().enumerate() {
                answer_to_end(stream).unwrap_or_else(|error| panic!("{index}: {error}: {}", gang.lines()));
            }
            // One of them was being served by the dead.
            let answered = blocked.into_iter().filter_map(|stream| answer_to_end(stream).ok()).count();
            assert_eq!(answered, 1, "{}", gang.lines());
            gang.stop();
        });
    }
}

/// Blocks another worker; `count` are blocked then.
fn block(gang: &Gang, port: u16, count: usize) -> TcpStream {
    let mut stream = connect(port).unwrap();
    request(&mut stream, "/block", Connection::Close).unwrap();
    gang.lines().wait_for(true, count, |line| line.starts_with("blocked "));
    stream
}
