//! Deaths are told, explained and made good.

use serde_json::Value;

use super::harness::{Gang, Process, Setup, client::get, example, on_every_node};

#[test]
fn a_killed_worker_is_replaced() {
    for schedule in ["rr", "shared"] {
        on_every_node(&format!("replacement ({schedule})"), |major| {
            let plain = example("plain.js");
            let mut gang = Setup::new(major).start(&format!("run -n 2 --schedule {schedule} {plain}"));
            let (workers, port) = (gang.ready(), gang.port());
            Process::of(workers[0]).kill();
            let died = gang.says("died");
            assert!(died.contains(&format!("worker 1 (pid {})", workers[0])), "{}", gang.lines());
            assert!(died.contains("signal SIGKILL"), "{}", gang.lines());
            gang.says("worker 3 ");
            for _ in 0..10 {
                get(port, "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
            }
            gang.stop();
        });
    }
}

#[test]
fn deaths_are_seen_where_the_signal_of_them_is_ignored() {
    let ganger = env!("CARGO_BIN_EXE_ganger");
    let command = format!("trap '' CHLD; exec {ganger} run -n 2 {}", example("plain.js"));
    let mut gang = Setup::new("24").start_program("sh", ["-c", &command].into_iter());
    let (pids, port) = (gang.ready(), gang.port());
    let workers: Vec<_> = pids.iter().copied().map(Process::of).collect();
    workers[0].kill();
    let died = gang.says("died");
    assert!(died.contains(&format!("worker 1 (pid {})", pids[0])), "{}", gang.lines());
    assert!(died.contains("signal SIGKILL"), "{}", gang.lines());
    gang.says("worker 3 ");
    for _ in 0..4 {
        get(port, "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
    }
    gang.stop();
    workers.iter().for_each(Process::ends);
}

/// Has a child, which would live for ever.
const PARENT: &str = "
    const child = require('child_process').spawn('tail', ['-f', '/dev/null'], { stdio: 'ignore' });
    const server = require('http').createServer((request, response) => {
      if (request.url === '/throw') throw new Error('boom');
      if (request.url === '/abort') process.abort();
      response.end(String(child.pid));
    });
    server.listen(0);";

#[test]
fn the_children_of_a_worker_that_died_go_with_it() {
    on_every_node("no orphans of a dead worker", |major| {
        let mut gang = Setup::new(major).file("app.js", PARENT).start("run -n 1 app.js");
        let (workers, port) = (gang.ready(), gang.port());
        let child = || Process::of(get(port, "/").unwrap().parse().unwrap());
        let first = child();
        Process::of(workers[0]).kill();
        first.ends();
        let second = child();
        get(port, "/throw").unwrap_err();
        second.ends();
        let third = child();
        get(port, "/abort").unwrap_err();
        third.ends();
        gang.says("signal SIGABRT");
        gang.stop();
    });
}

/// A server whose worker in one slot ends as soon as it is asked to.
const ENDS: &str = "
    const server = require('http').createServer((request, response) => {
      if (request.url === '/exit') process.exit(7);
      if (request.url === '/throw') throw new Error('boom on request');
      response.end(String(process.pid));
    });
    server.listen(0);";

#[test]
fn an_exit_code_and_the_last_words_are_told() {
    on_every_node("last words", |major| {
        let mut gang = Setup::new(major).file("app.js", ENDS).start("run -n 2 app.js");
        gang.ready();
        let port = gang.port();
        get(port, "/exit").unwrap_err();
        gang.says("exit code 7");
        get(port, "/throw").unwrap_err();
        gang.says("exit code 1");
        gang.says("its last words:");
        gang.says("ganger:     Error: boom on request");
        get(port, "/").unwrap();
        gang.stop();
    });
}

#[test]
fn a_throw_at_the_start_ends_the_gang() {
    on_every_node("strict start", |major| {
        let app = "throw new Error('boom at start');";
        let mut gang = Setup::new(major).file("app.js", app).start("run -n 2 app.js");
        assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
        let died = gang.says("died before it was ready: exit code 1");
        assert!(died.starts_with("ganger: worker "), "{died}");
        gang.says("ganger:     Error: boom at start");
        let said = gang.lines().of(false);
        let ours: Vec<_> = said.iter().filter(|line| line.starts_with("ganger: w")).collect();
        assert_eq!(ours.len(), 1, "more than one line of it: {}", gang.lines());
        assert!(!gang.lines().to_string().contains("panicked"), "{}", gang.lines());
    });
}

#[test]
fn one_bad_worker_at_the_start_takes_the_others_along() {
    let app = "
        console.log('pid', process.pid);
        if (process.env.NODE_APP_INSTANCE === '1') process.stdin.on('end', () => process.exit(7)).resume();
        else setInterval(() => {}, 1000);";
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 2 app.js");
    assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
    gang.says("worker 2 ");
    gang.says("died before it was ready: exit code 7");
}

#[test]
fn a_slot_that_dies_young_is_tried_again_after_pauses() {
    let app = "
        const fs = require('fs');
        if (process.env.NODE_APP_INSTANCE === '0') require('http').createServer().listen(0);
        else (function wait() { if (fs.existsSync('go')) process.exit(9); setTimeout(wait, 5); })();";
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 2 --log-format json app.js");
    event(&gang, "worker-ready", 1);
    std::fs::write(gang.path().join("go"), "").unwrap();
    let first = event(&gang, "worker-died", 1).remove(0);
    assert_eq!((&first["cause"], &first["was_ready"]), (&"exit code 9".into(), &false.into()), "{first}");
    let pauses: Vec<f64> =
        event(&gang, "worker-died", 3).iter().map(|died| died["retry_in"].as_f64().unwrap()).collect();
    for (pause, expected) in pauses.iter().zip([0.1, 0.2, 0.4]) {
        assert!((expected * 0.75..expected * 1.25).contains(pause), "{pauses:?}");
    }
    gang.stop();
}

/// Waits for so many events of a name: all of them.
fn event(gang: &Gang, name: &str, count: usize) -> Vec<Value> {
    let wanted = format!(r#""event":"{name}""#);
    let lines = gang.lines().wait_for(false, count, |line| line.contains(&wanted));
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}
