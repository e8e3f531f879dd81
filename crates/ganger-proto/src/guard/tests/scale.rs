use super::*;

#[test]
fn up_is_started_at_once_and_down_is_dismissed() {
    let mut gang = Gang::ready(2);
    gang.hear(Input::Scale(4));
    assert_eq!(gang.done, [Action::Start(Slot(2), Generation(0)), Action::Start(Slot(3), Generation(0))]);
    gang.listens(3);
    gang.listens(4);
    gang.clear();
    gang.hear(Input::Scale(1));
    assert_eq!(gang.guard.workers(), 1);
    let expected = [3, 2, 1].map(|slot| [Action::RetireSlot(Slot(slot)), Action::Hint(WorkerId(slot + 1))]);
    assert_eq!(gang.done, expected.concat());
    gang.clear();
    for id in 2..=4 {
        gang.dies(id);
    }
    gang.pass(Duration::from_secs(60));
    assert_eq!(gang.done, []);
    assert!(gang.notices.iter().all(|notice| matches!(notice, Notice::Left { .. })));
    assert_eq!(gang.guard.ready(), 1);
    // One is the least.
    gang.hear(Input::Scale(0));
    assert_eq!(gang.guard.workers(), 1);
}

#[test]
fn a_slot_that_is_given_up_while_its_worker_is_being_started_keeps_nobody() {
    let mut gang = Gang::ready(1);
    gang.guard.handle(gang.now, Input::Scale(2));
    let start = std::iter::from_fn(|| gang.guard.poll_action());
    assert!(start.into_iter().any(|action| action == Action::Start(Slot(1), Generation(0))));
    gang.hear(Input::Scale(1));
    gang.hear(Input::Started {
        slot: Slot(1),
        worker: WorkerId(9),
        channel: true,
        no_restart_codes: Vec::new(),
    });
    assert_eq!(gang.done.last(), Some(&Action::Hint(WorkerId(9))));
    gang.clear();
    gang.listens(9);
    gang.dies(9);
    gang.pass(Duration::from_secs(60));
    assert_eq!(gang.done, []);
}

#[test]
fn a_slot_may_pause_whoever_fills_it() {
    let mut gang = Gang::ready(2);
    gang.hear(Input::Pause(Slot(1), true));
    gang.hear(Input::Pause(Slot(1), true));
    gang.hear(Input::Pause(Slot(7), true));
    assert_eq!(gang.done, [Action::Pause(Slot(1), true)]);
    gang.hear(Input::Pause(Slot(1), false));
    assert_eq!(gang.done.last(), Some(&Action::Pause(Slot(1), false)));
}

#[test]
fn a_slot_that_comes_again_is_not_paused_any_more() {
    let mut gang = Gang::ready(2);
    gang.hear(Input::Pause(Slot(1), true));
    gang.clear();
    gang.hear(Input::Scale(1));
    assert_eq!(gang.done.last(), Some(&Action::Pause(Slot(1), false)));
    gang.hear(Input::Scale(2));
    gang.clear();
    gang.hear(Input::Pause(Slot(1), true));
    assert_eq!(gang.done, [Action::Pause(Slot(1), true)]);
}

#[test]
fn in_a_gang_that_ends_no_slot_is_paused() {
    let mut gang = Gang::ready(1);
    gang.hear(Input::Kill);
    gang.hear(Input::Exited(WorkerId(1), Exit::Signal { signal: 9, core_dumped: false }));
    gang.hear(Input::Pause(Slot(0), true));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
}
