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
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// The name on the command line and in tables.
    pub(super) name: &'static str,
    primary: Primary,
    program: Program,
}

/// Who has the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Primary {
    /// Node's own cluster, with its `NODE_CLUSTER_SCHED_POLICY`.
    Node(&'static str),
    /// The least that it takes.
    Bare(Role),
    /// `ganger run`, with its `--schedule`.
    Ganger(&'static str),
}

/// What the workers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Program {
    /// `examples/node/byte.js`
    Byte,
    /// The example `byte` of the crate `ganger`.
    RustByte,
    /// `xtask/contenders/http.js`
    Http,
}

/// Those that write one byte to each connection, the known before ours.
pub(super) const BYTE: [Server; 11] = [
    Server { name: "node-rr", primary: Primary::Node("rr"), program: Program::Byte },
    Server { name: "node-none", primary: Primary::Node("none"), program: Program::Byte },
    Server { name: "bare-handoff", primary: Primary::Bare(Role::Handoff), program: Program::RustByte },
    Server { name: "bare-shared", primary: Primary::Bare(Role::Shared), program: Program::RustByte },
    Server { name: "bare-reuseport", primary: Primary::Bare(Role::ReusePort), program: Program::RustByte },
    Server { name: "ganger-rr-node", primary: Primary::Ganger("rr"), program: Program::Byte },
    Server { name: "ganger-shared-node", primary: Primary::Ganger("shared"), program: Program::Byte },
    Server { name: "ganger-reuseport-node", primary: Primary::Ganger("reuseport"), program: Program::Byte },
    Server { name: "ganger-rr-rust", primary: Primary::Ganger("rr"), program: Program::RustByte },
    Server { name: "ganger-shared-rust", primary: Primary::Ganger("shared"), program: Program::RustByte },
    Server {
        name: "ganger-reuseport-rust",
        primary: Primary::Ganger("reuseport"),
        program: Program::RustByte,
    },
];

/// Those that answer requests, all with the same Node workers.
pub(super) const HTTP: [Server; 7] = [
    Server { name: "node-rr", primary: Primary::Node("rr"), program: Program::Http },
    Server { name: "node-none", primary: Primary::Node("none"), program: Program::Http },
    Server { name: "ganger-rr", primary: Primary::Ganger("rr"), program: Program::Http },
    Server { name: "ganger-least-conn", primary: Primary::Ganger("least-conn"), program: Program::Http },
    Server {
        name: "ganger-sticky",
        primary: Primary::Ganger("sticky=cookie:client"),
        program: Program::Http,
    },
    Server { name: "ganger-shared", primary: Primary::Ganger("shared"), program: Program::Http },
    Server { name: "ganger-reuseport", primary: Primary::Ganger("reuseport"), program: Program::Http },
];

/// The one whose workers are real, unmodified Nodes.
pub(super) const UNMODIFIED: Server =
    Server { name: "ganger-rr-node", primary: Primary::Ganger("rr"), program: Program::Byte };

/// The one whose workers are small.
pub(super) const SMALL: Server =
    Server { name: "ganger-rr-rust", primary: Primary::Ganger("rr"), program: Program::RustByte };

impl Program {
    fn path(self) -> PathBuf {
        match self {
            Self::Byte => "examples/node/byte.js".into(),
            Self::RustByte => workspace::target().join("release/examples/byte"),
            Self::Http => "xtask/contenders/http.js".into(),
        }
    }
}

impl Server {
    /// The one of this name.
    pub(super) fn named(all: &[Self], name: &str) -> Result<Self> {
        all.iter().find(|server| server.name == name).copied().context("not a contender")
    }

    /// Builds what it needs.
    pub(super) fn prepare(self) -> Result<()> {
        let Primary::Ganger(_) = self.primary else { return Ok(()) };
        let build =
            |args: &[&str]| workspace::run(workspace::cargo(["build", "--quiet", "--release"]).args(args));
        build(&["-p", "ganger-cli"])?;
        match self.program {
            Program::Byte | Program::Http => Ok(()),
            Program::RustByte => build(&["-p", "ganger", "--example", "byte"]),
        }
    }

    /// Starts it with so many workers on the server side's CPUs, on a free port; returns when it answers there.
    pub(super) fn start(self, workers: usize, cpus: &Cpus) -> Result<Running> {
        let port = free_port()?;
        let log = self.log()?;
        let mut command = self.command(workers)?;
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

    fn command(self, workers: usize) -> Result<Command> {
        let program = self.program.path();
        let workers = workers.to_string();
        let mut command;
        match self.primary {
            Primary::Node(policy) => {
                command = Command::new(fetch::node(NODE_MAJOR));
                command.arg(program).env("NODE_CLUSTER_SCHED_POLICY", policy).env("WORKERS", workers);
            }
            Primary::Bare(role) => {
                command = Command::new(std::env::current_exe()?);
                command.args(["bare", role.name()]);
            }
            Primary::Ganger(schedule) => {
                command = Command::new(workspace::target().join("release/ganger"));
                command.args([
                    "run",
                    "--workers",
                    &workers,
                    "--schedule",
                    schedule,
                    "--restart-limit",
                    "off",
                ]);
                command.arg("--").arg(program);
                command.env("PATH", path_with_node()?);
            }
        }
        Ok(command)
    }

    /// What it prints goes here: the screen belongs to the table.
    fn log(self) -> Result<File> {
        let path = self.log_path();
        let directory = workspace::target().join("bench");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn log_path(self) -> PathBuf {
        workspace::target().join("bench").join(format!("{}.log", self.name))
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

    /// The primary's process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> Result<String> {
        let path = self.server.log_path();
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
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
            bail!("{} {trouble}\n{}", self.server.name, log.trim_end());
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = process::stop(&mut self.child, STOP_LIMIT) {
            eprintln!("{}: {error:#}", self.server.name);
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
