//! `cargo xtask soak`: the long forms of tests whose short forms the test command runs.

mod guard;

use std::fs;

use anyhow::{Context, Result};
use clap::Subcommand;

pub(crate) use guard::ten_rounds;

use crate::workspace::{cargo, root, run, step, target};

/// Steps of each of the two simulations, of the cluster and of the gang; the test command does a million in all.
const SIMULATION_STEPS: &str = "10000000";
/// How long each fuzz target is run, in seconds; the test command runs its corpus.
const FUZZING: u32 = 900;

/// A long form.
#[derive(Subcommand, Debug)]
pub enum Part {
    /// The simulations of the cluster and of the gang, ten million steps each
    Simulation,
    /// Each fuzz target from its corpus on, for a quarter of an hour
    Fuzz,
    /// Real gangs under load while workers are reloaded, scaled, killed: which requests fail? (docs/soak.md)
    Guard(guard::Options),
}

/// Runs one of the long forms, or all.
pub fn soak(part: Option<&Part>) -> Result<()> {
    match part {
        Some(Part::Simulation) => simulation(),
        Some(Part::Fuzz) => fuzzing(),
        Some(Part::Guard(options)) => guard::guard(options),
        None => {
            simulation()?;
            step("gangs under load", || guard::guard(&guard::Options::default()))?;
            fuzzing()
        }
    }
}

fn simulation() -> Result<()> {
    step("simulations of the cluster and of the gang", || {
        run(cargo(["test", "--release", "-p", "ganger-proto", "--test", "sim"])
            .env("GANGER_SIM_STEPS", SIMULATION_STEPS))
    })
}

fn fuzzing() -> Result<()> {
    if !cargo(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success()) {
        println!("\n== NOT FUZZED: there is no cargo-fuzz; `cargo install cargo-fuzz` gets it");
        return Ok(());
    }
    let targets = root().join("fuzz/corpus");
    for entry in fs::read_dir(&targets).with_context(|| format!("cannot read {}", targets.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        step(&format!("fuzzing of {name}"), || fuzz(&name))?;
    }
    Ok(())
}

/// Runs a target from its corpus on. What it finds on its way lies in the target directory, so that the corpus stays
/// what somebody has looked at; what fails lies in `fuzz/artifacts`.
fn fuzz(name: &str) -> Result<()> {
    let found = target().join("fuzz-corpus").join(name);
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let mut command = cargo(["fuzz", "run", "--sanitizer", "none", name]);
    command.arg(found).arg(root().join("fuzz/corpus").join(name));
    command.args(["--", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048"]);
    command.arg(format!("-max_total_time={FUZZING}"));
    // The flags of cargo-fuzz are for a nightly compiler; a stable one takes them so.
    run(command.env("RUSTC_BOOTSTRAP", "1"))
}
