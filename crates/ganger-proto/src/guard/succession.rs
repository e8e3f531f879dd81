//! A worker that takes over from another one: started beside it, ready before it goes.
//!
//! ```text
//!   begin ──► heir starting ──► heir starting up ──── ready ────► the heir fills the slot, the old one is dismissed
//!                  │                   │ dies, is ill, is not ready in time
//!                  └───────────────────┴──► the old one stays where it is
//! ```
//!
//! A slot whose worker dies meanwhile waits for the heir, who was to fill it anyway. In a reload, which fails with it, that is still
//! an heir; otherwise it is a worker like any other from then on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Action, Cause, Exit, Guard, Newcomer, Notice, Place, Readiness, Sign, cause::SIGKILL, ladder::Ladder,
    notice::Unfit, restart::LastEnd, ward::Ward,
};
use crate::{Slot, Time, WorkerId};

/// A change of workers in one slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Succession {
    pub(super) why: Why,
    /// The new one, once it is started.
    pub(super) heir: Option<WorkerId>,
    /// Who held the slot when it began.
    pub(super) predecessor: Option<WorkerId>,
    /// Where that one listened: required of the heir.
    addresses: BTreeSet<String>,
    /// How the slot's last worker ended, if nobody was to follow it: that holds again if the heir comes to nothing.
    pub(super) over: Option<LastEnd>,
}

/// What a succession is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// A reload.
    Reload,
    /// It uses more memory than it may.
    Memory {
        /// So much, in bytes.
        used: u64,
        /// And so much it may.
        limit: u64,
    },
    /// It has served for as long as it is to.
    Lifetime,
}

impl Place {
    /// Whether nothing is under way in the slot, so that a succession may begin.
    pub(super) fn is_settled(&self) -> bool {
        !self.starting && self.succession.is_none()
    }

    /// Whether this worker is to take over here.
    pub(super) fn is_heir(&self, worker: WorkerId) -> bool {
        self.succession.as_ref().is_some_and(|succession| succession.heir == Some(worker))
    }
}

impl Guard {
    /// A new worker is started beside the one that fills the slot.
    pub(super) fn begin_succession(&mut self, slot: Slot, why: Why) {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        let (predecessor, over) = (place.occupant, place.over);
        let addresses =
            predecessor.and_then(|worker| self.wards.get(&worker)).map(|ward| ward.addresses.clone());
        let addresses = addresses.unwrap_or_default();
        place.succession = Some(Succession { why, heir: None, predecessor, addresses, over });
        self.start(slot);
    }

    /// The one place that decides whether a worker is ready: it gave the sign that is wanted, or that the slot's first worker gave,
    /// any for that one; an heir also listens wherever its predecessor does; and it has answered as it has to. Says what is lacking.
    pub(super) fn lacks(&self, ward: &Ward) -> Option<Unfit> {
        let place = self.slots.get(ward.slot.0 as usize)?;
        let required = match self.config.ready {
            Readiness::Auto => place.sign,
            Readiness::Sign(sign) => Some(sign),
            Readiness::After(_) => Some(Sign::Age),
        };
        if let Some(required) = required.filter(|required| !ward.gave(*required)) {
            return Some(Unfit::NoSign { sign: required, after: self.config.patience() });
        }
        if let Some(succession) = &place.succession
            && let Some(missing) = succession.addresses.difference(&ward.addresses).next()
        {
            let (after, had_by) = (self.config.patience(), succession.predecessor);
            return Some(Unfit::NotOpened { address: missing.clone(), had_by, after });
        }
        self.unproven(ward).map(Unfit::Unproven)
    }

    /// The heir is ready: it fills the slot, and the old worker is dismissed.
    pub(super) fn succeed(&mut self, now: Time, slot: Slot, heir: WorkerId) {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        let Some(Succession { why, .. }) = place.succession.take() else { return };
        let old = place.occupant.replace(heir);
        place.start_at = None;
        if why == Why::Reload {
            self.slot_reloaded();
        }
        if let Some(old) = old {
            if let Some(ward) = self.wards.get_mut(&old) {
                ward.replaced = Some(Some(heir));
            }
            if why != Why::Reload {
                self.notice(Notice::Recycled { worker: old, slot, why, replaced_by: heir });
            }
            self.dismiss(now, old, self.config.drain_timeout);
        }
    }

    /// The heir came to nothing: the old worker goes on; without one the slot is filled as after any death.
    /// Unless nobody is: `last` says why.
    pub(super) fn fail_succession(
        &mut self,
        now: Time,
        slot: Slot,
        worker: Option<WorkerId>,
        unfit: Unfit,
        last: Option<LastEnd>,
    ) {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        let Some(Succession { why, heir, over, .. }) = place.succession.take() else { return };
        let vacant = place.occupant.is_none();
        if let Some(heir) = heir {
            self.kill(heir, Cause::Unfit(Box::new(unfit.clone())));
        }
        match why {
            Why::Reload => self.fail_reload(now, Newcomer::Worker { slot, worker }, unfit),
            Why::Memory { .. } | Why::Lifetime => self.fail_recycling(now, slot, worker, why, unfit),
        }
        if !vacant {
            return;
        }
        if let Some(last) = over.or(last) {
            return self.stay_vacant(now, slot, last);
        }
        match self.pause_after(now, slot, true) {
            Some(pause) => self.start_after(now, slot, pause),
            None => self.give_up(now, slot),
        }
    }

    /// Who was to take over in a vacant slot is a worker like any other: there is nobody any more whose place it could leave as it is.
    pub(super) fn inherit(&mut self, now: Time, slot: Slot) {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        place.occupant = place.succession.take().and_then(|succession| succession.heir);
        if let Some(heir) = place.occupant {
            self.proceed_start(now, heir);
        }
    }

    /// Nobody who was to fill a vacant slot does.
    pub(super) fn stay_vacant(&mut self, now: Time, slot: Slot, last: LastEnd) {
        self.notice(Notice::StaysVacant { slot, why: last.why });
        self.leave_vacant(now, slot, last);
    }

    /// An heir that lives does not get ready: it is killed, and that is how it ends.
    pub(super) fn fail_living_heir(&mut self, now: Time, slot: Slot, heir: WorkerId, unfit: Unfit) {
        let killed = Exit::Signal { signal: SIGKILL, core_dumped: false };
        let last = self.config.restart.last_end(killed, &[]);
        self.fail_succession(now, slot, Some(heir), unfit, last);
    }

    /// A worker that was good is not wanted any more: out of dispatch, then down the ladder. Its exit is no death.
    pub(super) fn dismiss(&mut self, now: Time, worker: WorkerId, timeout: std::time::Duration) {
        let Some(ward) = self.wards.get_mut(&worker) else { return };
        if ward.leaving.is_some() {
            return;
        }
        ward.dismissed = true;
        // Those of neighbours lie far apart (Fibonacci hashing).
        let moment = f64::from(worker.0.wrapping_mul(0x9e37_79b9)) / f64::from(u32::MAX);
        ward.leaving = Some(Ladder::dismiss(now, timeout, ward.hears(), moment));
        self.actions.push_back(Action::Hint(worker));
    }
}
