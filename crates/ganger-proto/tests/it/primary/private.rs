use super::*;

impl Bench {
    fn listens(&mut self, worker: WorkerId, port: u16) {
        self.say(worker, Act::Listening(query(port)));
    }

    fn hand_private(&mut self, worker: WorkerId, connection: u32) {
        self.primary.hand_private(worker, connection);
        self.perform();
    }

    fn admit(&mut self, worker: WorkerId) {
        self.primary.admit(self.now, worker);
        self.perform();
    }
}

/// A new worker in a slot that is held back and listens on port 80.
fn newcomer(bench: &mut Bench, slot: u32) -> WorkerId {
    let worker = bench.primary.fork(Slot(slot), Generation(0), true);
    bench.primary.hold_back(worker);
    bench.listen(worker, 80);
    worker
}

#[test]
fn who_is_held_back_gets_private_connections_only() {
    let policies = [Policy::RoundRobin, Policy::LeastConn, "sticky".parse().unwrap()];
    for policy in policies {
        let mut bench = Bench::with(policy);
        let old = bench.worker_in(0);
        let newcomer = newcomer(&mut bench, 0);
        bench.hand_private(newcomer, 100);
        assert_eq!(bench.way_of(100), [newcomer]);
        bench.answer(newcomer, 100, true);
        for connection in 1..=3 {
            bench.accept(1, connection);
            assert_eq!(bench.way_of(connection), [old]);
            bench.answer(old, connection, true);
        }
        bench.primary.withdraw(bench.now, old);
        bench.accept(1, 4);
        assert_eq!(bench.way_of(4), []);
        bench.admit(newcomer);
        assert_eq!(bench.way_of(4), [newcomer]);
        bench.answer(newcomer, 4, true);
        let counters = bench.primary.snapshot().counters;
        assert_eq!((counters.accepted, counters.served), (4, 4), "our own is none of them");
        assert_eq!(bench.dropped.iter().filter(|(_, fate)| *fate == Fate::Private).count(), 1);
    }
}

#[test]
fn nobody_but_its_worker_gets_a_private_connection() {
    let mut bench = Bench::new();
    let (other, worker) = (bench.worker(&[80]), bench.worker(&[80]));
    bench.hand_private(worker, 100);
    bench.answer(worker, 100, false);
    assert_eq!((bench.way_of(100), &bench.dropped[..]), (vec![worker], &[(100, Fate::Private)][..]));
    bench.die(worker);
    bench.hand_private(worker, 101);
    assert_eq!(bench.dropped.last(), Some(&(101, Fate::Private)));
    bench.die(other);
    assert_eq!(bench.way_of(101), []);
}

#[test]
fn what_was_on_its_way_goes_down_with_the_worker() {
    let mut bench = Bench::new();
    let worker = bench.worker(&[80]);
    bench.primary.hand_private(worker, 100);
    let seq = std::iter::from_fn(|| bench.primary.poll_effect()).find_map(|effect| match effect {
        Effect::SendConnection { seq, .. } => Some(seq),
        _ => None,
    });
    bench.handle(Input::ChannelClosed { worker, undelivered: vec![(seq.unwrap(), 100)] });
    assert_eq!(bench.dropped, [(100, Fate::Private)]);
}

#[test]
fn it_comes_by_the_first_address_that_the_worker_opened() {
    let mut bench = Bench::new();
    let other = bench.worker(&[80]);
    let worker = bench.fork();
    assert_eq!(bench.primary.first_socket(worker), None);
    for port in [81, 80] {
        bench.listen(worker, port);
        bench.listens(worker, port);
    }
    assert_eq!(bench.primary.first_socket(worker), Some(SocketId(2)));
    assert_eq!(bench.primary.first_socket(other), Some(SocketId(1)));
    bench.close(worker, 81);
    assert_eq!(bench.primary.first_socket(worker), Some(SocketId(1)));
    bench.close(worker, 80);
    assert_eq!(bench.primary.first_socket(worker), None);
}

#[test]
fn a_pause_that_ends_admits_nobody() {
    let mut bench = Bench::new();
    let worker = newcomer(&mut bench, 0);
    for paused in [true, false] {
        bench.primary.pause_slot(bench.now, Slot(0), paused);
    }
    bench.accept(1, 1);
    assert_eq!(bench.way_of(1), []);
    // Nor does being admitted end a pause.
    bench.primary.pause_slot(bench.now, Slot(0), true);
    bench.admit(worker);
    assert_eq!(bench.way_of(1), []);
    bench.primary.pause_slot(bench.now, Slot(0), false);
    bench.perform();
    assert_eq!(bench.way_of(1), [worker]);
}

#[test]
fn who_leaves_while_it_is_held_back_stays_out() {
    let mut bench = Bench::new();
    let newcomer = newcomer(&mut bench, 0);
    bench.primary.withdraw(bench.now, newcomer);
    bench.admit(newcomer);
    bench.accept(1, 1);
    assert_eq!(bench.way_of(1), []);
}

#[test]
fn it_is_counted_as_open_where_that_is_counted() {
    let mut bench = Bench::with(Policy::LeastConn);
    let worker = bench.fork();
    bench.primary.set_capabilities(bench.now, worker, Capabilities::GANGER);
    bench.listen(worker, 80);
    let open = |bench: &Bench| bench.primary.snapshot().workers[0].open;
    bench.hand_private(worker, 100);
    bench.answer(worker, 100, true);
    assert_eq!(open(&bench), 1);
    bench.accept(1, 1);
    bench.answer(worker, 1, true);
    bench.say(worker, Act::Closes { count: 1 });
    assert_eq!(open(&bench), 1, "the client's");
}
