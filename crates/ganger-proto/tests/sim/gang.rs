//! The guard that drives the primary, under one virtual clock, with up to thousands of workers. What passes through the
//! channels are messages and not bytes: those are the other simulation's.

mod agent;
mod checks;
mod driver;
mod ends;
mod happenings;
mod kernel;
mod limits;
mod seats;
mod watch;
mod worker;
mod world;

use world::World;

/// The steps of one seed before its faults end; and so many more for each worker.
const STEPS_OF_A_SEED: u64 = 3000;
const STEPS_OF_A_WORKER: u64 = 12;

/// Runs one seed to its end and says how many steps that took.
pub(crate) fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let last = STEPS_OF_A_SEED + STEPS_OF_A_WORKER * world.seats.len() as u64;
    while world.around.step < last + world.watch.steps() && world.ended.is_none() && world.step() {
        if world.around.step.is_multiple_of(1000) {
            world.check();
        }
    }
    // One in three is stopped in the middle of its trouble.
    if !seed.is_multiple_of(3) {
        world.calm_down();
        world.settle();
        world.check_rest();
        world.serve_once_more();
    }
    world.end();
    world.settle();
    world.check_empty();
    world.around.step
}
