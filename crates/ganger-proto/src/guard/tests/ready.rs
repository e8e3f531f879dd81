use super::*;

fn gang(ready: Readiness) -> Gang {
    let mut gang = Gang::new(Config { ready, ..Config::default() });
    gang.clear();
    gang
}

fn ready_workers(gang: &Gang) -> Vec<u32> {
    let ready = |notice: &Notice| match notice {
        Notice::WorkerReady { worker, .. } => Some(worker.0),
        _ => None,
    };
    gang.notices.iter().filter_map(ready).collect()
}

#[test]
fn one_sign_may_be_wanted_and_no_other_will_do() {
    let mut gang = gang(Readiness::Sign(Sign::Notify));
    gang.listens(1);
    gang.hear(Input::Sign(WorkerId(1), Sign::Message));
    gang.pass(ms(29_999));
    assert_eq!((ready_workers(&gang), &gang.done[..]), (vec![], &[][..]));
    gang.hear(Input::Sign(WorkerId(1), Sign::Notify));
    assert_eq!(ready_workers(&gang), [1]);
}

#[test]
fn who_does_not_give_it_in_time_is_killed_also_as_the_first() {
    let mut gang = gang(Readiness::Sign(Sign::Listening));
    gang.hear(Input::Sign(WorkerId(1), Sign::Message));
    gang.pass(Duration::from_secs(30));
    assert_eq!(gang.done, [Action::Kill(WorkerId(1))]);
    gang.hear(Input::Exited(WorkerId(1), Exit::Signal { signal: 9, core_dumped: false }));
    let after = Duration::from_secs(30);
    assert!(
        matches!(&gang.notices[..], [Notice::Died { cause: Cause::StartTimeout { after: a }, .. }] if *a == after),
        "{:?}",
        gang.notices
    );
}

#[test]
fn a_worker_may_be_ready_by_its_age_and_by_nothing_else() {
    let mut gang = gang(Readiness::After(Duration::from_secs(5)));
    gang.listens(1);
    gang.pass(ms(4999));
    assert!(ready_workers(&gang).is_empty());
    gang.pass(ms(1));
    assert_eq!(ready_workers(&gang), [1]);
    assert!(!gang.notices.iter().any(|notice| matches!(notice, Notice::NoSign { .. })));
}

#[test]
fn an_heir_of_age_still_has_to_listen_where_its_predecessor_does() {
    let mut gang = gang(Readiness::After(Duration::from_secs(5)));
    let open = |id| Input::Opened(WorkerId(id), ":80".into());
    gang.hear(open(1));
    gang.pass(Duration::from_secs(5));
    gang.hear(Input::Reload);
    gang.pass(Duration::from_secs(34));
    assert_eq!(ready_workers(&gang), [1]);
    gang.hear(open(2));
    gang.listens(2);
    assert_eq!(ready_workers(&gang), [1, 2]);
}

#[test]
fn an_heir_that_never_does_leaves_its_place_to_the_old_one() {
    let mut gang = gang(Readiness::After(Duration::from_secs(5)));
    gang.hear(Input::Opened(WorkerId(1), ":80".into()));
    gang.pass(Duration::from_secs(5));
    gang.clear();
    gang.hear(Input::Reload);
    gang.pass(Duration::from_secs(35));
    assert!(gang.done.contains(&Action::Kill(WorkerId(2))), "{:?}", gang.done);
    assert!(!gang.done.contains(&Action::Retire(WorkerId(1))));
}

#[test]
fn who_is_of_age_is_asked_for_its_path() {
    let age = Duration::from_secs(5);
    let config = Config { ready: Readiness::After(age), probe: Some("/".into()), ..Config::default() };
    let mut gang = Gang::new(config);
    gang.listens(1);
    gang.clear();
    gang.pass(age);
    assert_eq!(gang.done, [Action::Try(WorkerId(1), Duration::from_secs(5))]);
    gang.hear(Input::Tried(WorkerId(1), Answer::Status(200)));
    assert_eq!(ready_workers(&gang), [1]);
}
