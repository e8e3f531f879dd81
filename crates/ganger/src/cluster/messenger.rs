//! Letters between the processes of a gang: worker, agent, primary.
//!
//! A letter has an address, an action and data: [`Primary::send_letter`](super::Primary::send_letter), [`Worker::send_letter`],
//! [`Agent::send_letter`](super::Agent::send_letter); Node programs send and get the same by `process.send` and
//! `process.on('message')`. The primary carries those of workers only where
//! [`Settings::messenger`](super::Settings::messenger) is on or there is an agent. It arrives as a message, of which
//! [`Message::letter`](crate::channel::Message::letter) is the letter.

use ganger_proto::{messenger::Outgoing, session::WriteError};
use serde::Serialize;

use super::Worker;
use crate::channel::SendError;

pub use ganger_proto::messenger::{LONGEST_ACTION, Letter, Party, QUEUE, Refusal, Sender, To, UNDELIVERED};

/// The primary's letter goes to nobody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LetterError {
    /// What it carries cannot be written in the workers' serialization.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The messenger does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Worker {
    /// Sends a letter by way of the primary. One that cannot be delivered comes back as a letter with the action
    /// [`UNDELIVERED`]. `Ok(false)` means that much waits to be read by the primary already.
    ///
    /// # Errors
    /// As [`Worker::send`].
    pub fn send_letter<T: Serialize + ?Sized>(
        &self,
        to: To,
        action: &str,
        data: &T,
    ) -> Result<bool, SendError> {
        self.send(&Outgoing { to, action, data })
    }
}
