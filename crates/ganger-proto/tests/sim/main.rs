//! The machines in simulated worlds, with a virtual clock and faults drawn from a seed. After every step each connection
//! is in exactly one place.
//!
//! `cluster` is the primary with its sessions, byte by byte, and few workers; `gang` is the guard that drives the primary,
//! message by message, and up to thousands of workers.
//!
//! `GANGER_SIM_STEPS` sets how many steps each of the two makes in all, `GANGER_SIM_SEED` runs one seed again.

mod calendar;
mod clients;
mod cluster;
mod gang;
mod log;
mod policies;
mod random;
#[path = "../it/stream.rs"]
mod stream;

/// With the same number in the other simulation, a million in the test command.
const STEPS: u64 = 500_000;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

/// Runs seed after seed until there are enough steps.
fn run_seeds(run: fn(u64) -> u64) {
    if let Some(seed) = number("GANGER_SIM_SEED") {
        run(seed);
        return;
    }
    let wanted = number("GANGER_SIM_STEPS").unwrap_or(STEPS);
    let (mut seed, mut steps) = (0, 0);
    while steps < wanted {
        steps += run(seed);
        seed += 1;
    }
    println!("{steps} steps, {seed} seeds");
}

#[test]
fn every_connection_is_in_one_place() {
    run_seeds(cluster::run);
}

#[test]
fn a_gang_comes_back_to_its_size() {
    run_seeds(gang::run);
}

#[test]
fn how_the_policies_compare() {
    policies::compare();
}
