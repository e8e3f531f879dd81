//! `cargo xtask soak`: the long forms of tests whose short forms the test command runs.

use anyhow::Result;

use crate::workspace::{cargo, run, step};

/// Steps of the cluster's simulation; the test command does a million.
const SIMULATION_STEPS: &str = "10000000";

/// Runs the long forms.
pub fn soak() -> Result<()> {
    step("simulation of the cluster", || {
        run(cargo(["test", "--release", "-p", "ganger-proto", "--test", "sim"])
            .env("GANGER_SIM_STEPS", SIMULATION_STEPS))
    })
}
