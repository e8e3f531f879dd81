//! The agent in Rust: it has a worker's channel, and none of its sockets.

use std::{future::Future, io};

use ganger_proto::{
    AgentId,
    messenger::{Outgoing, To},
    node::Panic,
};
use serde::Serialize;

use super::{NewWorker, Worker};
use crate::channel::{Message, SendError};

/// The agent's side: what a gang's one extra process has of its primary. Cheap to clone; all clones are the same agent.
///
/// Run by [`ganger::agent`](crate::agent()) or [`ganger::main_with_agent`](crate::main_with_agent). Without a channel, which
/// [`AgentSettings::channel`](crate::cluster::AgentSettings::channel) says, nobody hears it and nothing comes.
#[derive(Clone, Debug)]
pub struct Agent {
    id: AgentId,
    /// As far as the channel goes there is no difference.
    member: Worker,
}

impl Agent {
    /// The agent's number: 1 for the first, one more for each that came after a death.
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// Says that it is ready: the workers are started then, and not before.
    ///
    /// # Errors
    /// If the channel is closed.
    pub fn ready(&self) -> Result<(), SendError> {
        self.send("ready").map(drop)
    }

    /// Sends the primary a message. `Ok(false)` means that something already waits to be read there.
    ///
    /// # Errors
    /// If the value cannot be written, or the channel is closed.
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> Result<bool, SendError> {
        self.member.send(message)
    }

    /// Sends a [letter](crate::cluster::messenger): one that cannot be delivered comes back.
    ///
    /// # Errors
    /// As [`Agent::send`].
    pub fn send_letter<T: Serialize + ?Sized>(
        &self,
        to: To,
        action: &str,
        data: &T,
    ) -> Result<bool, SendError> {
        self.send(&Outgoing { to, action, data })
    }

    /// The next message, of which [`Message::letter`] is the letter; none when there is no more and the agent should
    /// [end](Self::stopping).
    pub async fn recv(&self) -> Option<Message> {
        tokio::select! {
            biased;
            message = self.member.recv() => message,
            () = self.stopping() => None,
        }
    }

    /// Its function has failed: the primary is told.
    pub(crate) fn fail(&self, panic: &Panic) {
        self.member.fail(panic);
    }

    /// Resolves when the agent should finish what it has and end: the workers have gone, or another agent is to come; or
    /// the channel is closed.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.member.stopping()
    }
}

/// What an agent was started with.
#[derive(Debug)]
pub(crate) struct NewAgent {
    pub(super) id: AgentId,
    pub(super) member: NewWorker,
}

impl NewAgent {
    /// As [`NewWorker::run`].
    pub(crate) async fn run<F, T, E>(self, agent: impl FnOnce(Agent) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<io::Error>,
    {
        let id = self.id;
        self.member.run(|member| agent(Agent { id, member })).await
    }
}
