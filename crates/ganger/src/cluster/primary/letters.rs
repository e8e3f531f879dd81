//! The messenger's letters, carried from channel to channel.

use ganger_proto::{
    Payload,
    messenger::{Admission, Dispatch, Heard, Party, Refusal, To},
};
use serde::Serialize;

use super::Primary;
use crate::cluster::{AgentEvent, Event, LetterError, WorkerFault};

impl Primary {
    /// Sends a letter, and returns to how many it went: those whose channels are too full already get none. It needs no
    /// [`Settings::messenger`](crate::cluster::Settings::messenger), which is about what workers send.
    ///
    /// # Errors
    /// [`LetterError`].
    pub fn send_letter<T: Serialize + ?Sized>(
        &mut self,
        to: To,
        action: &str,
        data: &T,
    ) -> Result<usize, LetterError> {
        let data = Payload::of(self.settings.serialization, data)?;
        let dispatch = self.messenger.send(to, action, data)?;
        match self.deliver(dispatch) {
            (0, Some(refusal)) => Err(refusal.into()),
            (sent, _) => Ok(sent),
        }
    }

    /// How many letters were lost for a worker or the agent that is there, since it reads too slowly.
    pub fn letters_lost(&self, who: Party) -> u64 {
        self.messenger.lost(who)
    }

    /// Delivers a message if it is a letter; whether it is one.
    pub(super) fn take_letter(&mut self, from: Party, payload: &Payload, handle: bool) -> bool {
        if !self.settings.messenger && self.settings.agent.is_none() {
            return false;
        }
        match self.messenger.handle(from, payload, handle) {
            Heard::Message => return false,
            Heard::Letter(dispatch) => {
                if let (_, Some(refusal)) = self.deliver(*dispatch) {
                    self.refuse(from, refusal);
                }
            }
            Heard::Refused(refusal) => self.refuse(from, refusal),
        }
        true
    }

    /// To how many it went, and why there are some to whom it cannot go.
    fn deliver(&mut self, mut dispatch: Dispatch) -> (usize, Option<Refusal>) {
        let (mut sent, mut refused) = (0, None);
        for at in 0..dispatch.receivers().len() {
            let to = dispatch.receivers()[at];
            let link = match to {
                Party::Primary => {
                    if let Some(letter) = dispatch.letter() {
                        self.perform_effects();
                        self.events.push_back(Event::Letter(letter));
                        sent += 1;
                    }
                    continue;
                }
                Party::Worker(id) => self.workers.get_mut(&id).and_then(|worker| worker.link.as_mut()),
                Party::Agent => self.agent.as_mut().and_then(|agent| agent.link.as_mut()),
            };
            let Some(link) = link else { continue };
            let payload = match dispatch.written(link.session.serialization()) {
                Ok(payload) => payload,
                Err(refusal) => {
                    refused = Some(refusal);
                    continue;
                }
            };
            match self.messenger.admit(to, link.session.queued(), payload.as_bytes().len()) {
                // A channel that is being closed takes none any more.
                Admission::Send if link.session.send(payload, None).is_ok() => {
                    sent += 1;
                    match to {
                        Party::Worker(id) => self.dirty.push(id),
                        _ => self.agent.iter_mut().for_each(|agent| agent.dirty = true),
                    }
                }
                Admission::Lost { first: true } => self.blame(to, WorkerFault::LettersLost),
                Admission::Send | Admission::Lost { .. } => {}
            }
        }
        (sent, refused)
    }

    /// Tells the sender, and whoever looks after it if it did wrong.
    fn refuse(&mut self, from: Party, refusal: Refusal) {
        if refusal.is_fault() {
            self.blame(from, WorkerFault::Letter(refusal));
        }
        if let Some(answer) = self.messenger.answer(from, refusal) {
            self.deliver(answer);
        }
    }

    fn blame(&mut self, who: Party, fault: WorkerFault) {
        match who {
            Party::Worker(id) => {
                self.perform_effects();
                if let Some(worker) = self.info(id) {
                    self.fault(worker, fault);
                }
            }
            Party::Agent => {
                if let Some(agent) = self.agent() {
                    self.tell_of_agent(agent, AgentEvent::Fault(fault));
                }
            }
            Party::Primary => {}
        }
    }
}
