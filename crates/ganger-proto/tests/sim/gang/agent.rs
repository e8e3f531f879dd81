//! The agent: a light model of it, and the book of who was there when.

use std::collections::VecDeque;
use std::time::Duration;

use ganger_proto::{
    AgentId, Time,
    guard::{AgentAction, AgentInput, AgentNotice, Exit, Input, Sign, Then},
};

use super::world::{Around, Occasion, World};

/// As the guard promises; of the pause the time is left out in which one that was killed is reaped.
const RESTART_AFTER: Duration = Duration::from_millis(1000 - 30);
const YOUNG: Duration = Duration::from_secs(1);
const HOPELESS: (usize, Duration) = (8, Duration::from_secs(60));

#[derive(Debug)]
pub(crate) struct Agents {
    wanted: bool,
    there: Option<Agent>,
    made: u32,
    /// Whether one has been ready.
    was_ready: bool,
    /// When the last one died, if it was not to be replaced.
    died: Option<Time>,
    young_deaths: VecDeque<Time>,
}

#[derive(Debug)]
struct Agent {
    id: AgentId,
    temper: Temper,
    alive: bool,
    channel_open: bool,
    ready: Option<Time>,
    /// Whether another one is wanted in its place.
    replaced: bool,
    /// Whether it was asked to go, in whatever way.
    leaves: bool,
    /// Whether it may go although there are workers: it was on its way before the gang's end.
    may_leave: bool,
}

/// What is wrong with it.
#[derive(Debug)]
struct Temper {
    /// It says that it can be asked to leave.
    obeys: bool,
    /// Neither the stop signal nor being asked ends it.
    obstinate: bool,
    /// It says that it is ready after so many ms; never, if none.
    ready: Option<usize>,
}

/// What an agent does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OfAgent {
    SaysItsFirstWord,
    SaysReady,
    /// Its channel is read to its end.
    Disconnected,
    /// Its process ends.
    Ends,
    Reaped,
}

impl Agents {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, there: None, made: 0, was_ready: false, died: None, young_deaths: VecDeque::new() }
    }

    /// Whether workers may be there.
    pub(crate) fn came_first(&self) -> bool {
        !self.wanted || self.was_ready
    }

    pub(crate) fn are_ready(&self) -> bool {
        let is_ready = |agent: &Agent| agent.ready.is_some() && agent.alive && !agent.leaves;
        !self.wanted || self.there.as_ref().is_some_and(is_ready)
    }

    pub(crate) fn are_gone(&self) -> bool {
        self.there.is_none()
    }

    /// Whether they die as fast as they are started.
    pub(crate) fn are_hopeless(&self, now: Time) -> bool {
        let (deaths, within) = HOPELESS;
        self.young_deaths.iter().filter(|death| now - **death <= within).count() >= deaths
    }

    /// Another one is wanted, by somebody or by a reload. One that is not there yet comes at once.
    pub(crate) fn is_replaced(&mut self) {
        if let Some(agent) = &mut self.there {
            agent.replaced = self.was_ready;
        }
        self.died = None;
    }

    pub(crate) fn gang_ends(&mut self) {
        if let Some(agent) = &mut self.there {
            agent.may_leave = agent.leaves || agent.replaced;
        }
    }

    /// What the guard tells of it.
    pub(crate) fn told(&mut self, now: Time, notice: &AgentNotice) {
        match notice {
            AgentNotice::Ready { agent: id, .. } => {
                let agent = self.there.as_mut().filter(|agent| agent.id == *id).expect("it is there");
                agent.ready = Some(now);
                self.was_ready = true;
            }
            AgentNotice::Ill { .. } => self.there.iter_mut().for_each(|agent| agent.leaves = true),
            AgentNotice::Died { then: Then::RetryIn(pause), .. } => {
                assert!(*pause >= RESTART_AFTER, "{notice:?}")
            }
            _ => {}
        }
    }

    /// It ends, asked to or not.
    pub(crate) fn dies(&mut self, around: &mut Around) {
        let Some(agent) = self.there.as_mut().filter(|agent| agent.alive) else { return };
        agent.alive = false;
        let id = agent.id;
        self.drops_channel(around);
        around.within_ms(30, Occasion::Agent(id, OfAgent::Reaped));
    }

    pub(crate) fn drops_channel(&mut self, around: &mut Around) {
        if let Some(agent) = self.there.as_mut().filter(|agent| agent.channel_open) {
            agent.channel_open = false;
            around.within_ms(20, Occasion::Agent(agent.id, OfAgent::Disconnected));
        }
    }

    /// The faults end. One that would never say that it is ready is not waited for.
    pub(crate) fn calm_down(&mut self, around: &mut Around) {
        if self.there.as_ref().is_some_and(|agent| agent.temper.ready.is_none()) {
            self.dies(around);
        }
    }
}

impl World {
    pub(crate) fn say_of_agent(&mut self, input: AgentInput) {
        self.say_to_guard(Input::Agent(input));
    }

    /// Somebody wants another agent.
    pub(crate) fn replace_agent(&mut self) {
        self.agents.is_replaced();
        self.say_of_agent(AgentInput::Replace);
    }

    pub(crate) fn perform_on_agent(&mut self, action: AgentAction) {
        if let AgentAction::Start(_) = action {
            return self.start_agent();
        }
        let workers_are_gone = self.workers.values().all(|worker| worker.reaped);
        let Some(agent) = &mut self.agents.there else { return };
        let is_kill = action == AgentAction::Kill;
        assert!(
            is_kill || !self.closed || workers_are_gone || agent.may_leave,
            "the agent is to go before the workers: {agent:?}"
        );
        agent.leaves = true;
        match action {
            AgentAction::Kill => self.agents.dies(&mut self.around),
            _ if agent.temper.obstinate => {}
            AgentAction::Ask => {
                assert!(agent.temper.obeys, "it cannot be asked: {agent:?}");
                let id = agent.id;
                self.agents.drops_channel(&mut self.around);
                self.around.within_ms(500, Occasion::Agent(id, OfAgent::Ends));
            }
            _ => self.agents.dies(&mut self.around),
        }
    }

    fn start_agent(&mut self) {
        let Self { agents, around, .. } = self;
        assert!(agents.wanted && agents.there.is_none(), "there is one: {agents:?}");
        assert!(!self.closed, "an agent is started in a gang that ends");
        if let Some(died) = agents.died.take() {
            assert!(around.now - died >= RESTART_AFTER, "it is started again too soon");
        }
        let bad = around.random.chance(around.badness);
        // In a gang that never had one it would be the end.
        if bad && agents.was_ready && around.random.chance(200) {
            agents.young_deaths.push_back(around.now);
            agents.died = Some(around.now);
            return self.say_of_agent(AgentInput::StartFailed { error: "no memory".into() });
        }
        agents.made += 1;
        let id = AgentId(agents.made);
        let never = bad && around.random.chance(500);
        let temper = Temper {
            obeys: around.random.chance(500),
            obstinate: !around.calm && around.random.chance(100),
            ready: (!never).then(|| 20 + around.random.below(2000)),
        };
        let first_word = around.now + Duration::from_millis(10);
        around.calendar.enter(first_word, Occasion::Agent(id, OfAgent::SaysItsFirstWord));
        if let Some(ready) = temper.ready {
            let ready = first_word + Duration::from_millis(ready as u64);
            around.calendar.enter(ready, Occasion::Agent(id, OfAgent::SaysReady));
        }
        if bad && !never {
            around.within_ms(3000, Occasion::Agent(id, OfAgent::Ends));
        }
        let (alive, channel_open, ready) = (true, true, None);
        let (replaced, leaves, may_leave) = (false, false, false);
        agents.there = Some(Agent { id, temper, alive, channel_open, ready, replaced, leaves, may_leave });
        self.say_of_agent(AgentInput::Started { agent: id, channel: true });
    }

    /// Something happens to an agent, if it is still there.
    pub(crate) fn agent_does(&mut self, id: AgentId, what: OfAgent) {
        let now = self.around.now;
        let Some(agent) = self.agents.there.as_ref().filter(|agent| agent.id == id) else { return };
        let speaks = agent.alive && agent.channel_open;
        match what {
            OfAgent::SaysItsFirstWord if speaks => {
                let obeys = agent.temper.obeys;
                self.say_of_agent(AgentInput::Online { obeys });
            }
            OfAgent::SaysReady if speaks => self.say_of_agent(AgentInput::Sign(Sign::Message)),
            OfAgent::SaysItsFirstWord | OfAgent::SaysReady => {}
            OfAgent::Disconnected => self.say_of_agent(AgentInput::Disconnected),
            OfAgent::Ends => self.agents.dies(&mut self.around),
            OfAgent::Reaped => {
                if agent.ready.is_none_or(|ready| now - ready < YOUNG) {
                    self.agents.young_deaths.push_back(now);
                }
                self.agents.died = (!agent.replaced).then_some(now);
                self.agents.there = None;
                self.say_of_agent(AgentInput::Exited(Exit::Code(1)));
            }
        }
    }
}
