//! What is drawn: the times between clients, and what they ask for. Only arithmetic that gives the same bits on every
//! machine: no logarithm, no power.

use std::time::Duration;

use crate::random::Random;

/// What a client takes of its worker's time, on average.
pub(super) const MEAN_MS: f64 = 10.0;
/// How much of the workers' time is asked for.
pub(super) const LOAD: f64 = 0.7;

/// 100^(-1/3): the longest service is a hundred times the shortest.
const THIRD: f64 = 0.215_443_469_003_188_37;
/// 100^(-4/3).
const LEAST: f64 = 0.002_154_434_690_031_884;
/// The shortest service, so that the mean of the bounded Pareto distribution with exponent 4/3 is the one above.
const SHORTEST_MS: f64 = MEAN_MS * (1.0 - LEAST) / (4.0 * (1.0 - THIRD));

fn milliseconds(ms: f64) -> Duration {
    Duration::from_nanos((ms * 1e6) as u64)
}

/// From 0 to 1, without 0.
fn uniform(random: &mut Random) -> f64 {
    ((random.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// How long a client takes: a bounded Pareto distribution with exponent 4/3.
pub(super) fn service(random: &mut Random) -> Duration {
    let y = LEAST + uniform(random) * (1.0 - LEAST);
    let root = y.sqrt();
    milliseconds(SHORTEST_MS / (root * root.sqrt()))
}

/// What is left of the service that somebody meets who comes at any time: long ones are met more often.
fn rest(random: &mut Random) -> f64 {
    let z = THIRD + uniform(random) * (1.0 - THIRD);
    SHORTEST_MS / (z * z * z) * uniform(random)
}

/// How much work a worker has that is met at any time, where work does not wait for one worker: none, or the rest of one
/// service.
pub(super) fn work(random: &mut Random) -> Duration {
    if uniform(random) < LOAD { milliseconds(rest(random)) } else { Duration::ZERO }
}

/// The same where each worker has a queue of its own: a sum of rests, by the formula of Pollaczek and Khinchine.
pub(super) fn work_and_queue(random: &mut Random) -> Duration {
    let mut work = 0.0;
    while uniform(random) < LOAD {
        work += rest(random);
    }
    milliseconds(work)
}

/// The time between two clients of so many workers: exponential, by John von Neumann's method, which only compares.
pub(super) fn gap(random: &mut Random, workers: usize) -> Duration {
    let mut whole = 0.0;
    loop {
        let first = uniform(random);
        let (mut last, mut odd) = (first, true);
        loop {
            let next = uniform(random);
            if next > last {
                break;
            }
            (last, odd) = (next, !odd);
        }
        if odd {
            return milliseconds((whole + first) * MEAN_MS / LOAD / workers as f64);
        }
        whole += 1.0;
    }
}
