//! The measures of child processes: how many a second, and how fast their output is read. The contenders are
//! programs of their own, in `xtask/contenders`.

use std::process::Command;

use anyhow::{Context, Result};

use super::machine::Cpus;
use super::server::NODE_MAJOR;
use super::{Measure, Sample, Target, one_by_one};
use crate::{fetch, workspace};

/// What is measured of each contender in a round, where it takes as long as it is given.
const SECONDS: &str = "0.5";
/// A parent's memory, in MiB.
const SMALL: &str = "10";
const LARGE: &str = "1024";

/// One of the measures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildProcess {
    /// `/bin/true` to its exit event, its stdio ignored.
    Spawn,
    /// The same with three pipes.
    SpawnPipes,
    /// 1 GiB of a child's output.
    Output,
}

impl ChildProcess {
    pub(super) const ALL: [Self; 3] = [Self::Spawn, Self::SpawnPipes, Self::Output];
}

impl Measure for ChildProcess {
    fn name(&self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::SpawnPipes => "spawn-pipes",
            Self::Output => "output",
        }
    }

    fn about(&self) -> String {
        match self {
            Self::Spawn => "/bin/true from spawn to its exit event, one after the other, stdio ignored",
            Self::SpawnPipes => "/bin/true from spawn to its exit event, one after the other, three pipes",
            Self::Output => "1 GiB of a child's stdout, read in pieces of up to 64 KiB",
        }
        .into()
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Spawn | Self::SpawnPipes => "children/s",
            Self::Output => "MiB/s",
        }
    }

    fn contenders(&self) -> Vec<&'static str> {
        match self {
            Self::Spawn => vec!["std", "tokio", "node", "ganger", "ganger-10-MiB", "ganger-1-GiB"],
            Self::SpawnPipes => vec!["std", "tokio", "node", "ganger"],
            Self::Output => vec!["tokio", "node", "ganger"],
        }
    }

    fn baseline(&self) -> &'static str {
        "node"
    }

    fn targets(&self) -> Vec<Target> {
        let target = Target::at_least;
        match self {
            Self::Spawn => vec![
                target("ganger", 1.0 / 1.2, "std"),
                target("ganger", 1.4, "node"),
                target("ganger-1-GiB", 1.0 / 1.2, "ganger-10-MiB"),
            ],
            Self::SpawnPipes => vec![target("ganger", 1.0 / 1.2, "std"), target("ganger", 2.0, "node")],
            Self::Output => vec![target("ganger", 0.9, "tokio")],
        }
    }

    fn pinning(&self, cpus: &Cpus) -> String {
        match self {
            Self::Output => cpus.all_together(),
            Self::Spawn | Self::SpawnPipes => cpus.server_alone(),
        }
    }

    fn prepare(&self, contenders: &[&'static str]) -> Result<()> {
        if contenders.contains(&"node") {
            fetch::fetch()?;
        }
        let build = ["build", "--quiet", "--release", "-p", "ganger", "--example", "contender_child_process"];
        workspace::run(&mut workspace::cargo(build))
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        one_by_one(contenders, |contender| self.sample(contender, cpus))
    }
}

impl ChildProcess {
    fn sample(&self, contender: &str, cpus: &Cpus) -> Result<Sample> {
        let what = match self {
            Self::Spawn => "ignored",
            Self::SpawnPipes => "pipes",
            Self::Output => "output",
        };
        let mut command;
        if contender == "node" {
            command = Command::new(fetch::node(NODE_MAJOR));
            command.arg("xtask/contenders/child_process.js").args([what, SECONDS]);
        } else {
            command = Command::new(workspace::target().join("release/examples/contender_child_process"));
            let (name, ballast) = match contender {
                "ganger-10-MiB" => ("ganger", SMALL),
                "ganger-1-GiB" => ("ganger", LARGE),
                name => (name, "0"),
            };
            command.args([name, what, SECONDS, ballast]);
        }
        // Parent and child share a CPU, except where the one only feeds the other.
        if *self == Self::Output {
            cpus.enter_all()?
        } else {
            cpus.enter_server()?
        }
        measured(&mut command, cpus)
    }
}

/// What a contender prints that is a program of its own: how much it was, and how many seconds it took. It runs on
/// the CPUs that this thread is on; afterwards the thread is back on the load's.
pub(super) fn measured(command: &mut Command, cpus: &Cpus) -> Result<Sample> {
    let output = command.current_dir(workspace::root()).env_remove("NODE_OPTIONS").output();
    cpus.enter_load()?;
    let output = output.with_context(|| format!("cannot start {}", workspace::shown(command)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(count)), Some(Ok(seconds))) if output.status.success() => Ok(Sample::of(count / seconds)),
        _ => anyhow::bail!(
            "`{}` {}: {text}{}",
            workspace::shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
