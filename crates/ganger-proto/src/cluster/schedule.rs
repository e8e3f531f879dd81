//! Which worker gets the next connection. Pure; each policy keeps its own structure, in a file of its own.
//!
//! A new policy is a file here that implements [`Schedule`], a variant of [`Policy`] with its name, and a line in
//! [`Policy::schedule`].

mod first_bytes;
mod least_conn;
mod policy;
mod ranked;
mod round_robin;
mod sticky;

use serde::{Deserialize, Serialize};

pub use first_bytes::FirstBytes;
pub use least_conn::LeastConn;
pub use policy::{Policy, StickyBy, UnknownPolicy};
pub use round_robin::RoundRobin;
pub use sticky::Sticky;

use crate::{Slot, WorkerId};

/// Picks a worker for each connection, among those that listen on one address.
pub trait Schedule {
    /// A worker joins. Who is there already has its load replaced, as by [`Schedule::changed`].
    fn added(&mut self, worker: WorkerId, load: Load);

    /// A worker leaves.
    fn removed(&mut self, worker: WorkerId);

    /// A connection was handed to a worker, or answered for, or closed, or its window has become known. Nothing, for one
    /// that is not there.
    fn changed(&mut self, worker: WorkerId, load: Load);

    /// Who is to get this connection; none if it has to wait.
    fn pick(&self, wanted: &Wanted<'_>) -> Option<WorkerId>;

    /// Whether it has joined and not left.
    fn has(&self, worker: WorkerId) -> bool;

    /// Whether one connection is as good as another: if one has to wait, so have those behind it.
    fn is_uniform(&self) -> bool {
        true
    }
}

/// What a worker has to do already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Its place in the gang.
    pub slot: Slot,
    /// How many connections may be under way to it at a time.
    pub window: u32,
    /// How many are: handed over and not answered for.
    pub under_way: u32,
    /// How many it has taken and not closed, as far as that is known.
    pub open: u32,
}

impl Load {
    /// Whether one more may be on its way.
    pub fn has_room(&self) -> bool {
        self.under_way < self.window
    }
}

/// Who is at the other end of a connection, as far as a policy asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Client {
    /// Nobody in particular.
    #[default]
    Anyone,
    /// Somebody who is to come to the same slot each time.
    Known(u64),
    /// Somebody who has been told which slot to come to.
    Of(Slot),
}

impl Client {
    /// The client with this address or name: the same bytes are the same client (FNV-1a).
    pub fn known(bytes: &[u8]) -> Self {
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self::Known(bytes.iter().fold(0xcbf2_9ce4_8422_2325, hash))
    }
}

/// For what a worker is wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Who has come.
    pub client: Client,
    /// The workers that refused it.
    pub refused_by: &'a [WorkerId],
    /// Whether a worker answers nothing at present.
    pub stalled: &'a dyn Fn(WorkerId) -> bool,
    /// Whether it has answered nothing for so long that nobody is to wait for it alone.
    pub silent: &'a dyn Fn(WorkerId) -> bool,
    /// So many wait that none may wait for one worker alone.
    pub pressed: bool,
}

impl Wanted<'_> {
    fn may_go_to(&self, worker: WorkerId) -> bool {
        !self.refused_by.contains(&worker) && !(self.stalled)(worker)
    }
}

/// The schedule of a [`Policy`].
#[derive(Debug, Serialize, Deserialize)]
pub enum AnySchedule {
    /// Of [`Policy::RoundRobin`], and of what the primary takes over from sockets that the kernel shares out.
    RoundRobin(RoundRobin),
    /// Of [`Policy::LeastConn`].
    LeastConn(LeastConn),
    /// Of [`Policy::Sticky`].
    Sticky(Sticky),
}

impl Policy {
    /// An empty schedule.
    pub fn schedule(&self) -> AnySchedule {
        match self {
            Self::LeastConn => AnySchedule::LeastConn(LeastConn::default()),
            Self::Sticky(_) => AnySchedule::Sticky(Sticky::default()),
            Self::RoundRobin | Self::Shared | Self::ReusePort => {
                AnySchedule::RoundRobin(RoundRobin::default())
            }
        }
    }
}

impl AnySchedule {
    fn as_dyn(&self) -> &dyn Schedule {
        match self {
            Self::RoundRobin(schedule) => schedule,
            Self::LeastConn(schedule) => schedule,
            Self::Sticky(schedule) => schedule,
        }
    }

    fn as_dyn_mut(&mut self) -> &mut dyn Schedule {
        match self {
            Self::RoundRobin(schedule) => schedule,
            Self::LeastConn(schedule) => schedule,
            Self::Sticky(schedule) => schedule,
        }
    }
}

impl Schedule for AnySchedule {
    fn added(&mut self, worker: WorkerId, load: Load) {
        self.as_dyn_mut().added(worker, load);
    }

    fn removed(&mut self, worker: WorkerId) {
        self.as_dyn_mut().removed(worker);
    }

    fn changed(&mut self, worker: WorkerId, load: Load) {
        self.as_dyn_mut().changed(worker, load);
    }

    fn pick(&self, wanted: &Wanted<'_>) -> Option<WorkerId> {
        self.as_dyn().pick(wanted)
    }

    fn has(&self, worker: WorkerId) -> bool {
        self.as_dyn().has(worker)
    }

    fn is_uniform(&self) -> bool {
        self.as_dyn().is_uniform()
    }
}
