use super::*;

fn watched(watchdog: Option<u64>) -> Gang {
    let mut gang =
        Gang::new(Config { workers: 1, watchdog: watchdog.map(Duration::from_secs), ..Config::default() });
    gang.listens(1);
    gang.hear(Input::Watchable(WorkerId(1)));
    gang.clear();
    gang
}

fn probes(gang: &Gang) -> usize {
    gang.done.iter().filter(|action| **action == Action::Probe(WorkerId(1))).count()
}

#[test]
fn who_answers_is_asked_again_and_who_does_not_is_replaced() {
    let mut gang = watched(Some(2));
    for asked in 1..=5 {
        gang.pass(Duration::from_secs(1));
        assert_eq!(probes(&gang), asked);
        gang.hear(Input::Answered(WorkerId(1)));
    }
    gang.pass(Duration::from_secs(1));
    assert_eq!(probes(&gang), 6, "one at a time");
    gang.pass(Duration::from_millis(1999));
    assert_eq!(probes(&gang), 6);
    gang.pass(Duration::from_millis(1));
    assert_eq!(gang.done.last(), Some(&Action::Kill(WorkerId(1))));
    gang.dies(1);
    let died = gang.notices.iter().find(|notice| matches!(notice, Notice::Died { .. }));
    let cause = Cause::Unresponsive { after: Duration::from_secs(2) };
    assert!(matches!(died, Some(Notice::Died { cause: told, .. }) if *told == cause), "{died:?}");
    assert_eq!(gang.starts(), 1);
}

#[test]
fn without_a_watchdog_silence_is_told_and_so_is_its_end() {
    let mut gang = watched(None);
    gang.pass(Duration::from_secs(5));
    assert_eq!(probes(&gang), 1);
    gang.pass(Duration::from_secs(60));
    assert!(matches!(gang.notices[..], [Notice::Silent { .. }]), "{:?}", gang.notices);
    assert_eq!(gang.done, [Action::Probe(WorkerId(1))]);
    gang.hear(Input::Answered(WorkerId(1)));
    let last = gang.notices.last();
    assert!(
        matches!(last, Some(Notice::Answers { after, .. }) if *after == Duration::from_secs(60)),
        "{last:?}"
    );
}

#[test]
fn our_own_lateness_is_no_fault_of_the_workers() {
    let mut gang = watched(Some(2));
    gang.pass(Duration::from_secs(1));
    // The whole machine slept.
    gang.now = gang.now + Duration::from_secs(30);
    gang.guard.handle_timeout(gang.now);
    gang.obey();
    assert!(!gang.done.contains(&Action::Kill(WorkerId(1))));
    gang.pass(Duration::from_secs(2));
    assert!(gang.done.contains(&Action::Kill(WorkerId(1))));
}

/// A worker that says every second that it is there, so often.
fn pings(gang: &mut Gang, times: u32) {
    for _ in 0..times {
        gang.pass(Duration::from_secs(1));
        gang.hear(Input::Pinged(WorkerId(1)));
    }
}

#[test]
fn who_speaks_unasked_is_not_asked_and_ends_when_it_is_silent() {
    let mut gang = watched(Some(2));
    gang.hear(Input::Pinged(WorkerId(1)));
    pings(&mut gang, 10);
    // An answer to what was asked before is no word of its own.
    gang.pass(Duration::from_millis(1999));
    gang.hear(Input::Answered(WorkerId(1)));
    assert_eq!(gang.done, []);
    gang.pass(Duration::from_millis(1));
    assert_eq!(gang.done, [Action::Kill(WorkerId(1))]);
    gang.dies(1);
    let cause = Cause::Unresponsive { after: Duration::from_secs(2) };
    let told = |notice: &Notice| matches!(notice, Notice::Died { cause: told, .. } if *told == cause);
    assert!(gang.notices.iter().any(told), "{:?}", gang.notices);
    assert_eq!(gang.starts(), 1);
}

#[test]
fn its_time_begins_when_it_is_ready() {
    let mut gang = Gang::new(Config { watchdog: Some(Duration::from_secs(2)), ..Config::default() });
    gang.hear(Input::Pinged(WorkerId(1)));
    gang.pass(Duration::from_secs(20));
    assert_eq!(gang.done.last(), Some(&Action::Start(Slot(0), Generation(0))));
    gang.hear(Input::Sign(WorkerId(1), Sign::Notify));
    gang.pass(Duration::from_millis(1999));
    assert!(!gang.done.contains(&Action::Kill(WorkerId(1))));
    gang.pass(Duration::from_millis(1));
    assert!(gang.done.contains(&Action::Kill(WorkerId(1))));
}

#[test]
fn of_who_speaks_unasked_silence_is_told_when_a_word_is_missing() {
    let mut gang = watched(Some(60));
    gang.hear(Input::Pinged(WorkerId(1)));
    gang.pass(Duration::from_millis(39_999));
    assert_eq!(gang.notices, []);
    gang.pass(Duration::from_millis(1));
    assert!(matches!(gang.notices[..], [Notice::Silent { .. }]), "{:?}", gang.notices);
    gang.pass(Duration::from_secs(10));
    gang.hear(Input::Pinged(WorkerId(1)));
    let last = gang.notices.last();
    assert!(
        matches!(last, Some(Notice::Answers { after, .. }) if *after == Duration::from_secs(50)),
        "{last:?}"
    );
    gang.pass(Duration::from_millis(59_999));
    assert_eq!(gang.done, []);
    gang.pass(Duration::from_millis(1));
    assert_eq!(gang.done, [Action::Kill(WorkerId(1))]);
}

#[test]
fn without_a_watchdog_nobody_is_expected_to_go_on_speaking() {
    let mut gang = watched(None);
    gang.hear(Input::Pinged(WorkerId(1)));
    gang.pass(Duration::from_secs(5));
    assert_eq!(probes(&gang), 1, "it is asked as anybody else");
    gang.hear(Input::Answered(WorkerId(1)));
    assert_eq!(gang.notices, []);
}
