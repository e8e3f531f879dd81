//! Who is asked whether it is there, and who answers: the book against which the guard's watch is checked, and the workers' part.

use std::collections::BTreeMap;
use std::time::Duration;

use ganger_proto::{
    Seq, Time, WorkerId,
    cluster::Input,
    guard,
    node::{Act, ClusterMessage},
};

use super::{
    worker::Worker,
    world::{Occasion, World},
};
use crate::clients::Connection;

/// Connections from this number on are no client's: they go with questions.
const QUESTIONS: u32 = 1 << 31;
/// Without a watchdog everybody is asked so often.
const EVERY: Duration = Duration::from_secs(5);

pub(crate) fn is_question(number: u32) -> bool {
    number >= QUESTIONS
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    watchdog: Option<Duration>,
    watched: BTreeMap<WorkerId, Watched>,
    /// Who was killed, and what was known of it then.
    killed: BTreeMap<WorkerId, (Time, Watched)>,
    questions: u32,
    /// So many steps were for nothing else.
    steps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    ready: Option<Time>,
    /// It says by itself that it is there.
    unasked: bool,
    /// Its last word.
    heard: Time,
    /// The question that it has not answered.
    asked: Option<Time>,
}

impl Watched {
    fn new(now: Time) -> Self {
        Self { ready: None, unasked: false, heard: now, asked: None }
    }
}

impl Watch {
    pub(crate) fn new(watchdog: Option<Duration>) -> Self {
        Self { watchdog, ..Self::default() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.watchdog.is_some()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    fn every(&self) -> Duration {
        self.watchdog.map_or(EVERY, |watchdog| (watchdog / 2).min(EVERY))
    }

    pub(crate) fn is_ready(&mut self, now: Time, id: WorkerId) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.ready = Some(now);
            if watched.unasked {
                watched.heard = now;
            }
        }
    }

    fn asked(&mut self, now: Time, id: WorkerId) {
        let every = self.every();
        let watched = self.watched.get_mut(&id).unwrap_or_else(|| panic!("worker {id} is asked for nothing"));
        assert!(watched.ready.is_some() && !watched.unasked, "worker {id} is asked: {watched:?}");
        assert_eq!(watched.asked.replace(now), None, "worker {id} is asked again");
        assert!(now - watched.heard >= every, "worker {id} is asked too often: {watched:?}");
    }

    fn answered(&mut self, now: Time, id: WorkerId) {
        if let Some(watched) = self.watched.get_mut(&id).filter(|watched| !watched.unasked) {
            (watched.asked, watched.heard) = (None, now);
        }
    }

    /// The guard wants it no more, or has nobody to ask.
    pub(crate) fn leaves(&mut self, id: WorkerId) {
        self.watched.remove(&id);
    }

    pub(crate) fn is_killed(&mut self, now: Time, id: WorkerId) {
        if let Some(watched) = self.watched.remove(&id) {
            self.killed.insert(id, (now, watched));
        }
    }

    /// It was killed for its silence.
    pub(crate) fn died_silent(&mut self, id: WorkerId, after: Duration) {
        let (at, watched) = self.killed.remove(&id).expect("it was killed, and was watched until then");
        let since = if watched.unasked { Some(watched.heard) } else { watched.asked };
        let silent = since.map(|since| at - since);
        assert_eq!(silent, Some(after), "worker {id} was killed for another silence: {watched:?}");
        assert!(self.watchdog.is_some_and(|watchdog| after >= watchdog), "too early: {watched:?}");
    }

    /// Nobody is forgotten, and nobody silent for longer than it may.
    pub(crate) fn check(&self, now: Time) {
        for (id, watched) in &self.watched {
            let Some(ready) = watched.ready else { continue };
            let since = watched.asked.unwrap_or(watched.heard.max(ready));
            let is_waited_for = watched.unasked || watched.asked.is_some();
            let may = if is_waited_for { self.watchdog } else { Some(self.every()) };
            assert!(may.is_none_or(|may| now - since <= may), "worker {id} is forgotten: {watched:?}");
        }
    }
}

impl World {
    /// A worker can be asked from now on.
    pub(crate) fn watchable(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get(&id).filter(|worker| worker.temper.watched) {
            // Who gave no sign may have been taken as ready before its first word.
            let ready = self.seats.ready_since(worker.slot, id);
            self.watch.watched.entry(id).or_insert(Watched { ready, ..Watched::new(self.around.now) });
            self.say_to_guard(guard::Input::Watchable(id));
        }
    }

    /// Asks a worker, as the real driver does.
    pub(crate) fn probe(&mut self, id: WorkerId) {
        self.watch.steps += 1;
        self.watch.asked(self.around.now, id);
        if !self.primary.can_probe(id) {
            return self.answered(id);
        }
        self.watch.questions += 1;
        let connection = Connection(QUESTIONS + self.watch.questions);
        self.primary.probe(self.around.now, id, connection);
    }

    /// A worker has answered, or there was nobody to ask.
    pub(crate) fn answered(&mut self, id: WorkerId) {
        self.watch.answered(self.around.now, id);
        self.say_to_guard(guard::Input::Answered(id));
    }

    /// A question is under way to a worker.
    pub(crate) fn send_question(&mut self, id: WorkerId, seq: Seq, connection: Connection) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.session_open) else {
            return self.handle(Input::Returned { worker: id, seq, connection });
        };
        worker.session.push_back((seq, connection));
        self.around.within_ms(worker.temper.pause, Occasion::Asked(id, seq));
    }

    /// A question has come to a worker, which answers at once, or not at all.
    pub(crate) fn hears_question(&mut self, id: WorkerId, seq: Seq) {
        self.watch.steps += 1;
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.session_open && worker.responds())
        else {
            return;
        };
        if self.around.random.chance(worker.temper.silent) {
            return;
        }
        let connection = self.take_from_session(id, seq);
        self.handle(Input::Delivered { worker: id, seq, connection });
        let act = Act::Accepted { ack: seq, accepted: false };
        self.handle(Input::Message { worker: id, message: ClusterMessage { seq: None, act } });
    }

    /// A worker says by itself that it is there, now and in a while.
    pub(crate) fn pings(&mut self, id: WorkerId) {
        // Otherwise nobody wants to hear it.
        let Some(watchdog) = self.watch.watchdog else { return };
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.alive) else { return };
        self.watch.steps += 1;
        let now = self.around.now;
        if let Some(watched) = self.watch.watched.get_mut(&id).filter(|_| worker.responds()) {
            *watched = Watched { unasked: true, heard: now, asked: None, ..*watched };
            self.say_to_guard(guard::Input::Pinged(id));
        }
        self.around.calendar.enter(now + watchdog / 2, Occasion::Pings(id));
    }
}

impl Worker {
    /// Whether it would answer.
    fn responds(&self) -> bool {
        self.alive && !self.hung && self.booted && self.channel_open
    }
}
