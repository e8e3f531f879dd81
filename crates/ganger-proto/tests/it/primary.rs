//! The primary's rules for who gets which connection, where the simulator alone would not tell.

use std::time::Duration;

use ganger_proto::{
    Generation, Seq, Slot, SocketId, Time, WorkerId,
    cluster::{Effect, Fate, Input, Policy, Primary},
    node::{Act, ClusterMessage, Query, Target},
};

/// A primary whose workers acknowledge at once and answer when told.
struct Bench {
    primary: Primary<u32>,
    now: Time,
    /// What was handed over: to whom, with which number, which connection. The last is the newest.
    handed: Vec<(WorkerId, Seq, u32)>,
    dropped: Vec<(u32, Fate)>,
    examined: Vec<(SocketId, u32)>,
    next_seq: u64,
}

fn query(port: u16) -> Query {
    Query::new(&Target::Tcp { host: Some("::1".into()), port, ipv6_only: false }, None)
}

impl Bench {
    fn new() -> Self {
        Self {
            primary: Primary::new(Policy::RoundRobin),
            now: Time::default(),
            handed: Vec::new(),
            dropped: Vec::new(),
            examined: Vec::new(),
            next_seq: 0,
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.primary.poll_effect() {
            match effect {
                Effect::Bind { socket, .. } => {
                    self.primary.handle(self.now, Input::Bound { socket, outcome: Ok(None) });
                }
                Effect::SendConnection { worker, seq, connection, .. } => {
                    self.handed.push((worker, seq, connection));
                    self.primary.handle(self.now, Input::Delivered { worker, seq, connection });
                }
                Effect::Close { socket, .. } => self.primary.handle(self.now, Input::Closed { socket }),
                Effect::Examine { socket, connection } => self.examined.push((socket, connection)),
                Effect::Drop { connection, fate } => self.dropped.push((connection, fate)),
                _ => {}
            }
        }
    }

    fn handle(&mut self, input: Input<u32>) {
        self.primary.handle(self.now, input);
        self.perform();
    }

    fn say(&mut self, worker: WorkerId, act: Act) {
        self.next_seq += 1;
        let message = ClusterMessage { seq: Some(Seq(self.next_seq)), act };
        self.handle(Input::Message { worker, message });
    }

    fn fork(&mut self) -> WorkerId {
        self.primary.fork(Slot(0), Generation(0), true)
    }

    /// A new worker that listens on these ports; the sockets have the numbers 1, 2, … in their order.
    fn worker(&mut self, ports: &[u16]) -> WorkerId {
        let worker = self.fork();
        ports.iter().for_each(|port| self.listen(worker, *port));
        worker
    }

    fn listen(&mut self, worker: WorkerId, port: u16) {
        self.say(worker, Act::QueryServer(query(port)));
    }

    fn close(&mut self, worker: WorkerId, port: u16) {
        self.say(worker, Act::Close { key: query(port).key() });
    }

    fn accept(&mut self, socket: u32, connection: u32) {
        self.handle(Input::Accepted { socket: SocketId(socket), connection });
    }

    /// The worker answers for the connection that it was handed last.
    fn answer(&mut self, worker: WorkerId, connection: u32, accepted: bool) {
        let of = |(to, _, number): &&(WorkerId, Seq, u32)| *to == worker && *number == connection;
        let (_, ack, _) = *self.handed.iter().rev().find(of).expect("it was handed this one");
        self.say(worker, Act::Accepted { ack, accepted });
    }

    fn die(&mut self, worker: WorkerId) {
        self.handle(Input::ChannelClosed { worker, undelivered: Vec::new() });
        self.handle(Input::Exited { worker });
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.primary.handle_timeout(self.now);
        self.perform();
    }

    /// To whom this connection was handed, in order.
    fn way_of(&self, connection: u32) -> Vec<WorkerId> {
        let to_whom = |(worker, _, number): &(WorkerId, Seq, u32)| (*number == connection).then_some(*worker);
        self.handed.iter().filter_map(to_whom).collect()
    }
}

#[test]
fn who_waits_for_one_worker_does_not_hold_up_the_others() {
    let mut bench = Bench::new();
    let (free, hung) = (bench.worker(&[80]), bench.worker(&[80]));
    (1..=3).for_each(|connection| bench.accept(1, connection));
    assert_eq!((bench.way_of(1), bench.way_of(2), bench.way_of(3)), (vec![free], vec![hung], vec![]));
    bench.answer(free, 1, false);
    // 1 may only go to the one that hangs; 3 may go.
    assert_eq!((bench.way_of(1), bench.way_of(3)), (vec![free], vec![free]));
    bench.answer(hung, 2, true);
    assert_eq!(bench.way_of(1), [free, hung]);
}

#[test]
fn an_answer_that_came_late_makes_room_at_every_socket() {
    let mut bench = Bench::new();
    let worker = bench.worker(&[80, 81]);
    bench.accept(1, 1);
    bench.pass(Duration::from_millis(300));
    bench.accept(2, 2);
    assert_eq!(bench.way_of(2), [], "a worker that does not answer gets no more");
    bench.answer(worker, 1, true);
    assert_eq!(bench.way_of(2), [worker]);
}

#[test]
fn who_opens_again_is_asked_again() {
    let mut bench = Bench::new();
    let worker = bench.worker(&[80]);
    bench.accept(1, 1);
    bench.close(worker, 80);
    bench.answer(worker, 1, false);
    assert_eq!(bench.way_of(1), [worker]);
    bench.listen(worker, 80);
    assert_eq!(bench.way_of(1), [worker, worker]);
}

#[test]
fn who_opens_again_is_asked_again_for_what_is_under_way_elsewhere() {
    let mut bench = Bench::new();
    let (first, second) = (bench.worker(&[80]), bench.worker(&[80]));
    bench.accept(1, 1);
    bench.answer(first, 1, false);
    bench.close(first, 80);
    bench.listen(first, 80);
    bench.answer(second, 1, false);
    assert_eq!(bench.way_of(1), [first, second, first]);
}

#[test]
fn what_the_dead_refused_waits_for_their_successor() {
    let mut bench = Bench::new();
    let worker = bench.worker(&[80]);
    bench.accept(1, 1);
    bench.answer(worker, 1, false);
    bench.primary.set_replacements_due(bench.now, true);
    bench.die(worker);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.dropped, []);
    let successor = bench.worker(&[80]);
    assert_eq!(bench.way_of(1), [worker, successor]);
}

#[test]
fn refused_by_all_is_given_up_after_a_second() {
    let mut bench = Bench::new();
    let workers = [bench.worker(&[80]), bench.worker(&[80])];
    bench.accept(1, 1);
    workers.iter().for_each(|worker| bench.answer(*worker, 1, false));
    bench.pass(Duration::from_millis(999));
    assert_eq!(bench.dropped, []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.dropped, [(1, Fate::Refused)]);
    assert_eq!(bench.primary.snapshot().counters.refused, 1);
}

#[test]
fn closing_and_opening_does_not_widen_the_window() {
    let mut bench = Bench::new();
    let worker = bench.worker(&[80]);
    bench.accept(1, 1);
    bench.close(worker, 80);
    bench.listen(worker, 80);
    bench.accept(1, 2);
    assert_eq!(bench.way_of(2), []);
    bench.answer(worker, 1, true);
    assert_eq!(bench.way_of(2), [worker]);
}

#[test]
fn every_end_is_counted_also_when_the_socket_is_gone() {
    let mut bench = Bench::new();
    let worker = bench.worker(&[80]);
    bench.accept(1, 1);
    bench.primary.close_sockets();
    bench.perform();
    bench.die(worker);
    assert_eq!(bench.examined, [(SocketId(1), 1)]);
    bench.handle(Input::Examined { socket: SocketId(1), connection: 1, untouched: true });
    assert_eq!(bench.dropped, [(1, Fate::Orphaned)]);
    let counters = bench.primary.snapshot().counters;
    assert_eq!((counters.accepted, counters.orphaned), (1, 1));
    assert_eq!(bench.primary.snapshot().sockets, []);
}
