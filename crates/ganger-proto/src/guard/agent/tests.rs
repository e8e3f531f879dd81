//! The agent's rules, with a clock that the tests turn.

mod chaos;
mod reload;

use super::*;
use crate::{WorkerId, guard::Input};

struct Gang {
    guard: Guard,
    now: Time,
    agents: u32,
    workers: u32,
    channel: bool,
    /// What was asked for, notices apart.
    done: Vec<Action>,
    notices: Vec<Notice>,
}

impl Gang {
    fn of(workers: u32) -> Self {
        Self::started(Config { workers, agent: true, ..Config::default() }, true)
    }

    fn started(config: Config, channel: bool) -> Self {
        let now = Time::from_zero(Duration::from_secs(1000));
        let guard = Guard::new(now, config);
        let (done, notices) = (Vec::new(), Vec::new());
        let mut gang = Self { guard, now, agents: 0, workers: 0, channel, done, notices };
        gang.obey();
        gang
    }

    /// An agent and workers that have been ready for a while.
    fn ready(workers: u32) -> Self {
        let mut gang = Self::of(workers);
        gang.speaks(false);
        gang.agent(AgentInput::Sign(Sign::Message));
        (1..=workers).for_each(|id| gang.hear(Input::Sign(WorkerId(id), Sign::Listening)));
        gang.pass(Duration::from_secs(5));
        gang.clear();
        gang
    }

    fn obey(&mut self) {
        while let Some(action) = self.guard.poll_action() {
            match action {
                Action::Start(slot, _) => {
                    self.workers += 1;
                    let worker = WorkerId(self.workers);
                    self.done.push(action);
                    self.guard.handle(self.now, started(slot, worker));
                }
                Action::Agent(AgentAction::Start(_)) => {
                    self.agents += 1;
                    self.done.push(action);
                    let started = AgentInput::Started { agent: AgentId(self.agents), channel: self.channel };
                    self.guard.handle(self.now, Input::Agent(started));
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

    fn agent(&mut self, input: AgentInput) {
        self.hear(Input::Agent(input));
    }

    fn speaks(&mut self, obeys: bool) {
        self.agent(AgentInput::Online { obeys });
    }

    fn agent_dies(&mut self) {
        self.agent(AgentInput::Disconnected);
        self.agent(AgentInput::Exited(Exit::Code(7)));
    }

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

    fn agents_started(&self) -> usize {
        self.done.iter().filter(|action| **action == START).count()
    }

    /// The pause that was told with a death.
    fn pause(&self) -> Option<Duration> {
        self.told().into_iter().find_map(|notice| match notice {
            AgentNotice::Died { then: Then::RetryIn(pause), .. } => Some(*pause),
            _ => None,
        })
    }

    fn told(&self) -> Vec<&AgentNotice> {
        let agents = self.notices.iter().filter_map(|notice| match notice {
            Notice::Agent(notice) => Some(notice),
            _ => None,
        });
        agents.collect()
    }
}

fn started(slot: crate::Slot, worker: WorkerId) -> Input {
    Input::Started { slot, worker, channel: true, no_restart_codes: Vec::new() }
}

const START: Action = Action::Agent(AgentAction::Start(Generation(0)));
const ASK: Action = Action::Agent(AgentAction::Ask);
const TERMINATE: Action = Action::Agent(AgentAction::Terminate);
const KILL: Action = Action::Agent(AgentAction::Kill);
const KILLED: Exit = Exit::Signal { signal: 9, core_dumped: false };

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_workers_are_started_when_it_is_ready() {
    let mut gang = Gang::of(2);
    gang.speaks(true);
    gang.pass(ms(29_000));
    assert_eq!(gang.done, [START]);
    gang.agent(AgentInput::Sign(Sign::Message));
    assert_eq!(gang.workers, 2);
    assert!(matches!(
        gang.told()[..],
        [AgentNotice::Started { .. }, AgentNotice::Ready { agent: AgentId(1), .. }]
    ));
}

#[test]
fn its_death_before_that_ends_the_gang() {
    let mut gang = Gang::of(2);
    gang.agent_dies();
    assert!(matches!(
        gang.told()[1],
        AgentNotice::Died { cause: Cause::Exit(Exit::Code(7)), then: Then::GangEnds, .. }
    ));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::AgentStart)));
    assert_eq!((gang.workers, gang.guard.poll_timeout()), (0, None));
}

#[test]
fn one_that_cannot_be_started_ends_the_gang() {
    let config = Config { agent: true, ..Config::default() };
    let mut guard = Guard::new(Time::from_zero(ms(0)), config);
    let error = "there is no such file".to_owned();
    guard.handle(Time::from_zero(ms(0)), Input::Agent(AgentInput::StartFailed { error }));
    let actions: Vec<Action> = std::iter::from_fn(|| guard.poll_action()).collect();
    assert!(
        matches!(
            &actions[..],
            [
                ..,
                Action::Notice(Notice::Agent(AgentNotice::StartFailed { retry_in: None, .. })),
                _,
                Action::End(_)
            ]
        ),
        "{actions:?}"
    );
}

#[test]
fn one_that_gives_no_sign_is_ready_when_its_time_is_over() {
    let mut gang = Gang::of(1);
    gang.pass(ms(29_999));
    assert_eq!(gang.workers, 0);
    gang.pass(ms(1));
    assert_eq!(gang.workers, 1);
    assert!(matches!(gang.told()[1..], [AgentNotice::NoSign { .. }, AgentNotice::Ready { .. }]));
    // It can give none without a channel, so that is neither told nor waited for as long.
    let mut gang = Gang::started(Config { agent: true, ..Config::default() }, false);
    gang.pass(ms(2_999));
    assert_eq!(gang.workers, 0);
    gang.pass(ms(1));
    assert_eq!(gang.workers, 1);
    assert!(matches!(gang.told()[1..], [AgentNotice::Ready { .. }]));
}

#[test]
fn the_sign_of_the_first_is_required_of_the_next() {
    let mut gang = Gang::ready(1);
    gang.agent_dies();
    gang.pass(ms(1000));
    gang.clear();
    gang.pass(ms(30_000));
    assert_eq!(gang.done, [KILL]);
    gang.agent(AgentInput::Exited(KILLED));
    assert!(matches!(
        gang.told()[..],
        [AgentNotice::Died { cause: Cause::StartTimeout { .. }, then: Then::RetryIn(_), .. }]
    ));
}

#[test]
fn without_a_channel_it_may_say_so_all_the_same_and_the_next_has_as_long_as_others() {
    let mut gang = Gang::started(Config { workers: 1, agent: true, ..Config::default() }, false);
    gang.agent(AgentInput::Sign(Sign::Notify));
    assert!(gang.done.contains(&Action::Start(crate::Slot(0), Generation(0))));
    gang.pass(ms(5000));
    gang.agent_dies();
    gang.pass(ms(1000));
    gang.clear();
    gang.pass(ms(29_999));
    assert_eq!((gang.told(), &gang.done[..]), (vec![], &[][..]));
    gang.pass(ms(1));
    assert_eq!(gang.done, [KILL]);
}

#[test]
fn it_is_started_again_a_second_after_its_death() {
    let mut gang = Gang::ready(2);
    gang.agent_dies();
    assert!(matches!(
        gang.told()[..],
        [AgentNotice::Died { agent: AgentId(1), then: Then::RetryIn(pause), .. }] if *pause == ms(1000)
    ));
    gang.pass(ms(999));
    assert_eq!(gang.done, []);
    gang.pass(ms(1));
    assert_eq!(gang.done, [START]);
    gang.clear();
    gang.agent(AgentInput::Sign(Sign::Message));
    assert_eq!(gang.done, [], "the workers are there already");
}

#[test]
fn young_deaths_are_paused_for_longer_and_end_no_gang_that_works() {
    let mut gang = Gang::ready(1);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        gang.clear();
        gang.agent_dies();
        let pause = gang.pause().unwrap();
        pauses.push(pause);
        gang.pass(pause);
        assert_eq!(gang.agents_started(), 1);
    }
    assert!(pauses[..4].iter().all(|pause| *pause == ms(1000)), "{pauses:?}");
    assert!(pauses[9] >= ms(12_000) && pauses[9] <= ms(18_000), "{pauses:?}");
    assert!(!gang.guard.is_ending());
}

#[test]
fn young_deaths_with_no_worker_ready_end_the_gang() {
    let mut gang = Gang::of(1);
    gang.agent(AgentInput::Sign(Sign::Message));
    for death in 1..=8 {
        assert!(!gang.guard.is_ending(), "death {death}");
        gang.clear();
        gang.agent_dies();
        gang.pass(gang.pause().unwrap_or_default());
    }
    assert!(gang.done.contains(&Action::Kill(WorkerId(1))));
    gang.hear(Input::Exited(WorkerId(1), KILLED));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::AgentCrashLoop)));
}

#[test]
fn it_ends_last() {
    let mut gang = Gang::ready(2);
    gang.speaks(true);
    gang.hear(Input::Stop);
    gang.pass(ms(100));
    gang.hear(Input::Exited(WorkerId(1), Exit::Code(0)));
    assert!(!gang.done.contains(&ASK));
    gang.clear();
    gang.hear(Input::Exited(WorkerId(2), Exit::Code(0)));
    assert_eq!(gang.done, [ASK]);
    gang.clear();
    // It closes its channel, and is signalled a second later.
    gang.agent(AgentInput::Disconnected);
    gang.pass(ms(999));
    assert_eq!(gang.done, []);
    gang.pass(ms(1));
    assert_eq!(gang.done, [TERMINATE]);
    gang.agent(AgentInput::Exited(Exit::Code(0)));
    assert_eq!(gang.done[1..], [Action::End(Verdict::Stopped)]);
    assert!(gang.told().is_empty());
}

#[test]
fn who_cannot_be_asked_is_signalled_and_has_what_is_left_of_the_time() {
    // The workers take all of it, 25 s; so the agent has a tenth.
    for (used, left) in [(ms(4_000), ms(21_000)), (ms(25_000), ms(2_500))] {
        let mut gang = Gang::ready(1);
        gang.hear(Input::Stop);
        gang.pass(used);
        gang.clear();
        gang.hear(Input::Exited(WorkerId(1), KILLED));
        gang.pass(ms(0));
        assert_eq!(gang.done, [TERMINATE]);
        gang.pass(left - ms(1));
        assert_eq!(gang.done.len(), 1);
        gang.pass(ms(1));
        assert_eq!(gang.done[1..], [KILL]);
        assert!(matches!(gang.told()[..], [AgentNotice::Killed { after, .. }] if *after == left));
        gang.agent(AgentInput::Exited(KILLED));
        assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
    }
}

#[test]
fn a_second_stop_kills_it_too() {
    let mut gang = Gang::ready(1);
    gang.hear(Input::Stop);
    gang.hear(Input::Stop);
    assert_eq!(gang.done[gang.done.len() - 2..], [Action::Kill(WorkerId(1)), KILL]);
    gang.agent(AgentInput::Exited(KILLED));
    gang.hear(Input::Exited(WorkerId(1), KILLED));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
}

#[test]
fn a_stop_before_it_is_ready_starts_no_worker() {
    let mut gang = Gang::of(2);
    gang.hear(Input::Stop);
    gang.pass(ms(0));
    gang.agent(AgentInput::Sign(Sign::Message));
    assert_eq!(gang.done, [START, Action::CloseSockets, TERMINATE]);
    gang.agent(AgentInput::Exited(Exit::Code(0)));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
    // Or even before it was started.
    let mut guard = Guard::new(gang.now, Config { agent: true, ..Config::default() });
    guard.handle(gang.now, Input::Stop);
    let actions: Vec<Action> = std::iter::from_fn(|| guard.poll_action()).collect();
    assert!(!actions.contains(&START));
    assert_eq!(actions.last(), Some(&Action::End(Verdict::Stopped)));
}

#[test]
fn its_death_during_a_stop_is_told_and_not_mended() {
    let mut gang = Gang::ready(1);
    gang.hear(Input::Stop);
    gang.clear();
    gang.agent_dies();
    assert!(matches!(gang.told()[..], [AgentNotice::Died { then: Then::Nothing, .. }]));
    gang.pass(ms(2_000));
    assert_eq!(gang.agents_started(), 0);
    gang.hear(Input::Exited(WorkerId(1), Exit::Code(0)));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::Stopped)));
}

#[test]
fn one_that_closes_its_channel_and_lives_on_is_ended_and_started_again() {
    let mut gang = Gang::ready(1);
    gang.agent(AgentInput::Disconnected);
    gang.pass(ms(1000));
    assert_eq!(gang.done, [TERMINATE]);
    assert!(matches!(gang.told()[..], [AgentNotice::Ill { .. }]));
    gang.agent(AgentInput::Exited(Exit::Signal { signal: 15, core_dumped: false }));
    gang.pass(ms(1000));
    assert_eq!(gang.done, [TERMINATE, START]);
    // Unless it never used it.
    gang.agent(AgentInput::Disconnected);
    gang.clear();
    gang.pass(ms(2000));
    assert_eq!(gang.done, []);
}

#[test]
fn who_is_condemned_is_killed_and_its_end_says_why() {
    let mut gang = Gang::ready(1);
    gang.agent(AgentInput::Condemned("garbage".into()));
    assert_eq!(gang.done, [KILL]);
    gang.agent_dies();
    assert!(matches!(gang.told()[..], [AgentNotice::Died { cause: Cause::Condemned(_), .. }]));
}

#[test]
fn another_one_is_started_when_the_old_one_has_gone() {
    let mut gang = Gang::ready(1);
    gang.speaks(true);
    gang.agent(AgentInput::Replace);
    assert_eq!(gang.done, [ASK]);
    gang.agent(AgentInput::Replace);
    assert_eq!(gang.done, [ASK]);
    gang.agent_dies();
    assert_eq!(gang.done, [ASK, START]);
    assert!(matches!(gang.told()[..], [AgentNotice::Started { agent: AgentId(2) }]));
    // While none is there, the next one comes sooner.
    gang.agent(AgentInput::Sign(Sign::Message));
    gang.agent_dies();
    gang.clear();
    gang.agent(AgentInput::Replace);
    assert_eq!(gang.done, [START]);
}

#[test]
fn a_first_start_that_fails_lets_it_leave_by_the_ladder() {
    let mut gang = Gang::of(1);
    gang.speaks(true);
    gang.agent(AgentInput::Sign(Sign::Message));
    gang.clear();
    gang.hear(Input::Exited(WorkerId(1), Exit::Code(1)));
    assert_eq!(gang.done, [Action::CloseSockets, ASK]);
    gang.agent(AgentInput::Exited(Exit::Code(0)));
    assert_eq!(gang.done.last(), Some(&Action::End(Verdict::FirstStart)));
}

#[test]
fn the_state_can_be_taken_out_and_put_back() {
    let mut gang = Gang::ready(1);
    gang.agent_dies();
    let state = serde_json::to_string(&gang.guard).unwrap();
    gang.guard = serde_json::from_str(&state).unwrap();
    gang.pass(ms(1000));
    assert_eq!(gang.done, [START]);
}
