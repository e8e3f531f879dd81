use super::*;

/// A gang of this policy whose workers have been ready for a while.
fn gang(restart: Restart, workers: u32) -> Gang {
    let mut gang = Gang::new(Config { workers, restart, ..Config::default() });
    (1..=workers).for_each(|id| gang.listens(id));
    gang.pass(Duration::from_secs(5));
    gang.clear();
    gang
}

/// The same, whose program does not want to be started again after 78.
fn gang_with_codes(workers: u32) -> Gang {
    let mut gang = Gang::waiting(Config { workers, ..Config::default() }, true);
    gang.no_restart_codes = vec![78];
    gang.obey();
    (1..=workers).for_each(|id| gang.listens(id));
    gang.pass(Duration::from_secs(5));
    gang.clear();
    gang
}

fn then(gang: &Gang) -> Option<&Then> {
    gang.notices.iter().find_map(|notice| match notice {
        Notice::Died { then, .. } => Some(then),
        _ => None,
    })
}

fn vacant(why: NoRestart, failed: bool) -> Then {
    Then::StaysVacant(LastEnd { why, failed })
}

#[test]
fn on_failure_who_has_done_its_work_is_not_started_again() {
    let mut gang = gang(Restart::OnFailure, 2);
    gang.exits(1, 0);
    assert_eq!(gang.done, [Action::RetireSlot(Slot(0))]);
    assert_eq!(then(&gang), Some(&vacant(NoRestart::Policy(Restart::OnFailure), false)));
    gang.clear();
    gang.pass(Duration::from_secs(100));
    assert_eq!((gang.done.len(), gang.notices.len()), (0, 0));
    gang.dies(2);
    assert_eq!(gang.done, [Action::Start(Slot(1), Generation(0))]);
    gang.listens(3);
    gang.clear();
    gang.exits(3, 0);
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Over { failed: 0 })));
}

#[test]
fn no_one_is_started_again() {
    let mut gang = gang(Restart::No, 3);
    gang.dies(2);
    assert_eq!(gang.done, [Action::RetireSlot(Slot(1))]);
    assert_eq!(then(&gang), Some(&vacant(NoRestart::Policy(Restart::No), true)));
    gang.exits(1, 0);
    gang.hear(Input::Exited(WorkerId(3), Exit::Signal { signal: 11, core_dumped: false }));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Over { failed: 2 })));
    assert_eq!(gang.starts(), 0);
    assert_eq!(gang.guard.poll_timeout(), None);
}

#[test]
fn a_program_says_by_its_code_that_it_is_not_to_be_started_again() {
    let mut gang = gang_with_codes(2);
    gang.exits(2, 78);
    assert_eq!(gang.done, [Action::RetireSlot(Slot(1))]);
    assert_eq!(then(&gang), Some(&vacant(NoRestart::Code, true)));
    gang.clear();
    gang.dies(1);
    assert_eq!(gang.starts(), 1, "any other code is no such word");
    gang.listens(3);
    gang.exits(3, 78);
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Over { failed: 2 })));
}

#[test]
fn nothing_is_due_for_a_slot_that_stays_vacant() {
    let mut gang = gang(Restart::OnFailure, 2);
    gang.guard.handle(gang.now, Input::Disconnected(WorkerId(1)));
    gang.guard.handle(gang.now, Input::Exited(WorkerId(1), Exit::Code(0)));
    let due: Vec<Action> = std::iter::from_fn(|| gang.guard.poll_action()).collect();
    assert!(!due.iter().any(|action| matches!(action, Action::ReplacementsDue(_))), "{due:?}");
}

#[test]
fn a_reload_fills_it_again() {
    let mut gang = gang_with_codes(2);
    gang.exits(1, 78);
    gang.clear();
    gang.hear(Input::Reload);
    assert_eq!(gang.done, [Action::Start(Slot(0), Generation(1))]);
    gang.listens(3);
    gang.listens(4);
    assert!(matches!(gang.notices.last(), Some(Notice::Reloaded { workers: 2, .. })));
    assert_eq!(gang.guard.ready(), 2);
    // And the new program may say the same.
    gang.clear();
    gang.exits(3, 78);
    assert_eq!(gang.done, [Action::RetireSlot(Slot(0))]);
}

#[test]
fn an_heir_that_says_so_leaves_the_slot_as_it_was() {
    let mut gang = gang_with_codes(2);
    gang.exits(1, 78);
    gang.hear(Input::Reload);
    gang.clear();
    gang.exits(3, 78);
    assert_eq!(gang.done, [Action::RetireSlot(Slot(0))]);
    assert!(matches!(
        &gang.notices[..],
        [
            Notice::ReloadFailed { done: 0, kept: 1, .. },
            Notice::StaysVacant { slot: Slot(0), why: NoRestart::Code }
        ]
    ));
    gang.clear();
    gang.pass(Duration::from_secs(100));
    assert_eq!(gang.starts(), 0);
}

#[test]
fn of_an_heir_that_is_not_ready_in_time_nobody_is_started_instead_where_nobody_is() {
    let mut gang = gang(Restart::No, 2);
    gang.dies(1);
    gang.hear(Input::Reload);
    gang.clear();
    gang.pass(Duration::from_secs(31));
    assert_eq!(gang.done, [Action::Kill(WorkerId(3)), Action::RetireSlot(Slot(0))]);
    let vacant = Notice::StaysVacant { slot: Slot(0), why: NoRestart::Policy(Restart::No) };
    assert_eq!(gang.notices.last(), Some(&vacant));
}

#[test]
fn a_reload_that_fails_wakes_nobody_who_had_ended_for_good() {
    let begin: [fn(&mut Gang); 4] = [
        // The heir crashes, …
        |gang| gang.dies(3),
        // … is not ready in time, …
        |gang| gang.pass(Duration::from_secs(31)),
        // … or is not the one that fails.
        |gang| gang.dies(4),
        |gang| gang.hear(Input::Leaving(WorkerId(4))),
    ];
    for fail in begin {
        let mut gang =
            Gang::new(Config { workers: 2, batch: 2, restart: Restart::OnFailure, ..Config::default() });
        (1..=2).for_each(|id| gang.listens(id));
        gang.exits(1, 0);
        gang.hear(Input::Reload);
        fail(&mut gang);
        assert!(gang.notices.iter().any(|notice| matches!(notice, Notice::ReloadFailed { kept: 1, .. })));
        let why = NoRestart::Policy(Restart::OnFailure);
        assert_eq!(gang.notices.last(), Some(&Notice::StaysVacant { slot: Slot(0), why }));
        assert!(gang.done.contains(&Action::RetireSlot(Slot(0))), "{:?}", gang.done);
        gang.clear();
        (3..=4).for_each(|id| gang.dies(id));
        gang.pass(Duration::from_secs(60));
        assert_eq!((gang.starts(), gang.guard.ready()), (0, 1));
        // The one that is left ends as well: that is all.
        gang.exits(2, 0);
        assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Over { failed: 0 })));
    }
}

#[test]
fn nor_does_one_whose_heir_cannot_be_started() {
    let mut gang = gang(Restart::No, 2);
    gang.dies(1);
    gang.clear();
    gang.guard.handle(gang.now, Input::Reload);
    while let Some(action) = gang.guard.poll_action() {
        if let Action::Start(slot, _) = action {
            gang.guard.handle(gang.now, Input::StartFailed { slot, error: "no memory".into() });
        }
    }
    gang.pass(Duration::from_secs(60));
    assert_eq!((gang.starts(), gang.guard.ready()), (0, 1));
}

#[test]
fn who_ends_for_good_while_its_heir_comes_to_nothing_leaves_the_slot_vacant() {
    let mut gang = gang(Restart::OnFailure, 2);
    gang.hear(Input::Reload);
    gang.exits(1, 0);
    gang.clear();
    gang.dies(3);
    gang.pass(Duration::from_secs(60));
    assert_eq!((gang.starts(), gang.guard.ready()), (0, 1));
    // Somebody wants so many at work meanwhile: that counts for more.
    gang.hear(Input::Reload);
    gang.hear(Input::Scale(3));
    gang.clear();
    gang.dies(4);
    gang.pass(Duration::from_secs(1));
    assert!(gang.done.contains(&Action::Start(Slot(0), Generation(2))), "{:?}", gang.done);
}

#[test]
fn so_does_a_change_of_their_number() {
    let mut gang = gang_with_codes(3);
    gang.exits(1, 78);
    gang.clear();
    gang.hear(Input::Scale(2));
    assert!(gang.done.contains(&Action::Start(Slot(0), Generation(0))), "{:?}", gang.done);
    gang.listens(4);
    assert_eq!(gang.guard.ready(), 2);
}

#[test]
fn a_reload_that_fails_puts_their_number_back_and_leaves_the_slot_vacant() {
    for slots in [1, 3] {
        let mut gang = gang_with_codes(2);
        gang.exits(1, 78);
        gang.hear(Input::Reload);
        gang.hear(Input::Revised(slots));
        assert_eq!(gang.guard.workers(), slots);
        gang.clear();
        gang.dies(3);
        assert_eq!(gang.guard.workers(), 2);
        gang.pass(Duration::from_secs(60));
        let again = |action: &Action| matches!(action, Action::Start(Slot(0), _));
        assert!(!gang.done.iter().any(again), "{slots} slots: {:?}", gang.done);
    }
}

#[test]
fn a_failed_start_is_strict_and_work_that_is_done_is_none() {
    let config = |restart| Config { workers: 2, restart, ..Config::default() };
    let mut gang = Gang::new(config(Restart::OnFailure));
    gang.exits(1, 0);
    assert!(!gang.guard.is_ending());
    gang.dies(2);
    gang.obey();
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::FirstStart)));

    // Where nobody is started again the others go on.
    let mut gang = Gang::new(config(Restart::No));
    gang.dies(1);
    assert!(!gang.guard.is_ending());
    gang.clear();
    gang.listens(2);
    assert!(matches!(gang.notices.last(), Some(Notice::GangReady { workers: 1, .. })), "{:?}", gang.notices);
    gang.exits(2, 0);
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Over { failed: 1 })));
}

#[test]
fn whose_end_decides_keeps_its_slot_until_then() {
    let mut gang = gang(Restart::OnFailure, 2);
    for (id, code, starts) in [(1, 0, 0), (2, 1, 1)] {
        gang.clear();
        gang.hear(Input::Leaving(WorkerId(id)));
        assert_eq!(gang.done, [Action::Retire(WorkerId(id))]);
        gang.pass(Duration::from_secs(10));
        assert_eq!(gang.starts(), 0);
        gang.exits(id, code);
        assert_eq!(gang.starts(), starts, "code {code}");
    }
    gang.listens(3);
    gang.pass(Duration::from_secs(5));
    gang.clear();
    // Who has said that it failed has decided.
    gang.hear(Input::Panicked(WorkerId(3), Panic::new("boom", None, None)));
    assert_eq!(gang.done, [Action::Retire(WorkerId(3)), Action::Start(Slot(1), Generation(0))]);
}

#[test]
fn a_closed_channel_is_an_illness_whether_or_not_anybody_follows() {
    let mut gang = gang(Restart::No, 1);
    gang.hear(Input::Disconnected(WorkerId(1)));
    assert_eq!(gang.guard.ready(), 0);
    gang.pass(Duration::from_secs(1));
    assert_eq!(gang.done, [Action::Retire(WorkerId(1))]);
    assert!(matches!(gang.notices[..], [Notice::Ill { replaced_by: None, .. }]), "{:?}", gang.notices);
    gang.hear(Input::Exited(WorkerId(1), Exit::Code(0)));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Over { failed: 0 })));
}

#[test]
fn with_codes_one_that_lost_its_channel_is_replaced_a_second_later() {
    let mut gang = gang_with_codes(1);
    gang.hear(Input::Disconnected(WorkerId(1)));
    assert_eq!(gang.starts(), 0, "its code may come");
    gang.pass(Duration::from_secs(1));
    assert_eq!(gang.starts(), 1);
}

#[test]
fn who_says_that_it_leaves_is_replaced_whatever_code_may_come() {
    let mut gang = gang_with_codes(1);
    gang.hear(Input::Leaving(WorkerId(1)));
    assert_eq!(gang.starts(), 1);
    gang.exits(1, 78);
    assert!(matches!(gang.notices.last(), Some(Notice::Died { then: Then::ReplacedBy(WorkerId(2)), .. })));
    assert_eq!(gang.starts(), 1);
}

#[test]
fn the_agent_goes_after_the_last_one() {
    let agent = crate::AgentId(1);
    let mut gang = Gang::new(Config { restart: Restart::No, agent: true, ..Config::default() });
    gang.hear(Input::Agent(AgentInput::Started { agent, channel: true }));
    gang.hear(Input::Agent(AgentInput::Sign(Sign::Message)));
    gang.listens(1);
    gang.clear();
    gang.exits(1, 0);
    assert!(!gang.done.iter().any(|action| matches!(action, Action::End(_))), "{:?}", gang.done);
    gang.pass(ms(0));
    gang.hear(Input::Agent(AgentInput::Exited(Exit::Code(0))));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Over { failed: 0 })));
}

#[test]
fn a_reload_of_a_gang_that_was_never_ready_does_not_keep_it() {
    let mut gang = Gang::new(Config { restart: Restart::OnFailure, ..Config::default() });
    gang.hear(Input::Reload);
    gang.exits(1, 0);
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Over { failed: 0 })));
}
