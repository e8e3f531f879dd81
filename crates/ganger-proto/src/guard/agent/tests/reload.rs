use super::*;
use crate::guard::Newcomer;

/// Why a reload has failed, and because of which agent.
fn reload_failed(gang: &Gang) -> Option<(Newcomer, &Unfit)> {
    gang.notices.iter().find_map(|notice| match notice {
        Notice::ReloadFailed { who, unfit, done: 0, kept: 2, .. } => Some((*who, unfit)),
        _ => None,
    })
}

/// A reload whose agent has just been started.
fn reloading() -> Gang {
    let mut gang = Gang::ready(2);
    gang.hear(Input::Reload);
    gang.agent(AgentInput::Exited(Exit::Code(0)));
    assert_eq!((gang.agents, gang.guard.is_reloading()), (2, true));
    gang.clear();
    gang
}

#[test]
fn a_reload_whose_agent_dies_before_it_is_ready_has_failed_and_the_next_one_may_mend_it() {
    let mut gang = reloading();
    gang.agent_dies();
    let who = Newcomer::Agent(Some(AgentId(2)));
    assert!(
        matches!(reload_failed(&gang), Some((failed, Unfit::Died { .. })) if failed == who),
        "{:?}",
        gang.notices
    );
    assert!(!gang.guard.is_reloading());
    assert!(gang.told().is_empty(), "it is told once: {:?}", gang.notices);
    // The workers go on, and an agent comes by the usual rule.
    assert_eq!((gang.workers, gang.guard.ready()), (2, 2));
    gang.pass(Duration::from_secs(2));
    assert_eq!(gang.agents, 3);
    gang.agent(AgentInput::Sign(Sign::Message));
    assert_eq!(gang.workers, 2);
    gang.clear();
    gang.hear(Input::Reload);
    gang.agent(AgentInput::Exited(Exit::Code(0)));
    gang.agent(AgentInput::Sign(Sign::Message));
    assert_eq!(gang.workers, 3);
}

#[test]
fn so_has_one_whose_agent_is_not_ready_in_time_or_closes_its_channel() {
    let mut gang = reloading();
    gang.pass(Duration::from_secs(31));
    assert_eq!(gang.done, [KILL]);
    gang.agent(AgentInput::Exited(KILLED));
    let Some((_, Unfit::Died { cause, .. })) = reload_failed(&gang) else { panic!("{:?}", gang.notices) };
    assert!(matches!(**cause, Cause::StartTimeout { .. }));

    let mut gang = reloading();
    gang.speaks(false);
    gang.agent(AgentInput::Disconnected);
    gang.pass(Duration::from_secs(2));
    assert!(matches!(reload_failed(&gang), Some((_, Unfit::Ill(_)))), "{:?}", gang.notices);
    gang.agent(AgentInput::Exited(Exit::Code(0)));
    assert!(gang.pause().is_some(), "{:?}", gang.notices);
}

#[test]
fn so_has_one_whose_agent_cannot_be_started_and_the_one_that_waits_begins() {
    let mut gang = Gang::ready(2);
    gang.hear(Input::Reload);
    gang.hear(Input::Reload);
    gang.guard.handle(gang.now, Input::Agent(AgentInput::Exited(Exit::Code(0))));
    let starts = |action: &Action| matches!(action, Action::Agent(AgentAction::Start(_)));
    assert!(std::iter::from_fn(|| gang.guard.poll_action()).any(|action| starts(&action)));
    gang.clear();
    gang.agent(AgentInput::StartFailed { error: "no memory".into() });
    assert!(matches!(reload_failed(&gang), Some((Newcomer::Agent(None), Unfit::NotStarted(_)))));
    assert!(gang.guard.is_reloading() && gang.done.iter().any(starts), "{:?}", gang.done);
}
