//! Programs that say how they are on the socket that `NOTIFY_SOCKET` names.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::harness::client::get;
use super::harness::{Gang, Process, Setup, rust_example};

/// One worker that knows nothing of ganger, and its port.
fn start(options: &str) -> (Gang, u16) {
    let words = format!("run -n 1 --log-format json {options} {}", rust_example("notify"));
    let gang = Setup::without_node().start(&words);
    let port = serves(&gang, 1);
    (gang, port)
}

/// The port of the worker that was started as the one of this number.
fn serves(gang: &Gang, number: usize) -> u16 {
    let lines = gang.lines().wait_for(true, number, |line| line.contains(" serves "));
    lines[number - 1].rsplit(':').next().unwrap().parse().unwrap()
}

fn event(gang: &Gang, name: &str) -> Value {
    serde_json::from_str(&gang.says(&format!(r#""event":"{name}""#))).unwrap()
}

/// Without the sign that would take as long as the start time-out.
#[test]
fn ready_1_is_a_sign() {
    let (mut gang, port) = start("--start-timeout 20m");
    let ready = event(&gang, "ready");
    let pid = ready["pids"][0].as_i64().unwrap() as i32;
    assert_eq!(get(port, "/").unwrap(), format!("hello from process {pid}\n"));
    Process::of(pid).kill();
    assert_eq!(event(&gang, "worker-died")["status"], "serving");
    gang.lines().wait_for(false, 2, |line| line.contains(r#""event":"worker-ready""#));
    get(serves(&gang, 2), "/").unwrap();
    gang.stop();
}

#[test]
fn where_ready_1_is_wanted_nothing_else_will_do() {
    let (mut gang, _) = start("--ready notify --start-timeout 20m");
    event(&gang, "ready");
    gang.stop();
    let app = "require('http').createServer(() => {}).listen(0); process.send('ready');";
    let setup = Setup::new("24").file("app.js", app);
    let mut gang = setup.start("run -n 1 --ready notify --start-timeout 2s app.js");
    assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
    gang.says("died before it was ready: not ready within 2 s of its start: killed");
}

#[test]
fn who_gives_no_sign_may_be_ready_by_its_age() {
    let mut gang =
        Setup::without_node().start("run -n 1 --ready 100ms --start-timeout 20m tail -f /dev/null");
    gang.ready();
    gang.stop();
    assert!(!gang.lines().to_string().contains("no sign"), "{}", gang.lines());
}

#[test]
fn who_says_no_more_that_it_is_there_is_replaced() {
    let (mut gang, port) = start("--watchdog 1s");
    event(&gang, "ready");
    get(port, "/hang").unwrap_err();
    let died = event(&gang, "worker-died");
    assert_eq!((&died["kind"], &died["signal"]), (&"unresponsive".into(), &9.into()), "{died}");
    assert_eq!(
        (&died["evidence"]["state"], &died["status"]),
        (&"sleeping".into(), &"thinking".into()),
        "{died}"
    );
    get(serves(&gang, 2), "/").unwrap();
    gang.stop();
}

#[test]
fn who_says_that_it_stops_is_replaced_and_has_left() {
    let (mut gang, port) = start("");
    event(&gang, "ready");
    get(port, "/stop").unwrap();
    let died = event(&gang, "worker-died");
    assert_eq!((&died["kind"], &died["exit_code"]), (&"left".into(), &0.into()), "{died}");
    gang.lines().wait_for(false, 2, |line| line.contains(r#""event":"worker-ready""#));
    gang.stop();
}

/// What the primary itself was told by whoever had started it is nobody else's business.
#[test]
fn each_worker_has_a_socket_of_its_own_and_none_is_left() {
    let app = "
        const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdog, WATCHDOG_PID: pid } = process.env;
        console.log(JSON.stringify({ socket, watchdog, pid }));
        require('http').createServer(() => {}).listen(0);";
    let told = |options: &str, expected: Value| {
        let mut setup = Setup::new("24").file("app.js", app);
        for (name, value) in [("NOTIFY_SOCKET", "/nowhere"), ("WATCHDOG_USEC", "7"), ("WATCHDOG_PID", "1")] {
            setup = setup.env(name, value);
        }
        let mut gang = setup.start(&format!("run -n 2 {options} app.js"));
        gang.ready();
        let lines = gang.lines().wait_for(true, 2, |line| line.contains("socket"));
        let mut sockets: Vec<String> = lines
            .iter()
            .map(|line| {
                let env: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
                assert_eq!((&env["watchdog"], &env["pid"]), (&expected, &Value::Null));
                env["socket"].as_str().unwrap().to_owned()
            })
            .collect();
        sockets.sort();
        let directory = Path::new(&sockets[0]).parent().unwrap().to_owned();
        assert_eq!(sockets, ["worker-1", "worker-2"].map(|name| directory.join(name).display().to_string()));
        assert!(sockets.iter().all(|socket| Path::new(socket).exists()));
        gang.stop();
        assert!(!directory.exists());
    };
    told("", Value::Null);
    told("--watchdog 2s", "2000000".into());
}

/// By the time that somebody listens the child has gone.
#[test]
fn a_child_may_speak_for_its_worker() {
    let script = "#!/bin/sh\n\"$NOTIFY\" READY=1 'STATUS=all is well'\nexec tail -f /dev/null\n";
    let setup = Setup::without_node().file("serve", script).env("NOTIFY", rust_example("notify"));
    fs::set_permissions(setup.path().join("serve"), Permissions::from_mode(0o755)).unwrap();
    let mut gang = setup.start("run -n 1 --start-timeout 20m --log-format json ./serve");
    let ready = event(&gang, "ready");
    Process::of(ready["pids"][0].as_i64().unwrap() as i32).kill();
    assert_eq!(event(&gang, "worker-died")["status"], "all is well");
    gang.stop();
}
