//! A model of a worker: a process at the other end of a channel, with a temper.

use std::collections::VecDeque;

use ganger_proto::{
    ListenerKey, Seq, SocketId, WorkerId,
    node::{self, Act, ClusterMessage, Line, Query, Target},
};

use super::{
    temper::{Kind, Temper},
    world::Surroundings,
};
use crate::{
    clients::{Connection, Handle},
    stream::Stream,
};

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) temper: Temper,
    pub(crate) alive: bool,
    /// Its end of the channel.
    pub(crate) channel_open: bool,
    /// The primary has closed its end.
    pub(crate) primary_closed: bool,
    /// What the worker has written and the primary not read.
    pub(crate) up: Stream<Handle>,
    /// What the primary has written and the worker not read.
    pub(crate) down: Stream<Handle>,
    /// How much fits into `down` and into `up`.
    pub(crate) room: usize,
    line: Vec<u8>,
    descriptors: VecDeque<Handle>,
    outbox: Vec<u8>,
    /// Bytes that were ever put into the outbox, and that ever left it.
    queued: u64,
    written: u64,
    online: bool,
    has_listened: bool,
    next_seq: u64,
    asked: Vec<(Seq, usize, Query)>,
    open: Vec<Open>,
    /// Connections that came and are not answered for.
    arrived: VecDeque<Arrived>,
    /// Answered for, not touched yet.
    kept: Vec<u32>,
    /// Touched.
    serving: Vec<u32>,
    last_answered: Seq,
    leaving: Option<Seq>,
    stopping: bool,
    /// It was asked to tell of connections that it closes.
    tells_closes: bool,
}

#[derive(Debug)]
struct Open {
    key: ListenerKey,
    /// Which of the program's addresses it is.
    at: usize,
    /// The socket itself, if it is shared.
    socket: Option<SocketId>,
}

#[derive(Debug)]
struct Arrived {
    seq: Seq,
    key: ListenerKey,
    connection: u32,
    /// Its address was open when it came, and the program did not close it since.
    wanted: bool,
    /// The connection is not used before this much has been written: its ACK.
    acknowledged_at: u64,
}

impl Worker {
    pub(crate) fn new(id: WorkerId, temper: Temper, room: usize) -> Self {
        Self {
            id,
            temper,
            alive: true,
            channel_open: true,
            primary_closed: false,
            up: Stream::new(),
            down: Stream::new(),
            room,
            line: Vec::new(),
            descriptors: VecDeque::new(),
            outbox: Vec::new(),
            queued: 0,
            written: 0,
            online: false,
            has_listened: false,
            next_seq: 0,
            asked: Vec::new(),
            open: Vec::new(),
            arrived: VecDeque::new(),
            kept: Vec::new(),
            serving: Vec::new(),
            last_answered: Seq(u64::MAX >> 1),
            leaving: None,
            stopping: false,
            tells_closes: false,
        }
    }

    /// The connections of which this worker has a copy, on its channel or taken from it.
    pub(crate) fn copies(&self) -> impl Iterator<Item = u32> {
        let number = |handle: &Handle| match handle {
            Handle::Connection(Connection(number)) => Some(*number),
            Handle::Socket(_) => None,
        };
        let travelling = self.down.descriptors().chain(&self.descriptors).filter_map(number);
        let arrived = self.arrived.iter().map(|arrived| arrived.connection);
        travelling.chain(arrived).chain(self.kept.iter().copied()).chain(self.serving.iter().copied())
    }

    /// Whether it has every address that its program asks for.
    pub(crate) fn is_listening(&self, program: &[Target]) -> bool {
        self.open.len() >= program.len()
    }

    /// Whether it has not got so far yet, and may.
    pub(crate) fn is_starting(&self) -> bool {
        self.alive && !self.temper.hung && !self.has_listened
    }

    /// Does one thing, if there is any to do.
    pub(crate) fn act(&mut self, around: &mut Surroundings) -> bool {
        if !self.alive || self.temper.hung {
            return false;
        }
        if !around.calm && self.go_wrong(around) {
            return true;
        }
        const ACTIONS: [fn(&mut Worker, &mut Surroundings) -> bool; 6] =
            [Worker::read, Worker::write, Worker::answer, Worker::serve, Worker::listen, Worker::accept];
        let first = around.random.below(ACTIONS.len());
        (0..ACTIONS.len()).any(|n| ACTIONS[(first + n) % ACTIONS.len()](self, around))
            || self.leave_if_done(around)
    }

    /// The process ends, asked to or not.
    pub(crate) fn die(&mut self, around: &mut Surroundings) {
        around.note("dies", self.id, 0);
        self.alive = false;
        self.drop_channel(around);
        for number in std::mem::take(&mut self.kept).into_iter().chain(std::mem::take(&mut self.serving)) {
            around.clients.copy_closed(number, self.id);
        }
        for arrived in std::mem::take(&mut self.arrived) {
            around.clients.copy_closed(arrived.connection, self.id);
        }
        self.open.clear();
    }

    /// The worker's end is closed: what it has not read is gone, and so is what it has not written.
    pub(crate) fn drop_channel(&mut self, around: &mut Surroundings) {
        self.channel_open = false;
        self.outbox.clear();
        self.line.clear();
        let unread = self.down.discard().chain(std::mem::take(&mut self.descriptors));
        for handle in unread {
            if let Handle::Connection(Connection(number)) = handle {
                around.clients.copy_closed(number, self.id);
            }
        }
        self.asked.clear();
        self.leaving = None;
        if self.alive {
            // What is acknowledged may be used; nobody can be told any more.
            for arrived in std::mem::take(&mut self.arrived) {
                if arrived.acknowledged_at <= self.written && around.random.chance(500) {
                    around.clients.touch(arrived.connection, self.id);
                    self.serving.push(arrived.connection);
                } else {
                    around.clients.copy_closed(arrived.connection, self.id);
                }
            }
            // Without a channel it is of no use and goes when its connections are served.
            self.stopping = true;
            self.open.clear();
        }
    }

    pub(crate) fn say(&mut self, act: Act) -> Seq {
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        let mut line = Vec::new();
        ClusterMessage { seq: Some(seq), act }.write(&mut line);
        self.say_line(&line);
        seq
    }

    pub(crate) fn say_line(&mut self, line: &[u8]) {
        if self.channel_open {
            self.outbox.extend_from_slice(line);
            self.outbox.push(b'\n');
            self.queued += line.len() as u64 + 1;
        }
    }

    /// The number of a connection that was answered for, or of none.
    pub(crate) fn last_answered(&self) -> Seq {
        self.last_answered
    }

    /// The number of a connection that may be under way, but has not come.
    pub(crate) fn guess(&self, ahead: u64) -> Option<Seq> {
        let guess = Seq(self.last_answered.0 + ahead);
        (!self.arrived.iter().any(|arrived| arrived.seq == guess)).then_some(guess)
    }

    /// A query that was answered with a socket before.
    pub(crate) fn query_again(&mut self, around: &mut Surroundings) {
        if let Some(at) = self.open.first().map(|open| open.at) {
            self.ask(at, around);
        }
    }

    pub(crate) fn close_one(&mut self, around: &mut Surroundings) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let at = around.random.below(self.open.len());
        let open = self.open.swap_remove(at);
        around.note("closes a key", self.id, open.at as u32);
        if self.temper.kind == Kind::Ganger {
            self.arrived.iter_mut().for_each(|arrived| arrived.wanted &= arrived.key != open.key);
        }
        self.say(Act::Close { key: open.key });
        true
    }

    pub(crate) fn close_all(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.say(Act::Close { key: open.key });
        }
    }

    /// Announces that it leaves of its own accord.
    pub(crate) fn announce(&mut self, around: &mut Surroundings) {
        if !self.stopping && self.online && self.channel_open {
            around.note("leaves", self.id, 0);
            self.stopping = true;
            self.close_all();
            self.leaving = Some(self.say(Act::ExitedAfterDisconnect));
        }
    }

    fn read(&mut self, around: &mut Surroundings) -> bool {
        if !self.channel_open {
            return false;
        }
        if self.down.unread() == 0 {
            if self.primary_closed {
                around.note("sees the end", self.id, 0);
                self.drop_channel(around);
            }
            return self.primary_closed;
        }
        let most = *around.random.pick(&[7, 60, 200, 4096, 65536]);
        let (bytes, mut descriptor) = self.down.recvmsg(most);
        // Only with a whole line: Node takes the next descriptor for the rest of a cut one.
        if self.temper.starved
            && !around.calm
            && bytes.ends_with(b"\n")
            && around.random.chance(300)
            && let Some(Handle::Connection(Connection(number))) =
                descriptor.take_if(|handle| handle.is_connection())
        {
            around.note("loses a descriptor", self.id, number);
            around.clients.copy_closed(number, self.id);
        }
        self.descriptors.extend(descriptor);
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            let line = String::from_utf8(std::mem::take(&mut self.line)).expect("the primary writes UTF-8");
            self.handle_line(&line, around);
            rest = &rest[end + 1..];
        }
        self.line.extend_from_slice(rest);
        true
    }

    fn handle_line(&mut self, line: &str, around: &mut Surroundings) {
        match node::decode(line).expect("the primary writes JSON") {
            Line::Cluster(message) => self.handle_message(message, None, around),
            Line::Handle { kind, message } => match self.descriptors.pop_front() {
                Some(handle) => {
                    assert!(kind.is_ok(), "{line}");
                    self.say_line(node::HANDLE_ACK.as_bytes());
                    let Ok(Line::Cluster(message)) = node::decode(message) else { panic!("{line}") };
                    self.handle_message(message, Some(handle), around);
                }
                None => self.say_line(node::HANDLE_NACK.as_bytes()),
            },
            // The answers to what we only pretended to send.
            Line::HandleAck | Line::HandleNack => {}
            other => panic!("the primary said {other:?}"),
        }
    }

    fn handle_message(&mut self, message: ClusterMessage, handle: Option<Handle>, around: &mut Surroundings) {
        match (message.act, handle) {
            (Act::NewConn { key }, Some(Handle::Connection(Connection(connection)))) => {
                let seq = message.seq.expect("a newconn has a number");
                let wanted = self.open.iter().any(|open| open.key == key);
                self.arrived.push_back(Arrived {
                    seq,
                    key,
                    connection,
                    wanted,
                    acknowledged_at: self.queued,
                });
            }
            (Act::QueryReply { ack, key, errno, tell_closes, .. }, handle) => {
                self.tells_closes |= tell_closes;
                let at = self.asked.iter().position(|(seq, ..)| *seq == ack).expect("one reply for a query");
                let (_, at, query) = self.asked.swap_remove(at);
                assert_eq!(key, query.key(), "the reply is for another socket");
                if errno.is_some_and(|errno| errno != 0) {
                    assert_eq!(handle, None, "a socket came with an error");
                    return;
                }
                let socket = match handle {
                    Some(Handle::Socket(socket)) => Some(socket),
                    None => None,
                    Some(Handle::Connection(_)) => panic!("a connection came with a reply"),
                };
                if self.stopping {
                    self.say(Act::Close { key });
                } else {
                    self.open.push(Open { key, at, socket });
                    self.has_listened |= self.is_listening(&around.program);
                    self.say(Act::Listening(query));
                }
            }
            (Act::Disconnect, None) => {
                around.note("is told to leave", self.id, 0);
                self.stopping = true;
                self.close_all();
            }
            (Act::Ack { ack }, None) => {
                assert_eq!(self.leaving.take(), Some(ack), "an answer to nothing");
            }
            other => panic!("the primary said {other:?}"),
        }
    }

    fn write(&mut self, around: &mut Surroundings) -> bool {
        if self.outbox.is_empty() {
            return false;
        }
        let room = if self.primary_closed { usize::MAX } else { self.room.saturating_sub(self.up.unread()) };
        let most = *around.random.pick(&[20, 300, 65536]);
        let count = self.outbox.len().min(room).min(most);
        if count > 0 {
            if !self.primary_closed {
                self.up.sendmsg(&self.outbox[..count], None);
            }
            self.outbox.drain(..count);
            self.written += count as u64;
        }
        count > 0
    }

    fn answer(&mut self, around: &mut Surroundings) -> bool {
        // Node answers in order; a program that takes its connections from a queue does not have to.
        let any = self.temper.kind == Kind::Ganger && !self.arrived.is_empty();
        let at = if any { around.random.below(self.arrived.len()) } else { 0 };
        if self.arrived.get(at).is_none_or(|arrived| arrived.acknowledged_at > self.written) {
            return false;
        }
        if self.temper.slow && !around.calm && around.random.chance(900) {
            return false;
        }
        let Some(Arrived { seq, wanted, connection, .. }) = self.arrived.remove(at) else { return false };
        let full =
            !around.calm && self.temper.most.is_some_and(|most| self.kept.len() + self.serving.len() >= most);
        let accepted = wanted && !full;
        around.note(if accepted { "accepts" } else { "refuses" }, self.id, connection);
        if accepted {
            around.clients.kept(connection, self.id);
            self.kept.push(connection);
        } else {
            around.clients.copy_closed(connection, self.id);
        }
        self.say(Act::Accepted { ack: seq, accepted });
        self.last_answered = seq;
        if accepted && self.temper.kind != Kind::Ganger {
            self.serve(around);
        }
        true
    }

    /// Touches what it has kept; serves what it has touched.
    fn serve(&mut self, around: &mut Surroundings) -> bool {
        if let Some(number) = self.kept.pop() {
            around.clients.touch(number, self.id);
            self.serving.push(number);
            return true;
        }
        if self.serving.is_empty() || (!around.calm && around.random.chance(self.temper.lingers)) {
            return false;
        }
        let at = around.random.below(self.serving.len());
        around.clients.served(self.serving.swap_remove(at), self.id);
        if self.tells_closes {
            self.say(Act::Closes { count: 1 });
        }
        true
    }

    /// The program: it says that it runs and then listens on all its addresses.
    fn listen(&mut self, around: &mut Surroundings) -> bool {
        if !self.channel_open || self.stopping {
            return false;
        }
        if !self.online {
            self.online = true;
            self.say(Act::Online { ganger: (self.temper.kind == Kind::Ganger).then_some(1) });
            return true;
        }
        let taken = |at: usize| {
            self.open.iter().any(|open| open.at == at) || self.asked.iter().any(|(_, asked, _)| *asked == at)
        };
        let Some(at) = (0..around.program.len()).find(|at| !taken(*at)) else { return false };
        if self.has_listened && !around.calm && around.random.chance(950) {
            return false;
        }
        self.ask(at, around);
        true
    }

    fn ask(&mut self, at: usize, around: &mut Surroundings) {
        let query = Query::new(&around.program[at], None);
        around.note("asks", self.id, at as u32);
        let seq = self.say(Act::QueryServer(query.clone()));
        self.asked.push((seq, at, query));
    }

    /// Accepts from a shared socket.
    fn accept(&mut self, around: &mut Surroundings) -> bool {
        let sockets = self.open.iter().filter_map(|open| open.socket);
        let accepted = sockets.filter_map(|socket| around.kernel.get_mut(&socket)?.queue.pop_front()).next();
        if let Some(number) = accepted {
            around.note("accepts by itself", self.id, number);
            around.clients.accepted_by_worker(number, self.id);
            self.serving.push(number);
        }
        accepted.is_some()
    }

    /// Closes the channel when all is said, exits when all is served.
    fn leave_if_done(&mut self, around: &mut Surroundings) -> bool {
        if !self.stopping || !self.arrived.is_empty() || !self.outbox.is_empty() || self.leaving.is_some() {
            return false;
        }
        if self.channel_open {
            around.note("closes its channel", self.id, 0);
            self.drop_channel(around);
        } else if self.kept.is_empty() && self.serving.is_empty() {
            self.die(around);
        } else {
            return false;
        }
        true
    }
}
