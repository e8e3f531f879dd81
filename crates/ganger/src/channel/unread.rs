//! What was heard while somebody waited for something else.

use std::{collections::VecDeque, io};

use super::Received;
#[cfg(doc)]
use super::{Channel, Limits};

/// More messages came than are kept for [`Channel::recv`] while something else is waited for
/// ([`Limits::unread`]). Nothing is lost: receive some of them, and wait again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of messages wait to be received: receive some of them, and wait again")]
pub struct Unread {
    /// How much waits.
    pub bytes: usize,
}

impl From<Unread> for io::Error {
    fn from(unread: Unread) -> Self {
        Self::other(unread)
    }
}

/// What was heard and not told yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    received: VecDeque<Received>,
    /// The weight of all that.
    bytes: usize,
}

impl Backlog {
    pub(super) fn keep(&mut self, received: Received) {
        self.bytes += weight(&received);
        self.received.push_back(received);
    }

    pub(super) fn take(&mut self) -> Option<Received> {
        let received = self.received.pop_front()?;
        self.bytes -= weight(&received);
        Some(received)
    }

    /// Whether there is room for more.
    pub(super) fn within(&self, limit: usize) -> Result<(), Unread> {
        if self.bytes < limit { Ok(()) } else { Err(Unread { bytes: self.bytes }) }
    }
}

/// What it takes to keep one, in bytes. A socket can be taken out of a message only after that was told.
fn weight(received: &Received) -> usize {
    let payload = match received {
        Received::Message(message) => message.payload().as_bytes().len(),
        Received::Fault(_) | Received::Undelivered(_) => 0,
    };
    size_of::<Received>() + payload
}
