//! Anything at any time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A gang in which anything may happen to anybody at any time.
#[derive(Default)]
struct Chaos {
    agents: u32,
    workers: u32,
    /// Who lives.
    agent: bool,
    alive: BTreeSet<u32>,
    established: bool,
    stopped: bool,
    ended: bool,
}

impl Chaos {
    /// Does what the guard wants, and checks that it may want it.
    fn obey(&mut self, guard: &mut Guard, now: Time) {
        while let Some(action) = guard.poll_action() {
            assert!(!self.ended, "nothing follows the end: {action:?}");
            match action {
                Action::Agent(AgentAction::Start(_)) => {
                    assert!(!self.agent && !self.stopped, "a second agent, or one after the stop");
                    self.agents += 1;
                    self.agent = true;
                    let started = AgentInput::Started { agent: AgentId(self.agents), channel: true };
                    guard.handle(now, Input::Agent(started));
                }
                Action::Agent(AgentAction::Ask) => {
                    assert!(!self.stopped || self.alive.is_empty(), "the agent leaves before the workers");
                }
                Action::Start(slot, _) => {
                    assert!(
                        self.established && !self.stopped,
                        "a worker before the agent, or after the stop"
                    );
                    self.workers += 1;
                    self.alive.insert(self.workers);
                    guard.handle(now, started(slot, WorkerId(self.workers)));
                }
                Action::Notice(Notice::Agent(AgentNotice::Ready { .. })) => self.established = true,
                Action::End(_) => {
                    assert!(!self.agent && self.alive.is_empty(), "somebody is left behind");
                    self.ended = true;
                }
                _ => {}
            }
            self.stopped |= guard.is_ending();
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_agent_is_first_and_last(
        steps in prop::collection::vec((0..12_u8, 0..40_u64), 1..120),
        seed: u64,
    ) {
        let config = Config { workers: 2, agent: true, seed, ..Config::default() };
        let mut now = Time::from_zero(Duration::from_secs(1000));
        let mut guard = Guard::new(now, config);
        let mut chaos = Chaos::default();
        chaos.obey(&mut guard, now);
        for (step, number) in steps {
            let worker = chaos.alive.iter().copied().nth(number as usize % 2);
            let input = match (step, worker) {
                (0 | 1, _) if chaos.agent => Some(Input::Agent(AgentInput::Sign(Sign::Message))),
                (2, _) if chaos.agent => Some(Input::Agent(AgentInput::Online { obeys: number % 2 == 0 })),
                (3, _) if chaos.agent => Some(Input::Agent(AgentInput::Disconnected)),
                (4, _) if chaos.agent => {
                    chaos.agent = false;
                    Some(Input::Agent(AgentInput::Exited(Exit::Code(0))))
                }
                (5, _) => Some(Input::Agent(AgentInput::Replace)),
                (6 | 7, Some(worker)) => Some(Input::Sign(WorkerId(worker), Sign::Listening)),
                (8, Some(worker)) => {
                    chaos.alive.remove(&worker);
                    Some(Input::Exited(WorkerId(worker), Exit::Code(1)))
                }
                (9, _) if number == 0 => Some(Input::Stop),
                _ => None,
            };
            match input {
                Some(input) => guard.handle(now, input),
                None => {
                    now = now + ms(number * 500);
                    guard.handle_timeout(now);
                }
            }
            chaos.obey(&mut guard, now);
        }
        // However it stands, a stop ends it, if everybody dies when killed.
        guard.handle(now, Input::Kill);
        chaos.obey(&mut guard, now);
        for worker in std::mem::take(&mut chaos.alive) {
            guard.handle(now, Input::Exited(WorkerId(worker), KILLED));
        }
        if std::mem::take(&mut chaos.agent) {
            guard.handle(now, Input::Agent(AgentInput::Exited(KILLED)));
        }
        chaos.obey(&mut guard, now);
        prop_assert!(chaos.ended);
        prop_assert_eq!(guard.poll_timeout(), None);
    }
}
