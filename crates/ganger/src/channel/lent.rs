//! Sockets that were lent over a channel, and that are counted on the other side.

use std::sync::Weak;

use ganger_proto::node::{Lent, LentMessage};

#[cfg(doc)]
use super::Limits;
use super::{Channel, Flushed, Shared, Unread};
use crate::handle::Lease;

/// Why there is no answer about the sockets that a peer was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoReply {
    /// Node's `ERR_CHILD_CLOSED_BEFORE_REPLY`.
    #[error("the channel was closed before the peer replied")]
    Closed,
    /// The answer stands behind too many messages.
    #[error(transparent)]
    Unread(#[from] Unread),
}

impl Channel {
    /// Asks the peer how many of the sockets that it was sent with this [label](crate::Handle::with_server) are open
    /// there: its part of Node's `server.getConnections()`. A peer that never got one does not answer. Messages that come
    /// meanwhile are kept for [`Channel::recv`], up to [a limit](Limits::unread). It can be dropped and called again:
    /// the answer is always to the last question.
    ///
    /// # Errors
    /// If the channel is closed before the answer; if too many messages come before it.
    pub async fn lent_sockets(&mut self, server: &str) -> Result<u64, NoReply> {
        self.forget(server, |what| matches!(what, Lent::Count(_)));
        if !self.shared.state().link.session.ask_for_lent(server) {
            return Err(NoReply::Closed);
        }
        loop {
            if let Some(Lent::Count(count)) = self.answer(server, |what| matches!(what, Lent::Count(_))) {
                return Ok(count);
            }
            self.next_answer().await?;
        }
    }

    /// Waits until the last of the sockets that the peer was sent with this [label](crate::Handle::with_server) is closed
    /// there: its part of what Node's `server.close()` waits for. A peer that never got one does not answer. Messages that
    /// come meanwhile are kept for [`Channel::recv`], up to [a limit](Limits::unread). It can be dropped and called again.
    ///
    /// # Errors
    /// If the channel is closed before the answer; if too many messages come before it.
    pub async fn lent_sockets_closed(&mut self, server: &str) -> Result<(), NoReply> {
        self.forget(server, |what| what == Lent::AllClosed);
        if !self.shared.state().link.session.ask_for_end_of_lent(server) {
            return Err(NoReply::Closed);
        }
        while self.answer(server, |what| what == Lent::AllClosed).is_none() {
            self.next_answer().await?;
        }
        Ok(())
    }

    /// Answers to what was asked before, and who asked has gone.
    fn forget(&mut self, server: &str, answers: impl Fn(Lent) -> bool) {
        let mut state = self.shared.state();
        state.hear();
        state.answers.retain(|answer| answer.key != server || !answers(answer.what));
    }

    /// An answer that has come.
    fn answer(&mut self, server: &str, wanted: impl Fn(Lent) -> bool) -> Option<Lent> {
        let mut state = self.shared.state();
        state.hear();
        let is = |answer: &LentMessage| answer.key == server && wanted(answer.what);
        let at = state.answers.iter().position(is)?;
        state.answers.remove(at).map(|answer| answer.what)
    }

    async fn next_answer(&mut self) -> Result<(), NoReply> {
        let wait = {
            let mut state = self.shared.state();
            if state.has_ended() {
                return Err(NoReply::Closed);
            }
            state.room_to_hear()?;
            let flushed = state.link.flush();
            state.wait(flushed)
        };
        if wait.flushed == Flushed::Broken || !self.progress(wait).await {
            return Err(NoReply::Closed);
        }
        Ok(())
    }
}

/// A socket that the peer has lent to us. Dropped, it is said to be closed.
#[derive(Debug)]
pub(super) struct Borrowed {
    pub(super) server: String,
    pub(super) channel: Weak<Shared>,
}

impl Lease for Borrowed {}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(shared) = self.channel.upgrade() {
            let mut state = shared.state();
            state.link.session.lent_socket_closed(&self.server);
            // Whoever closes a socket need not be where the channel is served.
            state.link.flush();
        }
    }
}
