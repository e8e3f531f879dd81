//! Whether the next connection is in a hurry.

use super::*;

#[test]
fn the_primary_is_ahead_as_long_as_whoever_gets_connections_has_some() {
    let mut bench = Bench::new();
    let workers = [bench.worker(&[80]), bench.worker(&[80])];
    workers.iter().for_each(|worker| bench.primary.set_capabilities(bench.now, *worker, Capabilities::NODE));
    let [first, second] = workers;
    let mut ahead = Vec::new();
    for connection in 1..=4 {
        bench.accept(1, connection);
        ahead.push(bench.primary.is_ahead());
    }
    assert_eq!(ahead, [false, false, true, true], "each has its first, then its second");
    bench.answer(first, 1, true);
    assert!(bench.primary.is_ahead(), "it still has one");
    bench.answer(second, 2, true);
    bench.answer(second, 4, true);
    assert!(!bench.primary.is_ahead(), "the second one has nothing to do");
    bench.accept(1, 5);
    assert_eq!(
        (bench.way_of(5), bench.primary.is_ahead()),
        (vec![second], false),
        "now it has its first again"
    );
    bench.accept(1, 6);
    assert!(bench.primary.is_ahead());
    bench.die(first);
    assert!(!bench.primary.is_ahead(), "what the dead one had makes nobody wait");
}

#[test]
fn where_one_is_under_way_at_a_time_the_primary_is_never_ahead() {
    let mut bench = Bench::new();
    let worker = bench.worker(&[80]);
    (1..=3).for_each(|connection| bench.accept(1, connection));
    assert!(!bench.primary.is_ahead());
    bench.answer(worker, 1, true);
    assert!(!bench.primary.is_ahead(), "it has the next, but only that");
}
