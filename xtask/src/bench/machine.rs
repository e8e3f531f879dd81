//! The machine under a benchmark: its CPUs, how they are divided, what it is.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::fetch;

/// The CPUs that this process may use, divided between the server side and the load.
///
/// The load has the last one for itself, the server side all others: with two, 0 and 1. With a single
/// one both share it.
pub(super) struct Cpus {
    server: Vec<usize>,
    load: Vec<usize>,
}

impl Cpus {
    /// Divides the CPUs that this process may use.
    pub(super) fn divide() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot ask for the CPUs")?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        Ok(match all.split_last() {
            Some((last, rest)) if !rest.is_empty() => Self { server: rest.to_vec(), load: vec![*last] },
            _ => Self { server: all.clone(), load: all },
        })
    }

    /// Where everything runs, if all runs on the server side's.
    pub(super) fn server_alone(&self) -> String {
        format!("all on CPU {}", list(&self.server))
    }

    /// Where everything runs, if all may run anywhere.
    pub(super) fn all_together(&self) -> String {
        format!("all on CPU {}", list(&[&self.server[..], &self.load[..]].concat()))
    }

    /// Whether the load has one for itself.
    pub(super) fn are_divided(&self) -> bool {
        self.server != self.load
    }

    /// How many there are.
    fn count(&self) -> usize {
        if self.are_divided() { self.server.len() + self.load.len() } else { self.load.len() }
    }

    /// How long the server side's CPUs have had nothing to do since the machine started, in the mean.
    pub(super) fn server_idle(&self) -> Result<Duration> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let mut ticks = 0;
        for cpu in &self.server {
            let name = format!("cpu{cpu}");
            let line = stat.lines().map(|line| line.split_ascii_whitespace());
            let own = line.filter_map(|mut words| (words.next()? == name).then_some(words)).next();
            // user, nice, system, idle, iowait, …
            let idle = own.context("a CPU that /proc/stat does not know")?.skip(3).take(2);
            ticks +=
                idle.map(str::parse::<u64>).sum::<Result<u64, _>>().context("not a number in /proc/stat")?;
        }
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok(Duration::from_secs_f64(seconds / self.server.len() as f64))
    }

    /// Puts this thread, and what it starts from now on, on the server side's CPUs.
    pub(super) fn enter_server(&self) -> Result<()> {
        pin(&self.server)
    }

    /// Puts this thread, and what it starts from now on, on all of them.
    pub(super) fn enter_all(&self) -> Result<()> {
        pin(&[&self.server[..], &self.load[..]].concat())
    }

    /// Puts this thread on the load's CPU.
    pub(super) fn enter_load(&self) -> Result<()> {
        pin(&self.load)
    }
}

impl std::fmt::Display for Cpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "server side on CPU {}, load on CPU {}", list(&self.server), list(&self.load))
    }
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    sched_setaffinity(None, &set).context("cannot pin to CPUs")
}

/// What a reader has to know of the machine to judge the numbers.
#[derive(Serialize)]
pub(super) struct Machine {
    cpu: String,
    cpus: usize,
    kernel: String,
    rustc: String,
    node: String,
}

impl Machine {
    /// Asks the kernel and the programs; what cannot be found out is called unknown.
    pub(super) fn describe(cpus: &Cpus) -> Self {
        let unknown = || "unknown".to_owned();
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Self {
            cpu: cpu.unwrap_or_else(unknown),
            cpus: cpus.count(),
            kernel: kernel.map_or_else(unknown, |kernel| kernel.trim().to_owned()),
            rustc: version(&mut Command::new("rustc")).unwrap_or_else(unknown),
            node: version(&mut Command::new(fetch::node(super::server::NODE_MAJOR))).unwrap_or_else(unknown),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, cpus, kernel, rustc, node } = self;
        write!(f, "{cpu}, {cpus} CPUs usable; Linux {kernel}; Node {node}; {rustc}")
    }
}

fn version(program: &mut Command) -> Option<String> {
    let output = program.arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
