//! How the policies compare: many workers, service times with a heavy tail, and what each policy makes of them. The primary
//! is the real one; what the kernel shares out is modelled. The outcome is `docs/policies.md`.

mod draw;
mod model;
mod page;
mod primary;

use model::Outcome;

/// The gangs.
const WORKERS: [usize; 5] = [2, 10, 100, 1000, 10_000];

/// A way to share out connections, as the page calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One hand-off at a time to a worker.
    RoundRobin,
    /// As many as the queue asks for.
    RoundRobinDeep,
    LeastConn,
    Sticky,
    Shared,
    ReusePort,
}

const WAYS: [(Way, &str); 6] = [
    (Way::RoundRobin, "`rr`, one hand-off at a time"),
    (Way::RoundRobinDeep, "`rr`, hand-offs as the queue asks"),
    (Way::LeastConn, "`least-conn`"),
    (Way::Sticky, "`sticky`"),
    (Way::Shared, "`shared`"),
    (Way::ReusePort, "`reuseport`"),
];

/// Tries every policy with every gang, and compares the page with what comes of it.
pub(crate) fn compare() {
    let row = |(way, name)| (name, WORKERS.map(|workers| model::run(way, workers)));
    let rows: Vec<(&str, [Outcome; WORKERS.len()])> = WAYS.map(row).into();
    page::check(&rows);
}
