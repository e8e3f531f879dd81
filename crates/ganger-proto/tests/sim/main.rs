//! The cluster's primary and its sessions in a simulated world: a virtual clock, a kernel, workers with a
//! temper, and faults drawn from a seed. After every step each connection is in exactly one place.
//!
//! `GANGER_SIM_STEPS` sets how many steps are run in all, `GANGER_SIM_SEED` runs one seed again.

mod checks;
mod clients;
mod driver;
mod gang;
mod log;
mod random;
#[path = "../it/stream.rs"]
mod stream;
mod temper;
mod worker;
mod world;

use world::World;

/// The steps of one seed before its faults end.
const STEPS_OF_A_SEED: u64 = 4000;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

/// Runs one seed to its end and says how many steps that took.
fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    for step in 1..=STEPS_OF_A_SEED {
        world.step();
        if step % 1000 == 0 {
            world.check();
        }
    }
    world.calm_down();
    // One in three is stopped in the middle of its work.
    if !seed.is_multiple_of(3) {
        world.settle();
        world.check_rest();
    }
    world.stop();
    world.settle();
    world.check_empty();
    world.around.step
}

#[test]
fn every_connection_is_in_one_place() {
    if let Some(seed) = number("GANGER_SIM_SEED") {
        run(seed);
        return;
    }
    let wanted = number("GANGER_SIM_STEPS").unwrap_or(1_000_000);
    let (mut seed, mut steps) = (0, 0);
    while steps < wanted {
        steps += run(seed);
        seed += 1;
    }
    println!("{steps} steps, {seed} seeds");
}
