//! What happens in the cluster, in the words of the guard's machine; what is not for it goes into the reports.

use ganger_proto::{
    WorkerId,
    guard::{Input, Sign},
};

use super::{Guard, Report, Source, cause::in_proto, vitals::OutOfMemory};
use crate::{
    channel::Message,
    clock,
    cluster::{Event, Notification, WorkerFault, WorkerInfo},
};

/// So many addresses are remembered as told.
const LISTENING: usize = 1024;
/// What a worker sends as a sign of readiness, like PM2's `process.send('ready')`.
const READY: &str = "\"ready\"";

impl Guard {
    pub(super) fn handle(&mut self, event: Event) {
        let input = match event {
            Event::Online { worker } => {
                let now = clock::now();
                self.machine.handle(now, Input::Online(worker.id));
                Input::Watchable(worker.id)
            }
            Event::Notified { worker, notification } => {
                return self.handle_notification(worker, notification);
            }
            Event::Probed { worker, lag } => {
                self.vitals.answered(Source::Worker(worker.id, worker.slot), lag);
                Input::Answered(worker.id)
            }
            Event::Listening { worker, address } => {
                let address = address.to_string();
                if self.listening.len() == LISTENING {
                    // A worker that opens ports without end is told of again, at worst.
                    self.listening.clear();
                }
                if self.listening.insert(address.clone()) {
                    self.reports.push_back(Report::Listening { address: address.clone() });
                }
                self.machine.handle(clock::now(), Input::Opened(worker.id, address));
                Input::Sign(worker.id, Sign::Listening)
            }
            Event::Message { worker, message } => {
                if !is_ready(&message) {
                    self.messages.push_back(Report::Message { worker, message });
                    return;
                }
                Input::Sign(worker.id, Sign::Message)
            }
            Event::TakesHints { worker } => Input::TakesHints(worker.id),
            Event::ListensToTerm { worker, listens } => Input::HearsSignal(worker.id, listens),
            Event::Leaving { worker } => Input::Leaving(worker.id),
            Event::Panicked { worker, panic } => Input::Panicked(worker.id, panic),
            Event::Disconnect { worker } => Input::Disconnected(worker.id),
            Event::Exit { worker, exit, held, .. } => {
                self.faults.retain(|(id, _)| *id != worker.id);
                let source = Source::Worker(worker.id, worker.slot);
                if let Some(OutOfMemory { limit }) = self.vitals.ended(source, exit, held) {
                    self.machine.handle(clock::now(), Input::OutOfMemory { worker: worker.id, limit });
                }
                Input::Exited(worker.id, in_proto(exit))
            }
            Event::BindFailed { worker, address, error } => {
                let address = address.to_string();
                self.reports.push_back(Report::BindFailed { worker: worker.id, address, error });
                return;
            }
            Event::Fault { worker, fault } => return self.handle_fault(worker.id, fault),
            Event::Letter(letter) => return self.messages.push_back(Report::Letter(letter)),
            Event::Agent { agent, event } => return self.handle_agent(agent, event),
            Event::NoPlace { error } => return self.reports.push_back(Report::NoPlace { error }),
            Event::NoSurvey { error } => return self.reports.push_back(Report::NoSurvey { error }),
            // The last of them is for whoever reads a stream that may lag; here nothing is lost.
            Event::Setup { .. } | Event::Fork { .. } | Event::Undelivered { .. } | Event::Lagged { .. } => {
                return;
            }
        };
        self.machine.handle(clock::now(), input);
    }

    fn handle_notification(&mut self, worker: WorkerInfo, notification: Notification) {
        let now = clock::now();
        let Notification { ready, alive, stopping, status, .. } = notification;
        if let Some(status) = status {
            self.vitals.says(Source::Worker(worker.id, worker.slot), status);
        }
        let inputs = [
            (ready, Input::Sign(worker.id, Sign::Notify)),
            (alive, Input::Pinged(worker.id)),
            (stopping, Input::Leaving(worker.id)),
        ];
        inputs
            .into_iter()
            .filter(|(is_said, _)| *is_said)
            .for_each(|(_, input)| self.machine.handle(now, input));
    }

    /// Who cannot be understood any more is cut off; the rest is said once.
    fn handle_fault(&mut self, worker: WorkerId, fault: WorkerFault) {
        let now = clock::now();
        // It has used its channel, if badly: that the channel then closes is an illness.
        self.machine.handle(now, Input::Online(worker));
        if fault.is_unforgivable() {
            self.machine.handle(now, Input::Condemned(worker, fault.to_string()));
        } else if !self.faults.iter().any(|(id, told)| *id == worker && told.is_like(&fault)) {
            self.reports.push_back(Report::Fault { worker, fault: fault.to_string() });
            self.faults.push((worker, fault));
        }
    }
}

/// Whether a message is the sign of readiness.
pub(super) fn is_ready(message: &Message) -> bool {
    message.as_json() == READY
}
