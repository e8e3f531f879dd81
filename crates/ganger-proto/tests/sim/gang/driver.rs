//! The driver: performs what the machines want, and brings each what it should hear. Like the real one it performs the
//! guard's actions before it looks at the primary's next event.

use ganger_proto::{
    Generation, Seq, Slot, SocketId, WorkerId,
    cluster::{Capabilities, Effect, Event, Fate, Input, Policy, Primary},
    guard::{self, Action, Answer, Cause, Exit, Guard, Notice, Sign, Verdict},
    node::{Act, ClusterMessage},
};

use super::{
    watch::is_question,
    worker::{CRASH, Down, Kind, Said, Temper, Worker},
    world::{Occasion, World},
};
use crate::clients::{Connection, Place};

impl World {
    /// The primary hears something. What it wants is performed at the end of the step.
    pub(crate) fn handle(&mut self, input: Input<Connection>) {
        self.primary.handle(self.around.now, input);
    }

    /// The guard hears something.
    pub(crate) fn say_to_guard(&mut self, input: guard::Input) {
        self.guard.handle(self.around.now, input);
        self.look_at_clock();
    }

    /// Performs all that is wanted.
    pub(crate) fn perform(&mut self) {
        loop {
            if let Some(effect) = self.primary.poll_effect() {
                self.perform_effect(effect);
            } else if let Some(action) = self.guard.poll_action() {
                self.perform_action(action);
            } else if let Some(event) = self.told.pop_front() {
                self.tell(event);
            } else {
                return;
            }
        }
    }

    fn perform_effect(&mut self, effect: Effect<Connection>) {
        match effect {
            Effect::Send { worker, message } => self.send(worker, message, None),
            Effect::SendSocket { worker, socket, message, .. } => self.send(worker, message, Some(socket)),
            Effect::SendConnection { worker, seq, message, connection, .. } => {
                self.send_connection(worker, seq, message, connection);
            }
            Effect::Bind { socket, target, .. } => self.around.within_ms(5, Occasion::Bound(socket, target)),
            Effect::Accept { socket, on } => {
                self.around.kernel.set_accepting(socket, on);
                self.around.within_ms(2, Occasion::Readable(socket));
            }
            Effect::Close { socket, .. } => {
                let unwanted = !self.is_held(socket) && !self.replacements_due;
                assert!(
                    self.closed || self.around.kernel.is_steered(socket) || unwanted,
                    "it is closed while somebody has it or is about to come"
                );
                self.close(socket);
            }
            Effect::Steer { socket, away } => self.around.kernel.steer(socket, away),
            Effect::Peek { listener, connection, peer } => {
                let number = connection.0;
                self.around.clients.moved(number, Place::Primary, Place::Driver);
                self.peeking.insert(number, (listener, connection, peer));
                self.around.within_ms(20, Occasion::Peeked(number));
            }
            Effect::Examine { listener, connection, peer } => {
                let number = connection.0;
                self.around.clients.moved(number, Place::Primary, Place::Driver);
                self.examining.insert(number, (listener, connection, peer));
                self.around.within_ms(1, Occasion::Examined(number));
            }
            Effect::Drop { connection, fate } => {
                let is_question = is_question(connection.0);
                assert_eq!(is_question, fate == Fate::Probe, "{connection:?} is {fate:?}");
                if is_question {
                    return;
                }
                if fate != Fate::Accepted {
                    self.around.note("is given up", WorkerId(0), connection.0);
                }
                if matches!(fate, Fate::Refused | Fate::Orphaned) {
                    self.check_given_up(connection.0, fate);
                }
                self.around.clients.closed(connection.0, Place::Primary, fate);
            }
            Effect::Event(event) => self.told.push_back(event),
        }
    }

    fn send(&mut self, id: WorkerId, message: ClusterMessage, socket: Option<SocketId>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !worker.session_open || !worker.channel_open {
            return;
        }
        if worker.down.len() >= worker.temper.room.max(4) {
            // Who does not read what it asked for is beyond help.
            return worker.die(&mut self.around);
        }
        worker.down.push_back(Down::Message(message, socket));
        worker.wake(&mut self.around);
    }

    fn send_connection(&mut self, id: WorkerId, seq: Seq, message: ClusterMessage, connection: Connection) {
        let Act::NewConn { key } = message.act else { unreachable!("{message:?} brings a connection") };
        let number = connection.0;
        if is_question(number) {
            return self.send_question(id, seq, connection);
        }
        let worker = self.workers.get_mut(&id).filter(|worker| worker.session_open);
        let Some(worker) = worker.filter(|worker| worker.down.len() < worker.temper.room) else {
            self.around.note("is full for", id, number);
            self.around.clients.refused(number, id, self.around.step);
            return self.handle(Input::Returned { worker: id, seq, connection });
        };
        assert!(!worker.reaped, "a connection for the dead");
        let dispatched = self.seats.is_dispatched(worker.slot, id);
        assert!(dispatched || self.closed, "worker {id} gets a connection and is not in dispatch");
        assert!(self.closed || !self.held_back.contains(&id), "worker {id} is held back");
        assert!(self.closed || !self.paused.contains(&worker.slot), "slot {} is paused", worker.slot);
        self.around.clients.moved(number, Place::Primary, Place::Session(id));
        worker.session.push_back((seq, connection));
        // Its end may be closed already: then it never gets there.
        if worker.channel_open {
            self.around.clients.sent(number, id);
            worker.down.push_back(Down::Connection(seq, key, number));
            worker.wake(&mut self.around);
        }
    }

    fn close(&mut self, socket: SocketId) {
        for number in self.around.kernel.close(socket) {
            self.accepted(socket, number);
        }
        let here = |(number, (at, ..)): (&u32, &(SocketId, _, _))| (*at == socket).then_some(*number);
        let peeking: Vec<u32> = self.peeking.iter().filter_map(here).collect();
        peeking.into_iter().for_each(|number| self.peeked(number));
        self.handle(Input::Closed { socket });
    }

    /// What a worker wrote is read.
    pub(crate) fn heard(&mut self, id: WorkerId, said: Said) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.session_open) else { return };
        match said {
            Said::Message(message) => self.handle(Input::Message { worker: id, message }),
            Said::Ack(seq) => {
                let connection = self.take_from_session(id, seq);
                self.handle(Input::Delivered { worker: id, seq, connection });
            }
            Said::Nack(seq) => {
                let connection = self.take_from_session(id, seq);
                if !is_question(connection.0) {
                    self.around.clients.refused(connection.0, id, self.around.step);
                }
                self.handle(Input::Returned { worker: id, seq, connection });
            }
            Said::Garbage => {
                let slot = worker.slot;
                worker.drop_channel(&mut self.around);
                // Nothing that it says now would be believed: it may have all that was sent, as a session says then.
                let sent: Vec<Seq> = worker.session.iter().map(|(seq, _)| *seq).collect();
                for seq in sent {
                    let connection = self.take_from_session(id, seq);
                    self.handle(Input::Delivered { worker: id, seq, connection });
                }
                // What broke a rule has used its channel.
                self.seats.is_online(slot, id);
                self.say_to_guard(guard::Input::Online(id));
                self.say_to_guard(guard::Input::Condemned(id, "garbage".into()));
                self.channel_ended(id);
            }
        }
    }

    pub(crate) fn take_from_session(&mut self, id: WorkerId, seq: Seq) -> Connection {
        let worker = self.workers.get_mut(&id).expect("it has just spoken");
        let at = worker.session.iter().position(|(sent, _)| *sent == seq);
        let sent = at.and_then(|at| worker.session.remove(at));
        let (_, connection) = sent.unwrap_or_else(|| panic!("worker {id} was not sent {seq:?}"));
        self.leaves_session(id, connection.0);
        connection
    }

    fn leaves_session(&mut self, id: WorkerId, number: u32) {
        if !is_question(number) {
            self.around.clients.moved(number, Place::Session(id), Place::Primary);
        }
    }

    /// A worker's channel is read to its end, or cut.
    pub(crate) fn channel_ended(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !std::mem::replace(&mut worker.session_open, false) {
            return;
        }
        let undelivered: Vec<(Seq, Connection)> = std::mem::take(&mut worker.session).into();
        self.seats.out_of_dispatch(worker.slot, id);
        undelivered.iter().for_each(|(_, connection)| self.leaves_session(id, connection.0));
        self.around.note("channel ended", id, undelivered.len() as u32);
        self.handle(Input::ChannelClosed { worker: id, undelivered });
        self.forget(id);
    }

    /// A dead process is reaped.
    pub(crate) fn reaped(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.reaped = true;
        self.seats.out_of_dispatch(worker.slot, id);
        self.around.note("reaped", id, worker.slot.0);
        self.handle(Input::Exited { worker: id });
    }

    fn forget(&mut self, id: WorkerId) {
        if self.workers.get(&id).is_some_and(|worker| worker.reaped && !worker.session_open) {
            self.workers.remove(&id);
        }
    }

    fn tell(&mut self, event: Event) {
        let input = match event {
            Event::Online { worker } => {
                let known = self.workers.get(&worker).map(|worker| (worker.slot, worker.temper.kind));
                if let Some((slot, _)) = known {
                    self.seats.is_online(slot, worker);
                }
                if known.is_some_and(|(_, kind)| kind == Kind::Node) {
                    self.primary.set_capabilities(self.around.now, worker, Capabilities::NODE);
                }
                self.say_to_guard(guard::Input::Online(worker));
                return self.watchable(worker);
            }
            Event::Probed { worker, .. } => return self.answered(worker),
            Event::Listening { worker, query } => {
                let address = format!("{:?}:{:?}", query.address, query.port);
                self.say_to_guard(guard::Input::Opened(worker, address));
                guard::Input::Sign(worker, Sign::Listening)
            }
            Event::Leaving { worker } => guard::Input::Leaving(worker),
            Event::Disconnect { worker } => guard::Input::Disconnected(worker),
            Event::Exit { worker, .. } => {
                let mut code = CRASH;
                if let Some(worker) = self.workers.get(&worker) {
                    code = worker.code;
                    let last = self.no_restart_codes.iter().any(|known| i32::from(*known) == code);
                    self.seats.ends(self.around.now, worker.slot, worker.id, code, last);
                }
                self.held_back.remove(&worker);
                self.watch.leaves(worker);
                self.limits.is_gone(worker);
                self.forget(worker);
                self.ends.seen(worker);
                guard::Input::Exited(worker, Exit::Code(code))
            }
            _ => return,
        };
        self.say_to_guard(input);
    }

    fn perform_action(&mut self, action: Action) {
        assert_eq!(self.ended, None, "after its end the gang wants {action:?}");
        if let Action::Notice(notice) = &action {
            self.ends.told(notice);
        }
        match action {
            Action::Start(slot, generation) => self.start(slot, generation),
            Action::Hint(id) => {
                self.limits.is_dismissed(id);
                self.leaves(id);
                self.around.note("withdrawn", id, 0);
                self.primary.drain(self.around.now, id);
            }
            Action::Shed(id, over) => self.primary.shed(id, over),
            Action::Retire(id) => {
                self.retires(id);
                self.around.note("retired", id, 0);
                self.primary.disconnect(self.around.now, id);
            }
            Action::RetireSlot(slot) => self.primary.retire_slot(self.around.now, slot),
            Action::Pause(slot, paused) => {
                if paused {
                    self.paused.insert(slot)
                } else {
                    self.paused.remove(&slot)
                };
                self.primary.pause_slot(self.around.now, slot, paused);
            }
            Action::Probe(id) => self.probe(id),
            Action::HoldBack(id) => {
                self.held_back.insert(id);
                self.primary.hold_back(id);
            }
            Action::Admit(id) => {
                assert!(self.held_back.remove(&id), "worker {id} is not held back");
                self.primary.admit(self.around.now, id);
            }
            Action::Try(id, within) => {
                let bad = !self.around.calm && self.around.random.chance(300);
                let status = if bad { 503 } else { 200 };
                let is_silent = bad && self.around.random.chance(300);
                if is_silent || self.workers.get(&id).is_none_or(|worker| !worker.alive || worker.hung) {
                    let late = Occasion::Answers(id, Answer::Unanswered);
                    self.around.calendar.enter(self.around.now + within, late);
                } else {
                    self.around.within_ms(100, Occasion::Answers(id, Answer::Status(status)));
                }
            }
            Action::Terminate(id) => self.with(id, Worker::terminate),
            Action::Kill(id) => {
                if let Some(worker) = self.workers.get(&id) {
                    self.seats.killed(worker.slot, id);
                }
                self.watch.is_killed(self.around.now, id);
                self.with(id, |worker, around| worker.exit(CRASH, around));
            }
            Action::Agent(action) => self.perform_on_agent(action),
            Action::CloseSockets => {
                self.check_delay();
                self.closed = true;
                self.around.calm |= self.stopped.is_some();
                self.agents.gang_ends();
                self.end_began(self.around.now);
                self.primary.close_sockets();
            }
            Action::ReplacementsDue(due) => {
                assert_ne!(self.replacements_due, due, "it is said when it changes");
                self.replacements_due = due;
                self.primary.set_replacements_due(self.around.now, due);
            }
            Action::Notice(Notice::WorkerReady { worker, slot, .. }) => {
                self.around.note("ready", worker, slot.0);
                self.seats.is_ready(self.around.now, slot, worker);
                self.watch.is_ready(self.around.now, worker);
            }
            Action::Notice(Notice::Died { worker, cause: Cause::Unresponsive { after }, .. }) => {
                self.around.note("was silent", worker, after.as_millis() as u32);
                self.watch.died_silent(worker, after);
            }
            Action::Notice(Notice::Recycled { worker, slot, replaced_by, .. }) => {
                self.around.note("recycled", worker, slot.0);
                self.is_recycled(slot, worker, replaced_by);
            }
            Action::Notice(Notice::NotRecycled { worker, retry_in, .. }) => {
                self.limits.goes_on(worker, self.around.now + retry_in);
            }
            Action::Notice(Notice::Agent(notice)) => self.agents.told(self.around.now, &notice),
            Action::Notice(Notice::Reloading { .. }) => self.agents.is_replaced(),
            Action::Notice(Notice::Scaled { to, .. }) => self.seats.scaled(to as usize),
            Action::Notice(_) => {}
            Action::End(verdict) => self.ended(verdict),
        }
    }

    /// The guard has it finish what it has. Who is ill keeps its seat where its end decides who follows.
    fn retires(&mut self, id: WorkerId) {
        if self.seats.are_kept_by_the_ill() && !self.closed {
            if let Some(worker) = self.workers.get(&id) {
                self.seats.out_of_dispatch(worker.slot, id);
            }
            self.watch.leaves(id);
        } else {
            self.leaves(id);
        }
    }

    /// The guard does not want it any more.
    fn leaves(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get(&id) {
            self.seats.out_of_dispatch(worker.slot, id);
            self.seats.leaves(self.around.now, worker.slot, id);
        }
        self.watch.leaves(id);
    }

    fn start(&mut self, slot: Slot, generation: Generation) {
        assert!(!self.closed, "a worker is started in a gang that ends");
        assert!(self.agents.came_first(), "a worker is started before the agent is ready");
        let now = self.around.now;
        // What a reload has decided is done, also when it has failed meanwhile.
        if self.guard.is_reloading() {
            self.reloaded = Some(now);
        }
        let reloading = self.reloaded == Some(now);
        let old = self.seats.occupant(slot).filter(|_| !reloading);
        if let Some(old) = old {
            self.check_recycling(slot, old);
        }
        self.seats.starts(now, slot, reloading || old.is_some(), old.is_some());
        let id = self.primary.fork(slot, generation, true);
        let bad = self.around.random.chance(self.around.badness);
        if bad && self.around.random.chance(200) {
            self.around.note("not started", id, slot.0);
            self.primary.fork_failed(id);
            self.seats.start_failed(now, slot);
            return self.say_to_guard(guard::Input::StartFailed { slot, error: "no memory".into() });
        }
        self.around.note("started", id, slot.0);
        let temper = Temper::new(&mut self.around.random, bad, self.around.calm, self.seats.len());
        if temper.pings {
            self.around.within_ms(1000, Occasion::Pings(id));
        }
        self.workers.insert(id, Worker::start(id, slot, temper, &mut self.around));
        self.seats.started(slot, id);
        let no_restart_codes = self.no_restart_codes.clone();
        self.say_to_guard(guard::Input::Started { slot, worker: id, channel: true, no_restart_codes });
    }

    fn ended(&mut self, verdict: Verdict) {
        let alive = self.workers.values().find(|worker| !worker.reaped);
        assert!(alive.is_none(), "the gang has ended, and a worker has not");
        assert!(self.agents.are_gone(), "the gang has ended, and the agent has not");
        self.check_verdict(&verdict);
        self.ended = Some(verdict);
    }

    /// Both machines go into another program.
    pub(crate) fn upgrade(&mut self) {
        self.around.note("upgrade", WorkerId(0), 0);
        let primary = std::mem::replace(&mut self.primary, Primary::new(Policy::RoundRobin));
        let before = primary.snapshot();
        let text =
            serde_json::to_string(&primary.map_handles(|connection| connection.0)).expect("plain data");
        let primary: Primary<u32> = serde_json::from_str(&text).expect("what was written is read");
        self.primary = primary.map_handles(Connection);
        assert_eq!(self.primary.snapshot(), before);
        let text = serde_json::to_string(&self.guard).expect("plain data");
        self.guard = serde_json::from_str::<Guard>(&text).expect("what was written is read");
        assert_eq!(serde_json::to_string(&self.guard).expect("plain data"), text);
        self.look_at_clock();
    }
}
