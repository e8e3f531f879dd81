//! The world around the machines: the kernel, the clock, the processes, and a driver that performs effects
//! exactly as the real one does. Faults are inputs, drawn from the seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ganger_proto::{
    ListenerKey, Seq, Session, Slot, SocketId, Time, WorkerId,
    cluster::{Client, Input, Peer, Policy, Primary, StickyBy},
    node::{Act, Sockname, Target},
    session::{self, Limits},
};

use super::{gang::Gang, worker::Worker};
use crate::{
    clients::{Clients, Connection, Handle, Place},
    log::Log,
    random::Random,
};

const EADDRINUSE: i32 = 98;

/// Everything.
pub(crate) struct World {
    pub(crate) around: Surroundings,
    pub(crate) primary: Primary<Connection>,
    pub(crate) processes: Vec<Process>,
    pub(crate) gang: Gang,
    /// What is being bound.
    pub(crate) binding: VecDeque<(SocketId, Target)>,
    pub(crate) examining: Vec<(SocketId, Connection, Peer)>,
    /// Whose first bytes are waited for.
    pub(crate) peeking: Vec<(SocketId, Connection, Peer)>,
    /// When the primary took the worker's query for a socket: what it refused before does not count.
    pub(crate) joined: BTreeMap<(WorkerId, ListenerKey), u64>,
    /// Which connection went with which number.
    pub(crate) numbers: BTreeMap<Seq, u32>,
    /// How often in a thousand steps a client comes.
    load: usize,
    /// How much time passes between things that happen.
    pace: usize,
    /// Whether effects are performed only when all that one read brought is told.
    pub(crate) lazy: bool,
}

/// What a worker's model sees and touches.
pub(crate) struct Surroundings {
    pub(crate) random: Random,
    pub(crate) now: Time,
    pub(crate) step: u64,
    pub(crate) kernel: BTreeMap<SocketId, Listening>,
    /// Those that nobody is led to any more.
    pub(crate) steered: BTreeSet<SocketId>,
    pub(crate) clients: Clients,
    /// The addresses that every worker listens on.
    pub(crate) program: Vec<Target>,
    /// From 0, no faults, to 3.
    pub(crate) trouble: usize,
    /// Every worker serves few connections at a time.
    pub(crate) stingy: bool,
    /// The faults are over.
    pub(crate) calm: bool,
    pub(crate) log: Log,
}

/// A socket of the kernel.
pub(crate) struct Listening {
    pub(crate) queue: VecDeque<u32>,
    pub(crate) accepting: bool,
}

/// A worker's process as the driver sees it.
pub(crate) struct Process {
    pub(crate) worker: Worker,
    /// Our end of its channel; none when it was read to its end.
    pub(crate) session: Option<Session<Handle>>,
    pub(crate) reaped: bool,
}

impl Surroundings {
    pub(crate) fn note(&mut self, what: &'static str, worker: WorkerId, number: u32) {
        self.log.note(self.step, self.now, what, worker, number);
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let policy = match random.below(16) {
            0 | 1 => Policy::Shared,
            2 | 3 => Policy::ReusePort,
            4 | 5 => Policy::LeastConn,
            6 => Policy::Sticky(StickyBy::Ip),
            7 | 8 => Policy::Sticky(StickyBy::Cookie("sid".into())),
            _ => Policy::RoundRobin,
        };
        let tcp = |port| Target::Tcp { host: Some("127.0.0.1".into()), port, ipv6_only: false };
        let unix = Target::Unix { path: "/s".into(), readable_all: false, writable_all: false };
        let udp = Target::Udp { host: "127.0.0.1".into(), port: 53, ipv6_only: false, reuse_addr: false };
        let mut program = vec![tcp(0), unix, udp, tcp(81)];
        program.rotate_left(random.below(4));
        program.truncate(random.below(3));
        program.push(tcp(80));
        let gang = Gang::new(1 + random.below(5));
        let (trouble, lazy) = (random.below(4), random.chance(500));
        let stingy = trouble > 0 && random.chance(150);
        let (load, pace) = (*random.pick(&[20, 60, 120]), *random.pick(&[1, 4, 16]));
        Self {
            around: Surroundings {
                random,
                now: Time::from_zero(Duration::from_secs(1000)),
                step: 0,
                kernel: BTreeMap::new(),
                steered: BTreeSet::new(),
                clients: Clients::default(),
                program,
                trouble,
                stingy,
                calm: false,
                log: Log::new(seed, "every_connection_is_in_one_place"),
            },
            primary: Primary::new(policy),
            processes: Vec::new(),
            gang,
            binding: VecDeque::new(),
            examining: Vec::new(),
            peeking: Vec::new(),
            joined: BTreeMap::new(),
            numbers: BTreeMap::new(),
            load,
            pace,
            lazy,
        }
    }

    /// One thing happens.
    pub(crate) fn step(&mut self) {
        self.around.step += 1;
        self.draw();
        self.perform();
        if self.around.step.is_multiple_of(8) {
            // What can be done is done at once, not when something else happens to come.
            self.primary.handle_timeout(self.around.now);
            assert_eq!(self.primary.poll_effect(), None, "it was left undone");
        }
    }

    /// Does what is drawn, or else the next thing that can be done.
    fn draw(&mut self) {
        const STEPS: [fn(&mut World) -> bool; 7] = [
            World::act,
            World::read,
            World::write,
            World::accept,
            World::finish_io,
            World::notice_end,
            World::manage,
        ];
        if self.around.random.chance(self.load) && self.connect() {
            return;
        }
        let first = match self.around.random.below(100) {
            0..40 => 0,
            40..60 => 1,
            60..80 => 2,
            80..88 => 3,
            88..91 => 4,
            91..94 => 5,
            94..97 => 6,
            _ => return self.pass_time(&[1, 2, 5, 5, 5, 20, 100, 400]),
        };
        if !(0..STEPS.len()).any(|n| STEPS[(first + n) % STEPS.len()](self)) {
            self.pass_time(if self.around.calm { &[500] } else { &[5, 50, 500] });
        }
    }

    pub(crate) fn process(&mut self, id: WorkerId) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.worker.id == id)
    }

    /// One process does one thing.
    fn act(&mut self) -> bool {
        self.of_any_process(|process, around| process.worker.act(around))
    }

    fn of_any_process(&mut self, mut does: impl FnMut(&mut Process, &mut Surroundings) -> bool) -> bool {
        let count = self.processes.len();
        let first = self.around.random.below(count);
        (0..count).any(|n| does(&mut self.processes[(first + n) % count], &mut self.around))
    }

    fn connect(&mut self) -> bool {
        let Surroundings { random, kernel, steered, clients, calm, .. } = &mut self.around;
        let at = random.below(kernel.len());
        let Some((socket, listening)) = kernel.iter_mut().nth(at) else { return false };
        if *calm || steered.contains(socket) || listening.queue.len() >= 20 {
            return false;
        }
        listening.queue.push_back(clients.connect(*socket));
        true
    }

    fn accept(&mut self) -> bool {
        let ready =
            |(_, listening): &(&SocketId, &mut Listening)| listening.accepting && !listening.queue.is_empty();
        let Some((socket, listening)) = self.around.kernel.iter_mut().find(ready) else { return false };
        let Some(number) = listening.queue.pop_front() else { return false };
        let socket = *socket;
        self.accepted(socket, number);
        true
    }

    fn accepted(&mut self, socket: SocketId, number: u32) {
        self.around.clients.moved(number, Place::Kernel(socket), Place::Primary);
        let client = Client::Known(self.around.random.below(20) as u64);
        let peer = Peer { client, cookie: Some(number.into()) };
        self.handle(Input::Accepted { socket, connection: Connection(number), peer });
    }

    /// One `sendmsg` to one worker, as far as its socket has room.
    fn write(&mut self) -> bool {
        self.of_any_process(|process, around| {
            let (Some(session), worker) = (&mut process.session, &mut process.worker) else { return false };
            if !worker.channel_open {
                return false;
            }
            let room = worker.room.saturating_sub(worker.down.unread());
            let Some(transmit) = session.poll_transmit() else { return false };
            let count = transmit.bytes.len().min(room).min(*around.random.pick(&[1, 50, 65536]));
            if count == 0 {
                return false;
            }
            if let Some(Handle::Connection(Connection(number))) = transmit.handle {
                around.clients.sent(*number, worker.id);
            }
            worker.down.sendmsg(&transmit.bytes[..count], transmit.handle.map(Handle::duplicate));
            session.transmitted(count);
            true
        })
    }

    /// One `recvmsg` from one worker.
    fn read(&mut self) -> bool {
        let mut from = None;
        self.of_any_process(|process, around| {
            let (Some(session), worker) = (&mut process.session, &mut process.worker) else { return false };
            if worker.up.unread() > 0 {
                let (bytes, _) = worker.up.recvmsg(*around.random.pick(&[10, 100, 500, 65536]));
                session.handle_input(&bytes, []);
                if worker.up.unread() == 0 && !worker.channel_open && around.random.chance(500) {
                    session.handle_eof();
                }
            } else if !worker.channel_open {
                session.handle_eof();
            } else {
                return false;
            }
            from = Some(worker.id);
            true
        });
        if let Some(worker) = from {
            self.take_events(worker);
        }
        from.is_some()
    }

    fn take_events(&mut self, worker: WorkerId) {
        loop {
            let Some(session) = self.process(worker).and_then(|process| process.session.as_mut()) else {
                return;
            };
            let Some(event) = session.poll_event() else { return };
            match event {
                session::Event::Cluster { message, .. } => {
                    if let Act::Accepted { ack, accepted: false } = &message.act
                        && let Some(number) = self.numbers.get(ack)
                    {
                        self.around.clients.refused(*number, worker, self.around.step);
                    }
                    self.handle(Input::Message { worker, message });
                }
                session::Event::Delivered { tag, handle: Handle::Connection(connection) } => {
                    self.around.clients.moved(connection.0, Place::Session(worker), Place::Primary);
                    self.handle(Input::Delivered { worker, seq: Seq(tag), connection });
                }
                session::Event::Returned { tag, handle: Handle::Connection(connection) } => {
                    self.take_back(worker, Seq(tag), connection);
                }
                session::Event::Disconnected => self.channel_closed(worker),
                _ => {}
            }
        }
    }

    fn channel_closed(&mut self, worker: WorkerId) {
        let Some(process) = self.process(worker) else { return };
        let Some(mut session) = process.session.take() else { return };
        process.worker.primary_closed = true;
        let mut undelivered = Vec::new();
        for (tag, handle) in session.take_undelivered() {
            if let Handle::Connection(connection) = handle {
                undelivered.push((Seq(tag), connection));
            }
        }
        for (_, connection) in &undelivered {
            self.around.clients.moved(connection.0, Place::Session(worker), Place::Primary);
        }
        self.around.note("channel ended", worker, undelivered.len() as u32);
        self.handle(Input::ChannelClosed { worker, undelivered });
        self.forget(worker);
    }

    /// A dead process is reaped.
    fn notice_end(&mut self) -> bool {
        let dead = |process: &&mut Process| !process.worker.alive && !process.reaped;
        let Some(process) = self.processes.iter_mut().find(dead) else { return false };
        process.reaped = true;
        let worker = process.worker.id;
        self.around.note("reaped", worker, 0);
        self.handle(Input::Exited { worker });
        self.forget(worker);
        true
    }

    fn forget(&mut self, worker: WorkerId) {
        self.processes
            .retain(|process| process.worker.id != worker || !process.reaped || process.session.is_some());
    }

    /// The outcome of an effect comes in.
    fn finish_io(&mut self) -> bool {
        if !self.examining.is_empty() {
            let at = self.around.random.below(self.examining.len());
            let (listener, connection, peer) = self.examining.swap_remove(at);
            let clients = &mut self.around.clients;
            assert_eq!(clients.has_copy(connection.0), None, "its worker is not dead");
            let untouched = !clients.is_touched(connection.0);
            clients.moved(connection.0, Place::Driver, Place::Primary);
            self.handle(Input::Examined { listener, connection, peer, untouched });
            return true;
        }
        if !self.peeking.is_empty() {
            let at = self.around.random.below(self.peeking.len());
            let (listener, connection, mut peer) = self.peeking.swap_remove(at);
            if self.around.random.chance(300) {
                peer.client = Client::Of(Slot(self.around.random.below(8) as u32));
            }
            self.around.clients.moved(connection.0, Place::Driver, Place::Primary);
            self.handle(Input::Peeked { listener, connection, peer });
            return true;
        }
        if self.primary.wants_survey() && self.around.random.chance(300) {
            let open = self.around.clients.copies().map(|(number, _)| number.into()).collect();
            self.handle(Input::Surveyed { since: self.around.now, open });
            return true;
        }
        let Some((socket, target)) = self.binding.pop_front() else { return false };
        let fails = !self.around.calm && self.around.random.chance(50 * self.around.trouble);
        let sockname = |port| Sockname { address: "127.0.0.1".into(), family: "IPv4".into(), port };
        let outcome = match target {
            _ if fails => Err(EADDRINUSE),
            Target::Tcp { port, .. } => Ok(Some(sockname(port.max(1)))),
            Target::Udp { port, .. } => Ok(Some(sockname(port))),
            Target::Unix { .. } | Target::Fd(_) | Target::UdpFd(_) => Ok(None),
        };
        if outcome.is_ok() && !matches!(target, Target::Udp { .. }) {
            self.around.kernel.insert(socket, Listening { queue: VecDeque::new(), accepting: false });
        }
        self.handle(Input::Bound { socket, outcome });
        true
    }

    pub(crate) fn close(&mut self, socket: SocketId) {
        let queue = self.around.kernel.remove(&socket).map(|listening| listening.queue).unwrap_or_default();
        for number in queue {
            self.accepted(socket, number);
        }
        let (peeked, peeking) =
            std::mem::take(&mut self.peeking).into_iter().partition(|(at, ..)| *at == socket);
        self.peeking = peeking;
        for (listener, connection, peer) in peeked {
            self.around.clients.moved(connection.0, Place::Driver, Place::Primary);
            self.handle(Input::Peeked { listener, connection, peer });
        }
        self.handle(Input::Closed { socket });
    }

    fn pass_time(&mut self, most: &[usize]) {
        let most = *self.around.random.pick(most);
        let pace = if self.around.calm { 1 } else { self.pace };
        let time = 1 + self.around.random.below(most * pace) as u64;
        self.around.now = self.around.now + Duration::from_millis(time);
        if self.primary.poll_timeout().is_some_and(|due| due <= self.around.now) {
            self.primary.handle_timeout(self.around.now);
            self.perform();
            assert!(
                self.primary.poll_timeout().is_none_or(|due| due > self.around.now),
                "a time-out that is handled and still due would spin"
            );
        }
    }

    /// Now and then the whole state goes into another program; otherwise the gang is managed.
    fn manage(&mut self) -> bool {
        if !self.around.calm && self.around.random.chance(20) {
            self.upgrade();
            return true;
        }
        self.manage_gang()
    }

    pub(crate) fn start(&mut self, worker: Worker) {
        // Small, so that a run gets there.
        let queue = if self.around.trouble == 0 { 64 << 10 } else { 4 << 10 };
        let limits = Limits { line: 16 << 10, queue, validate: true, ..Limits::default() };
        self.processes.push(Process { worker, session: Some(Session::new(limits)), reaped: false });
    }
}
