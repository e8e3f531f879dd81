//! `--agent` and `--messenger`: one process beside the workers, and letters between them all.

use rustix::process::Signal;

use super::harness::{Gang, Process, Setup, client::get, example, on_every_node};

/// A worker that asks the agent for a number on each request.
const WORKER: &str = "
    const waiting = [];
    process.on('message', ({ action, data }) => { if (action === 'number') waiting.shift()?.end(`number ${data}`); });
    require('http').createServer((request, response) => {
      waiting.push(response);
      process.send({ to: 'agent', action: 'next' });
    }).listen(0);";

/// An agent that counts.
const AGENT: &str = "
    let count = 0;
    process.on('message', ({ action, from }) => {
      if (action === 'next') process.send({ to: { worker: from.id }, action: 'number', data: ++count });
    });
    process.on('exit', () => console.log('agent has gone'));
    process.on('SIGTERM', () => process.exit());
    process.send('ready');";

/// The pid in a line about the agent.
fn pid(line: &str) -> i32 {
    let (_, rest) = line.split_once("(pid ").unwrap_or_else(|| panic!("no pid: {line}"));
    rest.split(')').next().unwrap().parse().unwrap()
}

fn start(major: &str) -> Gang {
    Setup::new(major)
        .file("worker.js", WORKER)
        .file("agent.js", AGENT)
        .start("run -n 2 --agent agent.js worker.js")
}

#[test]
fn workers_and_their_agent_exchange_letters() {
    on_every_node("--agent", |major| {
        let mut gang = start(major);
        gang.says("is ready after");
        gang.ready();
        let lines = gang.lines().of(false);
        let at = |text: &str| lines.iter().position(|line| line.contains(text));
        assert!(at("agent (pid") < at("2 workers ready"), "{}", gang.lines());
        let port = gang.port();
        for number in 1..=4 {
            assert_eq!(get(port, "/").unwrap(), format!("number {number}"), "{}", gang.lines());
        }
        gang.stop();
        gang.prints("agent has gone");
    });
}

#[test]
fn a_killed_agent_comes_back() {
    on_every_node("an agent's death", |major| {
        let mut gang = start(major);
        let agent = pid(&gang.says("is ready after"));
        gang.ready();
        let port = gang.port();
        assert_eq!(get(port, "/").unwrap(), "number 1");
        Process::of(agent).kill();
        gang.says(&format!("agent (pid {agent}) died after"));
        let ready = |line: &str| line.contains("is ready after") && pid(line) != agent;
        gang.lines().wait(false, ready, "another agent");
        // It is another one, that has not counted yet.
        assert_eq!(get(port, "/").unwrap(), "number 1", "{}", gang.lines());
        gang.stop();
    });
}

#[test]
fn an_agent_that_dies_at_its_start_ends_the_gang() {
    on_every_node("an agent's death at the start", |major| {
        let mut gang = Setup::new(major)
            .file("worker.js", "console.log('a worker was started');")
            .file("agent.js", "throw new Error('no database');")
            .start("run -n 2 --agent agent.js worker.js");
        assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
        let line = gang.says("died before it was ready");
        assert!(line.contains("agent (pid ") && line.contains("Error: no database"), "{line}");
        assert!(gang.lines().of(true).is_empty(), "{}", gang.lines());
    });
}

#[test]
fn a_reload_to_an_agent_that_dies_has_failed_and_the_mended_one_comes_with_the_next() {
    on_every_node("a reload to a broken agent", |major| {
        let mut gang = start(major);
        gang.ready();
        let port = gang.port();
        let agent = gang.path().join("agent.js");
        std::fs::write(&agent, "throw new Error('no database');").unwrap();
        gang.signal(Signal::HUP);
        let line = gang.says("reload failed after");
        assert!(line.contains("agent (pid ") && line.contains("Error: no database"), "{line}");
        assert!(line.contains("the old workers serve on"), "{line}");
        std::fs::write(&agent, AGENT).unwrap();
        gang.signal(Signal::HUP);
        gang.says("reloaded");
        assert_eq!(get(port, "/").unwrap(), "number 1", "{}", gang.lines());
        gang.stop();
    });
}

#[test]
fn an_agent_is_told_of_in_json_too() {
    let mut gang = Setup::new("24")
        .file("worker.js", WORKER)
        .file("agent.js", "setTimeout(() => process.send('ready'), 0); setInterval(() => {}, 1000)")
        .start("run -n 1 --log-format json --agent agent.js worker.js");
    let started = gang.says(r#""event":"agent-started""#);
    let ready = gang.says(r#""event":"agent-ready""#);
    gang.says(r#""event":"ready""#);
    let pid = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["pid"].as_i64();
    assert!(pid(&started).is_some() && pid(&started) == pid(&ready), "{}", gang.lines());
    gang.stop();
}

#[test]
fn the_agent_is_ended_after_the_workers() {
    on_every_node("an agent ends last", |major| {
        let worker = "
            process.on('exit', () => require('fs').appendFileSync('order', 'worker '));
            require('http').createServer().listen(0);";
        let agent = "
            process.on('SIGTERM', () => { require('fs').appendFileSync('order', 'agent'); process.exit(); });
            process.on('message', () => {});
            process.send('ready');";
        let mut gang = Setup::new(major)
            .file("worker.js", worker)
            .file("agent.js", agent)
            .start("run -n 2 --agent agent.js worker.js");
        gang.ready();
        let order = gang.path().join("order");
        gang.signal(Signal::TERM);
        assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
        assert_eq!(std::fs::read_to_string(order).unwrap(), "worker worker agent");
    });
}

#[test]
fn an_agent_that_is_not_there_is_a_usage_error() {
    let mut gang = Setup::new("24").file("worker.js", WORKER).start("run -n 1 --agent missing.js worker.js");
    assert_eq!(gang.ends(), Some(2));
    gang.says("the agent: missing.js does not exist");
}

#[test]
fn a_file_may_name_the_agent() {
    let mut gang = Setup::new("24")
        .file("worker.js", WORKER)
        .file("agents/agent.js", AGENT)
        .file("ganger.toml", "program = 'worker.js'\nworkers = 1\nagent = 'agents/agent.js'\n")
        .start("run");
    gang.ready();
    assert_eq!(get(gang.port(), "/").unwrap(), "number 1", "{}", gang.lines());
    gang.stop();
}

#[test]
fn workers_may_write_to_one_another_without_an_agent() {
    let worker = "
        const { id } = require('cluster').worker;
        process.on('message', ({ action, data, from }) => console.log(action, data, from.id, 'to', id));
        require('http').createServer((request, response) => {
          process.send({ to: 'workers', action: 'news', data: 7 });
          response.end('sent');
        }).listen(0);";
    let mut gang = Setup::new("24").file("worker.js", worker).start("run -n 2 --messenger worker.js");
    gang.ready();
    get(gang.port(), "/").unwrap();
    for id in 1..=2 {
        gang.lines().wait(
            true,
            |line| line.starts_with("news 7 ") && line.ends_with(&format!("to {id}")),
            "news",
        );
    }
    gang.stop();
}

#[test]
fn the_example_counts_for_all() {
    on_every_node("examples/node/agent.js", |major| {
        let (agent, server) = (example("agent.js"), example("counter.js"));
        let mut gang = Setup::new(major).start(&format!("run -n 2 --agent {agent} {server}"));
        gang.ready();
        let port = gang.port();
        for visit in 1..=4 {
            let text = get(port, "/").unwrap();
            assert!(text.starts_with(&format!("visit {visit} ")), "{text}");
        }
        gang.stop();
    });
}
