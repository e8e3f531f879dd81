//! The cluster's primary and its sessions, byte by byte, in a simulated world: a virtual clock, a kernel, few workers with
//! a temper, and faults drawn from a seed.

mod checks;
mod driver;
mod gang;
mod temper;
mod worker;
mod world;

use world::World;

/// The steps of one seed before its faults end.
const STEPS_OF_A_SEED: u64 = 4000;

/// Runs one seed to its end and says how many steps that took.
pub(crate) fn run(seed: u64) -> u64 {
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
