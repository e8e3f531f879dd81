//! A light model of a worker: messages instead of bytes, and a temper.

use std::collections::VecDeque;
use std::time::Duration;

use ganger_proto::{
    ListenerKey, Seq, Slot, SocketId, Time, WorkerId,
    node::{Act, ClusterMessage, Query, Target},
};

use super::world::{Around, Occasion};
use crate::{clients::Connection, random::Random};

pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) temper: Temper,
    pub(crate) alive: bool,
    /// It does nothing any more.
    pub(crate) hung: bool,
    pub(crate) reaped: bool,
    /// Its end of the channel.
    pub(crate) channel_open: bool,
    /// The primary's end.
    pub(crate) session_open: bool,
    /// What is under way to it.
    pub(crate) down: VecDeque<Down>,
    /// Our copies of connections that it has not acknowledged.
    pub(crate) session: VecDeque<(Seq, Connection)>,
    /// When the last of what it has written is read.
    read_by: Time,
    has_turn: bool,
    pub(crate) booted: bool,
    asked: Vec<(Seq, usize)>,
    open: Vec<Open>,
    /// Acknowledged, not answered for.
    arrived: VecDeque<(Seq, ListenerKey, u32)>,
    serving: Vec<u32>,
    leaving: Option<Seq>,
    stopping: bool,
    tells_closes: bool,
    /// What it ends with.
    pub(crate) code: i32,
    next_seq: u64,
}

/// A worker that crashes, …
pub(crate) const CRASH: i32 = 1;
/// … or says that it is not to be started again.
pub(crate) const ENOUGH: u8 = 78;

/// What is wrong with it, and how fast it is.
#[derive(Debug)]
pub(crate) struct Temper {
    pub(crate) kind: Kind,
    /// From its start until it runs, in ms.
    boot: usize,
    /// It ends so many ms after its start.
    lives: Option<usize>,
    /// The longest pause between two things that it does, and the longest that it serves a client, in ms.
    pub(crate) pause: usize,
    serves: usize,
    /// The most connections that it serves at a time.
    pub(crate) most: usize,
    /// How much fits into its channel.
    pub(crate) room: usize,
    /// The stop signal does nothing to it, and when it is asked to leave it does not end.
    obstinate: bool,
    /// How often in a thousand it refuses a connection, …
    pub(crate) refuses: usize,
    /// … did not get it and says so, …
    pub(crate) loses: usize,
    /// … or does not say so.
    pub(crate) silent: usize,
    /// Whether somebody looks whether it is there. In a large gang it is few: questions are not all that is to happen.
    pub(crate) watched: bool,
    /// Whether it says so by itself.
    pub(crate) pings: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Node as far as anybody knows.
    Plain,
    /// Known to be Node.
    Node,
    /// Of this project.
    Ganger,
}

/// Something on its way to a worker.
pub(crate) enum Down {
    Message(ClusterMessage, Option<SocketId>),
    Connection(Seq, ListenerKey, u32),
}

/// Something that a worker has written.
#[derive(Debug)]
pub(crate) enum Said {
    Message(ClusterMessage),
    Ack(Seq),
    Nack(Seq),
    Garbage,
}

#[derive(Debug)]
struct Open {
    key: ListenerKey,
    /// Which of the program's addresses it is.
    at: usize,
    /// The socket itself, if the kernel shares it out.
    socket: Option<SocketId>,
}

impl Temper {
    pub(crate) fn new(random: &mut Random, bad: bool, calm: bool, size: usize) -> Self {
        let kind = *random.pick(&[Kind::Plain, Kind::Node, Kind::Ganger]);
        let mut often = |per_mille: usize, most: usize| {
            if !calm && random.chance(per_mille) { 1 + random.below(most) } else { 0 }
        };
        let (refuses, loses, silent) = (often(100, 300), often(50, 100), often(20, 100));
        let (slow, few, narrow, obstinate) = (often(50, 400), often(100, 3), often(50, 8), often(100, 1) > 0);
        let or = |value: usize, otherwise: usize| if value > 0 { value } else { otherwise };
        let mut temper = Self {
            kind,
            boot: 20 + random.below(400),
            lives: None,
            pause: or(slow, 2),
            serves: *random.pick(&[5, 50, 2000]),
            most: or(few, 1000),
            room: or(narrow, 1000),
            obstinate,
            refuses,
            loses,
            silent,
            watched: random.chance(20_000 / size),
            pings: random.chance(200),
        };
        if bad {
            match random.below(4) {
                0 => temper.lives = Some(random.below(temper.boot)),
                1 => temper.lives = Some(temper.boot + random.below(900)),
                2 => temper.boot = 2000 + random.below(40_000),
                // It never gets that far.
                _ => temper.boot = 3_600_000,
            }
        }
        temper
    }

    /// Its faults end.
    fn calm_down(&mut self) {
        (self.refuses, self.loses, self.silent) = (0, 0, 0);
        (self.most, self.room) = (1000, 1000);
    }
}

impl Worker {
    /// A process that was just started.
    pub(crate) fn start(id: WorkerId, slot: Slot, temper: Temper, around: &mut Around) -> Self {
        let after = |ms: usize| around.now + Duration::from_millis(ms as u64);
        let (boots, dies) = (after(temper.boot), temper.lives.map(after));
        around.calendar.enter(boots, Occasion::Turn(id));
        if let Some(dies) = dies {
            around.calendar.enter(dies, Occasion::Ends(id));
        }
        Self {
            id,
            slot,
            temper,
            alive: true,
            hung: false,
            reaped: false,
            channel_open: true,
            session_open: true,
            down: VecDeque::new(),
            session: VecDeque::new(),
            read_by: around.now,
            has_turn: true,
            booted: false,
            asked: Vec::new(),
            open: Vec::new(),
            arrived: VecDeque::new(),
            serving: Vec::new(),
            leaving: None,
            stopping: false,
            tells_closes: false,
            code: CRASH,
            next_seq: 0,
        }
    }

    /// The connections of which it has a copy, on its channel or taken from it.
    pub(crate) fn copies(&self) -> impl Iterator<Item = u32> {
        let travelling = self.down.iter().filter_map(|down| match down {
            Down::Connection(_, _, number) => Some(*number),
            Down::Message(..) => None,
        });
        let arrived = self.arrived.iter().map(|(_, _, number)| *number);
        travelling.chain(arrived).chain(self.serving.iter().copied())
    }

    /// Whether it would take a connection from the kernel.
    pub(crate) fn can_accept(&self) -> bool {
        self.alive && !self.hung && !self.stopping && self.serving.len() < self.temper.most
    }

    /// There is something to do for it.
    pub(crate) fn wake(&mut self, around: &mut Around) {
        if self.alive && !self.hung && self.booted && !self.has_turn {
            self.has_turn = true;
            around.within_ms(self.temper.pause, Occasion::Turn(self.id));
        }
    }

    /// It does one thing.
    pub(crate) fn turn(&mut self, around: &mut Around) {
        self.has_turn = false;
        if !self.alive || self.hung {
            return;
        }
        if !self.booted {
            self.boot(around);
        } else if around.random.chance(500) || !self.answer(around) {
            let _ = self.read(around) || self.answer(around) || self.accept(around);
        }
        let waited_for = |open: &Open| open.socket.is_some_and(|socket| around.kernel.has_waiting(socket));
        let accepts = self.can_accept() && self.open.iter().any(waited_for);
        if !self.down.is_empty() || !self.arrived.is_empty() || accepts {
            self.wake(around);
        } else {
            self.leave_if_done(around);
        }
    }

    fn boot(&mut self, around: &mut Around) {
        self.booted = true;
        let ganger = (self.temper.kind == Kind::Ganger).then_some(1);
        self.say(around, Act::Online { ganger });
        (0..around.program.len()).for_each(|at| self.ask(at, around));
    }

    pub(crate) fn ask(&mut self, at: usize, around: &mut Around) {
        let known = self.open.iter().any(|open| open.at == at) || self.asked.iter().any(|(_, of)| *of == at);
        if self.alive && !self.hung && self.channel_open && !self.stopping && !known {
            let query = Query::new(&around.program[at], None);
            let seq = self.say(around, Act::QueryServer(query));
            self.asked.push((seq, at));
        }
    }

    fn say(&mut self, around: &mut Around, act: Act) -> Seq {
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        self.write(around, Said::Message(ClusterMessage { seq: Some(seq), act }));
        seq
    }

    pub(crate) fn write(&mut self, around: &mut Around, said: Said) {
        if self.channel_open {
            let delay = Duration::from_micros(around.random.below(3000) as u64);
            self.read_by = self.read_by.max(around.now + delay);
            around.calendar.enter(self.read_by, Occasion::Heard(self.id, said));
        }
    }

    fn read(&mut self, around: &mut Around) -> bool {
        match self.down.pop_front() {
            None => return false,
            Some(Down::Message(message, socket)) => self.obey(around, message.act, socket),
            Some(Down::Connection(seq, key, number)) => {
                if around.random.chance(self.temper.silent) {
                    around.note("says nothing of", self.id, number);
                    around.clients.copy_closed(number, self.id);
                    self.hung |= around.random.chance(100);
                } else if around.random.chance(self.temper.loses) {
                    around.clients.copy_closed(number, self.id);
                    self.write(around, Said::Nack(seq));
                } else {
                    self.write(around, Said::Ack(seq));
                    self.arrived.push_back((seq, key, number));
                }
            }
        }
        true
    }

    fn obey(&mut self, around: &mut Around, act: Act, socket: Option<SocketId>) {
        match act {
            Act::QueryReply { ack, key, errno, tell_closes, .. } => {
                let Some(at) = self.asked.iter().position(|(seq, _)| *seq == ack) else { return };
                let (_, at) = self.asked.swap_remove(at);
                if errno.is_some_and(|errno| errno != 0) {
                    // An error that nobody handles.
                    return self.die(around);
                }
                self.tells_closes |= tell_closes;
                if let Some(socket) = socket {
                    around.kernel.give(socket, self.id);
                }
                let target = &around.program[at];
                let port = match target {
                    Target::Tcp { port, .. } => i64::from((*port).max(1)),
                    other => unreachable!("no worker asks for {other:?}"),
                };
                let query = Query { port: Some(port), ..Query::new(target, None) };
                self.open.push(Open { key, at, socket });
                self.say(around, Act::Listening(query));
            }
            Act::Disconnect => self.stop(around),
            Act::Ack { ack } if self.leaving == Some(ack) => self.stop(around),
            _ => {}
        }
    }

    /// Takes a connection that has come, or does not.
    fn answer(&mut self, around: &mut Around) -> bool {
        let Some((ack, key, number)) = self.arrived.pop_front() else { return false };
        let wanted = self.serving.len() < self.temper.most && self.open.iter().any(|open| open.key == key);
        let accepted = wanted && !around.random.chance(self.temper.refuses);
        if accepted {
            around.clients.kept(number, self.id);
            if around.random.chance(500) {
                around.clients.touch(number, self.id);
            }
            self.serve(number, around);
        } else {
            around.clients.copy_closed(number, self.id);
            around.clients.refused(number, self.id, around.step);
        }
        self.say(around, Act::Accepted { ack, accepted });
        true
    }

    fn accept(&mut self, around: &mut Around) -> bool {
        if !self.can_accept() {
            return false;
        }
        let mut sockets = self.open.iter().filter_map(|open| open.socket);
        let Some(number) = sockets.find_map(|socket| around.kernel.take_for_worker(socket)) else {
            return false;
        };
        around.clients.accepted_by_worker(number, self.id);
        self.serve(number, around);
        if !self.can_accept() {
            self.leave_to_others(around);
        }
        true
    }

    fn serve(&mut self, number: u32, around: &mut Around) {
        self.serving.push(number);
        around.within_ms(self.temper.serves, Occasion::Served(self.id, number));
    }

    pub(crate) fn served(&mut self, number: u32, around: &mut Around) {
        let Some(at) = self.serving.iter().position(|serving| *serving == number) else { return };
        if !self.alive || self.hung {
            return;
        }
        self.serving.swap_remove(at);
        if !around.clients.is_touched(number) {
            around.clients.touch(number, self.id);
        }
        around.clients.served(number, self.id);
        if self.tells_closes {
            self.say(around, Act::Closes { count: 1 });
        }
        self.wake(around);
    }

    /// It says that it is going to leave, and does when it is answered.
    pub(crate) fn announce(&mut self, around: &mut Around) {
        if self.booted && !self.stopping && self.leaving.is_none() && self.channel_open {
            around.note("leaves", self.id, 0);
            self.code = if around.random.chance(500) { CRASH } else { 0 };
            self.leaving = Some(self.say(around, Act::ExitedAfterDisconnect));
        }
    }

    /// It closes one of its addresses, and opens it again after a while.
    pub(crate) fn close_one(&mut self, around: &mut Around) {
        if let Some(Open { key, at, socket }) = self.open.pop() {
            around.note("closes an address", self.id, at as u32);
            self.release(socket, around);
            self.say(around, Act::Close { key });
            around.within_ms(2000, Occasion::Opens(self.id, at));
        }
    }

    fn stop(&mut self, around: &mut Around) {
        // What it was given before it takes.
        while self.answer(around) {}
        self.stopping = true;
        self.asked.clear();
        for Open { key, socket, .. } in std::mem::take(&mut self.open) {
            self.release(socket, around);
            self.say(around, Act::Close { key });
        }
    }

    fn leave_if_done(&mut self, around: &mut Around) {
        if self.stopping && self.serving.is_empty() {
            if self.channel_open {
                self.drop_channel(around);
            }
            if !self.temper.obstinate {
                around.within_ms(500, Occasion::Ends(self.id));
            }
        }
    }

    /// Its end of the channel is closed: what it has not read is gone, what it has written is read.
    pub(crate) fn drop_channel(&mut self, around: &mut Around) {
        if !std::mem::replace(&mut self.channel_open, false) {
            return;
        }
        let travelling = std::mem::take(&mut self.down).into_iter().filter_map(|down| match down {
            Down::Connection(_, _, number) => Some(number),
            Down::Message(..) => None,
        });
        let arrived = std::mem::take(&mut self.arrived).into_iter().map(|(_, _, number)| number);
        travelling.chain(arrived).for_each(|number| around.clients.copy_closed(number, self.id));
        // Now and then a descendant of the dead holds it open for longer.
        let delay = if around.random.chance(30) { 3000 } else { 20 };
        self.read_by =
            self.read_by.max(around.now + Duration::from_millis(around.random.below(delay) as u64));
        around.calendar.enter(self.read_by, Occasion::Eof(self.id));
        self.close_sockets(around);
        // Without a channel it is of no use, and goes when its clients are served.
        self.stopping = true;
        self.asked.clear();
    }

    /// The process ends, asked to or not.
    pub(crate) fn die(&mut self, around: &mut Around) {
        if !std::mem::replace(&mut self.alive, false) {
            return;
        }
        around.note("dies", self.id, self.slot.0);
        self.drop_channel(around);
        let serving = std::mem::take(&mut self.serving);
        serving.into_iter().for_each(|number| around.clients.copy_closed(number, self.id));
        around.within_ms(30, Occasion::Reaped(self.id));
    }

    /// It ends of itself, with this code.
    pub(crate) fn exit(&mut self, code: i32, around: &mut Around) {
        self.code = code;
        self.die(around);
    }

    /// It gets the stop signal.
    pub(crate) fn terminate(&mut self, around: &mut Around) {
        if !self.temper.obstinate {
            self.die(around);
        }
    }

    pub(crate) fn hang(&mut self, around: &mut Around) {
        around.note("hangs", self.id, self.slot.0);
        self.hung = true;
        self.leave_to_others(around);
    }

    /// The faults end; who is beyond help dies, unless a watchdog is to find it.
    pub(crate) fn calm_down(&mut self, around: &mut Around, watchdog: bool) {
        let is_found = watchdog && self.temper.watched && self.temper.kind != Kind::Plain;
        // Connections of which it said nothing are waited for until it goes.
        if (self.hung && !is_found) || !self.booted || self.temper.silent > 0 {
            self.die(around);
        }
        self.temper.calm_down();
        self.wake(around);
    }

    fn close_sockets(&mut self, around: &mut Around) {
        for Open { socket, .. } in std::mem::take(&mut self.open) {
            self.release(socket, around);
        }
    }

    fn release(&mut self, socket: Option<SocketId>, around: &mut Around) {
        if let Some(socket) = socket {
            around.kernel.take_away(socket, self.id);
            around.within_ms(1, Occasion::Readable(socket));
        }
    }

    /// Who waits in its sockets is told to the others that have them.
    fn leave_to_others(&self, around: &mut Around) {
        for socket in self.open.iter().filter_map(|open| open.socket) {
            if around.kernel.has_waiting(socket) {
                around.within_ms(1, Occasion::Readable(socket));
            }
        }
    }
}
