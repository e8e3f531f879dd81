//! The reload: every slot gets a worker of the program as it is now, one batch after the other.
//!
//! The agent comes first, if there is one; if it does not get ready, that was the reload, and no worker is touched. A slot is
//! done when its new worker is ready; the next one begins while at most
//! [`Config::max_draining`](super::Config::max_draining) old ones are on their way out. The first new worker that does not
//! get ready ends it: those that were replaced are, the others go on as they are. One more that is asked for meanwhile
//! follows when this one is over, and stands for any number of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    Action, Guard, Newcomer, Notice, Phase, Request, Then, agent::AgentInput, notice::Unfit, succession::Why,
};
use crate::{AgentId, Slot, Time};

/// A reload that is under way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reload {
    began: Time,
    /// Slots that were not begun.
    left: VecDeque<Slot>,
    done: u32,
    /// Whether the agent is waited for.
    agent: bool,
    /// How many slots there were before, if it has changed that.
    before: Option<u32>,
}

impl Guard {
    /// Whether a reload is under way.
    pub fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    pub(super) fn handle_reload(&mut self, now: Time) {
        if self.is_stopping() {
            return self.notice(Notice::TooLate(Request::Reload));
        }
        if self.reload.is_some() || self.phase == Phase::First {
            self.reload_again = true;
            return self.notice(Notice::ReloadQueued);
        }
        self.generation.0 += 1;
        let left = (0..self.slots.len() as u32).map(Slot).collect();
        let agent = self.agent.is_some();
        self.reload = Some(Reload { began: now, left, done: 0, agent, before: None });
        self.notice(Notice::Reloading { workers: self.slots.len() as u32 });
        if agent {
            self.handle_agent(now, AgentInput::Replace);
        }
    }

    /// What has just begun is to so many slots.
    pub(super) fn handle_revised(&mut self, now: Time, workers: u32) {
        let (before, wanted) = (self.config.workers, workers.max(1));
        let Some(reload) = &mut self.reload else { return };
        if before != wanted {
            reload.before.get_or_insert(before);
            self.resize(now, wanted);
        }
    }

    /// Goes on as far as it may.
    pub(super) fn proceed_reload(&mut self, now: Time) {
        if self.is_stopping() {
            return;
        }
        if self.reload.is_none() && self.reload_again && self.phase == Phase::Running {
            self.reload_again = false;
            self.handle_reload(now);
        }
        let agent_is_ready = self.agent.as_ref().is_none_or(|agent| agent.is_ready());
        let Some(reload) = &mut self.reload else { return };
        if reload.agent && !agent_is_ready {
            return;
        }
        reload.agent = false;
        loop {
            self.reckon();
            let (under_way, draining) = (self.slots.reloading(), self.wards.draining());
            let Some(reload) = &mut self.reload else { return };
            if reload.left.is_empty() {
                if under_way == 0 {
                    self.finish_reload(now);
                }
                return;
            }
            if under_way >= self.config.batch.max(1) || draining > self.config.max_draining() as usize {
                return;
            }
            // What is just being filled anyway has its turn later; who is not ready yet can be nobody's predecessor.
            let (slots, wards) = (&self.slots, &self.wards);
            let can_begin = |slot: &Slot| {
                slots.get(slot.0 as usize).is_none_or(|place| {
                    let ready = |worker| wards.get(&worker).is_some_and(|ward| ward.ready.is_some());
                    place.is_settled() && place.occupant.is_none_or(ready)
                })
            };
            let Some(at) = reload.left.iter().position(can_begin) else { return };
            let Some(slot) = reload.left.remove(at) else { return };
            // It may have been given up meanwhile.
            if slots.len() > slot.0 as usize {
                self.begin_succession(slot, Why::Reload);
            }
        }
    }

    pub(super) fn slot_reloaded(&mut self) {
        if let Some(reload) = &mut self.reload {
            reload.done += 1;
        }
    }

    fn finish_reload(&mut self, now: Time) {
        let Some(Reload { began, done, .. }) = self.reload.take() else { return };
        let draining = self.wards.draining() as u32;
        self.notice(Notice::Reloaded { workers: done, after: now - began, draining });
    }

    /// One did not get ready: the others are not touched, and those that were just being started are given up.
    pub(super) fn fail_reload(&mut self, now: Time, who: Newcomer, unfit: Unfit) {
        let Some(Reload { began, done, before, .. }) = self.reload.take() else { return };
        let there = self.slots.iter().filter(|place| place.occupant.is_some()).count() as u32;
        let kept = there - done.min(there);
        let after = now - began;
        self.notice(Notice::ReloadFailed { who, unfit, done, kept, after });
        let reloading = |(slot, place): (usize, &super::Place)| {
            let succession = place.succession.as_ref().filter(|succession| succession.why == Why::Reload)?;
            Some((Slot(slot as u32), succession.heir, place.occupant.is_none(), succession.over))
        };
        let others: Vec<_> = self.slots.iter().enumerate().filter_map(reloading).collect();
        for (slot, heir, vacant, over) in others {
            // Nobody else is there to fill it.
            if vacant && over.is_none() {
                self.inherit(now, slot);
                continue;
            }
            self.slots[slot.0 as usize].succession = None;
            match heir {
                Some(heir) => self.dismiss(now, heir, self.config.drain_timeout),
                None => self.cancel_start(slot),
            }
            if let Some(last) = over.filter(|_| vacant) {
                self.stay_vacant(now, slot, last);
            }
        }
        if let Some(before) = before {
            self.resize(now, before);
        }
    }

    /// The new agent comes to nothing: returns whether a reload was waiting for it, which so is over, and tells why.
    pub(super) fn agent_fails_reload(&mut self, now: Time, agent: Option<AgentId>, unfit: Unfit) -> bool {
        let waits = self.reload.as_ref().is_some_and(|reload| reload.agent);
        if waits {
            self.fail_reload(now, Newcomer::Agent(agent), unfit);
        }
        waits
    }

    /// What was decided and not done yet is not done any more.
    fn cancel_start(&mut self, slot: Slot) {
        let wanted = self.actions.len();
        self.actions.retain(|action| !matches!(action, Action::Start(other, _) if *other == slot));
        if self.actions.len() < wanted {
            self.slots[slot.0 as usize].starting = false;
        }
    }

    /// What is said of a death that a succession makes good.
    pub(super) fn heir_of(&self, slot: Slot) -> Option<Then> {
        let succession = self.slots.get(slot.0 as usize)?.succession.as_ref()?;
        Some(succession.heir.map_or(Then::Nothing, Then::ReplacedBy))
    }
}
