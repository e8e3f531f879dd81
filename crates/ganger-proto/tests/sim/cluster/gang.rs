//! A simple rule in the guard's place: what dies is forked again, and now and then somebody scales,
//! retires or kills.

use std::collections::BTreeMap;
use std::time::Duration;

use ganger_proto::{Generation, Slot, Time, WorkerId};

use super::{
    temper::Temper,
    worker::Worker,
    world::{Surroundings, World},
};

#[derive(Debug)]
pub(crate) struct Gang {
    /// Who fills which slot, or when somebody is to.
    slots: Vec<Seat>,
    due: bool,
    /// Who is killed when, if it does not go by itself.
    doomed: BTreeMap<WorkerId, Time>,
    /// Who is dismissed when the one in its slot listens.
    relieved: Vec<(usize, WorkerId)>,
}

#[derive(Clone, Copy, Debug)]
enum Seat {
    Taken(WorkerId),
    Vacant(Time),
}

impl Gang {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: vec![Seat::Vacant(Time::default()); slots],
            due: false,
            doomed: BTreeMap::new(),
            relieved: Vec::new(),
        }
    }

    /// Whether the primary was told that somebody is about to come.
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// Nobody is to be there any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        let settled = self.doomed.is_empty() && self.relieved.is_empty() && !self.due;
        settled && self.slots.iter().all(|seat| matches!(seat, Seat::Taken(_)))
    }
}

impl World {
    /// The worker is dead or has lost its channel.
    pub(crate) fn replace(&mut self, worker: WorkerId) {
        let now = self.around.now;
        for seat in &mut self.gang.slots {
            if matches!(seat, Seat::Taken(taken) if *taken == worker) {
                let delay = self.around.random.below(2000) as u64;
                *seat = Seat::Vacant(now + Duration::from_millis(delay));
            }
        }
        self.doom(worker);
        self.tell_due();
    }

    /// One piece of the guard's work.
    pub(crate) fn manage_gang(&mut self) -> bool {
        self.tell_due();
        let alive = |id: &WorkerId| {
            self.processes.iter().any(|process| process.worker.id == *id && process.worker.alive)
        };
        self.gang.doomed.retain(|id, _| alive(id));
        self.gang.relieved.retain(|(_, id)| alive(id));
        if let Some(at) = self.gang.relieved.iter().position(|(slot, _)| self.is_filled(*slot)) {
            let (_, worker) = self.gang.relieved.swap_remove(at);
            self.dismiss(worker);
            return true;
        }
        let now = self.around.now;
        let overdue = self.gang.doomed.iter().find(|(_, due)| **due <= now).map(|(id, _)| *id);
        if let Some(worker) = overdue {
            self.gang.doomed.remove(&worker);
            self.kill(worker);
            return true;
        }
        let vacant = |seat: &Seat| matches!(seat, Seat::Vacant(due) if *due <= now);
        if let Some(slot) = self.gang.slots.iter().position(vacant) {
            self.fork(slot);
            self.tell_due();
            return true;
        }
        !self.around.calm && self.interfere()
    }

    /// All faults are over; who hangs is killed.
    pub(crate) fn calm_down(&mut self) {
        self.around.calm = true;
        let hung = self.processes.iter().filter(|process| process.worker.temper.hung);
        for worker in hung.map(|process| process.worker.id).collect::<Vec<_>>() {
            self.kill(worker);
        }
    }

    /// Nobody comes, nothing is listened to any more, everybody goes.
    pub(crate) fn stop(&mut self) {
        let seats = std::mem::take(&mut self.gang.slots);
        self.tell_due();
        self.primary.close_sockets();
        self.perform();
        for seat in seats {
            if let Seat::Taken(worker) = seat {
                self.dismiss(worker);
            }
        }
    }

    fn interfere(&mut self) -> bool {
        let at = self.around.random.below(self.gang.slots.len());
        let seat = self.gang.slots.get(at).copied();
        match (self.around.random.below(12), seat) {
            (0, _) if self.gang.slots.len() < 6 => {
                self.gang.slots.push(Seat::Vacant(self.around.now));
                self.tell_due();
            }
            (1, Some(seat)) if self.gang.slots.len() > 1 && at + 1 == self.gang.slots.len() => {
                self.gang.slots.pop();
                self.primary.retire_slot(self.around.now, Slot(at as u32));
                self.perform();
                if let Seat::Taken(worker) = seat {
                    self.dismiss(worker);
                }
                self.tell_due();
            }
            // A reload of one slot: the old one leaves dispatch when the new one listens.
            (2 | 3, Some(Seat::Taken(worker))) if self.gang.relieved.len() < 3 => {
                self.gang.relieved.push((at, worker));
                self.fork(at);
            }
            (4, Some(Seat::Taken(worker))) if self.around.trouble > 0 => self.kill(worker),
            _ => return false,
        }
        true
    }

    fn fork(&mut self, slot: usize) {
        let Surroundings { random, trouble, stingy, calm, .. } = &mut self.around;
        let id = self.primary.fork(Slot(slot as u32), Generation(0), true);
        if !*calm && random.chance(20 * *trouble) {
            self.primary.fork_failed(id);
            self.gang.slots[slot] = Seat::Vacant(self.around.now + Duration::from_millis(100));
        } else {
            let trouble = if *calm { 0 } else { *trouble };
            let room = *random.pick(&[300, 1000, 64 << 10]);
            let mut temper = Temper::new(random, trouble);
            if *stingy && !*calm {
                temper.serves_few(1 + random.below(2));
            }
            let worker = Worker::new(id, temper, room);
            self.around.note("forked", id, slot as u32);
            self.start(worker);
            self.gang.slots[slot] = Seat::Taken(id);
        }
        self.perform();
    }

    fn dismiss(&mut self, worker: WorkerId) {
        self.around.note("dismissed", worker, 0);
        self.primary.disconnect(self.around.now, worker);
        self.perform();
        self.doom(worker);
    }

    fn doom(&mut self, worker: WorkerId) {
        // Who is in order is given the time to finish.
        let least = if self.around.trouble == 0 { 100_000 } else { 500 };
        let delay = least + self.around.random.below(3000) as u64;
        self.gang.doomed.entry(worker).or_insert(self.around.now + Duration::from_millis(delay));
    }

    fn kill(&mut self, worker: WorkerId) {
        if let Some(process) = self.processes.iter_mut().find(|process| process.worker.id == worker)
            && process.worker.alive
        {
            process.worker.die(&mut self.around);
        }
    }

    /// Whether somebody in this slot listens; a slot that is no more counts as filled.
    fn is_filled(&self, slot: usize) -> bool {
        match self.gang.slots.get(slot) {
            None => true,
            Some(Seat::Vacant(_)) => false,
            Some(Seat::Taken(id)) => self
                .processes
                .iter()
                .any(|process| process.worker.id == *id && process.worker.is_listening(&self.around.program)),
        }
    }

    fn tell_due(&mut self) {
        let starting = |id: &WorkerId| {
            self.processes.iter().any(|process| process.worker.id == *id && process.worker.is_starting())
        };
        let due = self.gang.slots.iter().any(|seat| match seat {
            Seat::Vacant(_) => true,
            Seat::Taken(worker) => starting(worker),
        });
        if due != self.gang.due {
            self.gang.due = due;
            self.primary.set_replacements_due(self.around.now, due);
        }
    }
}
