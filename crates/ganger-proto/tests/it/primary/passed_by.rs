//! Slots and workers that get nothing for now: paused ones, withdrawn ones.

use super::*;

#[test]
fn who_gets_nothing_is_not_waited_for_by_what_the_others_refused() {
    let mut bench = Bench::new();
    let (paused, other) = (bench.worker_in(0), bench.worker_in(1));
    let held_back = bench.primary.fork(Slot(2), Generation(0), true);
    bench.primary.hold_back(held_back);
    bench.listen(held_back, 80);
    bench.primary.pause_slot(bench.now, Slot(0), true);
    bench.accept(1, 1);
    bench.answer(other, 1, false);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.dropped, [(1, Fate::Refused)]);
    // Who is back in dispatch meanwhile is asked.
    for connection in [2, 3] {
        bench.accept(1, connection);
        bench.answer(other, connection, false);
        bench.pass(Duration::from_millis(999));
        if connection == 2 {
            bench.primary.pause_slot(bench.now, Slot(0), false);
            bench.perform();
            assert_eq!(bench.way_of(2), [other, other], "everybody is asked once more");
            bench.answer(other, 2, false);
            assert_eq!(bench.way_of(2), [other, other, paused]);
            bench.answer(paused, 2, true);
            bench.primary.pause_slot(bench.now, Slot(0), true);
        } else {
            bench.primary.admit(bench.now, held_back);
            bench.perform();
            bench.answer(other, 3, false);
            assert_eq!(bench.way_of(3), [other, other, held_back]);
        }
    }
    // If nobody is in dispatch, it waits for somebody who is.
    let mut bench = Bench::new();
    let worker = bench.worker_in(0);
    bench.accept(1, 1);
    bench.primary.pause_slot(bench.now, Slot(0), true);
    bench.answer(worker, 1, false);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.dropped, []);
}

#[test]
fn a_paused_slot_gets_nothing_whoever_fills_it() {
    let mut bench = Bench::new();
    let (paused, other) = (bench.worker_in(0), bench.worker_in(1));
    bench.primary.pause_slot(bench.now, Slot(0), true);
    bench.accept(1, 1);
    assert_eq!(bench.way_of(1), [other]);
    bench.answer(other, 1, true);
    bench.die(paused);
    let successor = bench.worker_in(0);
    bench.accept(1, 2);
    assert_eq!(bench.way_of(2), [other]);
    bench.accept(1, 3);
    assert_eq!(bench.way_of(3), [], "it waits");
    bench.primary.pause_slot(bench.now, Slot(0), false);
    bench.perform();
    assert_eq!(bench.way_of(3), [successor]);
    // With sockets of their own, new connections are led past it.
    let mut bench = Bench::with(Policy::ReusePort);
    bench.worker_in(0);
    bench.worker_in(1);
    bench.done();
    bench.primary.pause_slot(bench.now, Slot(1), true);
    bench.perform();
    bench.primary.pause_slot(bench.now, Slot(1), false);
    bench.perform();
    assert_eq!(bench.done(), [Done::Steer(2, true), Done::Steer(2, false)]);
}

#[test]
fn a_socket_that_is_going_to_be_closed_gets_nothing_even_if_the_others_are_paused() {
    let mut bench = Bench::with(Policy::ReusePort);
    bench.worker_in(0);
    bench.worker_in(1);
    bench.primary.pause_slot(bench.now, Slot(0), true);
    bench.perform();
    bench.done();
    bench.primary.retire_slot(bench.now, Slot(1));
    bench.perform();
    assert_eq!(bench.done(), [Done::Steer(1, false), Done::Steer(2, true)], "they wait at the other");
}

#[test]
fn who_is_withdrawn_gets_nothing_more_and_may_be_asked_to_leave_then() {
    let mut bench = Bench::new();
    let (old, new) = (bench.worker_in(0), bench.worker_in(0));
    bench.primary.withdraw(bench.now, old);
    bench.accept(1, 1);
    assert_eq!(bench.way_of(1), [new]);
    bench.primary.disconnect(bench.now, old);
    let effects = std::iter::from_fn(|| bench.primary.poll_effect());
    let asked = |effect: Effect<u32>| matches!(effect, Effect::Send { message, .. } if message.act == Act::Disconnect);
    assert!(effects.into_iter().any(asked));
}

#[test]
fn who_is_withdrawn_gets_nothing_from_a_dead_slot_either() {
    let mut bench = Bench::with(Policy::ReusePort);
    let (old, dead, other) = (bench.worker_in(0), bench.worker_in(1), bench.worker_in(2));
    bench.die(dead);
    bench.pass(Duration::from_millis(100));
    bench.primary.withdraw(bench.now, old);
    // A slot that is paused and goes on takes nobody back.
    bench.primary.pause_slot(bench.now, Slot(0), true);
    bench.primary.pause_slot(bench.now, Slot(0), false);
    bench.perform();
    bench.accept(2, 1);
    bench.accept(2, 2);
    assert_eq!(
        (bench.way_of(1), bench.way_of(2)),
        (vec![other], vec![]),
        "it waits for the one that is left"
    );
}
