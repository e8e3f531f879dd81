//! The end of the gang, and of a worker that is not wanted.

use super::{Action, AgentAction, Cause, Guard, Notice, Phase, Verdict, agent, ladder::Ladder};
use crate::{Time, WorkerId};

impl Guard {
    pub(super) fn kill(&mut self, worker: WorkerId, cause: Cause) {
        if let Some(ward) = self.wards.get_mut(&worker) {
            ward.cause.get_or_insert(cause);
            self.actions.push_back(Action::Kill(worker));
        }
    }

    pub(super) fn retire(&mut self, now: Time, worker: WorkerId) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        // One that is dismissed may be still to be asked.
        let asked = ward.leaving.as_ref().is_some_and(|ladder| !ladder.is_hinted());
        if ward.leaving.is_none() && ward.takes_hints {
            self.actions.push_back(Action::Hint(worker));
        } else if !asked && !ward.takes_hints {
            self.actions.push_back(Action::Retire(worker));
        }
        let mut ladder = Ladder::stop(now, self.config.stop_timeout, ward.hears(), asked);
        if ward.leaving.as_ref().is_some_and(Ladder::is_asked) && !ward.channel_open {
            ladder.channel_closed(now);
        }
        ward.leaving = Some(ladder);
    }

    /// Somebody wants the gang to end, which serves on for a while if it serves; said again: at once.
    pub(super) fn handle_stop(&mut self, now: Time) {
        let again = self.is_stopping();
        let delay = self.config.drain_delay;
        if again || self.phase == Phase::First || delay.is_zero() {
            self.end(now, Verdict::Stopped);
        } else {
            self.stop_at = Some(now + delay);
            self.notice(Notice::StopDelayed { by: delay });
        }
        if again {
            self.kill_all();
        }
    }

    pub(super) fn end(&mut self, now: Time, verdict: Verdict) {
        if self.is_ending() {
            return;
        }
        // Who was asked to stop has, whatever else happens on the way.
        let verdict = self.stop_at.take().map_or(verdict, |_| Verdict::Stopped);
        self.phase = Phase::Ending(verdict);
        for place in &mut self.slots {
            place.start_at = None;
            place.succession = None;
        }
        self.reload = None;
        self.reload_again = false;
        if let Some(agent) = &mut self.agent {
            agent.gang_ends(now, &self.config);
        }
        // What was decided and not done yet is not done any more.
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Agent(AgentAction::Start(_)) => {
                    self.agent.iter_mut().for_each(agent::Agent::start_cancelled);
                }
                Action::Start(slot, _) => {
                    if let Some(place) = self.slots.get_mut(slot.0 as usize) {
                        place.starting = false;
                    }
                }
                action => self.actions.push_back(action),
            }
        }
        self.actions.push_back(Action::CloseSockets);
        let workers: Vec<WorkerId> = self.wards.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.retire(now, worker));
        self.finish_if_empty(now);
    }

    /// Ends the gang when nobody is left who works or is to be started.
    pub(super) fn end_if_over(&mut self, now: Time) {
        self.reckon();
        if self.is_ending() || self.reload.is_some() || self.slots.over() < self.slots.len() {
            return;
        }
        let failed = self.slots.iter().filter(|place| place.over.is_some_and(|last| last.failed)).count();
        self.end(now, Verdict::Over { failed: failed as u32 });
    }

    pub(super) fn kill_all(&mut self) {
        self.kill_workers();
        self.kill_agent();
    }

    /// Kills the workers; the agent has done nothing, and leaves by its ladder.
    pub(super) fn kill_workers(&mut self) {
        self.actions.extend(self.wards.keys().map(|worker| Action::Kill(*worker)));
    }

    pub(super) fn finish_if_empty(&mut self, now: Time) {
        if self.wards.is_empty()
            && !self.slots.iter().any(|place| place.starting)
            && self.agent_is_gone(now)
            && let Phase::Ending(verdict) = std::mem::replace(&mut self.phase, Phase::Ended)
        {
            self.actions.push_back(Action::End(verdict));
        }
    }
}
