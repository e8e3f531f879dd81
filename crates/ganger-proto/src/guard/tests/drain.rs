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
