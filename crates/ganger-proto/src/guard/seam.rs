//! What goes into the guard, and what comes out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AgentAction, AgentInput, Answer, Exit, Notice, Panic, Sign, Verdict};
use crate::{Generation, Slot, WorkerId};

/// What happened to the gang.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// [`Action::Start`] was done.
    Started {
        /// The slot.
        slot: Slot,
        /// The new worker in it.
        worker: WorkerId,
        /// Whether it has a channel, and so can be asked to leave.
        channel: bool,
        /// The exit codes by which its program says that it is not to be started again.
        no_restart_codes: Vec<u8>,
    },
    /// [`Action::Start`] could not be done.
    StartFailed {
        /// The slot.
        slot: Slot,
        /// Why, in words.
        error: String,
    },
    /// The worker has said something on its channel.
    Online(WorkerId),
    /// The worker listens there, in words that are the same each time. Its [`Sign::Listening`] follows.
    Opened(WorkerId, String),
    /// The worker shows that it is ready.
    Sign(WorkerId, Sign),
    /// The worker heeds hints.
    TakesHints(WorkerId),
    /// The worker can be asked whether it is there, from now on.
    Watchable(WorkerId),
    /// Whether something in the worker listens to the stop signal. Not said, it is taken for granted.
    HearsSignal(WorkerId, bool),
    /// The worker has answered [`Action::Probe`].
    Answered(WorkerId),
    /// The worker says that it is there, unasked (`WATCHDOG=1`). Where there is a watchdog it is expected to go on so, and is not
    /// asked any more.
    Pinged(WorkerId),
    /// What came of [`Action::Try`].
    Tried(WorkerId, Answer),
    /// The worker uses so much memory, in bytes.
    Memory(WorkerId, u64),
    /// Replace every worker by one of the program as it is now.
    Reload,
    /// There are to be so many slots.
    Scale(u32),
    /// The reload that has just begun is to so many slots, too. If it fails there are as many as before.
    Revised(u32),
    /// A slot is to get no connections, or again.
    Pause(Slot, bool),
    /// The worker says that it is going to leave of its own accord.
    Leaving(WorkerId),
    /// The worker's channel is closed.
    Disconnected(WorkerId),
    /// The worker broke the wire's rules so badly that its channel was cut.
    Condemned(WorkerId, String),
    /// Something in the worker failed that nobody caught, which it says. Said again, it adds the backtrace.
    Panicked(WorkerId, Panic),
    /// The kernel has killed a process for memory in the worker's cgroup since the worker was started, and it was no other of
    /// ours. Said before [`Input::Exited`], where it is so.
    OutOfMemory {
        /// The worker.
        worker: WorkerId,
        /// The cgroup's limit in bytes, if it has one.
        limit: Option<u64>,
    },
    /// The worker is dead and reaped.
    Exited(WorkerId, Exit),
    /// Something happened to the agent.
    Agent(AgentInput),
    /// End the gang by the ladder, after the [delay](super::Config::drain_delay); said again: at once.
    Stop,
    /// End the gang at once.
    Kill,
}

/// What the guard wants done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Start a worker in this slot; answered by [`Input::Started`] or [`Input::StartFailed`].
    Start(Slot, Generation),
    /// Take the worker out of dispatch and let it tell its clients to go; [`Action::Retire`] follows.
    Hint(WorkerId),
    /// Take the worker out of dispatch and ask it to finish and leave.
    Retire(WorkerId),
    /// Have the worker end the connections that it still has, one after another over this time.
    Shed(WorkerId, Duration),
    /// Give the worker no connections before it is admitted.
    HoldBack(WorkerId),
    /// The worker is to get connections.
    Admit(WorkerId),
    /// Ask the worker, on a connection of its own, for the path that it has to answer for; answered by one [`Input::Tried`],
    /// after this time at the latest with [`Answer::Unanswered`].
    Try(WorkerId, Duration),
    /// Ask the worker whether it is there; answered by [`Input::Answered`], or not.
    Probe(WorkerId),
    /// The slot is given up, or stays vacant for now.
    RetireSlot(Slot),
    /// The slot is to get no connections, or again.
    Pause(Slot, bool),
    /// Send the worker the stop signal.
    Terminate(WorkerId),
    /// Kill the worker and its process group.
    Kill(WorkerId),
    /// Do something with the agent.
    Agent(AgentAction),
    /// Stop listening.
    CloseSockets,
    /// A vacant slot is about to be filled, or none is any more.
    ReplacementsDue(bool),
    /// Tell the user.
    Notice(Notice),
    /// The gang has ended.
    End(Verdict),
}
