use super::*;

const MB: u64 = 1 << 20;

#[test]
fn too_much_memory_is_replaced_and_the_new_one_comes_first() {
    let mut gang = Gang::new(Config { workers: 2, max_memory: Some(100 * MB), ..Config::default() });
    gang.listens(1);
    gang.listens(2);
    gang.clear();
    gang.hear(Input::Memory(WorkerId(1), 100 * MB));
    assert_eq!(gang.done, []);
    gang.hear(Input::Memory(WorkerId(1), 101 * MB));
    gang.hear(Input::Memory(WorkerId(2), 120 * MB));
    assert_eq!(gang.done, [Action::Start(Slot(0), Generation(0))], "one at a time");
    gang.listens(3);
    assert_eq!(gang.done.last(), Some(&Action::Hint(WorkerId(1))));
    gang.dies(1);
    assert_eq!(gang.done.last(), Some(&Action::Start(Slot(1), Generation(0))));
    let recycled = gang.notices.iter().find(|notice| matches!(notice, Notice::Recycled { .. }));
    let why = Why::Memory { used: 101 * MB, limit: 100 * MB };
    let expected = Notice::Recycled { worker: WorkerId(1), slot: Slot(0), why, replaced_by: WorkerId(3) };
    assert_eq!(recycled, Some(&expected));
}

#[test]
fn who_cannot_be_replaced_goes_on_and_it_is_tried_again_later() {
    let mut gang = Gang::new(Config { workers: 1, max_memory: Some(MB), ..Config::default() });
    gang.listens(1);
    gang.pass(Duration::from_secs(5));
    gang.clear();
    gang.hear(Input::Memory(WorkerId(1), 2 * MB));
    gang.dies(2);
    assert!(matches!(gang.notices.last(), Some(Notice::NotRecycled { worker: WorkerId(1), .. })));
    gang.clear();
    gang.hear(Input::Memory(WorkerId(1), 2 * MB));
    assert_eq!(gang.done, []);
    gang.pass(Duration::from_secs(15));
    gang.hear(Input::Memory(WorkerId(1), 2 * MB));
    assert_eq!(gang.starts(), 1);
    assert_eq!(gang.guard.ready(), 1);
}

#[test]
fn nobody_serves_for_ever_and_not_all_go_at_once() {
    let hour = Duration::from_secs(3600);
    let mut gang = Gang::new(Config { workers: 4, max_lifetime: Some(hour), ..Config::default() });
    (1..=4).for_each(|id| gang.listens(id));
    gang.clear();
    gang.pass(hour * 9 / 10 - Duration::from_secs(1));
    assert_eq!(gang.done, []);
    for heir in 5..=8 {
        while gang.starts() == 0 {
            gang.pass(Duration::from_secs(10));
        }
        assert_eq!(gang.starts(), 1);
        gang.listens(heir);
        let old = gang.done.iter().find_map(|action| match action {
            Action::Hint(worker) => Some(worker.0),
            _ => None,
        });
        gang.clear();
        gang.dies(old.expect("the old one is told to go"));
        gang.done.retain(|action| matches!(action, Action::Start(..)));
    }
    gang.pass(Duration::from_secs(1));
    assert_eq!(gang.guard.ready(), 4);
}

/// Whether somebody follows one that is about to end is a matter of how it ends.
#[test]
fn who_is_about_to_end_is_not_replaced_for_its_memory() {
    for last_sign in [Input::Disconnected(WorkerId(1)), Input::Condemned(WorkerId(1), "garbage".into())] {
        let mut gang = Gang::new(Config {
            workers: 2,
            max_memory: Some(MB),
            max_lifetime: Some(Duration::from_secs(1)),
            restart: Restart::No,
            ..Config::default()
        });
        gang.listens(1);
        gang.clear();
        gang.hear(Input::Memory(WorkerId(2), 2 * MB));
        gang.hear(last_sign);
        gang.hear(Input::Memory(WorkerId(1), 2 * MB));
        gang.pass(ms(999));
        assert_eq!(gang.starts(), 0, "{:?}", gang.done);
        gang.exits(1, 1);
        assert_eq!(gang.starts(), 0, "{:?}", gang.done);
        assert!(matches!(gang.notices.last(), Some(Notice::Died { then: Then::StaysVacant(_), .. })));
    }
}

#[test]
fn an_heir_whose_predecessor_has_died_is_a_worker_like_any_other() {
    let mut gang = Gang::new(Config { workers: 1, max_memory: Some(MB), ..Config::default() });
    gang.listens(1);
    gang.pass(Duration::from_secs(5));
    gang.hear(Input::Memory(WorkerId(1), 2 * MB));
    gang.clear();
    gang.dies(1);
    let died = |id| {
        move |notice: &Notice| match notice {
            Notice::Died { worker, then, .. } if *worker == WorkerId(id) => Some(then.clone()),
            _ => None,
        }
    };
    assert_eq!(gang.notices.iter().find_map(died(1)), Some(Then::ReplacedBy(WorkerId(2))));
    gang.dies(2);
    let then = gang.notices.last().and_then(died(2));
    assert!(matches!(then, Some(Then::RetryIn(_))), "{:?}", gang.notices);
    gang.pass(Duration::from_secs(1));
    assert_eq!(gang.starts(), 1);
}

#[test]
fn an_heir_that_is_all_that_is_left_need_not_listen_where_nobody_does() {
    let mut gang = Gang::new(Config { workers: 1, max_memory: Some(MB), ..Config::default() });
    gang.hear(Input::Opened(WorkerId(1), ":8000".into()));
    gang.listens(1);
    gang.pass(Duration::from_secs(5));
    gang.hear(Input::Memory(WorkerId(1), 2 * MB));
    gang.listens(2);
    assert_eq!(gang.guard.ready(), 1);
    gang.hear(Input::Leaving(WorkerId(1)));
    assert_eq!(gang.guard.ready(), 1, "{:?}", gang.notices);
    gang.clear();
    gang.exits(1, 0);
    assert!(matches!(&gang.notices[..], [Notice::Died { then: Then::ReplacedBy(WorkerId(2)), .. }]));
    assert_eq!(gang.starts(), 0);
}
