use super::*;

fn unfit(gang: &Gang) -> Option<&Unfit> {
    gang.notices.iter().find_map(|notice| match notice {
        Notice::ReloadFailed { unfit, .. } => Some(unfit),
        _ => None,
    })
}

fn reload(gang: &mut Gang) {
    gang.hear(Input::Reload);
}

/// A worker opens an address and so listens.
fn opens(gang: &mut Gang, id: u32, address: &str) {
    gang.hear(Input::Online(WorkerId(id)));
    gang.hear(Input::Opened(WorkerId(id), address.into()));
    gang.hear(Input::Sign(WorkerId(id), Sign::Listening));
}

#[test]
fn each_slot_changes_hands_when_its_new_worker_is_ready() {
    let mut gang = Gang::ready(2);
    reload(&mut gang);
    assert_eq!(gang.done, [Action::Start(Slot(0), Generation(1))]);
    gang.clear();
    gang.listens(3);
    // The old one is told to go only now, and the next slot begins while it finishes.
    assert_eq!(gang.done, [Action::Hint(WorkerId(1)), Action::Start(Slot(1), Generation(1))]);
    gang.clear();
    gang.listens(4);
    assert_eq!(gang.done, [Action::Hint(WorkerId(2))]);
    let last = gang.notices.last();
    assert!(matches!(last, Some(Notice::Reloaded { workers: 2, draining: 2, .. })), "{last:?}");
    gang.clear();
    // That they end is no death.
    gang.dies(1);
    gang.dies(2);
    assert!(gang.notices.iter().all(|notice| matches!(notice, Notice::Left { .. })), "{:?}", gang.notices);
    assert_eq!(gang.done, []);
    assert_eq!(gang.guard.ready(), 2);
}

#[test]
fn it_waits_while_too_many_are_on_their_way_out() {
    let mut gang = Gang::new(Config { workers: 8, batch: 2, max_draining: Some(1), ..Config::default() });
    (1..=8).for_each(|id| gang.listens(id));
    gang.clear();
    reload(&mut gang);
    assert_eq!(gang.starts(), 2);
    gang.listens(9);
    assert_eq!(gang.starts(), 3, "one drains, one more is started");
    gang.listens(10);
    assert_eq!(gang.starts(), 3, "two drain: that is enough");
    gang.listens(11);
    gang.dies(1);
    gang.dies(2);
    assert_eq!(gang.starts(), 5);
}

#[test]
fn a_program_that_is_broken_touches_nobody() {
    let mut gang = Gang::ready(2);
    reload(&mut gang);
    gang.dies(3);
    assert!(matches!(unfit(&gang), Some(Unfit::Died { cause, .. }) if **cause == Cause::Exit(Exit::Code(7))));
    assert!(!gang.done.iter().any(|action| matches!(action, Action::Hint(_))), "{:?}", gang.done);
    assert_eq!(gang.guard.ready(), 2);
    assert!(!gang.guard.is_reloading());
    // Nothing is tried again by itself.
    gang.clear();
    gang.pass(Duration::from_secs(60));
    assert_eq!((gang.starts(), gang.notices.len()), (0, 0));
    // And the next reload may be better.
    reload(&mut gang);
    gang.listens(4);
    gang.listens(5);
    assert!(matches!(gang.notices.last(), Some(Notice::Reloaded { workers: 2, .. })));
}

#[test]
fn of_a_batch_nobody_more_is_started_when_the_first_cannot_be() {
    let mut gang = Gang::new(Config { workers: 4, batch: 4, ..Config::default() });
    (1..=4).for_each(|id| gang.listens(id));
    gang.clear();
    gang.guard.handle(gang.now, Input::Reload);
    let started = std::iter::from_fn(|| gang.guard.poll_action()).find_map(|action| match action {
        Action::Start(slot, _) => Some(slot),
        _ => None,
    });
    let failed = Input::StartFailed { slot: started.unwrap(), error: "no memory".into() };
    gang.hear(failed);
    assert_eq!(gang.starts(), 0);
    assert!(matches!(unfit(&gang), Some(Unfit::NotStarted(_))));
    // Every slot can be reloaded again.
    reload(&mut gang);
    assert_eq!(gang.starts(), 4);
}

#[test]
fn what_the_old_one_opened_the_new_one_has_to_open() {
    let mut gang = Gang::of(1);
    opens(&mut gang, 1, ":8000");
    opens(&mut gang, 1, ":9464");
    gang.pass(Duration::from_secs(5));
    gang.clear();
    reload(&mut gang);
    opens(&mut gang, 2, ":8000");
    assert!(!gang.done.contains(&Action::Hint(WorkerId(1))));
    gang.pass(Duration::from_secs(30));
    let expected = Unfit::NotOpened {
        address: ":9464".into(),
        had_by: Some(WorkerId(1)),
        after: Duration::from_secs(30),
    };
    assert_eq!(unfit(&gang), Some(&expected));
    assert_eq!(gang.done.last(), Some(&Action::Kill(WorkerId(2))));
    gang.clear();
    gang.dies(2);
    assert!(gang.done.is_empty() && matches!(gang.notices[..], [Notice::Left { .. }]), "that was told");
    reload(&mut gang);
    opens(&mut gang, 3, ":9464");
    opens(&mut gang, 3, ":8000");
    assert!(gang.done.contains(&Action::Hint(WorkerId(1))));
}

#[test]
fn those_that_were_replaced_before_it_failed_stay() {
    let mut gang = Gang::ready(3);
    reload(&mut gang);
    gang.listens(4);
    gang.hear(Input::Leaving(WorkerId(5)));
    let failed = gang.notices.iter().find(|notice| matches!(notice, Notice::ReloadFailed { .. }));
    assert!(
        matches!(
            failed,
            Some(Notice::ReloadFailed { who: Newcomer::Worker { slot: Slot(1), .. }, done: 1, kept: 2, .. })
        ),
        "{failed:?}"
    );
    gang.dies(1);
    gang.dies(5);
    assert_eq!(gang.guard.ready(), 3);
}

#[test]
fn whose_slot_is_vacant_when_a_reload_comes_gets_the_new_program_at_once() {
    let mut gang = Gang::of(2);
    gang.listens(1);
    gang.dies(2);
    let pause = gang.guard.poll_timeout();
    assert!(pause.is_some(), "it died young");
    gang.clear();
    // In the middle of a crash loop: the fixed program need not wait for the pause.
    reload(&mut gang);
    gang.listens(3);
    assert_eq!(gang.done[0], Action::Start(Slot(0), Generation(1)));
    assert!(gang.done.contains(&Action::Start(Slot(1), Generation(1))));
    gang.listens(4);
    assert!(matches!(gang.notices.last(), Some(Notice::Reloaded { workers: 2, .. })), "{:?}", gang.notices);
    gang.clear();
    gang.pass(Duration::from_secs(20));
    assert_eq!(gang.starts(), 0, "nobody else is started");
}

#[test]
fn a_crash_loop_that_a_reload_does_not_mend_goes_on_as_before() {
    let mut gang = Gang::of(2);
    gang.listens(1);
    gang.dies(2);
    gang.pass(Duration::from_millis(200));
    gang.dies(3);
    gang.clear();
    reload(&mut gang);
    gang.listens(4);
    gang.dies(5);
    assert!(unfit(&gang).is_some());
    gang.clear();
    gang.pass(Duration::from_secs(2));
    assert_eq!(gang.starts(), 1, "after its pause");
}

#[test]
fn a_worker_that_dies_while_its_heir_is_on_the_way_is_not_replaced_twice() {
    let mut gang = Gang::ready(1);
    reload(&mut gang);
    gang.clear();
    gang.dies(1);
    assert_eq!(gang.starts(), 0);
    let died = gang.notices.iter().find(|notice| matches!(notice, Notice::Died { .. }));
    assert!(matches!(died, Some(Notice::Died { then: Then::ReplacedBy(WorkerId(2)), .. })), "{died:?}");
    gang.listens(2);
    assert_eq!(gang.guard.ready(), 1);
    assert!(matches!(gang.notices.last(), Some(Notice::Reloaded { draining: 0, .. })));
}

#[test]
fn two_reloads_at_once_are_one_after_the_other() {
    let mut gang = Gang::ready(1);
    (0..3).for_each(|_| reload(&mut gang));
    gang.listens(2);
    assert_eq!(gang.done.iter().filter(|action| matches!(action, Action::Start(..))).count(), 1);
    gang.dies(1);
    assert_eq!(gang.starts(), 2, "the second, and it stands for the third");
    gang.listens(3);
    gang.dies(2);
    gang.pass(Duration::from_secs(60));
    assert_eq!(gang.starts(), 2);
}

#[test]
fn a_stop_in_the_middle_takes_everybody() {
    let mut gang = Gang::ready(2);
    reload(&mut gang);
    gang.hear(Input::Stop);
    for id in 1..=3 {
        assert!(gang.done.contains(&Action::Retire(WorkerId(id))));
    }
    (1..=3).for_each(|id| gang.dies(id));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
}

#[test]
fn out_of_dispatch_a_worker_has_a_second_before_it_is_asked() {
    let mut gang = Gang::ready(1);
    reload(&mut gang);
    gang.listens(2);
    assert_eq!(gang.done.last(), Some(&Action::Hint(WorkerId(1))));
    gang.pass(Duration::from_millis(999));
    assert_eq!(gang.done.last(), Some(&Action::Hint(WorkerId(1))));
    gang.pass(Duration::from_millis(1));
    assert_eq!(gang.done.last(), Some(&Action::Retire(WorkerId(1))));
    gang.clear();
    // It closes its channel when it is done; a second later it is signalled, and killed in the end.
    gang.hear(Input::Disconnected(WorkerId(1)));
    gang.pass(Duration::from_secs(1));
    assert_eq!(gang.done, [Action::Terminate(WorkerId(1))]);
    gang.pass(Duration::from_secs(60));
    assert_eq!(gang.done, [Action::Terminate(WorkerId(1)), Action::Kill(WorkerId(1))]);
}

#[test]
fn before_the_first_worker_is_ready_a_reload_waits() {
    let mut gang = Gang::of(1);
    reload(&mut gang);
    assert_eq!(gang.notices.last(), Some(&Notice::ReloadQueued));
    gang.listens(1);
    assert_eq!(gang.starts(), 2);
}

#[test]
fn a_stop_asks_who_was_only_taken_out_of_dispatch() {
    for (takes_hints, next) in [(false, Action::Retire(WorkerId(1))), (true, Action::CloseSockets)] {
        let mut gang = Gang::ready(1);
        if takes_hints {
            gang.hear(Input::TakesHints(WorkerId(1)));
        }
        reload(&mut gang);
        gang.listens(2);
        gang.clear();
        gang.hear(Input::Stop);
        assert!(gang.done.contains(&next), "{:?}", gang.done);
        assert_eq!(gang.done.contains(&Action::Retire(WorkerId(1))), !takes_hints);
        // With a hint it has its second.
        gang.pass(Duration::from_secs(1));
        assert!(gang.done.contains(&Action::Retire(WorkerId(1))), "{:?}", gang.done);
    }
}

#[test]
fn of_a_batch_that_has_failed_who_fills_a_vacant_slot_is_a_worker_like_any_other() {
    let mut gang = Gang::new(Config { workers: 3, batch: 3, ..Config::default() });
    (1..=3).for_each(|id| gang.listens(id));
    gang.pass(Duration::from_secs(5));
    reload(&mut gang);
    gang.dies(2);
    gang.dies(4);
    assert!(unfit(&gang).is_some());
    gang.clear();
    gang.dies(5);
    let died =
        |notice: &Notice| matches!(notice, Notice::Died { worker: WorkerId(5), then: Then::RetryIn(_), .. });
    assert!(gang.notices.iter().any(died), "{:?}", gang.notices);
    gang.pass(Duration::from_secs(1));
    assert_eq!(gang.starts(), 1);
}
