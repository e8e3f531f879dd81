//! Reload and scale, while clients come without a pause.

use std::fs;

use rustix::process::Signal;

use super::harness::client::{Connection, get};
use super::harness::{Gang, Setup, load, on_every_node};

/// Each answer names the program's version and the process.
const APP: &str = "
    require('http').createServer((request, response) => response.end('one ' + process.pid))
      .listen(process.env.PORT ?? 0);";

/// Does something while clients come, each on a connection of its own; every one of them has to be answered.
fn under_load(gang: &mut Gang, act: impl FnOnce(&mut Gang)) {
    let ((), outcome) = load::under_load(gang.port(), &[Connection::Close; 4], || act(gang));
    assert!(outcome.failed.is_empty(), "{outcome:?}\n{}", gang.lines());
    assert!(outcome.answered > 0);
}

fn reload(gang: &mut Gang, times: usize) {
    gang.signal(Signal::HUP);
    gang.lines().wait_for(false, times, |line| line.starts_with("ganger: reloaded 2 workers in "));
}

#[test]
fn a_reload_runs_the_program_as_it_is_now() {
    on_every_node("reload to a new version", |major| {
        let mut gang = Setup::new(major).file("app.js", APP).start("run -n 2 app.js");
        gang.ready();
        assert!(get(gang.port(), "/").unwrap().starts_with("one "));
        fs::write(gang.path().join("app.js"), APP.replace("one", "two")).unwrap();
        reload(&mut gang, 1);
        for _ in 0..4 {
            assert!(get(gang.port(), "/").unwrap().starts_with("two "), "{}", gang.lines());
        }
        gang.stop();
    });
}

#[test]
fn a_broken_program_replaces_nobody() {
    on_every_node("reload to a broken version", |major| {
        let mut gang = Setup::new(major).file("app.js", APP).start("run -n 2 app.js");
        let before = gang.ready();
        fs::write(gang.path().join("app.js"), "throw new Error('no such table')").unwrap();
        under_load(&mut gang, |gang| {
            gang.signal(Signal::HUP);
            gang.says("reload failed after ");
        });
        let said = gang.lines().to_string();
        assert!(said.contains("died before it was ready: exit code 1 (Error: no such table)"), "{said}");
        assert!(said.contains("; the old workers serve on"), "{said}");
        for _ in 0..4 {
            let answer = get(gang.port(), "/").unwrap();
            assert!(before.iter().any(|pid| answer == format!("one {pid}")), "{answer}");
        }
        // Mended, it is taken.
        fs::write(gang.path().join("app.js"), APP.replace("one", "two")).unwrap();
        reload(&mut gang, 1);
        assert!(get(gang.port(), "/").unwrap().starts_with("two "));
        gang.stop();
    });
}

/// The new version opens one port of two.
#[test]
fn a_port_that_is_missing_is_named() {
    let app = "
        const open = () => require('http').createServer((_, response) => response.end('x')).listen(0);
        open();
        if (!require('fs').existsSync('one')) open();";
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 1 --start-timeout 2s app.js");
    gang.ready();
    gang.lines().wait_for(false, 2, |line| line.starts_with("ganger: listening on :"));
    fs::write(gang.path().join("one"), "").unwrap();
    gang.signal(Signal::HUP);
    gang.says("reload failed after ");
    let said = gang.lines().to_string();
    assert!(said.contains(" did not open :") && said.contains(", which worker 1 had; "), "{said}");
    gang.stop();
}

/// A file that cannot be read any more changes nothing.
#[test]
fn a_file_that_is_wrong_now_is_told_and_changes_nothing() {
    let mut gang = Setup::new("24")
        .file("app.js", APP)
        .file("ganger.toml", "program = 'app.js'\nworkers = 1\n")
        .start("run");
    gang.ready();
    fs::write(gang.path().join("ganger.toml"), "programm = 'app.js'\n").unwrap();
    gang.signal(Signal::HUP);
    gang.says("not reloaded: ");
    assert!(get(gang.port(), "/").unwrap().starts_with("one "));
    gang.stop();
}

#[test]
fn a_worker_that_hangs_is_replaced() {
    let app = "
        require('http').createServer((request, response) => {
          if (request.url === '/hang') { console.log('hangs'); for (;;); }
          response.end('one ' + process.pid);
        }).listen(0);";
    on_every_node("watchdog", |major| {
        let mut gang = Setup::new(major).file("app.js", app).start("run -n 1 --watchdog 1s app.js");
        gang.ready();
        let port = gang.port();
        std::thread::scope(|scope| {
            scope.spawn(move || get(port, "/hang").unwrap_err());
            gang.prints("hangs");
            gang.says("it answered nothing for 1.0 s: killed; replaced by worker 2");
        });
        assert!(get(port, "/").unwrap().starts_with("one "));
        gang.stop();
    });
}

#[test]
fn a_worker_that_grows_is_replaced_before_it_goes() {
    let app = "
        const kept = [];
        require('http').createServer((request, response) => {
          if (request.url === '/grow') kept.push(Buffer.alloc(200 << 20, 1));
          response.end('one ' + process.pid);
        }).listen(0);";
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 1 --max-memory 150M app.js");
    gang.ready();
    under_load(&mut gang, |gang| {
        get(gang.port(), "/grow").unwrap();
        gang.says("MB of memory, more than 150 MB (--max-memory): replaced by worker 2");
    });
    gang.stop();
}
