//! Servers that are closed and listen again at the same place.

use super::*;

fn asks(bench: &mut Bench, worker: WorkerId, ipv6_only: bool, backlog: u32) {
    let target = Target::Tcp { host: Some("::".into()), port: 80, ipv6_only };
    bench.say(worker, Act::QueryServer(Query::new(&target, Some(backlog))));
}

fn closes(bench: &mut Bench, worker: WorkerId) {
    let target = Target::Tcp { host: Some("::".into()), port: 80, ipv6_only: false };
    bench.say(worker, Act::Close { key: Query::new(&target, None).key() });
}

#[test]
fn who_listens_again_with_other_options_has_them() {
    for (policy, share) in [(Policy::RoundRobin, None), (Policy::ReusePort, Some(Share::First))] {
        let mut bench = Bench::with(policy);
        let (worker, other) = (bench.fork(), bench.fork());
        asks(&mut bench, worker, true, 7);
        for ((ipv6_only, backlog), last) in [(false, 7), (false, 99)].into_iter().zip(1..) {
            closes(&mut bench, worker);
            bench.done();
            asks(&mut bench, worker, ipv6_only, backlog);
            let done = bench.done();
            assert_eq!(done[..2], [Done::Close(last), Done::Bind(last + 1, share)]);
        }
        // The same options are the same socket, and whoever comes second has those of the first.
        closes(&mut bench, worker);
        bench.done();
        asks(&mut bench, worker, false, 99);
        asks(&mut bench, other, true, 1);
        assert!(!bench.done().iter().any(|done| matches!(done, Done::Close(_) | Done::Bind(..))));
        assert_eq!(bench.primary.snapshot().listeners[0].holders, [worker, other]);
    }
}

#[test]
fn who_listens_again_on_its_port_by_another_name_has_it() {
    for (policy, share) in [(Policy::RoundRobin, None), (Policy::ReusePort, Some(Share::First))] {
        let mut bench = Bench::with(policy);
        let (worker, other) = (bench.fork(), bench.fork());
        asks(&mut bench, worker, true, 7);
        let at = |host: &str| Target::Tcp { host: Some(host.into()), port: 80, ipv6_only: false };
        let ask = |host| Act::QueryServer(Query::new(&at(host), None));
        // Somebody has it still.
        bench.say(other, ask("127.0.0.1"));
        assert!(!bench.done().contains(&Done::Close(1)));
        closes(&mut bench, worker);
        bench.done();
        bench.say(worker, ask("127.0.0.2"));
        let done = bench.done();
        assert_eq!(done[..2], [Done::Close(1), Done::Bind(3, share)]);
    }
}

#[test]
fn who_waits_at_the_old_socket_is_served_by_the_new_holder() {
    let mut bench = Bench::new();
    let worker = bench.fork();
    asks(&mut bench, worker, true, 7);
    closes(&mut bench, worker);
    bench.accept(1, 1);
    let target = Target::Tcp { host: Some("::".into()), port: 80, ipv6_only: false };
    let message = ClusterMessage { seq: Some(Seq(90)), act: Act::QueryServer(Query::new(&target, Some(7))) };
    bench.primary.handle(bench.now, Input::Message { worker, message });
    // It was in the kernel's queue when that was closed.
    bench.accept(1, 2);
    bench.answer(worker, 1, true);
    assert_eq!((bench.way_of(1), bench.way_of(2)), (vec![worker], vec![worker]));
    assert_eq!(bench.dropped, [(1, Fate::Accepted)]);
}

#[test]
fn if_it_cannot_be_bound_again_nothing_is_left() {
    let mut bench = Bench::new();
    let worker = bench.fork();
    asks(&mut bench, worker, true, 7);
    closes(&mut bench, worker);
    bench.accept(1, 1);
    bench.taken = true;
    asks(&mut bench, worker, false, 7);
    assert_eq!(bench.dropped, [(1, Fate::Orphaned)]);
    assert_eq!(bench.primary.snapshot().listeners, []);
}

#[test]
fn what_a_worker_that_has_gone_may_have_open_is_kept() {
    let mut bench = Bench::with(Policy::Shared);
    let old = bench.worker_in(0);
    bench.primary.set_replacements_due(bench.now, true);
    bench.done();
    bench.primary.disconnect(bench.now, old);
    let new = bench.fork();
    bench.say(new, Act::QueryServer(Query { backlog: Some(7), ..query(80) }));
    assert_eq!((bench.done(), bench.sent[&new]), (vec![], SocketId(1)));
}
