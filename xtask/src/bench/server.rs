//! The servers that are measured: each writes one byte to a connection and ends it, with two workers.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::bare::Role;
use super::load;
use super::machine::Cpus;
use crate::{fetch, process, workspace};

/// The release line of Node that is measured.
pub(super) const NODE_MAJOR: &str = "24";

/// Workers of each server.
pub(super) const WORKERS: usize = 2;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two looks whether it does.
const START_PAUSE: Duration = Duration::from_millis(10);
/// How long a server may take to end after TERM.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A way to bring a connection to one of two workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Server {
    /// Node's own cluster.
    Node(Schedule),
    /// The least that it takes; see [`super::bare`].
    Bare(Schedule),
    /// ganger with workers of a kind.
    Ganger(Schedule, Worker),
}

/// Who accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Schedule {
    /// The primary, which hands over.
    RoundRobin,
    /// The workers, from one socket.
    Shared,
}

/// What the workers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Worker {
    /// `examples/node/byte.js`
    Node,
    /// The example `byte` of the crate `ganger`.
    Rust,
}

impl Server {
    /// All of them, the known before ours.
    pub(super) const ALL: [Self; 8] = [
        Self::Node(Schedule::RoundRobin),
        Self::Node(Schedule::Shared),
        Self::Bare(Schedule::RoundRobin),
        Self::Bare(Schedule::Shared),
        Self::Ganger(Schedule::RoundRobin, Worker::Node),
        Self::Ganger(Schedule::Shared, Worker::Node),
        Self::Ganger(Schedule::RoundRobin, Worker::Rust),
        Self::Ganger(Schedule::Shared, Worker::Rust),
    ];

    /// The name on the command line and in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Node(Schedule::RoundRobin) => "node-rr",
            Self::Node(Schedule::Shared) => "node-none",
            Self::Bare(Schedule::RoundRobin) => "bare-handoff",
            Self::Bare(Schedule::Shared) => "bare-shared",
            Self::Ganger(Schedule::RoundRobin, Worker::Node) => "ganger-rr-node",
            Self::Ganger(Schedule::Shared, Worker::Node) => "ganger-shared-node",
            Self::Ganger(Schedule::RoundRobin, Worker::Rust) => "ganger-rr-rust",
            Self::Ganger(Schedule::Shared, Worker::Rust) => "ganger-shared-rust",
        }
    }

    /// The server of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|server| server.name() == name)
    }

    /// Builds what it needs.
    pub(super) fn prepare(self) -> Result<()> {
        let Self::Ganger(_, worker) = self else { return Ok(()) };
        let build =
            |args: &[&str]| workspace::run(workspace::cargo(["build", "--quiet", "--release"]).args(args));
        build(&["-p", "ganger-cli"])?;
        match worker {
            Worker::Node => Ok(()),
            Worker::Rust => build(&["-p", "ganger", "--example", "byte"]),
        }
    }

    /// Starts it on the server side's CPUs, on a free port; returns when it answers there.
    pub(super) fn start(self, cpus: &Cpus) -> Result<Running> {
        let port = free_port()?;
        let log = self.log()?;
        let mut command = self.command()?;
        command
            .env("PORT", port.to_string())
            .env_remove("NODE_OPTIONS")
            .current_dir(workspace::root())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        cpus.enter_server()?;
        let child = command.spawn();
        cpus.enter_load()?;
        let child = child.with_context(|| format!("cannot start {}", workspace::shown(&command)))?;
        let mut running = Running { server: self, child, address: (Ipv4Addr::LOCALHOST, port).into() };
        running.wait_for_answer()?;
        Ok(running)
    }

    fn command(self) -> Result<Command> {
        Ok(match self {
            Self::Node(schedule) => {
                let mut command = Command::new(fetch::node(NODE_MAJOR));
                command
                    .arg("examples/node/byte.js")
                    .env("NODE_CLUSTER_SCHED_POLICY", schedule.node_policy())
                    .env("WORKERS", WORKERS.to_string());
                command
            }
            Self::Bare(schedule) => {
                let role = match schedule {
                    Schedule::RoundRobin => Role::Handoff,
                    Schedule::Shared => Role::Shared,
                };
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bare", role.name()]);
                command
            }
            Self::Ganger(schedule, worker) => {
                let mut command = Command::new(workspace::target().join("release/ganger"));
                command
                    .args(["run", "--workers", &WORKERS.to_string(), "--schedule", schedule.ganger_value()])
                    .arg("--")
                    .arg(match worker {
                        Worker::Node => PathBuf::from("examples/node/byte.js"),
                        Worker::Rust => workspace::target().join("release/examples/byte"),
                    })
                    .env("PATH", path_with_node()?);
                command
            }
        })
    }

    /// What it prints goes here: the screen belongs to the table.
    fn log(self) -> Result<File> {
        let path = self.log_path();
        let directory = workspace::target().join("bench");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn log_path(self) -> PathBuf {
        workspace::target().join("bench").join(format!("{}.log", self.name()))
    }
}

impl Schedule {
    fn node_policy(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::Shared => "none",
        }
    }

    fn ganger_value(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::Shared => "shared",
        }
    }
}

/// A server that answers. It is ended when dropped, and its workers with it.
pub(super) struct Running {
    server: Server,
    child: Child,
    address: SocketAddr,
}

impl Running {
    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait_for_answer(&mut self) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        while !load::answers(self.address) {
            let trouble = if let Some(status) = self.child.try_wait()? {
                format!("ended: {status}")
            } else if Instant::now() > end {
                format!("does not answer within {} s", START_LIMIT.as_secs())
            } else {
                thread::sleep(START_PAUSE);
                continue;
            };
            let log = fs::read_to_string(self.server.log_path()).unwrap_or_default();
            bail!("{} {trouble}\n{}", self.server.name(), log.trim_end());
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = process::stop(&mut self.child, STOP_LIMIT) {
            eprintln!("{}: {error:#}", self.server.name());
        }
    }
}

/// A port that nobody has at the moment; that somebody takes it before the server does is possible, and
/// the server says so.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// PATH with the measured Node before any other.
fn path_with_node() -> Result<std::ffi::OsString> {
    let node = fetch::node(NODE_MAJOR);
    let own = node.parent().expect("node lies in a directory").to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&rest)))?)
}
