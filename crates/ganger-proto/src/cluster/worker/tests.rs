//! A worker's machine, message by message.

use super::*;

fn tcp(port: u16) -> Target {
    Target::Tcp { host: None, port, ipv6_only: false }
}

fn reply(ack: u64, key: &str, errno: Option<i32>) -> ClusterMessage {
    let (data, sockname) = (None, None);
    let (ack, key) = (Seq(ack), key.into());
    let act = Act::QueryReply { ack, key, errno, data, sockname, tell_closes: false };
    ClusterMessage { seq: Some(Seq(0)), act }
}

fn newconn(key: &str, seq: u64) -> ClusterMessage {
    ClusterMessage { seq: Some(Seq(seq)), act: Act::NewConn { key: key.into() } }
}

fn drain(worker: &mut Worker<u32>) -> Vec<Effect<u32>> {
    std::iter::from_fn(|| worker.poll_effect()).collect()
}

fn said(seq: u64, act: Act) -> Effect<u32> {
    Effect::Send(ClusterMessage { seq: Some(Seq(seq)), act })
}

#[test]
fn a_connection_is_answered_for_when_it_is_taken() {
    let mut worker = Worker::new();
    let listen = worker.listen(&tcp(80), None);
    worker.handle(reply(1, "k", None), None);
    drain(&mut worker);
    worker.handle(newconn("k", 9), Some(7));
    assert_eq!(drain(&mut worker), [Effect::Connection { listen, seq: Seq(9), connection: 7 }]);
    worker.accepted(Seq(9));
    assert_eq!(drain(&mut worker), [said(2, Act::Accepted { ack: Seq(9), accepted: true })]);
}

#[test]
fn pitfall_32_a_closed_listener_refuses_and_closes_the_descriptor() {
    let mut worker = Worker::new();
    let listen = worker.listen(&tcp(80), None);
    worker.handle(reply(1, "k", None), None);
    worker.close(listen);
    drain(&mut worker);
    worker.handle(newconn("k", 9), Some(7));
    assert_eq!(
        drain(&mut worker),
        [Effect::Drop(7), said(3, Act::Accepted { ack: Seq(9), accepted: false })]
    );
}

#[test]
fn pitfall_33_closing_before_the_answer_is_said_after_it() {
    let mut worker = Worker::new();
    let listen = worker.listen(&tcp(80), None);
    drain(&mut worker);
    worker.close(listen);
    assert_eq!(drain(&mut worker), []);
    worker.handle(reply(1, "k", Some(0)), Some(3));
    assert_eq!(
        drain(&mut worker),
        [Effect::Drop(3), said(2, Act::Close { key: "k".into() }), Effect::Closed(listen)]
    );
}

#[test]
fn errors_come_as_positive_numbers() {
    let mut worker = Worker::<u32>::new();
    let listen = worker.listen(&tcp(80), None);
    drain(&mut worker);
    worker.handle(reply(1, "k", Some(-98)), None);
    assert_eq!(drain(&mut worker), [Effect::Failed { listen, errno: 98 }]);
}

#[test]
fn the_index_counts_what_is_asked_for_until_nothing_is_open() {
    let mut worker = Worker::<u32>::new();
    let asked = |worker: &mut Worker<u32>| {
        let listen = worker.listen(&tcp(0), None);
        let index = drain(worker).into_iter().find_map(|effect| match effect {
            Effect::Send(ClusterMessage { act: Act::QueryServer(query), .. }) => Some(query.index),
            _ => None,
        });
        (listen, index.unwrap())
    };
    let (first, zero) = asked(&mut worker);
    let (second, one) = asked(&mut worker);
    worker.handle(reply(1, "a", None), None);
    worker.handle(reply(2, "b", None), None);
    worker.close(first);
    drain(&mut worker);
    // As every Node does it.
    let (third, two) = asked(&mut worker);
    worker.handle(reply(4, "c", None), None);
    worker.close(second);
    worker.close(third);
    drain(&mut worker);
    let (_, again) = asked(&mut worker);
    assert_eq!((zero, one, two, again), (0, 1, 2, 0));
}

#[test]
fn a_worker_that_drains_takes_nothing_new_and_leaves_when_it_is_asked() {
    let mut worker = Worker::new();
    let listen = worker.listen(&tcp(80), None);
    worker.handle(reply(1, "k", None), None);
    let waiting = worker.listen(&tcp(81), None);
    drain(&mut worker);
    let told = |act| ClusterMessage { seq: None, act };
    worker.handle(told(Act::Drain), Some(3));
    let closed = [said(3, Act::Close { key: "k".into() }), Effect::Closed(listen)];
    let [said_so, closed] = closed;
    assert_eq!(
        drain(&mut worker),
        [Effect::Drop(3), said_so, closed, Effect::Closed(waiting), Effect::Draining]
    );
    // Once more says nothing new; what comes all the same is somebody else's.
    worker.handle(told(Act::Drain), None);
    worker.handle(newconn("k", 9), Some(7));
    assert_eq!(
        drain(&mut worker),
        [Effect::Drop(7), said(4, Act::Accepted { ack: Seq(9), accepted: false })]
    );
    let late = worker.listen(&tcp(82), None);
    assert_eq!(drain(&mut worker), [Effect::Closed(late)]);
    worker.handle(told(Act::Disconnect), None);
    worker.handle(told(Act::Drain), None);
    assert_eq!(drain(&mut worker), [Effect::Stopping]);
}

#[test]
fn a_worker_that_drains_may_leave_before_it_is_asked() {
    let mut worker = Worker::<u32>::new();
    worker.handle(ClusterMessage { seq: None, act: Act::Drain }, None);
    drain(&mut worker);
    worker.disconnect();
    assert_eq!(drain(&mut worker), [Effect::Stopping, said(1, Act::ExitedAfterDisconnect)]);
}

#[test]
fn leaving_waits_for_its_answer() {
    let mut worker = Worker::<u32>::new();
    drain(&mut worker);
    worker.disconnect();
    assert_eq!(drain(&mut worker), [Effect::Stopping, said(1, Act::ExitedAfterDisconnect)]);
    worker.handle(ClusterMessage { seq: None, act: Act::Ack { ack: Seq(0) } }, None);
    assert_eq!(drain(&mut worker), []);
    worker.handle(ClusterMessage { seq: None, act: Act::Ack { ack: Seq(1) } }, None);
    assert_eq!(drain(&mut worker), [Effect::MayCloseChannel]);
}
