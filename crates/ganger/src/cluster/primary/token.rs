//! Descriptors in the poller, by their numbers there.

use ganger_proto::{AgentId, SocketId, WorkerId};

/// What a descriptor in the poller stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Channel(WorkerId),
    Process(WorkerId),
    Socket(SocketId),
    Lane(WorkerId),
    AgentChannel(AgentId),
    AgentProcess(AgentId),
    /// A connection whose first bytes are waited for.
    Peek(u32),
    /// What a worker says of itself.
    Notify(WorkerId),
    AgentNotify(AgentId),
}

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        let (kind, id) = match token {
            Token::Channel(WorkerId(id)) => (0, id),
            Token::Process(WorkerId(id)) => (1, id),
            Token::Socket(SocketId(id)) => (2, id),
            Token::Lane(WorkerId(id)) => (3, id),
            Token::AgentChannel(AgentId(id)) => (4, id),
            Token::AgentProcess(AgentId(id)) => (5, id),
            Token::Peek(number) => (6, number),
            Token::Notify(WorkerId(id)) => (7, id),
            Token::AgentNotify(AgentId(id)) => (8, id),
        };
        (kind << 32) | u64::from(id)
    }
}

impl From<u64> for Token {
    fn from(token: u64) -> Self {
        let id = token as u32;
        match token >> 32 {
            0 => Self::Channel(WorkerId(id)),
            1 => Self::Process(WorkerId(id)),
            2 => Self::Socket(SocketId(id)),
            3 => Self::Lane(WorkerId(id)),
            4 => Self::AgentChannel(AgentId(id)),
            5 => Self::AgentProcess(AgentId(id)),
            6 => Self::Peek(id),
            7 => Self::Notify(WorkerId(id)),
            _ => Self::AgentNotify(AgentId(id)),
        }
    }
}
