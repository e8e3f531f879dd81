//! `--probe`: who has not answered well is not ready.

use std::fs;
use std::thread;

use rustix::process::Signal;

use super::harness::client::get;
use super::harness::{Setup, on_every_node, rust_example};

/// Is well when it is warm, and says what it is asked for.
const APP: &str = "
    const fs = require('fs');
    require('http').createServer((request, response) => {
      console.log('one asked for', request.url);
      if (request.url === '/health' && !fs.existsSync('warm')) response.statusCode = 503;
      response.end('one ' + process.pid);
    }).listen(process.env.PORT ?? 0);";

#[test]
fn who_is_not_well_gets_no_client() {
    for schedule in ["rr", "least-conn", "sticky"] {
        on_every_node(&format!("probe ({schedule})"), |major| {
            let words = format!("run -n 2 --schedule {schedule} --probe /health app.js");
            let mut gang = Setup::new(major).file("app.js", APP).start(&words);
            let port = gang.port();
            let client = thread::spawn(move || get(port, "/"));
            let line = gang.says(
                " is not ready yet: GET /health is to be answered with 2xx, and it answered with status 503",
            );
            assert!(line.starts_with("ganger: worker "), "{line}");
            let asked = gang.lines().of(true);
            assert!(asked.iter().all(|line| line == "one asked for /health"), "{}", gang.lines());
            fs::write(gang.path().join("warm"), "").unwrap();
            let pids = gang.ready();
            let answer = client.join().unwrap().unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
            assert!(pids.iter().any(|pid| answer == format!("one {pid}")), "{answer}");
            gang.stop();
        });
    }
}

#[test]
fn where_the_kernel_picks_it_is_asked_all_the_same() {
    for schedule in ["shared", "reuseport"] {
        on_every_node(&format!("probe ({schedule})"), |major| {
            let words = format!("run -n 2 --schedule {schedule} --probe /health app.js");
            let mut gang = Setup::new(major).file("app.js", APP).start(&words);
            gang.says("it answered with status 503");
            fs::write(gang.path().join("warm"), "").unwrap();
            gang.ready();
            assert!(get(gang.port(), "/").unwrap().starts_with("one "));
            gang.stop();
        });
    }
}

#[test]
fn a_rust_program_is_asked_too() {
    for schedule in ["rr", "shared", "reuseport", "least-conn"] {
        let words = format!("run -n 2 --schedule {schedule} --probe / {}", rust_example("hello"));
        let mut gang = Setup::without_node().start(&words);
        gang.ready();
        assert_eq!(get(gang.port(), "/").unwrap(), "hello world\n");
        gang.signal(Signal::HUP);
        gang.says("reloaded 2 workers in ");
        gang.stop();
        // One that owes its answer for ever.
        let words = format!(
            "run -n 2 --start-timeout 1s --schedule {schedule} --probe /last {}",
            rust_example("graceful")
        );
        let mut gang = Setup::without_node().start(&words);
        assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
        gang.says("died before it was ready: GET /last was to be answered with 2xx within 1 s, and it did not answer");
    }
}

#[test]
fn a_unix_socket_will_do() {
    on_every_node("probe (Unix socket)", |major| {
        let app = APP.replace("process.env.PORT ?? 0", "'app.sock'");
        let setup = Setup::new(major).file("app.js", &app).file("warm", "");
        let mut gang = setup.start("run -n 1 --probe /health app.js");
        gang.ready();
        gang.prints("one asked for /health");
        gang.stop();
    });
}

#[test]
fn a_reload_to_a_program_that_is_not_well_replaces_nobody() {
    on_every_node("reload to a version that is not well", |major| {
        let setup = Setup::new(major).file("app.js", APP).file("warm", "");
        let mut gang = setup.start("run -n 2 --start-timeout 2s --probe /health app.js");
        let (pids, port) = (gang.ready(), gang.port());
        let sick = APP.replace("one", "two").replace("!fs.existsSync('warm')", "true").replace("503", "500");
        fs::write(gang.path().join("app.js"), sick).unwrap();
        gang.signal(Signal::HUP);
        gang.says("it answered with status 500");
        for _ in 0..6 {
            let answer = get(port, "/").unwrap();
            assert!(pids.iter().any(|pid| answer == format!("one {pid}")), "{answer}");
        }
        let failed = gang.says("reload failed after ");
        let why = " is not ready: GET /health was to be answered with 2xx within 2 s, and it answered with status 500; the old workers serve on";
        assert!(failed.contains(why), "{failed}");
        assert!(gang.lines().of(true).iter().all(|line| line != "two asked for /"), "{}", gang.lines());
        // Mended, it is taken.
        fs::write(gang.path().join("app.js"), APP.replace("one", "two")).unwrap();
        gang.signal(Signal::HUP);
        gang.says("reloaded 2 workers in ");
        assert!(get(port, "/").unwrap().starts_with("two "));
        gang.stop();
    });
}

#[test]
fn what_is_no_answer_is_told() {
    let server = |serve: &str| format!("require('net').createServer((socket) => {{ {serve} }}).listen(0);");
    for (app, why) in [
        (server("socket.end('hello\\n');"), "what it answered is not HTTP/1"),
        (server("socket.destroy();"), "it closed the connection without an answer"),
        (server(""), "it did not answer"),
        ("setInterval(() => {}, 1000);".to_owned(), "it listens nowhere that is known"),
        (
            "process.send('ready'); setInterval(() => {}, 1000);".to_owned(),
            "it listens nowhere that is known",
        ),
    ] {
        let setup = Setup::new("24").file("app.js", &app);
        let mut gang = setup.start("run -n 1 --start-timeout 1s --probe / app.js");
        assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
        let died = gang.says("died before it was ready: ");
        let expected = format!("GET / was to be answered with 2xx within 1 s, and {why}: killed");
        assert!(died.contains(&expected), "{died}");
    }
}

/// Of several addresses it is the first that counts.
#[test]
fn the_first_address_is_asked() {
    let app = "
        const { createServer } = require('http');
        const open = (status) => createServer((_, response) => response.writeHead(status).end()).listen(0);
        open(200).on('listening', () => open(500));";
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 1 --probe / app.js");
    gang.ready();
    gang.stop();
}

#[test]
fn who_does_not_answer_is_asked_again() {
    let app = "
        let asked = 0;
        require('http').createServer((request, response) => {
          asked += 1;
          if (asked > 1) return response.end();
          request.socket.on('close', () => console.log('given up'));
        }).listen(0);";
    on_every_node("probe that is not answered", |major| {
        let mut gang = Setup::new(major).file("app.js", app).start("run -n 1 --probe /health app.js");
        gang.says(" is not ready yet: GET /health is to be answered with 2xx, and it did not answer");
        gang.prints("given up");
        gang.ready();
        gang.stop();
    });
}
