//! Every cause of death, as machines are told it. (`failing.rs` has the panic, the system tests have the kernel's kill.)

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::harness::client::get;
use super::harness::{Gang, Setup};

/// Does what the path says.
const APP: &str = "
    const fs = require('fs');
    if (fs.existsSync('hang')) for (;;);
    require('http').createServer((request, response) => {
      response.end(String(process.pid), () => {
        switch (request.url) {
          case '/exit': process.exit(7);
          case '/abort': process.abort();
          case '/garbage': fs.writeSync(3, 'garbage\\n'); break;
          case '/leave': require('cluster').worker.disconnect(); break;
          case '/end': fs.closeSync(3); break;
        }
      });
    }).listen(0);";

/// A worker in its right mind, and its process.
fn start(options: &str) -> (Gang, u16, i32) {
    let words = format!("run -n 1 --log-format json {options} app.js");
    let gang = Setup::new("24").file("app.js", APP).start(&words);
    let port = field(&gang, "listening", "address").rsplit(':').next().unwrap().parse().unwrap();
    gang.says(r#""event":"ready""#);
    let pid = get(port, "/").unwrap().parse().unwrap();
    (gang, port, pid)
}

fn event(gang: &Gang, name: &str) -> Value {
    serde_json::from_str(&gang.says(&format!(r#""event":"{name}""#))).unwrap()
}

fn field(gang: &Gang, name: &str, field: &str) -> String {
    event(gang, name)[field].as_str().unwrap().to_owned()
}

/// What is told when a worker does what a path says.
fn death(path: &str, options: &str) -> Value {
    let (mut gang, port, pid) = start(options);
    get(port, path).unwrap();
    let died = event(&gang, "worker-died");
    assert_eq!((&died["worker"], &died["pid"], &died["slot"]), (&1.into(), &pid.into(), &0.into()), "{died}");
    assert_eq!(died["restarts"], 0, "{died}");
    assert_eq!(died["connections"]["under_way"], 0, "{died}");
    gang.stop();
    died
}

#[test]
fn an_exit_and_a_signal() {
    let died = death("/exit", "");
    assert_eq!(
        (&died["kind"], &died["exit_code"], &died["cause"]),
        (&"exit".into(), &7.into(), &"exit code 7".into())
    );
    assert!(died["signal"].is_null() && died["evidence"].is_null() && died["panic"].is_null(), "{died}");
    let died = death("/abort", "");
    assert_eq!((&died["kind"], &died["signal"]), (&"signal".into(), &6.into()), "{died}");
    assert!(died["core_dumped"].is_boolean(), "{died}");
    let cause = died["cause"].as_str().unwrap();
    assert_eq!(cause.ends_with(" (core dumped)"), died["core_dumped"].as_bool().unwrap(), "{died}");
}

#[test]
fn a_rule_that_was_broken() {
    let died = death("/garbage", "");
    assert_eq!((&died["kind"], &died["signal"]), (&"misbehaviour".into(), &9.into()), "{died}");
    assert!(died["evidence"]["state"].is_string(), "{died}");
}

#[test]
fn who_leaves_and_who_was_asked_to() {
    assert_eq!(death("/leave", "")["kind"], "left");
    // Its channel is closed; it lives on and is told to go.
    assert_eq!(death("/end", "--drain-timeout 3s")["kind"], "asked");
}

#[test]
fn who_answers_nothing() {
    let (mut gang, _, pid) = start("--watchdog 1s");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    let died = event(&gang, "worker-died");
    assert_eq!((&died["kind"], &died["signal"]), (&"unresponsive".into(), &9.into()), "{died}");
    assert_eq!(died["evidence"]["state"], "stopped", "{died}");
    // It lived for a second, at least.
    assert!(died["memory"][0].as_u64().unwrap() > 1 << 20, "{died}");
    gang.stop();
}

#[test]
fn who_does_not_get_ready_as_its_predecessor_did() {
    let (mut gang, port, _) = start("--start-timeout 1s");
    fs::write(gang.path().join("hang"), "").unwrap();
    get(port, "/exit").unwrap();
    let both = gang.lines().wait_for(false, 2, |line| line.contains(r#""event":"worker-died""#));
    let died: Value = serde_json::from_str(&both[1]).unwrap();
    assert_eq!((&died["worker"], &died["kind"]), (&2.into(), &"start-timeout".into()), "{died}");
    assert_eq!((&died["restarts"], &died["was_ready"]), (&1.into(), &false.into()), "{died}");
    assert_eq!(died["evidence"]["state"], "running", "{died}");
    fs::remove_file(gang.path().join("hang")).unwrap();
    gang.stop();
}
