//! The guard's rules, with a clock that the tests turn.

mod delay;
mod drain;
mod ladder;
mod limits;
mod ready;
mod reload;
mod restart;
mod scale;
mod trial;
mod watch;

use super::*;
use crate::Slot;

struct Gang {
    guard: Guard,
    now: Time,
    next: u32,
    /// Whether the workers have a channel.
    channel: bool,
    /// The exit codes by which their program says that it is not to be started again.
    no_restart_codes: Vec<u8>,
    /// What was asked for, notices apart.
    done: Vec<Action>,
    notices: Vec<Notice>,
}

impl Gang {
    fn new(config: Config) -> Self {
        Self::start(config, true)
    }

    fn start(config: Config, channel: bool) -> Self {
        let mut gang = Self::waiting(config, channel);
        gang.obey();
        gang
    }

    /// A gang whose workers are still to be started.
    fn waiting(config: Config, channel: bool) -> Self {
        let now = Time::from_zero(Duration::from_secs(1000));
        let guard = Guard::new(now, config);
        let (no_restart_codes, done, notices) = Default::default();
        Self { guard, now, next: 0, channel, no_restart_codes, done, notices }
    }

    fn of(workers: u32) -> Self {
        Self::new(Config { workers, ..Config::default() })
    }

    /// A gang whose workers have been ready for a while.
    fn ready(workers: u32) -> Self {
        let mut gang = Self::of(workers);
        (1..=workers).for_each(|id| gang.listens(id));
        gang.pass(Duration::from_secs(5));
        gang.clear();
        gang
    }

    fn obey(&mut self) {
        while let Some(action) = self.guard.poll_action() {
            match action {
                Action::Start(slot, _) => {
                    self.next += 1;
                    let worker = WorkerId(self.next);
                    self.done.push(action);
                    let (channel, no_restart_codes) = (self.channel, self.no_restart_codes.clone());
                    let started = Input::Started { slot, worker, channel, no_restart_codes };
                    self.guard.handle(self.now, started);
                }
                Action::Notice(notice) => self.notices.push(notice),
                Action::ReplacementsDue(_) => {}
                action => self.done.push(action),
            }
        }
    }

    fn hear(&mut self, input: Input) {
        self.guard.handle(self.now, input);
        self.obey();
    }

    fn listens(&mut self, id: u32) {
        self.hear(Input::Online(WorkerId(id)));
        self.hear(Input::Sign(WorkerId(id), Sign::Listening));
    }

    fn dies(&mut self, id: u32) {
        self.exits(id, 7);
    }

    fn exits(&mut self, id: u32, code: i32) {
        self.hear(Input::Disconnected(WorkerId(id)));
        self.hear(Input::Exited(WorkerId(id), Exit::Code(code)));
    }

    /// Lets time pass, waking the guard whenever it asked to be.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.guard.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.guard.handle_timeout(self.now);
            self.obey();
        }
        self.now = end;
    }

    fn clear(&mut self) {
        self.done.clear();
        self.notices.clear();
    }

    fn starts(&self) -> usize {
        self.done.iter().filter(|action| matches!(action, Action::Start(..))).count()
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_worker_in_good_age_is_replaced_at_once_and_told_in_one_notice() {
    let mut gang = Gang::ready(2);
    gang.dies(1);
    assert_eq!(gang.done, [Action::Retire(WorkerId(1)), Action::Start(Slot(0), Generation(0))]);
    assert!(
        matches!(
            &gang.notices[..],
            [
                Notice::Started { .. },
                Notice::Died { cause: Cause::Exit(Exit::Code(7)), then: Then::ReplacedBy(WorkerId(3)), .. }
            ]
        ),
        "{:?}",
        gang.notices
    );
}

#[test]
fn an_exit_seen_before_the_end_of_the_channel_is_the_same_death() {
    let mut gang = Gang::ready(2);
    gang.hear(Input::Exited(WorkerId(2), Exit::Signal { signal: 9, core_dumped: false }));
    gang.hear(Input::Disconnected(WorkerId(2)));
    assert_eq!(gang.done, [Action::Start(Slot(1), Generation(0))]);
    assert!(matches!(&gang.notices[..], [Notice::Died { then: Then::ReplacedBy(WorkerId(3)), .. }]));
}

#[test]
fn the_first_start_is_strict() {
    let mut gang = Gang::of(2);
    gang.clear();
    gang.dies(2);
    assert!(matches!(gang.notices[0], Notice::Died { then: Then::GangEnds, .. }));
    assert!(gang.done.contains(&Action::Kill(WorkerId(1))));
    gang.hear(Input::Exited(WorkerId(1), Exit::Signal { signal: 9, core_dumped: false }));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::FirstStart)));
    assert_eq!(gang.starts(), 0);
}

#[test]
fn young_deaths_are_paused_for_and_end_a_gang_without_a_ready_worker() {
    let mut gang = Gang::of(1);
    gang.listens(1);
    for death in 1..=8 {
        gang.clear();
        gang.dies(death);
        assert_eq!(gang.starts(), 0, "death {death}");
        if death < 8 {
            gang.pass(Duration::from_secs(8));
            assert_eq!(gang.starts(), 1, "death {death}");
        }
    }
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::CrashLoop { slot: Slot(0) })));
}

#[test]
fn the_end_comes_after_the_death_that_led_to_it() {
    let mut gang = Gang::of(1);
    gang.listens(1);
    for death in 1..8 {
        gang.dies(death);
        gang.pass(Duration::from_secs(8));
    }
    let exit = Exit::Code(7);
    gang.guard.handle(gang.now, Input::Exited(WorkerId(8), exit));
    let actions: Vec<Action> = std::iter::from_fn(|| gang.guard.poll_action()).collect();
    assert!(
        matches!(
            &actions[..],
            [
                ..,
                Action::Notice(Notice::Died { then: Then::GangEnds, .. }),
                Action::CloseSockets,
                Action::End(_)
            ]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_gang_that_cannot_be_started_any_more_ends_and_starts_nothing() {
    let mut gang = Gang::ready(1);
    gang.guard.handle(gang.now, Input::Exited(WorkerId(1), Exit::Code(7)));
    let (mut told, mut ended) = (0, None);
    for _ in 0..20 {
        while let Some(action) = gang.guard.poll_action() {
            assert_eq!(ended, None, "after the end: {action:?}");
            match action {
                Action::Start(slot, _) => {
                    gang.guard.handle(gang.now, Input::StartFailed { slot, error: "no memory".into() });
                }
                Action::Notice(Notice::StartFailed { .. }) => told += 1,
                Action::End(verdict) => ended = Some(verdict),
                _ => {}
            }
        }
        let Some(at) = gang.guard.poll_timeout() else { break };
        gang.now = at;
        gang.guard.handle_timeout(at);
    }
    assert_eq!((told, ended), (8, Some(Verdict::CrashLoop { slot: Slot(0) })));
    assert_eq!(gang.guard.poll_timeout(), None);
}

#[test]
fn a_crash_loop_beside_a_healthy_worker_does_not_end_the_gang() {
    let mut gang = Gang::ready(2);
    let mut dying = 2;
    for _ in 0..12 {
        gang.clear();
        gang.dies(dying);
        gang.pass(Duration::from_secs(20));
        assert_eq!(gang.starts(), 1);
        dying = gang.next;
    }
    assert!(!gang.guard.is_ending());
}

#[test]
fn a_stop_climbs_the_ladder() {
    let mut gang = Gang::ready(2);
    gang.hear(Input::Stop);
    assert_eq!(gang.done, [Action::CloseSockets, Action::Retire(WorkerId(1)), Action::Retire(WorkerId(2))]);
    gang.clear();
    // The first closes its channel after 200 ms and hangs; the second does nothing at all.
    gang.pass(ms(200));
    gang.hear(Input::Disconnected(WorkerId(1)));
    gang.pass(ms(999));
    assert_eq!(gang.done, []);
    gang.pass(ms(1));
    assert_eq!(gang.done, [Action::Terminate(WorkerId(1))]);
    gang.pass(ms(3799));
    assert_eq!(gang.done.len(), 1);
    gang.pass(ms(1));
    assert_eq!(gang.done[1..], [Action::Terminate(WorkerId(2))]);
    gang.hear(Input::Exited(WorkerId(1), Exit::Signal { signal: 15, core_dumped: false }));
    gang.pass(ms(19_999));
    assert_eq!(gang.done.len(), 2);
    gang.pass(ms(1));
    assert_eq!(gang.done[2..], [Action::Kill(WorkerId(2))]);
    assert!(gang.notices.iter().any(|notice| matches!(notice, Notice::Killed { worker: WorkerId(2), .. })));
    gang.hear(Input::Exited(WorkerId(2), Exit::Signal { signal: 9, core_dumped: false }));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
    assert_eq!(gang.guard.poll_timeout(), None);
}

#[test]
fn a_second_stop_kills() {
    let mut gang = Gang::ready(1);
    gang.hear(Input::Stop);
    gang.hear(Input::Stop);
    assert_eq!(gang.done.last(), Some(&Action::Kill(WorkerId(1))));
}

#[test]
fn programs_without_a_channel_are_signalled_at_once() {
    let mut gang = Gang::start(Config::default(), false);
    gang.pass(Duration::from_secs(31));
    gang.clear();
    gang.hear(Input::Stop);
    gang.pass(ms(0));
    assert_eq!(gang.done[1..], [Action::Retire(WorkerId(1)), Action::Terminate(WorkerId(1))]);
}

#[test]
fn a_worker_that_leaves_is_replaced_while_it_finishes() {
    let mut gang = Gang::ready(1);
    gang.hear(Input::Leaving(WorkerId(1)));
    assert_eq!(gang.done, [Action::Retire(WorkerId(1)), Action::Start(Slot(0), Generation(0))]);
    gang.listens(2);
    gang.hear(Input::Disconnected(WorkerId(1)));
    gang.clear();
    gang.pass(ms(49_999));
    assert_eq!(gang.done, []);
    gang.pass(ms(1));
    assert_eq!(gang.done, [Action::Terminate(WorkerId(1))]);
    gang.hear(Input::Exited(WorkerId(1), Exit::Code(0)));
    assert!(matches!(
        gang.notices.last(),
        Some(Notice::Died { cause: Cause::Left, then: Then::ReplacedBy(WorkerId(2)), .. })
    ));
}

#[test]
fn a_closed_channel_of_a_worker_that_lives_on_is_an_illness() {
    let mut gang = Gang::ready(1);
    gang.hear(Input::Disconnected(WorkerId(1)));
    assert_eq!(gang.starts(), 1);
    gang.pass(Duration::from_secs(1));
    assert!(gang.notices.iter().any(|notice| matches!(
        notice,
        Notice::Ill { worker: WorkerId(1), replaced_by: Some(WorkerId(2)), .. }
    )));
}

#[test]
fn a_program_that_never_used_its_channel_may_close_it() {
    let mut gang = Gang::of(1);
    gang.clear();
    gang.hear(Input::Disconnected(WorkerId(1)));
    gang.pass(Duration::from_secs(31));
    assert_eq!(gang.starts(), 0);
    assert!(gang.notices.iter().any(|notice| matches!(notice, Notice::NoSign { .. })));
    assert_eq!(gang.guard.ready(), 1);
}

#[test]
fn the_sign_of_the_first_is_required_of_the_next() {
    let mut gang = Gang::ready(1);
    gang.dies(1);
    gang.hear(Input::Sign(WorkerId(2), Sign::Message));
    assert_eq!(gang.guard.ready(), 0);
    gang.clear();
    gang.pass(Duration::from_secs(30));
    assert_eq!(gang.done, [Action::Kill(WorkerId(2))]);
    gang.hear(Input::Exited(WorkerId(2), Exit::Signal { signal: 9, core_dumped: false }));
    assert!(matches!(
        gang.notices.last(),
        Some(Notice::Died { cause: Cause::StartTimeout { .. }, then: Then::RetryIn(_), .. })
    ));
}

#[test]
fn who_is_condemned_is_killed_and_its_end_says_why() {
    let mut gang = Gang::ready(2);
    gang.hear(Input::Condemned(WorkerId(1), "garbage".into()));
    assert_eq!(gang.done, [Action::Kill(WorkerId(1))]);
    gang.dies(1);
    assert!(gang.notices.iter().any(|notice| matches!(
        notice,
        Notice::Died { cause: Cause::Condemned(_), then: Then::ReplacedBy(WorkerId(3)), .. }
    )));
}

#[test]
fn above_the_restart_limit_replacements_wait() {
    let limit = Limit { count: 2, within: Duration::from_secs(600) };
    let mut gang = Gang::new(Config { restart_limit: Some(limit), ..Config::default() });
    for id in 1..=4 {
        gang.listens(id);
        gang.pass(ms(300_000 * u64::from(id == 1)) + Duration::from_secs(2));
        gang.clear();
        gang.dies(id);
        let spaced = gang.notices.iter().any(|notice| matches!(notice, Notice::RestartsSpaced { .. }));
        assert_eq!(spaced, id == 3, "death {id}");
        gang.pass(Duration::from_secs(3));
    }
}

#[test]
fn the_state_can_be_taken_out_and_put_back() {
    let mut gang = Gang::ready(2);
    gang.dies(1);
    let state = serde_json::to_string(&gang.guard).unwrap();
    gang.guard = serde_json::from_str(&state).unwrap();
    gang.clear();
    gang.listens(3);
    assert_eq!(gang.guard.ready(), 2);
    gang.hear(Input::Stop);
    assert_eq!(gang.done.len(), 3);
}
