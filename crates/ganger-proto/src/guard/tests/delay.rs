use super::*;

/// A gang of two that serves on for 10 s after it was asked to stop.
fn gang() -> Gang {
    let config = Config { workers: 2, drain_delay: Duration::from_secs(10), ..Config::default() };
    let mut gang = Gang::new(config);
    assert!(!gang.guard.is_ready());
    gang.listens(1);
    assert!(!gang.guard.is_ready());
    gang.listens(2);
    gang.pass(Duration::from_secs(5));
    gang.clear();
    assert!(gang.guard.is_ready());
    gang
}

#[test]
fn it_serves_on_and_is_not_ready_any_more() {
    let mut gang = gang();
    gang.hear(Input::Stop);
    assert!(!gang.guard.is_ready() && !gang.guard.is_ending());
    assert_eq!(gang.notices, [Notice::StopDelayed { by: Duration::from_secs(10) }]);
    gang.dies(1);
    assert_eq!(gang.starts(), 1, "it is guarded all the same");
    gang.listens(3);
    gang.clear();
    gang.pass(ms(9999));
    assert_eq!(gang.done, []);
    gang.pass(ms(1));
    assert_eq!(gang.done, [Action::CloseSockets, Action::Retire(WorkerId(2)), Action::Retire(WorkerId(3))]);
    gang.dies(2);
    gang.dies(3);
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
}

#[test]
fn a_second_word_ends_it_at_once() {
    let mut gang = gang();
    gang.hear(Input::Stop);
    gang.hear(Input::Stop);
    assert!(gang.done.contains(&Action::Kill(WorkerId(1))) && gang.done.contains(&Action::Kill(WorkerId(2))));
}

#[test]
fn nothing_is_changed_meanwhile() {
    let mut gang = gang();
    gang.hear(Input::Reload);
    gang.clear();
    gang.hear(Input::Stop);
    gang.hear(Input::Reload);
    gang.hear(Input::Scale(5));
    let told = [Notice::TooLate(Request::Reload), Notice::TooLate(Request::Scale(5))];
    assert_eq!(gang.notices[gang.notices.len() - 2..], told);
    // The one that was being started takes over; the other slot is let be.
    gang.listens(3);
    assert_eq!(gang.done, [Action::Hint(WorkerId(1))]);
    assert_eq!(gang.guard.workers(), 2);
}

#[test]
fn who_does_not_serve_yet_stops_at_once() {
    let config = Config { drain_delay: Duration::from_secs(10), ..Config::default() };
    let mut gang = Gang::new(config);
    gang.hear(Input::Stop);
    assert!(gang.guard.is_ending());
}

#[test]
fn a_gang_that_was_asked_to_stop_has_stopped_whatever_happens_on_the_way() {
    let mut gang = gang();
    gang.hear(Input::Stop);
    gang.guard.config.restart = Restart::No;
    gang.dies(1);
    gang.dies(2);
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
    assert_eq!(gang.guard.poll_timeout(), None);
}
