//! The same client to the same slot.

use super::*;

#[test]
fn a_client_comes_back_to_its_slot_whoever_fills_it() {
    let mut bench = Bench::with("sticky".parse().unwrap());
    let workers = [bench.worker_in(0), bench.worker_in(1), bench.worker_in(2)];
    workers.iter().for_each(|worker| bench.primary.set_capabilities(bench.now, *worker, Capabilities::NODE));
    bench.perform();
    bench.accept(1, 5);
    let home = bench.way_of(5)[0];
    bench.answer(home, 5, true);
    let slot = workers.iter().position(|worker| *worker == home).unwrap() as u32;
    bench.die(home);
    let successor = bench.worker_in(slot);
    bench.accept(1, 5);
    assert_eq!(bench.way_of(5), [home, successor]);
}

#[test]
fn a_client_whose_worker_hangs_waits_and_the_others_do_not() {
    let mut bench = Bench::with("sticky".parse().unwrap());
    let (one, two) = (bench.worker_in(0), bench.worker_in(1));
    // The first client of each.
    let mut homes = BTreeMap::new();
    (1..20).for_each(|connection| {
        bench.accept(1, connection);
        if let [home] = bench.way_of(connection)[..] {
            homes.insert(home, connection);
        }
    });
    assert_eq!(homes.len(), 2, "a window of one each");
    // The second hangs; the first answers, and gets all of its own.
    bench.answer(one, homes[&one], true);
    bench.pass(Duration::from_millis(300));
    let before = bench.handed.len();
    while let Some((worker, _, connection)) =
        bench.handed.last().copied().filter(|(worker, ..)| *worker == one)
    {
        bench.answer(worker, connection, true);
        if bench.handed.last().map(|(.., last)| *last) == Some(connection) {
            break;
        }
    }
    assert!(
        bench.handed.len() > before && bench.handed.iter().filter(|(worker, ..)| *worker == two).count() == 1
    );
}

#[test]
fn whose_first_bytes_are_waited_for_counts_as_waiting() {
    let mut bench = Bench::with("sticky=cookie:sid".parse().unwrap());
    let workers = [bench.worker_in(0), bench.worker_in(1)];
    bench.accept(1, 1);
    assert_eq!(bench.done().last(), Some(&Done::Peek(1)));
    assert_eq!(bench.primary.snapshot().listeners[0].waiting, 1);
    let peer = Peer { client: Client::Of(Slot(1)), cookie: None };
    bench.handle(Input::Peeked { listener: SocketId(1), connection: 1, peer });
    assert_eq!(bench.way_of(1), [workers[1]]);
    // Once nobody new is to come, nothing is waited for.
    bench.primary.close_sockets();
    bench.accept(1, 2);
    assert!(!bench.done().contains(&Done::Peek(2)));
}

/// Two workers, of which the first has all clients that are let in.
struct Homes {
    bench: Bench,
    home: WorkerId,
    other: WorkerId,
}

impl Homes {
    fn new() -> Self {
        let mut bench = Bench::with("sticky".parse().unwrap());
        let (home, other) = (bench.worker_in(0), bench.worker_in(1));
        Self { bench, home, other }
    }

    fn accept(&mut self, connection: u32) {
        let peer = Peer { client: Client::Of(Slot(0)), cookie: None };
        self.bench.handle(Input::Accepted { socket: SocketId(1), connection, peer });
    }
}

#[test]
fn nobody_waits_for_a_worker_that_answers_nothing_for_five_seconds() {
    let Homes { mut bench, home, other } = {
        let mut homes = Homes::new();
        (1..=2).for_each(|connection| homes.accept(connection));
        homes
    };
    bench.pass(Duration::from_millis(4900));
    assert_eq!((bench.way_of(1), bench.way_of(2)), (vec![home], vec![]));
    // Nothing happens but the time.
    let due = bench.primary.poll_timeout().unwrap();
    bench.pass(due - bench.now);
    assert_eq!((bench.way_of(2), due.since_zero()), (vec![other], Duration::from_secs(5)));
}

#[test]
fn if_too_many_wait_for_a_busy_worker_the_others_get_them() {
    let mut homes = Homes::new();
    // One is under way, and those that may wait are one less than too many.
    (1..=128).for_each(|connection| homes.accept(connection));
    assert_eq!(homes.bench.handed.len(), 1);
    homes.accept(129);
    let Homes { mut bench, home, other } = homes;
    assert_eq!(bench.way_of(2), [other]);
    bench.answer(other, 2, true);
    assert_eq!(bench.handed.len(), 2, "there are not too many any more");
    bench.answer(home, 1, true);
    assert_eq!(bench.way_of(3), [home]);
}
