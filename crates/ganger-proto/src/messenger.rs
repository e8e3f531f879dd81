//! The messenger: who asked what to whom becomes a list of those who get it.
//!
//! ```text
//!   a process's message ──► handle ──┬──► Heard::Message   no letter: the primary's own business
//!                                    ├──► Heard::Letter    a [`Dispatch`]: the receivers, and what each is sent
//!                                    └──► Heard::Refused   the sender is [answered](Messenger::answer)
//!   a Dispatch, one by one ──► admit ──► it goes, or it is lost: the receiver does not read
//! ```
//!
//! It knows who is there and nothing of channels. What a letter carries is passed on as it was written; it is only
//! rewritten for a receiver whose channel has another serialization.

mod envelope;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Payload, Serialization, Slot, WorkerId};
use envelope::{Envelope, Outside};
pub use envelope::{Letter, Outgoing, Sender};

/// The most bytes that may wait for one receiver before a letter to it is lost, and the length of the longest letter: 4 MiB.
pub const QUEUE: usize = 4 << 20;
/// The most bytes of an `action`.
pub const LONGEST_ACTION: usize = 256;
/// The action of the answer to a letter that could not be delivered.
pub const UNDELIVERED: &str = "ganger:undelivered";

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Party {
    /// The primary.
    Primary,
    /// A worker.
    Worker(WorkerId),
    /// The agent.
    Agent,
}

/// To whom a letter goes. Written as in a letter's `to`: `"workers"`, `{ "slot": 0 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// All workers, the sender among them if it is one.
    Workers,
    /// A worker by its id.
    Worker(WorkerId),
    /// The process with this id: a worker or the agent.
    Pid(i32),
    /// The worker in a slot. While a worker is being replaced, the newer one.
    Slot(Slot),
    /// One of the workers, each as likely as the others. Who is leaving is left out, unless all are.
    Random,
    /// The agent.
    Agent,
    /// All workers and the agent, the sender among them.
    All,
    /// The primary itself.
    Primary,
}

/// What a process's message is.
#[derive(Debug)]
pub enum Heard {
    /// No letter.
    Message,
    /// A letter, and who gets it.
    Letter(Box<Dispatch>),
    /// Meant as a letter, but nobody can get it.
    Refused(Refusal),
}

/// A letter on its way.
#[derive(Debug)]
pub struct Dispatch {
    receivers: Vec<Party>,
    /// As it is written in each serialization, as far as somebody needed it.
    written: [Option<Result<Payload, Refusal>>; 2],
    letter: Outside,
}

/// Why a letter is delivered to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It says `action`, but not with a name.
    #[error("the action of a letter is a string of 1 to {LONGEST_ACTION} bytes")]
    Action,
    /// It says `to`, but nothing that is an address.
    #[error(
        "a letter goes to 'workers', 'random', 'agent', 'all', 'primary', {{ worker: ID }}, {{ pid: PID }} or {{ slot: SLOT }}"
    )]
    Address,
    /// A socket came with it.
    #[error("a socket cannot travel with a letter: send it to the primary in a message")]
    Handle,
    /// It is longer than [`QUEUE`], as it came or as it would arrive.
    #[error("a letter has at most {QUEUE} bytes, and this one has {bytes}")]
    TooLong {
        /// As it came, or as it would arrive.
        bytes: usize,
    },
    /// It is well-formed, and there is no such receiver now.
    #[error("there is no such process in the gang now")]
    NoReceiver,
    /// A receiver's channel has another serialization, which has no words for what it carries.
    #[error("what the letter carries has no JSON, which is what its receiver's channel speaks")]
    Unspeakable,
}

impl Refusal {
    /// One word for it, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Action => "bad-action",
            Self::Address => "bad-address",
            Self::Handle => "handle",
            Self::TooLong { .. } => "too-long",
            Self::NoReceiver => "no-receiver",
            Self::Unspeakable => "no-json",
        }
    }

    /// Whether the sender broke a rule. A receiver may be gone through nobody's fault.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::NoReceiver)
    }
}

/// What becomes of a letter at the door of one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// It is sent.
    Send,
    /// It is lost for this receiver, which has too much to read already.
    Lost {
        /// The first that is lost for it: that is worth telling.
        first: bool,
    },
}

/// The router.
#[derive(Debug, Serialize, Deserialize)]
pub struct Messenger {
    /// The primary's process.
    pid: i32,
    workers: BTreeMap<WorkerId, Member>,
    /// The agent's process, while it has a channel.
    agent: Option<i32>,
    /// How many letters were lost for whom, of those who are there.
    lost: BTreeMap<Party, u64>,
    /// Never 0 (xorshift64*).
    random: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    slot: Slot,
    pid: i32,
    leaving: bool,
}

impl Messenger {
    /// A messenger of a primary with this process id. `seed` is where the choice of a random worker comes from.
    pub fn new(pid: i32, seed: u64) -> Self {
        // The generator must not start at zero.
        Self { pid, workers: BTreeMap::new(), agent: None, lost: BTreeMap::new(), random: seed | 1 }
    }

    /// A worker with a channel is there.
    pub fn worker_joined(&mut self, worker: WorkerId, slot: Slot, pid: i32) {
        self.workers.insert(worker, Member { slot, pid, leaving: false });
    }

    /// A worker drains, was asked to leave, or says that it leaves or has failed: it finishes what it has. It still gets what
    /// goes to it or to all.
    pub fn worker_leaves(&mut self, worker: WorkerId) {
        if let Some(member) = self.workers.get_mut(&worker) {
            member.leaving = true;
        }
    }

    /// An agent with a channel is there.
    pub fn agent_joined(&mut self, pid: i32) {
        self.agent = Some(pid);
    }

    /// Its channel is closed.
    pub fn gone(&mut self, who: Party) {
        self.lost.remove(&who);
        match who {
            Party::Worker(worker) => drop(self.workers.remove(&worker)),
            Party::Agent => self.agent = None,
            Party::Primary => {}
        }
    }

    /// How many letters were lost for somebody who is there, since it reads too slowly.
    pub fn lost(&self, who: Party) -> u64 {
        self.lost.get(&who).copied().unwrap_or(0)
    }

    /// A process has sent a message, with or without a socket.
    pub fn handle(&mut self, from: Party, payload: &Payload, handle: bool) -> Heard {
        let envelope = match Envelope::open(payload) {
            None => return Heard::Message,
            Some(Err(refusal)) => return Heard::Refused(refusal),
            Some(Ok(envelope)) => envelope,
        };
        let bytes = payload.as_bytes().len();
        let sent = match () {
            () if handle => Err(Refusal::Handle),
            () if bytes > QUEUE => Err(Refusal::TooLong { bytes }),
            () => self.dispatch(from, envelope.to, envelope.letter),
        };
        match sent {
            Ok(dispatch) => Heard::Letter(dispatch.into()),
            Err(refusal) => Heard::Refused(refusal),
        }
    }

    /// The primary itself has something to send. Without receivers it is [`Refusal::NoReceiver`].
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn send(&mut self, to: To, action: &str, data: Payload) -> Result<Dispatch, Refusal> {
        let bytes = data.as_bytes().len();
        if action.is_empty() || action.len() > LONGEST_ACTION {
            return Err(Refusal::Action);
        }
        if bytes > QUEUE {
            return Err(Refusal::TooLong { bytes });
        }
        self.dispatch(Party::Primary, to, Outside::new(action, data))
    }

    /// What a sender is told whose letter was refused; none for the primary, which knows.
    pub fn answer(&self, to: Party, refusal: Refusal) -> Option<Dispatch> {
        if to == Party::Primary {
            return None;
        }
        let mut letter = Outside::undelivered(refusal);
        letter.sign(self.sender(Party::Primary)?);
        Some(Dispatch { receivers: vec![to], written: [None, None], letter })
    }

    /// Decides whether a letter of `length` bytes goes to somebody for whom `queued` bytes wait already.
    pub fn admit(&mut self, to: Party, queued: usize, length: usize) -> Admission {
        if queued.saturating_add(length) <= QUEUE {
            return Admission::Send;
        }
        let lost = self.lost.entry(to).or_default();
        *lost += 1;
        Admission::Lost { first: *lost == 1 }
    }

    fn dispatch(&mut self, from: Party, to: To, mut letter: Outside) -> Result<Dispatch, Refusal> {
        let receivers = self.receivers(to);
        // A broadcast to nobody is heard by everybody.
        if receivers.is_empty() && !matches!(to, To::Workers | To::All) {
            return Err(Refusal::NoReceiver);
        }
        letter.sign(self.sender(from).ok_or(Refusal::NoReceiver)?);
        Ok(Dispatch { receivers, written: [None, None], letter })
    }

    fn receivers(&mut self, to: To) -> Vec<Party> {
        let all = self.workers.keys().copied().map(Party::Worker);
        match to {
            To::Workers => all.collect(),
            To::All => all.chain(self.agent.map(|_| Party::Agent)).collect(),
            To::Worker(id) => {
                self.workers.contains_key(&id).then_some(Party::Worker(id)).into_iter().collect()
            }
            To::Pid(pid) => {
                let worker = self.workers.iter().find(|(_, member)| member.pid == pid);
                let worker = worker.map(|(id, _)| Party::Worker(*id));
                worker.or((self.agent == Some(pid)).then_some(Party::Agent)).into_iter().collect()
            }
            To::Slot(slot) => {
                let held = self.workers.iter().filter(|(_, member)| member.slot == slot);
                // Who stays is preferred, and of these the newest.
                let newest = held.max_by_key(|(id, member)| (!member.leaving, **id));
                newest.map(|(id, _)| Party::Worker(*id)).into_iter().collect()
            }
            To::Random => self.pick().map(Party::Worker).into_iter().collect(),
            To::Agent => self.agent.map(|_| Party::Agent).into_iter().collect(),
            To::Primary => vec![Party::Primary],
        }
    }

    fn pick(&mut self) -> Option<WorkerId> {
        let staying = self.workers.values().filter(|member| !member.leaving).count();
        let all_leave = staying == 0;
        let count = if all_leave { self.workers.len() } else { staying };
        if count == 0 {
            return None;
        }
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        // The upper half times the count: no remainder that favours the first.
        let drawn = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        let at = (drawn * count as u64) >> 32;
        let eligible = self.workers.iter().filter(|(_, member)| all_leave || !member.leaving);
        eligible.map(|(id, _)| *id).nth(usize::try_from(at).unwrap_or(0))
    }

    /// What a receiver learns of a sender; none for one that is not there.
    fn sender(&self, who: Party) -> Option<Sender> {
        Some(match who {
            Party::Primary => Sender::Primary { pid: self.pid },
            Party::Agent => Sender::Agent { pid: self.agent? },
            Party::Worker(id) => {
                let member = self.workers.get(&id)?;
                Sender::Worker { id, slot: member.slot, pid: member.pid }
            }
        })
    }
}

impl Dispatch {
    /// Who gets it.
    pub fn receivers(&self) -> &[Party] {
        &self.receivers
    }

    /// What is put on a channel of this serialization.
    ///
    /// # Errors
    /// [`Refusal::Unspeakable`], and [`Refusal::TooLong`]: as it arrives a letter is longer by its `from`, and in another
    /// serialization perhaps by much.
    pub fn written(&mut self, serialization: Serialization) -> Result<&Payload, Refusal> {
        let place = match serialization {
            Serialization::Json => &mut self.written[0],
            Serialization::Advanced => &mut self.written[1],
        };
        let write = || {
            let written = self.letter.write(serialization)?;
            let bytes = written.as_bytes().len();
            if bytes > QUEUE { Err(Refusal::TooLong { bytes }) } else { Ok(written) }
        };
        // Once for all receivers, also if it cannot be.
        place.get_or_insert_with(write).as_ref().map_err(|refusal| *refusal)
    }

    /// As the primary gets it.
    pub fn letter(&self) -> Option<Letter> {
        self.letter.letter()
    }
}

#[cfg(test)]
mod tests;
