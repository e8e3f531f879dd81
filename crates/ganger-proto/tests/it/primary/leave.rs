//! Workers on their way out.

use super::*;

#[test]
fn who_is_led_out_while_a_port_closes_gets_its_share_of_what_waits() {
    let mut bench = Bench::new();
    let worker = bench.worker(&[80]);
    (1..=3).for_each(|connection| bench.accept(1, connection));
    assert_eq!(bench.way_of(2), [], "a window of one");
    bench.primary.close_sockets();
    bench.primary.drain(bench.now, worker);
    bench.perform();
    for connection in 1..=3 {
        assert_eq!(bench.way_of(connection), [worker]);
    }
    assert_eq!(bench.dropped, []);
}

#[test]
fn a_worker_of_ours_takes_hints_and_says_so_once() {
    let mut primary = Primary::<u32>::new(Policy::RoundRobin);
    let worker = primary.fork(Slot(0), Generation(0), true);
    let mut report = Report::default();
    report.term = Some(true);
    let online = Act::Online { ganger: Some(1) };
    for act in [online.clone(), online, Act::Report(report)] {
        let message = ClusterMessage { seq: Some(Seq(1)), act };
        primary.handle(Time::default(), Input::Message { worker, message });
    }
    let effects = std::iter::from_fn(|| primary.poll_effect());
    let taken = effects.filter(|effect| matches!(effect, Effect::Event(Event::TakesHints { .. })));
    assert_eq!(taken.count(), 1);
}
