//! The agent's part of the driver.

use ganger_proto::{
    AgentId,
    cluster::Held,
    guard::{AgentAction, AgentInput, Input, Sign},
};

use super::{Guard, Report, Source, TERM, cause::in_proto, hearing::is_ready, vitals::OutOfMemory};
use crate::{
    channel::Message,
    clock,
    cluster::{AgentEvent, AgentInfo, Notification, WorkerFault},
};

impl Guard {
    /// Another agent is started in place of the one that runs, once that one has gone: it is asked to leave, then signalled,
    /// then killed.
    pub fn replace_agent(&mut self) {
        self.hear_of_agent(AgentInput::Replace);
    }

    /// The process of an agent, also of one that died until its death has been reported.
    pub fn agent_pid(&self, agent: AgentId) -> Option<i32> {
        self.agent_pids.get(&agent).copied()
    }

    pub(super) fn perform_on_agent(&mut self, action: AgentAction) {
        match action {
            AgentAction::Start(_) => self.start_agent(),
            AgentAction::Ask => self.primary.disconnect_agent(),
            // One that is gone needs neither.
            AgentAction::Terminate => drop(self.primary.kill_agent(TERM)),
            AgentAction::Kill => {
                if let Some(agent) = self.primary.agent() {
                    self.vitals.killing(Source::Agent(agent.id));
                }
                self.primary.kill_agent_group();
            }
        }
    }

    fn start_agent(&mut self) {
        let input = match self.primary.start_agent() {
            Ok(AgentInfo { id: agent, pid, channel, .. }) => {
                self.agent_pids.insert(agent, pid);
                self.vitals.started(Source::Agent(agent), pid);
                let streams = self.primary.take_agent_output();
                if let Some(output) = &self.output {
                    output.pass(Source::Agent(agent), streams);
                }
                AgentInput::Started { agent, channel }
            }
            Err(error) => AgentInput::StartFailed { error: error.to_string() },
        };
        self.hear_of_agent(input);
    }

    pub(super) fn handle_agent(&mut self, agent: AgentInfo, event: AgentEvent) {
        let input = match event {
            AgentEvent::Online { obeys } => AgentInput::Online { obeys },
            AgentEvent::Message(message) => return self.handle_agents_message(agent, message),
            AgentEvent::Panicked(panic) => AgentInput::Panicked(panic),
            AgentEvent::Notified(notification) => {
                return self.handle_agents_notification(agent, notification);
            }
            AgentEvent::Disconnect => AgentInput::Disconnected,
            AgentEvent::Exit(exit) => {
                self.agent_faults.clear();
                let ended = self.vitals.ended(Source::Agent(agent.id), exit, Held::default());
                if let Some(OutOfMemory { limit }) = ended {
                    self.hear_of_agent(AgentInput::OutOfMemory { limit });
                }
                AgentInput::Exited(in_proto(exit))
            }
            AgentEvent::Fault(fault) => return self.handle_agents_fault(agent, fault),
            AgentEvent::Started => return,
        };
        self.hear_of_agent(input);
    }

    fn handle_agents_message(&mut self, agent: AgentInfo, message: Message) {
        if is_ready(&message) {
            self.hear_of_agent(AgentInput::Sign(Sign::Message));
        } else {
            self.messages.push_back(Report::AgentMessage { agent, message });
        }
    }

    /// It is not watched, and it leaves when it likes.
    fn handle_agents_notification(&mut self, agent: AgentInfo, notification: Notification) {
        if let Some(status) = notification.status {
            self.vitals.says(Source::Agent(agent.id), status);
        }
        if notification.ready {
            self.hear_of_agent(AgentInput::Sign(Sign::Notify));
        }
    }

    /// Who cannot be understood any more is cut off; the rest is said once.
    fn handle_agents_fault(&mut self, agent: AgentInfo, fault: WorkerFault) {
        // It has used its channel, if badly: that the channel then closes is an illness.
        self.hear_of_agent(AgentInput::Online { obeys: false });
        if fault.is_unforgivable() {
            self.hear_of_agent(AgentInput::Condemned(fault.to_string()));
        } else if !self.agent_faults.iter().any(|told| told.is_like(&fault)) {
            self.reports.push_back(Report::AgentFault { agent, fault: fault.to_string() });
            self.agent_faults.push(fault);
        }
    }

    fn hear_of_agent(&mut self, input: AgentInput) {
        self.machine.handle(clock::now(), Input::Agent(input));
    }
}
