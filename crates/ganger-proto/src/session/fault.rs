//! The rules that a peer can break.

use serde::{Deserialize, Serialize};

/// What a peer did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Fault {
    /// A line that no parser takes.
    #[error("it wrote a line that is not JSON: {start:?}")]
    NotJson {
        /// How the line begins.
        start: String,
    },
    /// A payload that is not V8's format.
    #[error("it wrote a message that is not V8's: {error}")]
    NotAdvanced {
        /// What is wrong with it.
        error: String,
    },
    /// A message longer than [`Limits::line`](super::Limits::line); where the next one begins cannot be known.
    #[error("it wrote a message of more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The channel ended in the middle of a message.
    #[error("its channel ended in the middle of a message, {bytes} bytes in")]
    Truncated {
        /// How much of it had come.
        bytes: usize,
    },
    /// An ACK or NACK when nothing was unanswered.
    #[error("it acknowledged a handle that was never sent")]
    UnexpectedAck,
    /// Descriptors that no message announced; they were closed.
    #[error("it sent {count} descriptors that no message announced")]
    Unannounced {
        /// How many.
        count: usize,
    },
    /// A handle of a type that this side does not know; it was closed.
    #[error("it sent a handle of the unknown type {kind:?}")]
    UnknownHandle {
        /// How the type's name begins.
        kind: String,
    },
    /// It makes us answer and does not read the answers.
    #[error("it does not read its channel: {bytes} bytes wait")]
    Deaf {
        /// How many.
        bytes: usize,
    },
    /// Bun's `cluster` speaks a dialect of its own.
    #[error("it speaks Bun's own cluster dialect, which is not Node's")]
    BunCluster,
    /// Bun means something else by `advanced`.
    #[error("it speaks Bun's own 'advanced' serialization, which is not Node's: use 'json'")]
    BunAdvanced,
}

impl Fault {
    /// Whether the stream cannot be read on.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::TooLong { .. }
                | Self::Truncated { .. }
                | Self::Deaf { .. }
                | Self::BunCluster
                | Self::BunAdvanced
        )
    }
}
