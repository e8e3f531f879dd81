//! What the guard has to tell: facts, from which a shell makes a line that a person understands.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Answer, Cause, LastEnd, Limit, NoRestart, Unproven, succession::Why};
use crate::{AgentId, Slot, WorkerId};

/// Something that a user wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Notice {
    /// A worker was started: one of the first, or after a pause that was told before.
    Started {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
    },
    /// A worker is ready.
    WorkerReady {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// How long it took.
        after: Duration,
    },
    /// Every slot is ready for the first time, but for those whose workers have ended for good.
    GangReady {
        /// How many.
        workers: u32,
        /// Since the guard began.
        after: Duration,
    },
    /// A worker gave no sign within the start time-out and is taken as ready.
    NoSign {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// How long was waited.
        after: Duration,
    },
    /// A worker has not answered well what it has to answer before it is ready; it is asked again. Said when that changes.
    NotReadyYet {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// What it was asked for.
        path: String,
        /// What came of it.
        answer: Answer,
    },
    /// A worker is dead, unasked.
    Died {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// How long it lived.
        age: Duration,
        /// Of what.
        cause: Cause,
        /// What is done about it.
        then: Then,
    },
    /// A worker that was asked to go has gone.
    Left {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// How long it lived.
        age: Duration,
    },
    /// A worker lives but serves no more; it finishes what it has.
    Ill {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// What is wrong with it.
        illness: Illness,
        /// Its replacement, if it was started already.
        replaced_by: Option<WorkerId>,
    },
    /// A worker did not leave in time.
    Killed {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// How long it was given.
        after: Duration,
    },
    /// A process could not be started.
    StartFailed {
        /// Where.
        slot: Slot,
        /// Why.
        error: String,
        /// When it is tried again; never, if none.
        retry_in: Option<Duration>,
    },
    /// The worker that was to fill a vacant slot came to nothing, and nobody else does.
    StaysVacant {
        /// Which.
        slot: Slot,
        /// Why.
        why: NoRestart,
    },
    /// There were more restarts than the limit: from now on they are a second apart.
    RestartsSpaced {
        /// The limit.
        limit: Limit,
    },
    /// A reload begins.
    Reloading {
        /// How many workers there are to replace.
        workers: u32,
    },
    /// Another reload is asked for while one is under way, or the gang is not there yet: it follows.
    ReloadQueued,
    /// This is not done: the gang has been asked to stop.
    TooLate(Request),
    /// Every slot has a new worker.
    Reloaded {
        /// How many.
        workers: u32,
        /// How long it took.
        after: Duration,
        /// How many old ones are still finishing what they have.
        draining: u32,
    },
    /// A new worker or the new agent did not get ready: the reload is over, and those that were not replaced serve on.
    ReloadFailed {
        /// Who.
        who: Newcomer,
        /// Why.
        unfit: Unfit,
        /// So many slots had their new worker by then.
        done: u32,
        /// So many keep their old one.
        kept: u32,
        /// How long it took.
        after: Duration,
    },
    /// A worker was replaced before its end.
    Recycled {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// Why.
        why: Why,
        /// By whom.
        replaced_by: WorkerId,
    },
    /// A worker was to be replaced, and its heir did not get ready.
    NotRecycled {
        /// Who goes on.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// Why it was to be replaced.
        why: Why,
        /// Who was to, if it was started at all.
        heir: Option<WorkerId>,
        /// Why it does not.
        unfit: Unfit,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// There are more slots, or fewer.
    Scaled {
        /// So many there were.
        from: u32,
        /// So many there are to be.
        to: u32,
    },
    /// A slot gets no connections, or again.
    Paused {
        /// Which.
        slot: Slot,
        /// None.
        paused: bool,
    },
    /// The gang is to stop, and serves on until then; it is not ready any more.
    StopDelayed {
        /// For so long.
        by: Duration,
    },
    /// A worker does not answer.
    Silent {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// For so long.
        after: Duration,
        /// And after so long it is replaced, if it is.
        watchdog: Option<Duration>,
    },
    /// A worker that did not answer does.
    Answers {
        /// Who.
        worker: WorkerId,
        /// Where.
        slot: Slot,
        /// After so long.
        after: Duration,
    },
    /// It is about the agent.
    Agent(AgentNotice),
}

/// What somebody has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// A reload.
    Reload,
    /// So many slots.
    Scale(u32),
}

/// Who was to come with a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Newcomer {
    /// A worker.
    Worker {
        /// Where.
        slot: Slot,
        /// Who, if it was started at all.
        worker: Option<WorkerId>,
    },
    /// The agent; who, if it was started at all. Another one is started as after any death of it.
    Agent(Option<AgentId>),
}

/// Why a new worker, or agent, cannot take over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Unfit {
    /// It died.
    Died {
        /// How long it lived.
        age: Duration,
        /// Of what.
        cause: Box<Cause>,
    },
    /// It is ill.
    Ill(Illness),
    /// It did not give the sign that the slot's first worker gave.
    NoSign {
        /// Which.
        sign: Sign,
        /// In so long.
        after: Duration,
    },
    /// It did not open an address that its predecessor had.
    NotOpened {
        /// Which.
        address: String,
        /// Who had it.
        had_by: Option<WorkerId>,
        /// In so long.
        after: Duration,
    },
    /// It did not answer well what it has to answer.
    Unproven(Unproven),
    /// Its process could not be started.
    NotStarted(String),
}

/// Something that a user wants to know of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AgentNotice {
    /// It was started.
    Started {
        /// Who.
        agent: AgentId,
    },
    /// It is ready.
    Ready {
        /// Who.
        agent: AgentId,
        /// How long it took.
        after: Duration,
    },
    /// It gave no sign within the start time-out and is taken as ready.
    NoSign {
        /// Who.
        agent: AgentId,
        /// How long was waited.
        after: Duration,
    },
    /// It is dead, unasked.
    Died {
        /// Who.
        agent: AgentId,
        /// How long it lived.
        age: Duration,
        /// Of what.
        cause: Cause,
        /// What is done about it; never [`Then::ReplacedBy`].
        then: Then,
    },
    /// It lives and cannot be reached: it is ended, and started again.
    Ill {
        /// Who.
        agent: AgentId,
        /// What is wrong with it.
        illness: Illness,
    },
    /// It did not leave in time.
    Killed {
        /// Who.
        agent: AgentId,
        /// How long it was given.
        after: Duration,
    },
    /// Its process could not be started.
    StartFailed {
        /// Why.
        error: String,
        /// When it is tried again; never, if none.
        retry_in: Option<Duration>,
    },
}

/// What becomes of a dead worker's slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Then {
    /// It is filled again already.
    ReplacedBy(WorkerId),
    /// It is filled after a pause.
    RetryIn(Duration),
    /// It stays vacant, until a reload or a change of the number of slots fills it.
    StaysVacant(LastEnd),
    /// The gang ends over it.
    GangEnds,
    /// Nothing: it was replaced before, or the gang is ending anyway.
    Nothing,
}

/// What is wrong with a worker that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Illness {
    /// Its channel closed.
    ChannelClosed,
    /// It said that it leaves.
    Leaving,
    /// Something in it failed that nobody caught, which it said.
    Panicked,
}

/// A sign of readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    /// It listens, by the cluster's protocol.
    Listening,
    /// It sent the message `ready`.
    Message,
    /// It said `READY=1` on its `NOTIFY_SOCKET`.
    Notify,
    /// It has lived for so long as is [wanted](super::Readiness::After).
    Age,
}

/// How the gang ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// As it was asked to.
    Stopped,
    /// A worker died before any was ready.
    FirstStart,
    /// The workers of a slot died as fast as they were started, and no other was ready.
    CrashLoop {
        /// Which slot.
        slot: Slot,
    },
    /// Every worker has ended, and none is to be started again.
    Over {
        /// In so many slots the last one failed.
        failed: u32,
    },
    /// The agent died before it was ready for the first time.
    AgentStart,
    /// The agents died as fast as they were started, and no worker was ready.
    AgentCrashLoop,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listening => "it listens",
            Self::Message => "it sent `ready`",
            Self::Notify => "it said READY=1",
            Self::Age => "it is old enough",
        })
    }
}
