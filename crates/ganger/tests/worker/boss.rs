//! A primary to work under, ours or Node's, with the same commands and the same events.

use std::{env, fmt, path::Path};

use ganger::{
    Channel, Serialization, WorkerId,
    channel::Received,
    cluster::{Event, Misbehaviour, Policy, Primary, Settings, StickyBy, WorkerFault},
    process::{Child, Command, Stdio},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Directory, POLICIES, node};

/// All of ours.
pub(crate) static OURS: [Policy; 5] =
    [Policy::RoundRobin, Policy::LeastConn, Policy::Sticky(StickyBy::Ip), Policy::Shared, Policy::ReusePort];

/// Whose worker one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Under {
    Ganger(&'static Policy),
    /// Ours, where connections come by the channel and not by a lane; and round robin, since otherwise none come.
    WithoutLane,
    Node(&'static str, &'static Policy),
}

impl Under {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let nodes = ["18", "20", "22", "24", "26"];
        let all = POLICIES
            .iter()
            .flat_map(move |policy| nodes.into_iter().map(move |major| Self::Node(major, policy)));
        all.chain(Self::ganger())
    }

    pub(crate) fn ganger() -> impl Iterator<Item = Self> {
        OURS.iter().map(Self::Ganger).chain([Self::WithoutLane])
    }

    pub(crate) fn nodes() -> impl Iterator<Item = Self> {
        Self::all().filter(|under| under.node().is_some())
    }

    pub(crate) fn node(self) -> Option<&'static str> {
        match self {
            Self::Ganger(_) | Self::WithoutLane => None,
            Self::Node(major, _) => Some(major),
        }
    }

    pub(crate) fn policy(self) -> &'static Policy {
        match self {
            Self::Ganger(policy) | Self::Node(_, policy) => policy,
            Self::WithoutLane => &Policy::RoundRobin,
        }
    }
}

impl fmt::Display for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.policy();
        match self {
            Self::Ganger(_) => write!(f, "ganger, {policy}"),
            Self::WithoutLane => write!(f, "ganger, {policy}, without a lane"),
            Self::Node(major, _) => write!(f, "Node {major}, {policy}"),
        }
    }
}

/// A primary. Commands are `[what, worker, argument]`, events `[what, worker, …]` in Node's words.
pub(crate) struct Boss {
    commands: mpsc::UnboundedSender<Value>,
    events: mpsc::UnboundedReceiver<Value>,
    /// What happened so far, for whoever wonders why a test failed.
    log: Vec<Value>,
    workers: u32,
    /// Node's process, if it is one.
    pub(crate) process: Option<Child>,
    _directory: Directory,
}

impl Drop for Boss {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("so far: {}", json!(self.log));
        }
    }
}

impl Boss {
    /// A primary whose workers are this program, with these arguments.
    pub(crate) fn new(under: Under, args: &[&str]) -> Self {
        Self::with_serialization(under, Serialization::Json, args)
    }

    pub(crate) fn with_serialization(under: Under, serialization: Serialization, args: &[&str]) -> Self {
        let (commands, commanded) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::unbounded_channel();
        let directory = Directory::new();
        let process = match under {
            Under::Ganger(_) | Under::WithoutLane => {
                let mut settings = Settings::new(env::current_exe().unwrap());
                settings.args = args.iter().map(Into::into).collect();
                settings.policy = under.policy().clone();
                settings.serialization = serialization;
                settings.lane = under != Under::WithoutLane;
                tokio::spawn(ganger(Primary::new(settings).unwrap(), commanded, sender));
                None
            }
            Under::Node(major, policy) => {
                let script = directory.write("primary.js", NODE_PRIMARY);
                let mut command = Command::new(node(major));
                command.arg(script).arg(env::current_exe().unwrap()).args(args).guarded(true);
                command.stdio([Stdio::Ignore, Stdio::Inherit, Stdio::Inherit, Stdio::Ipc]);
                command.env("SERIALIZATION", serialization.name());
                command
                    .env("NODE_CLUSTER_SCHED_POLICY", if *policy == Policy::Shared { "none" } else { "rr" });
                let mut child = command.spawn().unwrap();
                let channel = child.take_channel().unwrap();
                tokio::spawn(node_primary(channel, commanded, sender));
                Some(child)
            }
        };
        Self { commands, events, log: Vec::new(), workers: 0, process, _directory: directory }
    }

    /// A primary of ours with these settings.
    pub(crate) fn of(settings: Settings) -> Self {
        let (commands, commanded) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(ganger(Primary::new(settings).unwrap(), commanded, sender));
        Self { commands, events, log: Vec::new(), workers: 0, process: None, _directory: Directory::new() }
    }

    fn command(&self, command: Value) {
        self.commands.send(command).unwrap();
    }

    /// Forks a worker; the answer is its number.
    pub(crate) fn fork(&mut self) -> u32 {
        self.command(json!(["fork"]));
        self.workers += 1;
        self.workers
    }

    /// From now on workers have these arguments.
    pub(crate) fn set_args(&self, args: &[&str]) {
        self.command(json!(["args", 0, args]));
    }

    /// From now on workers run this program of Node's primary, with these arguments.
    pub(crate) fn set_program(&self, program: &Path, args: &[&str]) {
        self.command(json!(["program", 0, program]));
        self.set_args(args);
    }

    pub(crate) fn send(&self, worker: u32, message: Value) {
        self.command(json!(["send", worker, message]));
    }

    pub(crate) fn disconnect(&self, worker: u32) {
        self.command(json!(["disconnect", worker]));
    }

    /// A primary of ours only.
    pub(crate) fn drain(&self, worker: u32) {
        self.command(json!(["drain", worker]));
    }

    pub(crate) fn kill(&self, worker: u32) {
        self.command(json!(["kill", worker]));
    }

    /// The first event about a worker that says `what`; those before it are not wanted.
    pub(crate) async fn event(&mut self, worker: u32, what: &str) -> Value {
        loop {
            let event = self.events.recv().await.expect("the primary has ended");
            self.log.push(event.clone());
            if event[0] == what && event[1] == worker {
                return event[2].clone();
            }
        }
    }

    /// The worker's next message.
    pub(crate) async fn message(&mut self, worker: u32) -> Value {
        self.event(worker, "message").await
    }

    /// Tells the worker to do something, and returns what it says to that.
    pub(crate) async fn ask(&mut self, worker: u32, message: Value) -> Value {
        self.send(worker, message);
        self.message(worker).await
    }

    /// How often something was said of a worker so far.
    pub(crate) fn count(&self, worker: u32, what: &str) -> usize {
        self.log.iter().filter(|event| event[0] == what && event[1] == worker).count()
    }

    /// Forks a worker and has it listen and serve; its number, and the address.
    pub(crate) async fn fork_serving(&mut self, address: &str) -> (u32, String) {
        let worker = self.fork();
        let address = self.listen(worker, address).await;
        assert_eq!(self.ask(worker, json!(["serve", 0])).await, json!(["serving"]));
        (worker, address)
    }

    /// Has the worker listen; returns the real address.
    pub(crate) async fn listen(&mut self, worker: u32, address: &str) -> String {
        let answer = self.ask(worker, json!(["listen", address])).await;
        assert_eq!(answer[0], "listening", "{answer}");
        answer[1].as_str().unwrap().to_owned()
    }
}

/// Commands to our own primary, and its events.
async fn ganger(
    mut primary: Primary,
    mut commands: mpsc::UnboundedReceiver<Value>,
    events: mpsc::UnboundedSender<Value>,
) {
    loop {
        tokio::select! {
            event = primary.event() => {
                if let Some(event) = in_words(event) && events.send(event).is_err() {
                    return;
                }
            }
            command = commands.recv() => {
                let Some(command) = command else { return };
                let worker = WorkerId(command[1].as_u64().unwrap_or(0) as u32);
                match command[0].as_str().unwrap() {
                    "fork" => drop(primary.fork().unwrap()),
                    "args" => {
                        let args = command[2].as_array().unwrap().iter();
                        let args = args.map(|arg| arg.as_str().unwrap().into()).collect();
                        primary.setup(|settings| settings.args = args);
                    }
                    "send" => drop(primary.send(worker, &command[2]).unwrap()),
                    "drain" => primary.drain(worker),
                    "disconnect" => primary.disconnect(worker),
                    "kill" => assert!(primary.kill(worker, 9)),
                    other => panic!("{other}"),
                }
            }
        }
    }
}

fn in_words(event: Event) -> Option<Value> {
    Some(match event {
        Event::Online { worker } => json!(["online", worker.id]),
        Event::Listening { worker, address } => json!(["listening", worker.id, address.to_string()]),
        Event::Message { worker, message } => {
            json!(["message", worker.id, message.parse::<Value>().unwrap()])
        }
        Event::Disconnect { worker } => json!(["disconnect", worker.id]),
        Event::Exit { worker, exit, exited_after_disconnect, .. } => {
            json!(["exit", worker.id, [exit.to_string(), exited_after_disconnect]])
        }
        Event::Panicked { worker, panic } => json!(["panicked", worker.id, panic]),
        Event::Fault { worker, fault: WorkerFault::Cluster(Misbehaviour::BeforeOnline) } => {
            json!(["before online", worker.id])
        }
        Event::Fault { worker, fault: WorkerFault::Cluster(Misbehaviour::UnknownAnswer) } => {
            json!(["flood-of-answers", worker.id])
        }
        Event::Fault { worker, fault: WorkerFault::Lane } => json!(["flood-of-nonsense", worker.id]),
        Event::Fault { worker, fault } => panic!("worker {}: {fault}", worker.id),
        _ => return None,
    })
}

/// Commands to Node's primary, over its channel, and its events.
async fn node_primary(
    mut channel: Channel,
    mut commands: mpsc::UnboundedReceiver<Value>,
    events: mpsc::UnboundedSender<Value>,
) {
    loop {
        tokio::select! {
            received = channel.recv() => match received {
                Some(Received::Message(event)) => {
                    if events.send(event.parse().unwrap()).is_err() {
                        return;
                    }
                }
                None => return,
                other => panic!("{other:?}"),
            },
            command = commands.recv() => match command {
                Some(command) => drop(channel.send(&command).unwrap()),
                None => return,
            },
        }
    }
}

const NODE_PRIMARY: &str = "
    const cluster = require('node:cluster');
    const [execPath, ...args] = process.argv.slice(2);
    process.execPath = execPath;
    const setArgs = ([exec, ...args]) => {
      cluster.setupPrimary({ exec, args, execArgv: [], serialization: process.env.SERIALIZATION });
    };
    setArgs(args);

    const where = ({ address, port }) => port === -1 ? address : address ? `${address}:${port}` : `:${port}`;
    cluster.on('online', ({ id }) => process.send(['online', id]));
    cluster.on('listening', ({ id }, address) => process.send(['listening', id, where(address)]));
    cluster.on('message', ({ id }, message) => process.send(['message', id, message]));
    cluster.on('disconnect', ({ id }) => process.send(['disconnect', id]));
    cluster.on('exit', ({ id, exitedAfterDisconnect }, code, signal) => {
      process.send(['exit', id, [signal ? `signal ${signal}` : `exit code ${code}`, exitedAfterDisconnect]]);
    });

    const workers = [null];
    process.on('message', ([what, id, argument]) => {
      switch (what) {
        case 'fork': workers.push(cluster.fork().on('error', () => {})); break;
        case 'program': process.execPath = argument; break;
        case 'args': setArgs(argument); break;
        case 'send': workers[id].send(argument); break;
        case 'disconnect': workers[id].disconnect(); break;
        case 'kill': workers[id].process.kill('SIGKILL'); break;
      }
    });";
