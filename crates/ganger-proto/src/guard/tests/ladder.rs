use super::*;

fn terminated(gang: &Gang, id: u32) -> bool {
    gang.done.contains(&Action::Terminate(WorkerId(id)))
}

/// A gang of two, of which the first does not listen to the signal.
fn deaf_and_hearing() -> Gang {
    let mut gang = Gang::ready(2);
    gang.hear(Input::HearsSignal(WorkerId(1), false));
    gang.hear(Input::HearsSignal(WorkerId(2), true));
    gang
}

#[test]
fn a_signal_that_would_just_kill_is_not_sent_while_there_is_something_to_lose() {
    let mut gang = deaf_and_hearing();
    gang.hear(Input::Stop);
    gang.pass(ms(5000));
    assert!(terminated(&gang, 2) && !terminated(&gang, 1), "{:?}", gang.done);
    gang.clear();
    gang.pass(ms(19_999));
    assert_eq!(gang.done, []);
    gang.pass(ms(1));
    assert_eq!(gang.done, [Action::Kill(WorkerId(1)), Action::Kill(WorkerId(2))]);
}

#[test]
fn once_it_has_nothing_to_lose_it_is_sent() {
    let mut gang = deaf_and_hearing();
    gang.hear(Input::Stop);
    gang.pass(ms(10_000));
    gang.hear(Input::Disconnected(WorkerId(1)));
    gang.pass(ms(999));
    assert!(!terminated(&gang, 1));
    gang.pass(ms(1));
    assert!(terminated(&gang, 1));
}

#[test]
fn so_it_is_in_a_reload() {
    let mut gang = deaf_and_hearing();
    gang.hear(Input::Reload);
    gang.listens(3);
    gang.listens(4);
    gang.pass(ms(50_000));
    assert!(terminated(&gang, 2) && !terminated(&gang, 1), "{:?}", gang.done);
    gang.pass(ms(10_000));
    assert!(gang.done.contains(&Action::Kill(WorkerId(1))));
}

#[test]
fn who_begins_to_listen_on_its_way_out_is_told() {
    let mut gang = deaf_and_hearing();
    gang.hear(Input::Stop);
    gang.pass(ms(7000));
    assert!(!terminated(&gang, 1));
    gang.hear(Input::HearsSignal(WorkerId(1), true));
    gang.pass(ms(0));
    assert!(terminated(&gang, 1));
}

#[test]
fn who_is_ill_finishes_also_when_the_gang_ends() {
    let mut gang = deaf_and_hearing();
    gang.hear(Input::Leaving(WorkerId(1)));
    gang.hear(Input::Disconnected(WorkerId(1)));
    gang.hear(Input::Stop);
    gang.pass(ms(24_999));
    assert!(!terminated(&gang, 1), "its channel was closed before it was done");
    gang.pass(ms(1));
    assert!(gang.done.contains(&Action::Kill(WorkerId(1))));
}

#[test]
fn connections_that_last_end_in_a_stop_before_the_kill() {
    let mut gang = deaf_and_hearing();
    [1, 2].into_iter().for_each(|id| gang.hear(Input::TakesHints(WorkerId(id))));
    gang.hear(Input::Stop);
    gang.pass(ms(12_499));
    gang.clear();
    gang.pass(ms(1));
    // The other has been signalled.
    assert_eq!(gang.done, [Action::Shed(WorkerId(1), Duration::from_millis(6250))]);
    gang.hear(Input::Disconnected(WorkerId(1)));
    gang.pass(Duration::from_secs(1));
    assert!(terminated(&gang, 1));
}

#[test]
fn times_without_end_are_reckoned_with() {
    let longest = Duration::MAX;
    let mut gang = Gang::new(Config {
        start_timeout: longest,
        ready: Readiness::After(longest),
        stop_timeout: longest,
        drain_timeout: longest,
        drain_delay: longest,
        watchdog: Some(longest),
        max_lifetime: Some(longest),
        restart_limit: Some(Limit { count: 1, within: longest }),
        ..Config::default()
    });
    gang.listens(1);
    gang.pass(Duration::from_secs(1_000_000_000));
    assert_eq!(gang.guard.ready(), 1);
    [Input::Reload, Input::Leaving(WorkerId(1)), Input::Stop, Input::Stop]
        .into_iter()
        .for_each(|input| gang.hear(input));
}
