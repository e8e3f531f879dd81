//! The primary's rules for who gets which connection, where the simulator alone would not tell.

mod again;
mod ahead;
mod data;
mod leave;
mod open;
mod passed_by;
mod private;
mod probe;
mod sticky;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ganger_proto::{
    Generation, Seq, Slot, SocketId, Time, WorkerId,
    cluster::{Capabilities, Client, Effect, Event, Fate, Input, LeastConnBy, Peer, Policy, Primary, Share},
    node::{Act, ClusterMessage, Query, Sockname, Target, hints::Report},
};

/// A primary whose workers acknowledge at once and answer when told.
struct Bench {
    primary: Primary<u32>,
    now: Time,
    /// What was handed over: to whom, with which number, which connection. The last is the newest.
    handed: Vec<(WorkerId, Seq, u32)>,
    dropped: Vec<(u32, Fate)>,
    examined: Vec<(SocketId, u32)>,
    /// What else the primary wanted of sockets, in order.
    done: Vec<Done>,
    /// The socket that a worker was sent last.
    sent: BTreeMap<WorkerId, SocketId>,
    /// Addresses are somebody else's.
    taken: bool,
    next_seq: u64,
}

#[derive(Debug, PartialEq)]
enum Done {
    Bind(u32, Option<Share>),
    Accept(u32, bool),
    Steer(u32, bool),
    Close(u32),
    Peek(u32),
}

/// Where a socket is bound.
fn sockname(target: Target) -> Option<Sockname> {
    let Target::Tcp { host, port, .. } = target else { return None };
    Some(Sockname { address: host?, family: "IPv6".into(), port })
}

fn query(port: u16) -> Query {
    Query::new(&Target::Tcp { host: Some("::1".into()), port, ipv6_only: false }, None)
}

impl Bench {
    fn new() -> Self {
        Self::with(Policy::RoundRobin)
    }

    fn with(policy: Policy) -> Self {
        Self {
            primary: Primary::new(policy),
            now: Time::default(),
            handed: Vec::new(),
            dropped: Vec::new(),
            examined: Vec::new(),
            done: Vec::new(),
            sent: BTreeMap::new(),
            taken: false,
            next_seq: 0,
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.primary.poll_effect() {
            match effect {
                Effect::Bind { socket, share, target, .. } => {
                    self.done.push(Done::Bind(socket.0, share));
                    let outcome = if self.taken { Err(98) } else { Ok(sockname(target)) };
                    self.primary.handle(self.now, Input::Bound { socket, outcome });
                }
                Effect::SendConnection { worker, seq, connection, .. } => {
                    self.handed.push((worker, seq, connection));
                    self.primary.handle(self.now, Input::Delivered { worker, seq, connection });
                }
                Effect::Close { socket, .. } => {
                    self.done.push(Done::Close(socket.0));
                    self.primary.handle(self.now, Input::Closed { socket });
                }
                Effect::Accept { socket, on } => self.done.push(Done::Accept(socket.0, on)),
                Effect::Steer { socket, away } => self.done.push(Done::Steer(socket.0, away)),
                Effect::Peek { connection, .. } => self.done.push(Done::Peek(connection)),
                Effect::SendSocket { worker, socket, .. } => drop(self.sent.insert(worker, socket)),
                Effect::Examine { listener, connection, .. } => self.examined.push((listener, connection)),
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

    /// A new worker in a slot, which listens on port 80.
    fn worker_in(&mut self, slot: u32) -> WorkerId {
        let worker = self.primary.fork(Slot(slot), Generation(0), true);
        self.listen(worker, 80);
        worker
    }

    fn done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
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
        // A client for each connection, who is found by its number.
        let peer = Peer { client: Client::known(&connection.to_be_bytes()), cookie: Some(connection.into()) };
        self.handle(Input::Accepted { socket: SocketId(socket), connection, peer });
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
    bench.handle(Input::Examined {
        listener: SocketId(1),
        connection: 1,
        peer: Peer::default(),
        untouched: true,
    });
    assert_eq!(bench.dropped, [(1, Fate::Orphaned)]);
    let counters = bench.primary.snapshot().counters;
    assert_eq!((counters.accepted, counters.orphaned), (1, 1));
    assert_eq!(bench.primary.snapshot().listeners, []);
}

#[test]
fn with_reuseport_each_slot_has_its_socket_for_good() {
    let mut bench = Bench::with(Policy::ReusePort);
    let (first, second) = (bench.worker_in(0), bench.worker_in(1));
    assert_eq!(
        bench.done(),
        [Done::Bind(1, Some(Share::First)), Done::Bind(2, Some(Share::With(SocketId(1))))]
    );
    assert_eq!((bench.sent[&first], bench.sent[&second]), (SocketId(1), SocketId(2)));
    bench.primary.set_replacements_due(bench.now, true);
    bench.die(second);
    let third = bench.worker_in(1);
    assert_eq!(bench.sent[&third], SocketId(2), "its successor has the same socket");
    assert_eq!(bench.done(), [], "and nobody was bothered");
}

#[test]
fn what_waits_for_a_dead_slot_goes_to_its_siblings_after_a_moment() {
    let mut bench = Bench::with(Policy::ReusePort);
    let (first, second) = (bench.worker_in(0), bench.worker_in(1));
    bench.done();
    bench.die(second);
    bench.pass(Duration::from_millis(99));
    assert_eq!(bench.done(), []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.done(), [Done::Accept(2, true)]);
    bench.accept(2, 7);
    assert_eq!(bench.way_of(7), [first]);
    // Back again, it accepts for itself.
    bench.worker_in(1);
    assert_eq!(bench.done(), [Done::Accept(2, false)]);
    bench.answer(first, 7, true);
    // Nobody there at all: it waits in the kernel.
    let third = WorkerId(3);
    bench.primary.set_replacements_due(bench.now, true);
    bench.die(first);
    bench.die(third);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.done(), []);
}

#[test]
fn a_slot_that_goes_for_good_is_passed_by_then_emptied_then_closed() {
    let mut bench = Bench::with(Policy::ReusePort);
    let (first, second) = (bench.worker_in(0), bench.worker_in(1));
    bench.done();
    bench.primary.retire_slot(bench.now, Slot(1));
    bench.perform();
    assert_eq!(bench.done(), [Done::Steer(2, true)]);
    bench.primary.disconnect(bench.now, second);
    bench.perform();
    assert_eq!(bench.done(), [Done::Accept(2, true)], "what was on its way is taken over at once");
    bench.accept(2, 9);
    assert_eq!(bench.way_of(9), [first]);
    // As long as the worker may have it open the kernel leads clients to it.
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.done(), []);
    bench.close(second, 80);
    bench.pass(Duration::from_millis(999));
    assert_eq!(bench.done(), []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.done(), [Done::Close(2)]);
    // The last one on the port is never passed by.
    bench.primary.retire_slot(bench.now, Slot(0));
    bench.perform();
    assert_eq!(bench.done(), []);
    // A slot that comes again has a new socket.
    bench.worker_in(1);
    assert_eq!(bench.done(), [Done::Bind(3, Some(Share::With(SocketId(1))))]);
}

#[test]
fn a_worker_that_drains_gets_nothing_new_and_is_asked_to_leave_later() {
    let mut bench = Bench::new();
    let [one, two] = [bench.worker(&[80]), bench.worker(&[80])];
    bench.primary.drain(bench.now, one);
    let sent = |bench: &mut Bench| {
        std::iter::from_fn(|| bench.primary.poll_effect())
            .filter_map(|effect| match effect {
                Effect::Send { worker, message } => Some((worker, message.act)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(sent(&mut bench), [(one, Act::Drain)]);
    for connection in 1..=2 {
        bench.accept(1, connection);
        assert_eq!(bench.way_of(connection), [two]);
        bench.answer(two, connection, true);
    }
    bench.primary.disconnect(bench.now, one);
    assert_eq!(sent(&mut bench), [(one, Act::Disconnect)]);
}
