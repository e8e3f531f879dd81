//! The measure of memory: what a worker costs its primary.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::machine::Cpus;
use super::server::{Running, SMALL};
use super::{Measure, Sample, Target};

const FEW: usize = 2;
const MANY: usize = 1000;
/// How long it may take until the last worker is ready.
const LIMIT: Duration = Duration::from_secs(120);
/// The pause between two looks whether it is.
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

    fn sample(&self, _: &str, cpus: &Cpus) -> Result<Sample> {
        let few = resident(FEW, cpus)?;
        let many = resident(MANY, cpus)?;
        Ok(Sample::of((many - few) / 1000.0 / (MANY - FEW) as f64))
    }
}

/// Bytes, when all workers are ready.
fn resident(workers: usize, cpus: &Cpus) -> Result<f64> {
    let gang = SMALL.start(workers, cpus)?;
    wait_until_ready(&gang, workers)?;
    let path = format!("/proc/{}/status", gang.pid());
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
    Ok(kib.parse::<f64>().context("VmRSS is no number")? * 1024.0)
}

fn wait_until_ready(gang: &Running, workers: usize) -> Result<()> {
    let (wanted, end) = (format!("{workers} workers ready"), Instant::now() + LIMIT);
    loop {
        let said = gang.said()?;
        if said.contains(&wanted) {
            return Ok(());
        } else if Instant::now() > end {
            bail!("{workers} workers are not ready within {} s:\n{said}", LIMIT.as_secs());
        }
        thread::sleep(PAUSE);
    }
}
