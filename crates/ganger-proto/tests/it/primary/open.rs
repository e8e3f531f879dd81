//! How many connections each worker has open, by whose word.

use super::*;

#[test]
fn least_conn_goes_by_what_is_open() {
    let mut bench = Bench::with(Policy::LeastConn);
    let (busy, idle) = (bench.worker_in(0), bench.worker_in(1));
    for connection in 1..=4 {
        bench.accept(1, connection);
        let worker = *bench.way_of(connection).last().unwrap();
        bench.answer(worker, connection, true);
    }
    let open =
        |bench: &Bench| bench.primary.snapshot().workers.iter().map(|worker| worker.open).collect::<Vec<_>>();
    assert_eq!(open(&bench), [2, 2]);
    assert!(bench.primary.wants_survey());
    // Those of the second have ended.
    let left: BTreeSet<u64> =
        (1..=4).filter(|connection| bench.way_of(*connection) == [busy]).map(u64::from).collect();
    bench.pass(Duration::from_millis(1));
    bench.handle(Input::Surveyed { since: bench.now, open: left });
    assert_eq!(open(&bench), [2, 0]);
    for connection in 5..=6 {
        bench.accept(1, connection);
        assert_eq!(bench.way_of(connection), [idle]);
        bench.answer(idle, connection, true);
    }
    // What was taken while the survey was made counts as open.
    bench.handle(Input::Surveyed { since: Time::default(), open: BTreeSet::new() });
    assert_eq!(open(&bench), [0, 2]);
}

#[test]
fn without_a_survey_only_what_is_unanswered_counts_and_the_snapshot_says_so() {
    assert_eq!(Bench::with(Policy::RoundRobin).primary.snapshot().least_conn_by, None);
    let mut bench = Bench::with(Policy::LeastConn);
    let (silent, tells) = (bench.worker_in(0), bench.worker_in(1));
    bench.accept(1, 1);
    bench.answer(silent, 1, true);
    let snapshot = bench.primary.snapshot();
    assert_eq!((snapshot.workers[0].open, snapshot.least_conn_by), (1, Some(LeastConnBy::Open)));
    bench.handle(Input::SurveyRefused);
    let snapshot = bench.primary.snapshot();
    assert_eq!((snapshot.workers[0].open, snapshot.least_conn_by), (0, Some(LeastConnBy::UnderWay)));
    assert!(!bench.primary.wants_survey());
    // Who reports is believed all the same.
    let mut report = Report::default();
    report.connections = Some(0);
    bench.say(tells, Act::Report(report));
    for connection in 2..=3 {
        bench.accept(1, connection);
    }
    let mut took: Vec<_> = (2..=3).map(|connection| bench.way_of(connection)[0]).collect();
    (2..=3).zip(&took).for_each(|(connection, worker)| bench.answer(*worker, connection, true));
    took.sort();
    assert_eq!(took, [silent, tells]);
    let open: Vec<_> = bench.primary.snapshot().workers.iter().map(|worker| worker.open).collect();
    assert_eq!(open, [0, 1]);
    assert!(!bench.primary.wants_survey());
}

#[test]
fn a_worker_of_ours_tells_what_it_closes() {
    let mut bench = Bench::with(Policy::LeastConn);
    let worker = bench.fork();
    bench.say(worker, Act::Online { ganger: Some(1) });
    bench.listen(worker, 80);
    bench.accept(1, 1);
    bench.accept(1, 2);
    bench.answer(worker, 1, true);
    bench.answer(worker, 2, true);
    assert_eq!(bench.primary.snapshot().workers[0].open, 2);
    assert!(!bench.primary.wants_survey());
    bench.say(worker, Act::Closes { count: 1 });
    assert_eq!(bench.primary.snapshot().workers[0].open, 1);
    bench.say(worker, Act::Closes { count: u32::MAX });
    assert_eq!(bench.primary.snapshot().workers[0].open, 0);
}

#[test]
fn a_worker_that_reports_what_it_has_open_is_not_surveyed() {
    let mut bench = Bench::with(Policy::LeastConn);
    let worker = bench.fork();
    bench.listen(worker, 80);
    bench.primary.set_capabilities(bench.now, worker, Capabilities::NODE);
    let report = |connections| {
        let mut report = Report::default();
        report.connections = Some(connections);
        Act::Report(report)
    };
    let open = |bench: &Bench| bench.primary.snapshot().workers[0].open;
    let peer = |cookie| Peer { client: Client::Anyone, cookie: Some(cookie) };
    let accept = |bench: &mut Bench, connection: u32| {
        bench.handle(Input::Accepted { socket: SocketId(1), connection, peer: peer(connection.into()) });
        bench.answer(worker, connection, true);
    };
    accept(&mut bench, 1);
    assert!(bench.primary.wants_survey());
    // It counts the one that it has answered for.
    bench.say(worker, report(1));
    assert_eq!((open(&bench), bench.primary.wants_survey()), (1, false));
    accept(&mut bench, 2);
    assert_eq!((open(&bench), bench.primary.wants_survey()), (2, false));
    bench.say(worker, report(0));
    assert_eq!(open(&bench), 0);
    // Who lies does so at its own cost.
    bench.say(worker, report(u32::MAX));
    accept(&mut bench, 3);
    assert_eq!(open(&bench), u32::MAX);
    // Without a count it only says the rest.
    let mut rest = Report::default();
    rest.term = Some(true);
    bench.say(worker, Act::Report(rest));
    assert_eq!((open(&bench), bench.primary.report(worker)), (u32::MAX, Some(rest)));
    assert_eq!(bench.primary.snapshot().workers[0].report, Some(rest));
}
