//! Connections that last, on their worker's way out.

use super::*;

/// One worker after a reload that has given its slot to another.
fn dismissed(takes_hints: bool) -> Gang {
    let mut gang = Gang::ready(1);
    if takes_hints {
        gang.hear(Input::TakesHints(WorkerId(1)));
    }
    gang.hear(Input::Reload);
    gang.listens(2);
    gang.clear();
    gang
}

#[test]
fn who_takes_hints_ends_its_connections_gradually_from_half_of_the_drain_on() {
    let mut gang = dismissed(true);
    gang.pass(ms(29_999));
    assert_eq!(gang.done, [Action::Retire(WorkerId(1))]);
    gang.clear();
    gang.pass(ms(1));
    assert_eq!(gang.done, [Action::Shed(WorkerId(1), Duration::from_secs(15))]);
    gang.clear();
    gang.pass(Duration::from_secs(20));
    assert_eq!(gang.done, [Action::Terminate(WorkerId(1))]);
    gang.clear();
    gang.pass(Duration::from_secs(10));
    assert_eq!(gang.done, [Action::Kill(WorkerId(1))]);
}

#[test]
fn who_is_done_has_none_to_end() {
    let mut gang = dismissed(true);
    gang.pass(Duration::from_secs(10));
    gang.clear();
    gang.hear(Input::Disconnected(WorkerId(1)));
    gang.pass(Duration::from_secs(1));
    assert_eq!(gang.done, [Action::Terminate(WorkerId(1))]);
    gang.hear(Input::Exited(WorkerId(1), Exit::Code(0)));
    gang.pass(Duration::from_secs(60));
    assert_eq!(gang.done, [Action::Terminate(WorkerId(1))]);
}

#[test]
fn also_in_a_short_drain_what_is_short_may_be_finished_by_whoever_takes_none() {
    for timeout in [ms(500), ms(1000), ms(2000), ms(3000)] {
        let config = Config {
            workers: 8,
            batch: 8,
            max_draining: Some(8),
            drain_timeout: timeout,
            ..Config::default()
        };
        let mut gang = Gang::new(config);
        (1..=8).for_each(|id| gang.listens(id));
        gang.hear(Input::Reload);
        (9..=16).for_each(|id| gang.listens(id));
        gang.pass(Duration::from_secs(1).min(timeout / 2));
        let asked = |action: &Action| matches!(action, Action::Retire(_));
        assert_eq!(gang.done.iter().filter(|action| asked(action)).count(), 8, "{timeout:?}");
        gang.clear();
        gang.pass(timeout / 4 - ms(1));
        assert_eq!(gang.done, [], "{timeout:?}");
        gang.pass(timeout / 4);
        assert_eq!(gang.done.len(), 8, "{timeout:?}");
        assert!(gang.done.iter().all(|action| matches!(action, Action::Terminate(_))), "{:?}", gang.done);
    }
}

#[test]
fn whoever_takes_none_is_signalled_at_a_moment_of_its_own() {
    let config = Config { workers: 8, batch: 8, max_draining: Some(8), ..Config::default() };
    let mut gang = Gang::new(config);
    (1..=8).for_each(|id| gang.listens(id));
    gang.hear(Input::Reload);
    (9..=16).for_each(|id| gang.listens(id));
    gang.pass(Duration::from_secs(1));
    gang.clear();
    gang.pass(ms(28_999));
    assert_eq!(gang.done, []);
    let mut moments = Vec::new();
    for second in 30..50 {
        gang.pass(Duration::from_secs(1));
        moments.extend(gang.done.drain(..).map(|action| (second, action)));
    }
    let mut signalled: Vec<_> = moments.iter().map(|(_, action)| action.clone()).collect();
    signalled.sort_by_key(|action| match action {
        Action::Terminate(worker) => worker.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(signalled, (1..=8).map(|id| Action::Terminate(WorkerId(id))).collect::<Vec<_>>());
    moments.dedup_by_key(|(second, _)| *second);
    assert!(moments.len() > 6, "{moments:?}");
}
