//! Agents and workers, in Rust and in Node, in every mixture, under the guard; and what this program does as one of them.

use std::{
    env,
    ffi::OsString,
    fmt,
    ops::ControlFlow::{self, Break, Continue},
};

use ganger::{
    Guard, Serialization, WorkerId,
    channel::Message,
    cluster::{Agent, AgentSettings, Group, Primary, Settings, To, Worker, messenger::Sender},
    guard::{AgentNotice, Config, Notice, Report, Then, Verdict},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    role::no_primary,
    support::{self, Directory, NODE, node},
};

const MAJORS: [&str; 5] = ["18", "20", "22", "24", "26"];

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    for serialization in [Serialization::Json, Serialization::Advanced] {
        let with = serialization.name();
        let name = format!("agent: Rust, with Rust workers ({with})");
        add(trials, name, None, move || they_ask_one_another(Program::Rust, Program::Rust, serialization));
        for major in MAJORS {
            let node = Program::Node(major);
            let name = format!("agent: Rust, with workers of Node {major} ({with})");
            add(trials, name, Some(major), move || they_ask_one_another(Program::Rust, node, serialization));
            let name = format!("agent: Node {major}, with Rust workers ({with})");
            add(trials, name, Some(major), move || they_ask_one_another(node, Program::Rust, serialization));
        }
    }
    add(trials, "agent: a dead one comes back".into(), None, || async {
        a_dead_one_comes_back(Program::Rust).await;
        a_dead_one_comes_back(Program::Node(NODE)).await;
    });
    add(trials, "agent: another one in its place".into(), None, another_one_in_its_place);
    add(trials, "agent: a program that is none".into(), None, a_program_that_is_none);
}

fn add<F: Future<Output = ()>>(
    trials: &mut Vec<Trial>,
    name: String,
    major: Option<&'static str>,
    test: impl FnOnce() -> F + Send + 'static,
) {
    trials.push(Trial::test(name, move || {
        support::run(test());
        if let Some(major) = major {
            support::passed("agent: Rust beside Node", major);
        }
        Ok(())
    }));
}

/// What runs.
#[derive(Clone, Copy)]
enum Program {
    Rust,
    Node(&'static str),
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rust => f.write_str("Rust"),
            Self::Node(major) => write!(f, "Node {major}"),
        }
    }
}

impl Program {
    /// It asks when it is told to, answers who asks it, and tells of answers.
    fn command(self, directory: &Directory) -> (OsString, Vec<OsString>) {
        match self {
            Self::Rust => (env::current_exe().unwrap().into(), vec!["relay".into()]),
            Self::Node(major) => (node(major).into(), vec![directory.write("relay.js", RELAY).into()]),
        }
    }
}

const RELAY: &str = "
    process.on('message', (message) => {
      if (message[0] === 'ask') process.send({ to: message[1], action: 'ask', data: 20 });
      const { action, data, from } = message;
      if (action === 'ask') process.send({ to: { pid: from.pid }, action: 'answer', data: data + 1 });
      if (action === 'answer') process.send(['answered', from.role, data]);
    });
    process.send('ready');";

/// The same in Rust.
pub(crate) fn relay() -> ganger::Result {
    ganger::main_with_agent(no_primary, relay_worker, relay_agent)
}

async fn relay_worker(worker: Worker) -> ganger::Result {
    worker.send("ready")?;
    let stopping = worker.stopping();
    tokio::pin!(stopping);
    loop {
        let message = tokio::select! {
            message = worker.recv() => message,
            () = &mut stopping => None,
        };
        let Some(message) = message else { return Ok(()) };
        match respond(&message)? {
            Continue((to, action, data)) => worker.send_letter(to, action, &data)?,
            Break(said) => worker.send(&said)?,
        };
    }
}

async fn relay_agent(agent: Agent) -> ganger::Result {
    assert!(env::var_os("NODE_CHANNEL_FD").is_none() && env::var_os("GANGER_ROLE").is_none());
    agent.ready()?;
    while let Some(message) = agent.recv().await {
        match respond(&message)? {
            Continue((to, action, data)) => agent.send_letter(to, action, &data)?,
            Break(said) => agent.send(&said)?,
        };
    }
    agent.send(&json!(["stopping", agent.id()]))?;
    Ok(())
}

/// A letter to send, or what to tell the primary.
fn respond(message: &Message) -> ganger::Result<ControlFlow<Value, (To, &'static str, u64)>> {
    let Some(letter) = message.letter() else {
        let (_, to): (String, To) = message.parse()?;
        return Ok(Continue((to, "ask", 20)));
    };
    let data: u64 = letter.parse()?;
    Ok(match (letter.action.as_str(), letter.from) {
        ("ask", Sender::Worker { pid, .. } | Sender::Agent { pid }) => {
            Continue((To::Pid(pid), "answer", data + 1))
        }
        ("answer", Sender::Agent { .. }) => Break(json!(["answered", "agent", data])),
        ("answer", _) => Break(json!(["answered", "worker", data])),
        (other, from) => return Err(format!("nobody was to send {other} here: {from:?}").into()),
    })
}

/// Two workers and an agent under a guard.
struct Gang {
    guard: Guard,
    _directory: Directory,
}

impl Gang {
    async fn start(agent: Program, workers: Program, serialization: Serialization) -> Self {
        let directory = Directory::new();
        let mut settings = Settings::new("relay");
        settings.serialization = serialization;
        let (program, args) = workers.command(&directory);
        let mut group = Group::new(program);
        group.args = args;
        group.workers = 2;
        group.serialization = serialization;
        settings.groups = vec![group];
        let (program, args) = agent.command(&directory);
        let mut one = AgentSettings::new(program);
        one.args = args;
        settings.agent = Some(one);
        let mut config = Config::default();
        config.workers = 2;
        let guard = Guard::new(Primary::new(settings).unwrap(), config, None);
        let mut gang = Self { guard, _directory: directory };
        let mut told = Vec::new();
        loop {
            match gang.notice().await {
                Notice::Agent(AgentNotice::Started { .. }) => told.push("agent started"),
                Notice::Agent(AgentNotice::Ready { .. }) => told.push("agent ready"),
                Notice::Started { .. } => told.push("worker started"),
                Notice::GangReady { .. } => break,
                _ => {}
            }
        }
        assert_eq!(
            told,
            ["agent started", "agent ready", "worker started", "worker started"],
            "{agent}, {workers}"
        );
        gang
    }

    async fn report(&mut self) -> Report {
        let report = self.guard.next().await.expect("the gang has ended");
        println!("{report:?}");
        report
    }

    async fn notice(&mut self) -> Notice {
        loop {
            if let Report::Notice { notice, .. } = self.report().await {
                return notice;
            }
        }
    }

    /// Has somebody ask somebody else; what is told of the answer, and whether it was the agent who tells it.
    async fn ask(&mut self, worker: Option<WorkerId>, to: To) -> (bool, Value) {
        let order = ("ask", to);
        let primary = self.guard.primary();
        match worker {
            Some(worker) => primary.send(worker, &order).map(drop).unwrap(),
            None => primary.send_to_agent(&order).map(drop).unwrap(),
        }
        loop {
            match self.report().await {
                Report::Message { message, .. } => return (false, message.parse().unwrap()),
                Report::AgentMessage { message, .. } => return (true, message.parse().unwrap()),
                _ => {}
            }
        }
    }

    /// Stops it; what the agent had to say, and how it ended.
    async fn stop(mut self) -> (Vec<Value>, Verdict) {
        self.guard.stop();
        let mut said = Vec::new();
        loop {
            match self.report().await {
                Report::AgentMessage { message, .. } => said.push(message.parse().unwrap()),
                Report::Notice { notice, .. } => panic!("nothing is worth telling: {notice:?}"),
                Report::End(verdict) => return (said, verdict),
                _ => {}
            }
        }
    }
}

async fn they_ask_one_another(agent: Program, workers: Program, serialization: Serialization) {
    let mut gang = Gang::start(agent, workers, serialization).await;
    let (one, two) = (WorkerId(1), WorkerId(2));
    assert_eq!(gang.ask(Some(one), To::Agent).await, (false, json!(["answered", "agent", 21])));
    assert_eq!(gang.ask(Some(two), To::Worker(one)).await, (false, json!(["answered", "worker", 21])));
    assert_eq!(gang.ask(None, To::Slot(ganger::Slot(1))).await, (true, json!(["answered", "worker", 21])));
    assert_eq!(gang.ask(None, To::Random).await, (true, json!(["answered", "worker", 21])));
    let (said, verdict) = gang.stop().await;
    // One of ours is asked; others are signalled, and have nothing to say.
    let last_words = match agent {
        Program::Rust => vec![json!(["stopping", 1])],
        Program::Node(_) => vec![],
    };
    assert_eq!((said, verdict), (last_words, Verdict::Stopped));
}

async fn a_dead_one_comes_back(agent: Program) {
    let mut gang = Gang::start(agent, Program::Rust, Serialization::Json).await;
    assert!(gang.guard.primary().kill_agent(9));
    let died = gang.notice().await;
    assert!(
        matches!(&died, Notice::Agent(AgentNotice::Died { then: Then::RetryIn(_), .. })),
        "{agent}: {died:?}"
    );
    while !matches!(gang.notice().await, Notice::Agent(AgentNotice::Ready { .. })) {}
    let answered = json!(["answered", "agent", 21]);
    assert_eq!(gang.ask(Some(WorkerId(2)), To::Agent).await, (false, answered));
    assert_eq!(gang.stop().await.1, Verdict::Stopped);
}

async fn another_one_in_its_place() {
    let mut gang = Gang::start(Program::Rust, Program::Rust, Serialization::Json).await;
    gang.guard.replace_agent();
    let started = gang.notice().await;
    assert!(matches!(started, Notice::Agent(AgentNotice::Started { agent: ganger::AgentId(2) })));
    assert!(matches!(gang.notice().await, Notice::Agent(AgentNotice::Ready { .. })));
    let answered = json!(["answered", "agent", 21]);
    assert_eq!(gang.ask(Some(WorkerId(2)), To::Agent).await, (false, answered));
    assert_eq!(gang.stop().await, (vec![json!(["stopping", 2])], Verdict::Stopped));
}

/// It takes itself neither for a primary nor for a worker.
async fn a_program_that_is_none() {
    let mut settings = Settings::this_program().unwrap();
    let mut agent = AgentSettings::this_program().unwrap();
    agent.args = vec!["remote".into()];
    settings.agent = Some(agent);
    let mut guard = Guard::new(Primary::new(settings).unwrap(), Config::default(), None);
    while let Some(report) = guard.next().await {
        match report {
            Report::Notice { notice: Notice::Started { .. }, .. } => panic!("a worker was started"),
            Report::End(verdict) => return assert_eq!(verdict, Verdict::AgentStart),
            _ => {}
        }
    }
}
