//! The world around the two machines: one clock, what is going to happen, and who is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ganger_proto::{
    AgentId, Seq, Slot, SocketId, Time, WorkerId,
    cluster::{self, Input, Peer, Policy, Primary, StickyBy},
    guard::{self, Answer, Config, Guard, Limit, Readiness, Restart, Sign, Verdict},
    node::{Sockname, Target},
};

use super::{
    agent::{Agents, OfAgent},
    checks::Ending,
    ends::Ends,
    kernel::Kernel,
    limits::Limits,
    seats::Seats,
    watch::Watch,
    worker::{ENOUGH, Said, Worker},
};
use crate::{
    calendar::Calendar,
    clients::{Clients, Connection, Place},
    log::Log,
    random::Random,
};

/// An address that is not free.
const EADDRINUSE: i32 = 98;

pub(crate) struct World {
    pub(crate) around: Around,
    pub(crate) guard: Guard,
    pub(crate) primary: Primary<Connection>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) seats: Seats,
    pub(crate) agents: Agents,
    pub(crate) watch: Watch,
    pub(crate) limits: Limits,
    pub(crate) ends: Ends,
    /// The exit codes by which the program says that it is not to be started again.
    pub(crate) no_restart_codes: Vec<u8>,
    /// Who is not to get connections yet.
    pub(crate) held_back: BTreeSet<WorkerId>,
    /// What the primary has told and the guard not heard.
    pub(crate) told: VecDeque<cluster::Event>,
    /// Connections that the driver looks at: for their first bytes, or for whether anybody has touched them.
    pub(crate) peeking: BTreeMap<u32, (SocketId, Connection, Peer)>,
    pub(crate) examining: BTreeMap<u32, (SocketId, Connection, Peer)>,
    /// Whether the guard has said that somebody is about to come.
    pub(crate) replacements_due: bool,
    /// Slots that get no connections.
    pub(crate) paused: BTreeSet<Slot>,
    /// When a reload last had a worker started.
    pub(crate) reloaded: Option<Time>,
    /// When somebody asked for the end, and how long the gang is to serve on after that.
    pub(crate) stopped: Option<Time>,
    pub(crate) drain_delay: Duration,
    /// Whether the guard has closed the sockets.
    pub(crate) closed: bool,
    pub(crate) ending: Option<Ending>,
    pub(crate) ended: Option<Verdict>,
    /// How many steps there were at this moment.
    at_once: u64,
    /// When the guard wants to be called, as long as nothing was said to it since.
    guard_due: Option<Time>,
}

/// What everything in the world sees and touches.
pub(crate) struct Around {
    pub(crate) now: Time,
    pub(crate) step: u64,
    pub(crate) random: Random,
    pub(crate) calendar: Calendar<Occasion>,
    pub(crate) kernel: Kernel,
    pub(crate) clients: Clients,
    /// The addresses that every worker listens on.
    pub(crate) program: Vec<Target>,
    /// The faults are over, and no client comes.
    pub(crate) calm: bool,
    /// How often in a thousand a new worker is a bad one.
    pub(crate) badness: usize,
    /// The time between two clients, and between two of the things that may happen: up to twice as long.
    client_every: Duration,
    pub(crate) happening_every: Duration,
    log: Log,
}

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Occasion {
    /// A client comes.
    Client,
    /// One of the things that may happen.
    Happening,
    /// The outcome of a bind.
    Bound(SocketId, Target),
    /// The driver finds that a socket is readable.
    Readable(SocketId),
    /// The first bytes of a connection have come.
    Peeked(u32),
    /// The kernel has said whether anybody has touched a connection.
    Examined(u32),
    /// A survey of the kernel's sockets is due.
    Survey,
    /// A worker's process gets the processor.
    Turn(WorkerId),
    /// A worker has done what a client wanted.
    Served(WorkerId, u32),
    /// A worker asks for one of its addresses.
    Opens(WorkerId, usize),
    /// What a worker wrote is read.
    Heard(WorkerId, Said),
    /// A worker's channel is read to its end.
    Eof(WorkerId),
    /// A worker answers what it has to answer before it is ready.
    Answers(WorkerId, Answer),
    /// A worker's process ends.
    Ends(WorkerId),
    /// A worker's process is reaped.
    Reaped(WorkerId),
    /// A worker is asked whether it is there.
    Asked(WorkerId, Seq),
    /// A worker says by itself that it is there.
    Pings(WorkerId),
    /// Something happens to the agent of this number.
    Agent(AgentId, OfAgent),
}

impl Around {
    pub(crate) fn note(&mut self, what: &'static str, worker: WorkerId, number: u32) {
        self.log.note(self.step, self.now, what, worker, number);
    }

    /// Enters something for up to so many milliseconds from now.
    pub(crate) fn within_ms(&mut self, most: usize, what: Occasion) {
        let delay = Duration::from_micros(self.random.below(most * 1000 + 1) as u64);
        self.calendar.enter(self.now + delay, what);
    }

    pub(crate) fn up_to_twice(&mut self, mean: Duration) -> Duration {
        mean * self.random.below(2001) as u32 / 1000
    }

    fn next_client(&mut self) {
        let gap = self.up_to_twice(self.client_every);
        self.calendar.enter(self.now + gap, Occasion::Client);
    }

    pub(crate) fn next_happening(&mut self) {
        let gap = self.up_to_twice(self.happening_every);
        self.calendar.enter(self.now + gap, Occasion::Happening);
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let policy = match random.below(10) {
            0 | 1 => Policy::LeastConn,
            2 => Policy::Sticky(StickyBy::Ip),
            3 => Policy::Sticky(StickyBy::Cookie("sid".into())),
            4 => Policy::Shared,
            5 | 6 => Policy::ReusePort,
            _ => Policy::RoundRobin,
        };
        let size = match random.below(20) {
            0..8 => 1 + random.below(6),
            8..14 => 7 + random.below(60),
            14..19 => 100 + random.below(900),
            _ => 1000 + random.below(2500),
        };
        let tcp = |port| Target::Tcp { host: Some("127.0.0.1".into()), port, ipv6_only: false };
        let mut program = vec![tcp(80), tcp(0)];
        program.truncate(1 + random.below(2));
        let seconds = |random: &mut Random, of: &[u64]| Duration::from_secs(*random.pick(of));
        let mut config = Config::default();
        config.workers = size as u32;
        config.start_timeout = seconds(&mut random, &[5, 30]);
        config.stop_timeout = seconds(&mut random, &[3, 25]);
        config.drain_timeout = seconds(&mut random, &[5, 60]);
        config.drain_delay = seconds(&mut random, &[0, 0, 1, 10]);
        let (limits, drain_delay) = (Limits::draw(&mut random, &mut config), config.drain_delay);
        config.restart_limit = match random.below(4) {
            0 => None,
            1 => Some(Limit { count: 3, within: Duration::from_secs(10) }),
            _ => config.restart_limit,
        };
        config.restart = *random.pick(&[Restart::Always, Restart::Always, Restart::OnFailure, Restart::No]);
        config.probe = random.chance(300).then(|| "/health".into());
        let no_restart_codes = if random.chance(500) { vec![ENOUGH] } else { Vec::new() };
        config.batch = *random.pick(&[1, 3, 100]);
        config.watchdog = random.pick(&[None, Some(2), Some(10), Some(60)]).map(Duration::from_secs);
        config.agent = random.chance(300);
        config.ready = match random.below(10) {
            0 | 1 => Readiness::Sign(Sign::Listening),
            2 => Readiness::After(Duration::from_secs(2)),
            _ => Readiness::Auto,
        };
        config.seed = random.next();
        // About so much time passes in the steps that the seed has.
        let span = seconds(&mut random, &[20, 100, 400]);
        let events = (super::STEPS_OF_A_SEED + super::STEPS_OF_A_WORKER * size as u64) as u32;
        let happening_every = span / (events / 60);
        let now = Time::from_zero(Duration::from_secs(1000));
        let mut around = Around {
            now,
            step: 0,
            random,
            calendar: Calendar::new(),
            kernel: Kernel::default(),
            clients: Clients::default(),
            program,
            calm: false,
            badness: 0,
            client_every: span / (events / 12),
            happening_every,
            log: Log::new(seed, "a_gang_comes_back_to_its_size"),
        };
        around.next_client();
        around.next_happening();
        if policy == Policy::LeastConn {
            around.within_ms(500, Occasion::Survey);
        }
        let seats = Seats::new(size, config.restart, config.restart_limit);
        let (agents, watch) = (Agents::new(config.agent), Watch::new(config.watchdog));
        let mut world = Self {
            around,
            guard: Guard::new(now, config),
            primary: Primary::new(policy),
            workers: BTreeMap::new(),
            seats,
            agents,
            watch,
            limits,
            ends: Ends::default(),
            no_restart_codes,
            held_back: BTreeSet::new(),
            told: VecDeque::new(),
            peeking: BTreeMap::new(),
            examining: BTreeMap::new(),
            replacements_due: false,
            paused: BTreeSet::new(),
            reloaded: None,
            stopped: None,
            drain_delay,
            closed: false,
            ending: None,
            ended: None,
            at_once: 0,
            guard_due: None,
        };
        world.perform();
        world
    }

    /// The next thing happens; false if nothing is to come any more.
    pub(crate) fn step(&mut self) -> bool {
        let timeouts = [self.guard_due, self.primary.poll_timeout()];
        let due = timeouts.into_iter().flatten().min();
        let next = self.around.calendar.next_at();
        if due.is_none() && next.is_none() {
            return false;
        }
        self.around.step += 1;
        let before = self.around.now;
        match due.filter(|due| next.is_none_or(|next| *due <= next)) {
            Some(due) => self.pass_time(due),
            None => {
                if let Some((at, occasion)) = self.around.calendar.take_next() {
                    self.around.now = at;
                    self.happen(occasion);
                }
            }
        }
        self.perform();
        self.at_once = if self.around.now > before { 0 } else { self.at_once + 1 };
        assert!(self.at_once < 100_000, "the clock stands still");
        true
    }

    fn pass_time(&mut self, due: Time) {
        self.around.now = self.around.now.max(due);
        let now = self.around.now;
        if self.guard_due.is_some_and(|due| due <= now) {
            self.guard.handle_timeout(now);
            self.look_at_clock();
            self.perform();
        }
        if self.primary.poll_timeout().is_some_and(|due| due <= now) {
            self.primary.handle_timeout(now);
            self.perform();
            assert!(self.primary.poll_timeout().is_none_or(|due| due > now), "a time-out would spin");
        }
    }

    /// The guard has heard something.
    pub(crate) fn look_at_clock(&mut self) {
        self.guard_due = self.guard.poll_timeout();
    }

    fn happen(&mut self, occasion: Occasion) {
        match occasion {
            Occasion::Client => self.connect(),
            Occasion::Happening => self.let_something_happen(),
            Occasion::Bound(socket, target) => self.bound(socket, &target),
            Occasion::Readable(socket) => self.accept(socket),
            Occasion::Peeked(number) => self.peeked(number),
            Occasion::Examined(number) => self.examined(number),
            Occasion::Survey => self.survey(),
            Occasion::Turn(id) => self.with(id, Worker::turn),
            Occasion::Served(id, number) => self.with(id, |worker, around| worker.served(number, around)),
            Occasion::Opens(id, at) => self.with(id, |worker, around| worker.ask(at, around)),
            Occasion::Answers(id, answer) => self.say_to_guard(guard::Input::Tried(id, answer)),
            Occasion::Ends(id) => self.with(id, Worker::die),
            Occasion::Heard(id, said) => self.heard(id, said),
            Occasion::Eof(id) => self.channel_ended(id),
            Occasion::Reaped(id) => self.reaped(id),
            Occasion::Asked(id, seq) => self.hears_question(id, seq),
            Occasion::Pings(id) => self.pings(id),
            Occasion::Agent(id, what) => self.agent_does(id, what),
        }
    }

    /// The worker does something, if it is still there.
    pub(crate) fn with(&mut self, id: WorkerId, does: impl FnOnce(&mut Worker, &mut Around)) {
        if let Some(worker) = self.workers.get_mut(&id) {
            does(worker, &mut self.around);
        }
    }

    fn connect(&mut self) {
        if self.around.calm {
            return;
        }
        self.connect_one();
        self.around.next_client();
    }

    pub(crate) fn connect_one(&mut self) {
        let Around { kernel, random, clients, .. } = &mut self.around;
        let Some(socket) = kernel.choose(random) else { return };
        let number = clients.connect(socket);
        kernel.arrived(socket, number);
        self.wake_for(socket);
    }

    fn bound(&mut self, socket: SocketId, target: &Target) {
        // In a gang that was never ready it would be the end.
        let fails = !self.around.calm && self.guard.ready() > 0 && self.around.random.chance(5);
        let port = match target {
            Target::Tcp { port, .. } => (*port).max(1),
            other => unreachable!("no worker asks for {other:?}"),
        };
        let sockname = Sockname { address: "127.0.0.1".into(), family: "IPv4".into(), port };
        let outcome = if fails { Err(EADDRINUSE) } else { Ok(Some(sockname)) };
        if outcome.is_ok() {
            self.around.kernel.open(socket);
        }
        self.handle(Input::Bound { socket, outcome });
    }

    fn accept(&mut self, socket: SocketId) {
        let Some(number) = self.around.kernel.take_for_primary(socket) else { return };
        self.accepted(socket, number);
        self.wake_for(socket);
    }

    pub(crate) fn accepted(&mut self, socket: SocketId, number: u32) {
        self.around.clients.moved(number, Place::Kernel(socket), Place::Primary);
        let client = cluster::Client::Known(self.around.random.below(self.seats.len() * 4) as u64);
        let peer = Peer { client, cookie: Some(number.into()) };
        self.handle(Input::Accepted { socket, connection: Connection(number), peer });
    }

    pub(crate) fn peeked(&mut self, number: u32) {
        let Some((listener, connection, peer)) = self.peeking.remove(&number) else { return };
        self.around.clients.moved(number, Place::Driver, Place::Primary);
        self.handle(Input::Peeked { listener, connection, peer });
    }

    fn examined(&mut self, number: u32) {
        let Some((listener, connection, peer)) = self.examining.remove(&number) else { return };
        let clients = &mut self.around.clients;
        assert_eq!(clients.has_copy(number), None, "its worker is not dead");
        let untouched = !clients.is_touched(number);
        clients.moved(number, Place::Driver, Place::Primary);
        self.handle(Input::Examined { listener, connection, peer, untouched });
    }

    fn survey(&mut self) {
        if self.primary.wants_survey() {
            let open = self.around.clients.copies().map(|(number, _)| number.into()).collect();
            self.handle(Input::Surveyed { since: self.around.now, open });
        }
        if !self.around.calm {
            self.around.within_ms(1000, Occasion::Survey);
        }
    }
}
