//! `examples/hello.rs`, primary and worker in one program: by itself, under the command, and as the worker of
//! Node's own cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use super::harness::client::{Connection, answer, connect, get, request};
use super::harness::{Gang, Process, Setup, node, on_every_node, rust_example};

fn hello() -> String {
    rust_example("hello")
}

fn served(gang: &Gang, port: u16) {
    for _ in 0..10 {
        let answer = get(port, "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
        assert_eq!(answer, "hello world\n", "{}", gang.lines());
    }
}

/// Starts the program as its own primary, on a port that was free a moment before.
fn start_alone() -> (Gang, u16) {
    for _ in 0..10 {
        let free = TcpListener::bind("[::]:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let gang =
            Setup::without_node().env("PORT", port.to_string()).start_program(&hello(), std::iter::empty());
        let first = |line: &str| line.starts_with("Worker ") || line.ends_with(" died");
        if gang.lines().wait(true, first, "the first worker").starts_with("Worker ") {
            return (gang, port);
        }
        // Somebody else was quicker.
    }
    panic!("no port stays free");
}

#[test]
fn hello_is_its_own_primary() {
    let (mut gang, port) = start_alone();
    gang.prints(&format!("Primary {} is running", gang.pid()));
    let count = std::thread::available_parallelism().unwrap().get();
    let started = gang.lines().wait_for(true, count, |line| line.starts_with("Worker "));
    let pids: Vec<i32> =
        started.iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    let workers: Vec<_> = pids.iter().copied().map(Process::of).collect();
    served(&gang, port);
    workers[0].kill();
    gang.prints(&format!("worker {} died", pids[0]));
    if count > 1 {
        served(&gang, port);
    }
    // It does nothing about signals; no worker outlives it all the same.
    gang.signal(Signal::TERM);
    assert_eq!(gang.ends(), None, "{}", gang.lines());
    workers.iter().for_each(Process::ends);
}

#[test]
fn hello_is_served_replaced_and_stopped() {
    for schedule in ["rr", "shared"] {
        let words = format!("run -n 2 --schedule {schedule} {}", hello());
        let mut gang = Setup::without_node().start(&words);
        let (pids, port) = (gang.ready(), gang.port());
        let workers: Vec<_> = pids.iter().copied().map(Process::of).collect();
        for pid in &pids {
            gang.prints(&format!("Worker {pid} started"));
        }
        served(&gang, port);
        workers[0].kill();
        let died = gang.says("died");
        assert!(died.contains(&format!("worker 1 (pid {})", pids[0])), "{}", gang.lines());
        gang.says("worker 3 ");
        served(&gang, port);
        gang.stop();
        workers.iter().for_each(Process::ends);
        assert!(!gang.lines().of(true).iter().any(|line| line.contains("Primary")), "{}", gang.lines());
    }
}

#[test]
fn hello_shares_its_connections_and_ends_with_them_open() {
    for schedule in ["rr", "shared"] {
        let words = format!("run -n 2 --schedule {schedule} {}", hello());
        let mut gang = Setup::without_node().start(&words);
        let (pids, port) = (gang.ready(), gang.port());
        let open: Vec<TcpStream> = (0..100).map(|_| asked(port)).collect();
        let shares = shares(&pids, port);
        assert_eq!(shares.values().sum::<usize>(), 100, "{schedule}: {shares:?}");
        if schedule == "rr" {
            assert!(shares.values().all(|share| (48..=52).contains(share)), "{shares:?}");
        }
        // Connections on which nothing is asked hold up no stop.
        gang.stop();
        for mut connection in open {
            assert_eq!(connection.read(&mut [0]).unwrap(), 0);
        }
    }
}

/// A connection that was answered and stays open.
fn asked(port: u16) -> TcpStream {
    let mut connection = connect(port).unwrap();
    request(&mut connection, "/", Connection::KeepAlive).unwrap();
    assert_eq!(answer(&mut connection).unwrap(), "hello world\n");
    connection
}

/// How many open connections of the port each process has, as the kernel shows them.
fn shares(pids: &[i32], port: u16) -> BTreeMap<i32, usize> {
    const ESTABLISHED: &str = "01";
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap());
    let local = format!(":{port:04X}");
    let links: BTreeSet<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words[1].ends_with(&local) && words[3] == ESTABLISHED)
        .map(|words| format!("socket:[{}]", words[9]))
        .collect();
    let has = |pid: i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let targets = fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        targets.filter(|target| links.contains(&*target.to_string_lossy())).count()
    };
    pids.iter().map(|pid| (*pid, has(*pid))).collect()
}

/// A cluster of Node's whose workers are another program.
const PRIMARY: &str = "
    const cluster = require('cluster');
    process.execPath = process.argv[2];
    cluster.setupPrimary({ exec: process.argv[2], args: [], execArgv: [] });
    cluster.on('listening', ({ process: { pid } }, { port }) => console.log('listening', pid, port));
    cluster.on('exit', ({ process: { pid }, exitedAfterDisconnect }, code, signal) => {
      console.log('exit', pid, code ?? signal, exitedAfterDisconnect);
      if (!exitedAfterDisconnect) cluster.fork();
    });
    process.on('SIGTERM', () => cluster.disconnect());
    cluster.fork();
    cluster.fork();";

#[test]
fn hello_is_a_worker_of_nodes_cluster() {
    for schedule in ["rr", "none"] {
        on_every_node(&format!("hello.rs as Node's worker ({schedule})"), |major| {
            let setup = Setup::new(major).file("primary.js", PRIMARY);
            let setup = setup.env("NODE_CLUSTER_SCHED_POLICY", schedule);
            let node = node(major).display().to_string();
            let mut gang = setup.start_program(&node, ["primary.js", &hello()].into_iter());
            let listening = |count| -> Vec<(i32, u16)> {
                let lines = gang.lines().wait_for(true, count, |line| line.starts_with("listening "));
                let words = lines.iter().map(|line| line.split(' ').collect::<Vec<_>>());
                words.map(|words| (words[1].parse().unwrap(), words[2].parse().unwrap())).collect()
            };
            let workers = listening(2);
            let port = workers[0].1;
            assert_eq!(workers[1].1, port, "{}", gang.lines());
            served(&gang, port);
            Process::of(workers[0].0).kill();
            gang.prints(&format!("exit {} SIGKILL false", workers[0].0));
            let replacement = listening(3)[2];
            assert_eq!(replacement.1, port, "{}", gang.lines());
            served(&gang, port);
            gang.stop();
            for pid in [workers[1].0, replacement.0] {
                gang.prints(&format!("exit {pid} 0 true"));
            }
        });
    }
}
