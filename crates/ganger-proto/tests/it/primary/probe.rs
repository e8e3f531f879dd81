//! Questions to a worker.

use super::*;

impl Bench {
    /// How long the worker took that was asked, if it has answered.
    fn answered(&mut self) -> Option<Duration> {
        let mut effects = std::iter::from_fn(|| self.primary.poll_effect());
        effects.find_map(|effect| match effect {
            Effect::Event(Event::Probed { lag, .. }) => Some(lag),
            _ => None,
        })
    }
}

#[test]
fn a_question_is_answered_and_its_connection_is_nobodys() {
    let mut bench = Bench::new();
    let worker = bench.worker_in(0);
    for capabilities in [Capabilities::NODE, Capabilities::GANGER] {
        bench.primary.set_capabilities(bench.now, worker, capabilities);
        bench.primary.probe(bench.now, worker, 10);
        bench.perform();
        assert_eq!(bench.dropped.pop(), Some((10, Fate::Probe)), "delivered is enough for it");
        bench.now = bench.now + Duration::from_millis(7);
        let (_, ack, _) = *bench.handed.last().unwrap();
        let message = ClusterMessage { seq: Some(Seq(77)), act: Act::Accepted { ack, accepted: false } };
        bench.primary.handle(bench.now, Input::Message { worker, message: message.clone() });
        assert_eq!(bench.answered(), Some(Duration::from_millis(7)));
        // Once is enough, and nothing was counted.
        bench.handle(Input::Message { worker, message });
        assert_eq!(bench.primary.snapshot().counters, Default::default());
    }
}

/// Of such a worker it is not known that it answers questions.
#[test]
fn for_any_other_worker_the_oldest_unanswered_connection_is_the_question() {
    let mut bench = Bench::new();
    let worker = bench.worker_in(0);
    bench.primary.probe(bench.now, worker, 9);
    assert_eq!(bench.answered(), Some(Duration::ZERO), "it owes no answer");
    for (connection, accepted) in [(1, true), (2, false)] {
        bench.accept(1, connection);
        bench.now = bench.now + Duration::from_millis(3);
        bench.primary.probe(bench.now, worker, 9);
        assert_eq!(bench.answered(), None);
        bench.now = bench.now + Duration::from_millis(4);
        let (_, ack, _) = *bench.handed.last().unwrap();
        let message = ClusterMessage { seq: Some(Seq(77)), act: Act::Accepted { ack, accepted } };
        bench.primary.handle(bench.now, Input::Message { worker, message });
        assert_eq!(bench.answered(), Some(Duration::from_millis(7)));
    }
    bench.accept(1, 3);
    bench.perform();
    let (_, seq, _) = *bench.handed.last().unwrap();
    bench.primary.probe(bench.now, worker, 9);
    bench.primary.handle(bench.now, Input::Returned { worker, seq, connection: 3 });
    assert_eq!(bench.answered(), Some(Duration::ZERO), "it has no descriptor left, but speaks");
    bench.primary.handle(bench.now, Input::ChannelClosed { worker, undelivered: Vec::new() });
    bench.primary.probe(bench.now, worker, 9);
    assert_eq!(bench.answered(), None);
}
