use super::*;

const ATTEMPT: Duration = Duration::from_secs(5);
const PATH: &str = "/healthz";

/// A gang whose workers have been started and have something to answer.
fn gang(workers: u32) -> Gang {
    let mut gang = Gang::new(Config { workers, probe: Some(PATH.into()), ..Config::default() });
    let held_back = (1..=workers).map(|id| Action::HoldBack(WorkerId(id)));
    assert!(held_back.into_iter().all(|action| gang.done.contains(&action)), "{:?}", gang.done);
    gang.clear();
    gang
}

/// The same, when all have answered a while ago.
fn ready(workers: u32) -> Gang {
    let mut gang = gang(workers);
    for id in 1..=workers {
        gang.listens(id);
        gang.answers(id, 200);
    }
    gang.pass(Duration::from_secs(5));
    gang.clear();
    gang
}

impl Gang {
    fn answers(&mut self, id: u32, status: u16) {
        self.hear(Input::Tried(WorkerId(id), Answer::Status(status)));
    }

    fn tries(&self, id: u32) -> usize {
        self.done.iter().filter(|action| **action == Action::Try(WorkerId(id), ATTEMPT)).count()
    }
}

fn unproven(answer: Option<Answer>) -> Unproven {
    Unproven { path: PATH.into(), answer, after: Duration::from_secs(30) }
}

#[test]
fn who_listens_is_asked_and_ready_when_it_has_answered() {
    let mut gang = gang(1);
    gang.listens(1);
    assert_eq!(gang.done, [Action::Try(WorkerId(1), ATTEMPT)]);
    assert_eq!(gang.guard.ready(), 0);
    gang.hear(Input::Sign(WorkerId(1), Sign::Message));
    assert_eq!(gang.tries(1), 1, "one question at a time");
    gang.clear();
    gang.answers(1, 204);
    assert_eq!(gang.done, [Action::Admit(WorkerId(1))]);
    assert_eq!(gang.guard.ready(), 1);
    assert!(matches!(gang.notices[..], [Notice::WorkerReady { .. }, Notice::GangReady { .. }]));
    // What comes late changes nothing.
    gang.clear();
    gang.answers(1, 500);
    gang.pass(Duration::from_secs(60));
    assert_eq!((gang.done.len(), gang.notices.len()), (0, 0));
}

#[test]
fn a_bad_answer_is_told_once_and_asked_for_again_each_second() {
    let mut gang = gang(1);
    gang.listens(1);
    gang.clear();
    for _ in 0..3 {
        gang.answers(1, 503);
        gang.pass(ms(999));
        assert_eq!(gang.tries(1), 0);
        gang.pass(ms(1));
        assert_eq!(gang.tries(1), 1);
        gang.done.clear();
    }
    let told = |answer| Notice::NotReadyYet { worker: WorkerId(1), slot: Slot(0), path: PATH.into(), answer };
    assert_eq!(gang.notices, [told(Answer::Status(503))]);
    gang.hear(Input::Tried(WorkerId(1), Answer::Closed));
    assert_eq!(gang.notices[1..], [told(Answer::Closed)]);
    gang.pass(Duration::from_secs(1));
    gang.answers(1, 200);
    assert_eq!(gang.guard.ready(), 1);
}

#[test]
fn who_never_answers_well_does_not_get_ready() {
    for (answer, expected) in [
        (None, None),
        (Some(Answer::Status(404)), Some(Answer::Status(404))),
        (Some(Answer::Nowhere), Some(Answer::Nowhere)),
    ] {
        let mut gang = gang(1);
        gang.listens(1);
        answer.into_iter().for_each(|answer| gang.hear(Input::Tried(WorkerId(1), answer)));
        gang.clear();
        gang.pass(Duration::from_secs(30));
        assert_eq!(gang.done.last(), Some(&Action::Kill(WorkerId(1))));
        gang.hear(Input::Exited(WorkerId(1), Exit::Signal { signal: 9, core_dumped: false }));
        let died = gang.notices.iter().find_map(|notice| match notice {
            Notice::Died { cause, then, .. } => Some((cause.clone(), then.clone())),
            _ => None,
        });
        assert_eq!(died, Some((Cause::Unproven(unproven(expected)), Then::GangEnds)));
        assert_eq!(gang.done.last(), Some(&Action::End(Verdict::FirstStart)));
    }
}

#[test]
fn who_shows_nothing_cannot_be_asked() {
    let mut gang = gang(1);
    gang.pass(Duration::from_secs(30));
    assert_eq!(gang.done, [Action::Kill(WorkerId(1))]);
    gang.hear(Input::Exited(WorkerId(1), Exit::Signal { signal: 9, core_dumped: false }));
    let nowhere = Cause::Unproven(unproven(Some(Answer::Nowhere)));
    assert!(matches!(gang.notices.last(), Some(Notice::Died { cause, .. }) if *cause == nowhere));
}

#[test]
fn in_a_reload_the_old_one_stays_until_the_new_one_has_answered() {
    let mut gang = ready(1);
    gang.hear(Input::Reload);
    gang.listens(2);
    gang.answers(2, 500);
    gang.pass(Duration::from_secs(10));
    assert!(!gang.done.contains(&Action::Hint(WorkerId(1))));
    gang.answers(2, 200);
    assert_eq!(gang.done[gang.done.len() - 2..], [Action::Admit(WorkerId(2)), Action::Hint(WorkerId(1))]);
}

#[test]
fn a_reload_to_a_program_that_does_not_answer_well_replaces_nobody() {
    let mut gang = ready(2);
    gang.hear(Input::Reload);
    gang.listens(3);
    gang.answers(3, 500);
    gang.pass(Duration::from_secs(30));
    let failed = gang.notices.iter().find_map(|notice| match notice {
        Notice::ReloadFailed { unfit, kept: 2, .. } => Some(unfit.clone()),
        _ => None,
    });
    assert_eq!(failed, Some(Unfit::Unproven(unproven(Some(Answer::Status(500))))));
    assert_eq!(gang.guard.ready(), 2);
}

#[test]
fn a_replacement_that_does_not_answer_well_died_young() {
    let mut gang = ready(2);
    gang.dies(1);
    gang.listens(3);
    gang.pass(Duration::from_secs(30));
    assert!(gang.done.contains(&Action::Kill(WorkerId(3))));
    gang.hear(Input::Exited(WorkerId(3), Exit::Signal { signal: 9, core_dumped: false }));
    assert!(matches!(
        gang.notices.last(),
        Some(Notice::Died { cause: Cause::Unproven(_), then: Then::RetryIn(_), .. })
    ));
}

#[test]
fn who_leaves_meanwhile_is_not_asked_again() {
    let mut gang = gang(2);
    gang.listens(1);
    gang.listens(2);
    gang.answers(2, 200);
    gang.answers(1, 503);
    gang.clear();
    gang.hear(Input::Stop);
    gang.pass(Duration::from_secs(3));
    gang.answers(1, 200);
    assert_eq!(gang.tries(1), 0);
    assert!(!gang.done.contains(&Action::Admit(WorkerId(1))));
}

#[test]
fn who_does_not_answer_at_all_is_asked_again_as_well() {
    let mut gang = gang(1);
    gang.listens(1);
    for _ in 0..3 {
        assert_eq!(gang.tries(1), 1);
        gang.pass(ATTEMPT);
        assert_eq!(gang.tries(1), 1, "one question at a time");
        gang.done.clear();
        gang.hear(Input::Tried(WorkerId(1), Answer::Unanswered));
        gang.pass(Duration::from_secs(1));
    }
    let told = gang
        .notices
        .iter()
        .filter(|notice| matches!(notice, Notice::NotReadyYet { answer: Answer::Unanswered, .. }));
    assert_eq!(told.count(), 1);
    gang.answers(1, 200);
    assert_eq!(gang.guard.ready(), 1);
}
