//! The agent: at most one process beside the workers, for what has to be done once a gang.

use std::{ffi::OsString, io, path::PathBuf};

use ganger_proto::{AgentId, node::Panic, notify::Notification};

use super::{WorkerFault, group::file_name};
use crate::{
    channel::Message,
    process::{Exit, SpawnError},
    sys::process::own_executable,
};

/// What the agent is. The channel's serialization and the output are those of the workers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentSettings {
    /// The program that it runs.
    pub program: OsString,
    /// Its arguments. Default: none.
    pub args: Vec<OsString>,
    /// Variables that it has beside the primary's own and those of [`Settings::env`](super::Settings::env).
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory. Default: the workers'.
    pub cwd: Option<PathBuf>,
    /// The user that it becomes. Default: the workers', see [`Settings::uid`](super::Settings::uid).
    pub uid: Option<u32>,
    /// The group that it becomes. Default: the workers', see [`Settings::gid`](super::Settings::gid).
    pub gid: Option<u32>,
    /// Whether it has a channel. Without one it gets no messages, and says that it is ready by `READY=1` or not at all.
    /// Default: true.
    pub channel: bool,
}

impl AgentSettings {
    /// An agent that runs `program` without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            uid: None,
            gid: None,
            channel: true,
        }
    }

    /// An agent that runs this program again, with the same arguments.
    ///
    /// # Errors
    /// If the path of this program cannot be found out.
    pub fn this_program() -> io::Result<Self> {
        Ok(Self { args: std::env::args_os().skip(1).collect(), ..Self::new(own_executable()?) })
    }

    /// The program's file name.
    pub fn name(&self) -> String {
        file_name(&self.program)
    }
}

/// Which agent an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentInfo {
    /// Its number: the first one is 1, the next one 2.
    pub id: AgentId,
    /// Its process.
    pub pid: i32,
    /// Whether it was started with a channel.
    pub channel: bool,
}

/// What happens to the agent.
#[derive(Debug)]
#[non_exhaustive]
pub enum AgentEvent {
    /// Its process was started.
    Started,
    /// It has said its first word.
    Online {
        /// Whether it is one of this library's, which can be [asked to leave](super::Primary::disconnect_agent).
        obeys: bool,
    },
    /// It sent a message that is no letter.
    Message(Message),
    /// Something in it failed that nobody caught, which it says.
    Panicked(Panic),
    /// Its channel is closed.
    Disconnect,
    /// It has ended and is reaped: another one may be started.
    Exit(Exit),
    /// It has said something on the socket that its `NOTIFY_SOCKET` names.
    Notified(Notification),
    /// It broke a rule of the wire or of the messenger.
    Fault(WorkerFault),
}

/// The agent could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// There is none in the settings.
    #[error("no agent is set: say what it runs in Settings::agent")]
    NotSet,
    /// A gang has one at a time.
    #[error("the agent runs already (pid {})", .0.pid)]
    Running(AgentInfo),
    /// The process could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}
