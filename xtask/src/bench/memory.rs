//! The measure of memory: what a worker costs its primary.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::machine::Cpus;
use super::server::{Running, SMALL};
use super::{Measure, Sample, Target, one_by_one};

const FEW: usize = 2;
const MANY: usize = 1000;
/// How long it may take until something is said.
const LIMIT: Duration = Duration::from_secs(120);
/// The pause between two looks whether it was.
const PAUSE: Duration = Duration::from_millis(50);

/// The resident memory of `ganger run` with a thousand workers beyond that with two, divided by their number.
pub(super) struct Memory;

impl Measure for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn about(&self) -> String {
        format!(
            "resident memory of the primary a worker: with {MANY} small Rust workers beyond that with {FEW}"
        )
    }

    fn unit(&self) -> &'static str {
        "KB/worker"
    }

    fn contenders(&self) -> Vec<&'static str> {
        vec!["ganger"]
    }

    fn baseline(&self) -> &'static str {
        "ganger"
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::below("ganger", 40.0, "KB/worker")]
    }

    /// It hardly varies, and takes long.
    fn rounds(&self, _: u64) -> u64 {
        3
    }

    fn pinning(&self, cpus: &Cpus) -> String {
        cpus.server_alone()
    }

    fn prepare(&self, _: &[&'static str]) -> Result<()> {
        SMALL.prepare()
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        one_by_one(contenders, |contender| self.sample(contender, cpus))
    }
}

impl Memory {
    fn sample(&self, _: &str, cpus: &Cpus) -> Result<Sample> {
        let few = resident_with(FEW, cpus)?;
        let many = resident_with(MANY, cpus)?;
        Ok(Sample::of((many - few) / 1000.0 / (MANY - FEW) as f64))
    }
}

/// The primary's bytes, when all workers are ready.
fn resident_with(workers: usize, cpus: &Cpus) -> Result<f64> {
    let gang = SMALL.start(workers, cpus)?;
    wait_until_ready(&gang)?;
    resident(gang.pid())
}

/// The bytes of a process.
pub(super) fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
    Ok(kib.parse::<f64>().context("VmRSS is no number")? * 1024.0)
}

/// Waits until all workers are ready.
pub(super) fn wait_until_ready(gang: &Running) -> Result<()> {
    wait_until_said(gang, " ready in ", 1)
}

/// Waits until it has said something so often.
pub(super) fn wait_until_said(gang: &Running, what: &str, times: usize) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let said = gang.said()?;
        if said.matches(what).count() >= times {
            return Ok(());
        } else if Instant::now() > end {
            bail!("`{what}` was not said {times} times within {} s:\n{said}", LIMIT.as_secs());
        }
        thread::sleep(PAUSE);
    }
}
