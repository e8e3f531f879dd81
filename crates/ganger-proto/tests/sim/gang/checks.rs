//! What has to hold whenever one looks, and at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use ganger_proto::{
    Slot, SocketId, Time, WorkerId,
    cluster::{Fate, ListenerSnapshot, WorkerState},
    guard::{Input, Verdict},
};

use super::{
    worker::Worker,
    world::{Occasion, World},
};
use crate::clients::Place;

/// When a gang began to end: when, how many were ready, and whether any had ever been.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    at: Time,
    ready: usize,
    was_ready: bool,
}

impl World {
    /// Everything is where the book says that it is, and both machines say the same as the book.
    pub(crate) fn check(&self) {
        let snapshot = self.primary.snapshot();
        let under_way: usize = snapshot.workers.iter().map(|worker| worker.under_way).sum();
        let waiting: usize = snapshot.listeners.iter().map(|listener| listener.waiting).sum();
        let clients = &self.around.clients;
        let ours = clients.count(|place| matches!(place, Place::Primary | Place::Session(_)));
        assert_eq!(
            under_way + waiting,
            ours + self.peeking.len(),
            "the primary does not have what it was given"
        );
        let with_driver = self.examining.len() + self.peeking.len();
        assert_eq!(clients.count(|place| place == Place::Driver), with_driver);
        assert_eq!(clients.count(|place| matches!(place, Place::Kernel(_))), self.around.kernel.waiting());
        let counters = snapshot.counters;
        let gone = counters.served + counters.refused + counters.broken + counters.orphaned;
        assert_eq!(counters.accepted, gone + (ours + with_driver) as u64, "{counters:?}");

        let mut copies: BTreeMap<u32, WorkerId> = clients.copies().collect();
        for worker in self.workers.values() {
            for number in worker.copies() {
                assert_eq!(copies.remove(&number), Some(worker.id), "connection {number} is copied");
            }
        }
        assert!(copies.is_empty(), "copies that nobody has: {copies:?}");

        let dispatched = snapshot.workers.iter().filter(|worker| !worker.draining);
        let mut dispatched: Vec<(Slot, WorkerId)> =
            dispatched.map(|worker| (worker.slot, worker.id)).collect();
        dispatched.sort_unstable();
        let book: Vec<(Slot, WorkerId)> = self.seats.dispatched().collect();
        assert_eq!(dispatched, book, "others are in dispatch than the guard wants");
        self.watch.check(self.around.now);
        self.ends.check(self.guard.is_ending());
        if !self.guard.is_ending() {
            assert_eq!(self.guard.ready(), self.seats.ready(), "the guard counts others as ready");
        }
    }

    /// Lets everything come to an end that can.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000_000 {
            if !self.step() || self.is_quiet() {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.primary.snapshot());
    }

    /// Nothing is to come but questions, their answers, and what is said unasked: that goes on for ever.
    fn is_quiet(&self) -> bool {
        let wanted = self.seats.wanted();
        // Where nobody may grow old somebody is always about to take over, and does nothing before it has begun to run.
        let starting = |worker: &Worker| !worker.booted && self.seats.is_heir(worker.slot, worker.id);
        let starting_up = || self.workers.values().filter(|worker| starting(worker)).count();
        self.guard.ready() == wanted
            && (wanted..=wanted + 1).contains(&self.workers.len())
            && self.workers.len() == wanted + starting_up()
            && self.stopped.is_none()
            && self.agents.are_ready()
            && !self.guard.is_reloading()
            && self.workers.values().all(|worker| !worker.hung)
            && self.primary.poll_timeout().is_none()
            && self.around.calendar.all(|occasion| match occasion {
                Occasion::Asked(..) | Occasion::Pings(_) => true,
                // What the dead had before them.
                Occasion::Turn(id)
                | Occasion::Ends(id)
                | Occasion::Served(id, _)
                | Occasion::Opens(id, _) => {
                    !self.workers.get(id).is_some_and(|worker| worker.alive && !starting(worker))
                }
                _ => false,
            })
    }

    /// After the faults the gang is as large as it is wanted, and nobody waits; unless it was right to end.
    pub(crate) fn check_rest(&self) {
        self.check();
        self.around.clients.check_ends();
        if self.ended.is_some() {
            return;
        }
        assert!(!self.guard.is_reloading(), "the reload does not end");
        assert!(self.paused.is_empty(), "still paused: {:?}", self.paused);
        assert_eq!(self.guard.workers() as usize, self.seats.len());
        let wanted = self.seats.wanted();
        assert_eq!(self.guard.ready(), wanted, "the gang does not come back to its size");
        assert!(self.agents.are_ready(), "the agent does not come back");
        let hung = self.workers.values().find(|worker| worker.hung);
        assert!(hung.is_none(), "nobody has found that a worker hangs");
        let mut snapshot = self.primary.snapshot();
        snapshot.workers.retain(|worker| !self.seats.is_heir(worker.slot, worker.id));
        for worker in &snapshot.workers {
            assert_eq!((worker.state, worker.draining), (WorkerState::Listening, false), "{worker:?}");
            assert_eq!(worker.under_way, 0, "connections are under way: {worker:?}");
        }
        assert_eq!(snapshot.workers.len(), wanted);
        for listener in &snapshot.listeners {
            assert_eq!(listener.holders.len(), wanted, "not everybody listens");
            assert!(!listener.sockets.is_empty(), "nothing is open: {listener:?}");
        }
        assert_eq!(snapshot.listeners.len(), self.around.program.len(), "an address is missing");
    }

    /// Whether some worker has the listener with this first socket.
    pub(crate) fn is_held(&self, socket: SocketId) -> bool {
        let listeners = self.primary.snapshot().listeners;
        listeners.iter().any(|listener| listener.id == socket && !listener.holders.is_empty())
    }

    /// The primary gives up a connection: it may.
    pub(crate) fn check_given_up(&self, number: u32, fate: Fate) {
        let snapshot = self.primary.snapshot();
        let asked = |id: WorkerId| {
            let worker = snapshot.workers.iter().find(|worker| worker.id == id);
            worker.is_some_and(|worker| {
                !worker.draining && !worker.held_back && !self.paused.contains(&worker.slot)
            })
        };
        let since = |id: WorkerId, _: &ListenerSnapshot| asked(id).then_some(0);
        self.around.clients.check_given_up(number, fate, &snapshot.listeners, since);
    }

    /// A gang that has come to rest serves whoever comes.
    pub(crate) fn serve_once_more(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let first = self.around.clients.count(|_| true);
        let coming = self.seats.len().min(100) * 2;
        (0..coming).for_each(|_| self.connect_one());
        assert_eq!(self.around.clients.count(|_| true), first + coming, "there is nowhere to come to");
        self.settle();
        self.check_rest();
        self.around.clients.check_all_served(first);
    }

    /// Somebody ends the gang, this way or that.
    pub(crate) fn end(&mut self) {
        // While it serves on, trouble goes on as well.
        self.around.calm |= self.closed;
        if self.ended.is_some() {
            return;
        }
        let said: &[Input] = match self.around.random.below(4) {
            0 => &[Input::Kill],
            1 => &[Input::Stop, Input::Stop],
            _ => &[Input::Stop],
        };
        self.stopped = Some(self.around.now);
        if said.len() > 1 || said[0] == Input::Kill {
            self.drain_delay = Duration::ZERO;
        }
        for input in said {
            self.say_to_guard(input.clone());
            assert!(!self.guard.is_ready(), "a gang that is to end wants more clients");
            self.perform();
        }
    }

    /// A gang that was ready serves on for a while when it is asked to end.
    pub(crate) fn check_delay(&self) {
        let Some(stopped) = self.stopped.filter(|_| self.seats.was_ready() && self.seats.ready() > 0) else {
            return;
        };
        assert!(self.around.now - stopped >= self.drain_delay, "it ends too early");
    }

    pub(crate) fn end_began(&mut self, at: Time) {
        let (ready, was_ready) = (self.seats.ready(), self.seats.was_ready());
        self.ending = Some(Ending { at, ready, was_ready });
    }

    /// A gang ends by itself only for its reasons.
    pub(crate) fn check_verdict(&self, verdict: &Verdict) {
        let ending = self.ending.expect("it began to end");
        match verdict {
            Verdict::Stopped => assert!(self.stopped.is_some(), "nobody has stopped it"),
            Verdict::FirstStart => assert!(!ending.was_ready, "somebody had been ready: {ending:?}"),
            Verdict::CrashLoop { slot } => {
                assert!(
                    self.seats.is_hopeless(ending.at, *slot),
                    "there is hope for slot {slot}: {ending:?}"
                );
                assert_eq!(ending.ready, 0, "somebody is ready: {ending:?}");
            }
            Verdict::AgentStart => assert!(!self.agents.came_first(), "an agent had been ready: {ending:?}"),
            Verdict::AgentCrashLoop => {
                assert!(self.agents.are_hopeless(ending.at), "there is hope for the agent: {ending:?}");
                assert_eq!(ending.ready, 0, "somebody is ready: {ending:?}");
            }
            Verdict::Over { failed } => {
                assert_eq!(self.seats.over(), Some(*failed as usize), "somebody could be started");
            }
        }
    }

    /// After its end nothing is left.
    pub(crate) fn check_empty(&self) {
        assert!(self.ended.is_some(), "it does not end");
        self.check();
        self.around.clients.check_ends();
        let snapshot = self.primary.snapshot();
        assert!(snapshot.workers.is_empty() && snapshot.listeners.is_empty(), "{snapshot:?}");
        assert!(self.around.kernel.is_empty() && self.workers.is_empty());
        assert_eq!(self.guard.poll_timeout(), None);
    }
}
