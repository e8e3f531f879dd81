//! Which cause is told.

use super::*;
use crate::{
    Slot,
    guard::{Config, Illness, Input, Notice, Sign, Then, Verdict},
};

const KILLED: Exit = Exit::Signal { signal: SIGKILL, core_dumped: false };
const LIMIT: Option<u64> = Some(64 << 20);
const ONE: WorkerId = WorkerId(1);

/// A gang of one ready worker.
struct Gang {
    guard: Guard,
    now: Time,
    last: u32,
    notices: Vec<Notice>,
    done: Vec<Action>,
}

impl Gang {
    fn new() -> Self {
        let now = Time::from_zero(Duration::from_secs(1000));
        let guard = Guard::new(now, Config::default());
        let mut gang = Self { guard, now, last: 0, notices: Vec::new(), done: Vec::new() };
        gang.obey();
        gang.hear(Input::Online(ONE));
        gang.hear(Input::Sign(ONE, Sign::Listening));
        gang.pass(5.0);
        gang.notices.clear();
        gang.done.clear();
        gang
    }

    fn hear(&mut self, input: Input) {
        self.guard.handle(self.now, input);
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(action) = self.guard.poll_action() {
            match action {
                Action::Start(slot, _) => {
                    self.last += 1;
                    let worker = WorkerId(self.last);
                    self.guard.handle(
                        self.now,
                        Input::Started { slot, worker, channel: true, no_restart_codes: Vec::new() },
                    );
                }
                Action::Notice(notice) => self.notices.push(notice),
                action => self.done.push(action),
            }
        }
    }

    fn pass(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while let Some(at) = self.guard.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.guard.handle_timeout(self.now);
            self.obey();
        }
        self.now = end;
    }

    /// The cause that is told when worker 1 ends so.
    fn ends(mut self, exit: Exit) -> Cause {
        self.hear(Input::Disconnected(ONE));
        self.hear(Input::Exited(ONE, exit));
        let died = |notice: &Notice| match notice {
            Notice::Died { worker: ONE, cause, .. } => Some(cause.clone()),
            _ => None,
        };
        self.notices.iter().find_map(died).unwrap()
    }

    fn out_of_memory(&mut self) {
        self.hear(Input::OutOfMemory { worker: ONE, limit: LIMIT });
    }
}

fn panic(backtrace: Option<&str>) -> Panic {
    Panic::new("boom", Some("src/main.rs:1:2"), backtrace)
}

#[test]
fn a_kill_that_the_kernel_counted_is_out_of_memory() {
    let ends = |exit| {
        let mut gang = Gang::new();
        gang.out_of_memory();
        gang.ends(exit)
    };
    assert_eq!(ends(KILLED), Cause::OutOfMemory { limit: LIMIT });
    assert_eq!(ends(Exit::Code(137)), Cause::OutOfMemory { limit: LIMIT }, "as a shell says it");
    // A process of its own may have been killed, and it ended over that.
    assert_eq!(ends(Exit::Code(1)), Cause::Exit(Exit::Code(1)));
    assert_eq!(Gang::new().ends(KILLED), Cause::Exit(KILLED), "somebody else's kill");
}

#[test]
fn a_kill_of_ours_is_not_the_kernels() {
    let mut gang = Gang::new();
    gang.hear(Input::Condemned(ONE, "garbage".into()));
    gang.out_of_memory();
    assert_eq!(gang.ends(KILLED), Cause::Condemned("garbage".into()));

    // It closed its channel, was told to go, and did not.
    let mut gang = Gang::new();
    gang.hear(Input::Disconnected(ONE));
    gang.pass(61.0);
    gang.out_of_memory();
    assert_eq!(gang.ends(KILLED), Cause::Asked);
}

#[test]
fn who_ends_after_our_signal_was_asked_to_whatever_it_says() {
    for exit in [Exit::Code(1), Exit::Signal { signal: 15, core_dumped: false }] {
        let mut gang = Gang::new();
        gang.hear(Input::Disconnected(ONE));
        gang.pass(51.0);
        assert!(gang.done.contains(&Action::Terminate(ONE)));
        assert_eq!(gang.ends(exit), Cause::Asked);
    }
    let mut gang = Gang::new();
    gang.hear(Input::Disconnected(ONE));
    gang.pass(51.0);
    gang.out_of_memory();
    assert_eq!(gang.ends(KILLED), Cause::OutOfMemory { limit: LIMIT }, "we have not killed it");
}

#[test]
fn who_leaves_and_is_taken_by_the_kernel_did_not_just_leave() {
    let mut gang = Gang::new();
    gang.hear(Input::Leaving(ONE));
    gang.out_of_memory();
    assert_eq!(gang.ends(KILLED), Cause::OutOfMemory { limit: LIMIT });
}

#[test]
fn who_panics_is_replaced_at_once_and_may_finish() {
    let mut gang = Gang::new();
    gang.hear(Input::Panicked(ONE, panic(None)));
    assert_eq!(gang.last, 2);
    assert!(gang.done.contains(&Action::Retire(ONE)));
    // What it says afterwards changes nothing, but for the backtrace.
    gang.hear(Input::Leaving(ONE));
    gang.hear(Input::Panicked(ONE, Panic::new("another", None, None)));
    gang.hear(Input::Panicked(ONE, panic(Some("0: main"))));
    gang.hear(Input::Panicked(ONE, panic(Some("0: other"))));
    assert_eq!(gang.last, 2);
    assert!(
        gang.notices.iter().all(|notice| matches!(notice, Notice::Started { .. })),
        "told with its death"
    );
    gang.pass(2.0);
    let ill = |notice: &Notice| match notice {
        Notice::Ill { worker: ONE, illness, replaced_by, .. } => Some((*illness, *replaced_by)),
        _ => None,
    };
    let ills: Vec<_> = gang.notices.iter().filter_map(ill).collect();
    assert_eq!(ills, [(Illness::Panicked, Some(WorkerId(2)))], "unless that takes long");
    gang.hear(Input::Disconnected(ONE));
    gang.hear(Input::Exited(ONE, Exit::Code(1)));
    let Some(Notice::Died { cause, then, .. }) = gang.notices.last() else { panic!() };
    assert_eq!(*cause, Cause::Panicked(panic(Some("0: main"))));
    assert_eq!(*then, Then::ReplacedBy(WorkerId(2)));
}

#[test]
fn who_panics_young_and_is_dead_before_its_successor_comes_is_told_with_when_that_is() {
    let mut gang = Gang::new();
    gang.hear(Input::Panicked(ONE, panic(None)));
    let two = WorkerId(2);
    gang.hear(Input::Sign(two, Sign::Listening));
    gang.hear(Input::Panicked(two, panic(None)));
    assert_eq!(gang.last, 2, "not at once");
    gang.hear(Input::Exited(two, Exit::Code(101)));
    let then = match gang.notices.last() {
        Some(Notice::Died { worker, then, .. }) if *worker == two => then,
        other => panic!("{other:?}"),
    };
    assert!(matches!(then, Then::RetryIn(pause) if !pause.is_zero()), "{then:?}");
}

#[test]
fn a_panic_before_the_first_worker_is_ready_ends_the_gang() {
    let now = Time::from_zero(Duration::from_secs(1000));
    let guard = Guard::new(now, Config::default());
    let mut gang = Gang { guard, now, last: 0, notices: Vec::new(), done: Vec::new() };
    gang.obey();
    gang.hear(Input::Panicked(ONE, panic(None)));
    gang.hear(Input::Disconnected(ONE));
    gang.hear(Input::Exited(ONE, Exit::Code(101)));
    assert_eq!(gang.last, 1);
    assert!(matches!(
        gang.notices.last(),
        Some(Notice::Died { cause: Cause::Panicked(_), then: Then::GangEnds, .. })
    ));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::FirstStart)));
}

#[test]
fn who_panics_after_it_was_asked_to_leave_says_why_it_ended() {
    let mut gang = Gang::new();
    gang.hear(Input::Leaving(ONE));
    gang.hear(Input::Panicked(ONE, panic(None)));
    assert_eq!(gang.last, 2);
    assert_eq!(gang.ends(Exit::Code(101)), Cause::Panicked(panic(None)));
}

#[test]
fn a_crash_on_the_way_out_of_a_reload_is_told() {
    let ends = |exit, panicked: bool| {
        let mut gang = Gang::new();
        gang.hear(Input::Reload);
        gang.hear(Input::Online(WorkerId(2)));
        gang.hear(Input::Sign(WorkerId(2), Sign::Listening));
        assert!(gang.done.contains(&Action::Hint(ONE)));
        if panicked {
            gang.hear(Input::Panicked(ONE, panic(None)));
        }
        gang.hear(Input::Disconnected(ONE));
        gang.hear(Input::Exited(ONE, exit));
        let of_one = gang.notices.iter().rev().find_map(|notice| match notice {
            Notice::Left { worker: ONE, .. } => Some(None),
            Notice::Died { worker: ONE, cause, .. } => Some(Some(cause.clone())),
            _ => None,
        });
        assert_eq!(gang.last, 2, "it was replaced before");
        of_one.unwrap()
    };
    // How it ends by itself is its own affair.
    assert_eq!(ends(Exit::Code(7), false), None);
    assert_eq!(ends(KILLED, false), Some(Cause::Exit(KILLED)));
    assert_eq!(ends(Exit::Code(1), true), Some(Cause::Panicked(panic(None))));
}

#[test]
fn nobody_knows_a_stranger() {
    let mut gang = Gang::new();
    gang.hear(Input::Panicked(WorkerId(7), panic(None)));
    gang.hear(Input::OutOfMemory { worker: WorkerId(7), limit: None });
    assert_eq!((gang.last, gang.notices.len()), (1, 0));
    assert_eq!(gang.guard.slots[Slot(0).0 as usize].occupant, Some(ONE));
}
