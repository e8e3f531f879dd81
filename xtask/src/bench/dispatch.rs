//! The measure `dispatch`: what a connection costs the primary's own code, in instructions, counted by callgrind.
//!
//! The workers are in the same process (`xtask/contenders/dispatch.rs`) and not counted; nor is the kernel.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::machine::Cpus;
use super::{Measure, Sample, Target, one_by_one};
use crate::workspace;

/// The function of the contender that is counted.
const COUNTED: &str = "*dispatch_turn*";
/// Connections of a run.
const CONNECTIONS: u32 = 20_000;

/// Few and many workers.
pub(super) struct Dispatch;

impl Measure for Dispatch {
    fn name(&self) -> &'static str {
        "dispatch"
    }

    fn about(&self) -> String {
        "what the machine, the sessions on Node's wire and a loop around them like the primary's own do for a connection \
         from its acceptance to its worker's answer; 64 clients, 2 and 1,000 workers, without system calls and lanes"
            .into()
    }

    fn unit(&self) -> &'static str {
        "instructions"
    }

    fn contenders(&self) -> Vec<&'static str> {
        vec!["rr-2", "rr-1000", "least-conn-2", "least-conn-1000"]
    }

    fn baseline(&self) -> &'static str {
        "rr-2"
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::at_most("rr-1000", 1.3, "rr-2"), Target::at_most("least-conn-1000", 1.3, "least-conn-2")]
    }

    /// It is the same each time.
    fn rounds(&self, _: u64) -> u64 {
        1
    }

    fn pinning(&self, cpus: &Cpus) -> String {
        cpus.server_alone()
    }

    fn lacks(&self) -> Option<&'static str> {
        let version = Command::new("valgrind").arg("--version").output();
        (!version.is_ok_and(|output| output.status.success())).then_some("valgrind")
    }

    fn prepare(&self, _: &[&'static str]) -> Result<()> {
        let build = ["build", "--quiet", "--release", "-p", "ganger", "--example", "contender_dispatch"];
        workspace::run(&mut workspace::cargo(build))
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        one_by_one(contenders, |contender| self.sample(contender, cpus))
    }
}

impl Dispatch {
    fn sample(&self, contender: &str, _: &Cpus) -> Result<Sample> {
        let (policy, workers) = contender.rsplit_once('-').context("not a contender")?;
        let directory = workspace::target().join("bench");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let profile = directory.join(format!("dispatch-{contender}.callgrind"));
        let mut command = Command::new("valgrind");
        command
            .args(["--quiet", "--tool=callgrind", &format!("--toggle-collect={COUNTED}")])
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(workspace::target().join("release/examples/contender_dispatch"))
            .args([policy, workers, &CONNECTIONS.to_string()]);
        let output =
            command.output().with_context(|| format!("cannot start {}", workspace::shown(&command)))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` {}: {said}", workspace::shown(&command), output.status);
        }
        let text = fs::read_to_string(&profile)
            .with_context(|| format!("callgrind has not written {}", profile.display()))?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
        let total: f64 =
            total.and_then(|total| total.trim().parse().ok()).context("callgrind has counted nothing")?;
        if total == 0.0 {
            bail!("callgrind has not seen {COUNTED}");
        }
        Ok(Sample::of(total / f64::from(CONNECTIONS)))
    }
}
