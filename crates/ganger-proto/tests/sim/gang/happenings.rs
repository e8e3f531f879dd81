//! What may happen to a gang, besides clients.

use ganger_proto::{
    Slot, WorkerId,
    guard::{AgentInput, Input},
};

use super::{
    worker::{ENOUGH, Said, Worker},
    world::World,
};

/// No gang is made larger than this.
const MOST: usize = 4000;

/// Something that may happen, and how often beside the others. It happens to the worker of a slot that is drawn.
type Happening = (usize, fn(&mut World, WorkerId));

/// A stop and a kill are at the end of each run.
const HAPPENINGS: [Happening; 22] = [
    (300, |world, id| world.with(id, Worker::die)),
    (20, |world, id| world.with(id, |worker, around| worker.exit(0, around))),
    (20, |world, id| world.with(id, |worker, around| worker.exit(ENOUGH.into(), around))),
    (60, |world, id| world.with(id, Worker::hang)),
    (120, |world, id| world.hung_dies(id)),
    (120, |world, id| world.with(id, Worker::announce)),
    (60, |world, id| {
        world.with(id, |worker, around| {
            if worker.booted {
                worker.drop_channel(around)
            }
        });
    }),
    (60, |world, id| world.with(id, |worker, around| worker.write(around, Said::Garbage))),
    (120, |world, id| world.with(id, Worker::close_one)),
    // Its channel gets full.
    (40, |world, id| world.with(id, |worker, _| worker.temper.room = 1)),
    (60, World::uses_memory),
    (20, |world, _| world.crowd_dies()),
    (20, |world, _| world.agents.dies(&mut world.around)),
    (10, |world, _| world.agents.drops_channel(&mut world.around)),
    (5, |world, _| world.say_of_agent(AgentInput::Condemned("garbage".into()))),
    (10, |world, _| world.replace_agent()),
    (40, |world, _| world.program_changes()),
    (10, |world, _| world.upgrade()),
    // What somebody asks of the gang.
    (8, |world, _| world.say_to_guard(Input::Reload)),
    (4, |world, _| world.revise()),
    (20, |world, _| world.scale()),
    (40, |world, _| world.pause()),
];

impl World {
    /// One of the things that may happen.
    pub(crate) fn let_something_happen(&mut self) {
        if self.around.calm {
            return;
        }
        self.around.next_happening();
        // Before a worker was ready the first death ends the gang: one that got over that is worth more.
        if self.guard.ready() == 0 && !self.around.random.chance(50) {
            return;
        }
        let slot = self.around.random.below(self.seats.len());
        let Some(worker) = self.seats.occupant(Slot(slot as u32)) else { return };
        let mut at = self.around.random.below(HAPPENINGS.iter().map(|(weight, _)| weight).sum());
        for (weight, happens) in HAPPENINGS {
            if at < weight {
                return happens(self, worker);
            }
            at -= weight;
        }
    }

    /// Somebody kills one of those that do nothing any more.
    fn hung_dies(&mut self, near: WorkerId) {
        let hung = |(_, worker): &(&WorkerId, &Worker)| worker.hung && worker.alive;
        let hung = self.workers.range(near..).find(hung).map(|(id, _)| *id);
        if let Some(id) = hung {
            self.with(id, Worker::die);
        }
    }

    /// Memory is short: many die at the same time.
    fn crowd_dies(&mut self) {
        let share = *self.around.random.pick(&[50, 300, 1000]);
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            if self.around.random.chance(share) {
                self.with(id, Worker::die);
            }
        }
    }

    /// Somebody wants more workers, or fewer.
    fn scale(&mut self) {
        let wanted = self.another_size();
        self.around.note("scale to", WorkerId(0), wanted);
        self.say_to_guard(Input::Scale(wanted));
    }

    /// Somebody wants a reload, to more workers or to fewer.
    fn revise(&mut self) {
        let wanted = self.another_size();
        self.around.note("reload to", WorkerId(0), wanted);
        self.say_to_guard(Input::Reload);
        self.say_to_guard(Input::Revised(wanted));
    }

    fn another_size(&mut self) -> u32 {
        let size = self.seats.len();
        let wanted = match self.around.random.below(4) {
            0 => 1 + self.around.random.below(size * 2),
            1 => size.saturating_sub(1),
            _ => size + 1,
        };
        wanted.min(MOST) as u32
    }

    /// Somebody wants a slot to get no connections, or again.
    fn pause(&mut self) {
        let slot = Slot(self.around.random.below(self.seats.len()) as u32);
        let paused = self.around.random.chance(500);
        self.say_to_guard(Input::Pause(slot, paused));
    }

    /// From now on more of those that are started are good, or fewer.
    fn program_changes(&mut self) {
        self.around.badness = *self.around.random.pick(&[0, 0, 0, 50, 300, 900]);
    }

    /// All faults are over.
    pub(crate) fn calm_down(&mut self) {
        self.around.calm = true;
        self.around.badness = 0;
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        let watchdog = self.watch.is_on();
        ids.into_iter().for_each(|id| self.with(id, |worker, around| worker.calm_down(around, watchdog)));
        self.agents.calm_down(&mut self.around);
        for slot in self.paused.clone() {
            self.say_to_guard(Input::Pause(slot, false));
        }
    }
}
