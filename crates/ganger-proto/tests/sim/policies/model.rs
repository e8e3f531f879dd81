//! Clients come, wait until a worker takes them, and take its time. A worker does one thing at a time.

use std::collections::VecDeque;
use std::time::Duration;

use ganger_proto::{Seq, Time};

use super::{Way, draw, primary::Shares};
use crate::{calendar::Calendar, random::Random};

/// So many clients for each worker make one look at how even the shares are.
const ROUND: usize = 20;
/// Of so many rounds, and at least so many clients, the first half only brings what was there at the beginning
/// into order.
const ROUNDS: usize = 2;
const CLIENTS: usize = 100_000;

/// So many clients there are for each worker, that come again and again.
pub(super) const NAMES: usize = 1000;

/// What came of a policy with a gang.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// The coefficient of variation of the workers' shares of a round, in the mean of the rounds.
    pub(super) variation: f64,
    /// How long a client waited until a worker took it: half of them, and 99 of 100, no longer.
    pub(super) half: Duration,
    pub(super) most: Duration,
}

struct Model {
    random: Random,
    now: Time,
    calendar: Calendar<What>,
    /// Whether a worker does something.
    busy: Vec<bool>,
    clients: Vec<Client>,
    queues: Queues,
}

struct Client {
    came: Time,
    /// When it was taken, and by whom.
    taken: Time,
    worker: u32,
}

enum What {
    Client,
    Done(u32),
}

/// Who waits where.
enum Queues {
    /// One queue; those that have nothing to do, the one that has just got there last.
    One { waiting: VecDeque<u32>, idle: Vec<u32> },
    /// One a worker.
    Each(Vec<VecDeque<u32>>),
    /// The primary shares out.
    Primary(Box<Shares>),
}

/// Runs one policy with one gang.
pub(super) fn run(way: Way, workers: usize) -> Outcome {
    let round = ROUND * workers;
    let clients = (ROUNDS * round).max(CLIENTS / round * round);
    let mut model = Model::new(way, workers);
    while model.step(clients) {}
    // Those who come later make no difference to who is in a queue already.
    let measured = &model.clients[clients / round / 2 * round..];
    let rounds = measured.chunks(round).map(|round| variation(round, workers));
    let variation = rounds.clone().sum::<f64>() / rounds.len() as f64;
    let mut waits: Vec<Duration> = measured.iter().map(|client| client.taken - client.came).collect();
    waits.sort_unstable();
    let at = |percent: usize| waits[waits.len() * percent / 100];
    Outcome { variation, half: at(50), most: at(99) }
}

/// How uneven the shares of the workers are: the standard deviation over the mean.
fn variation(round: &[Client], workers: usize) -> f64 {
    let mut shares = vec![0_u32; workers];
    round.iter().for_each(|client| shares[client.worker as usize] += 1);
    let mean = round.len() as f64 / workers as f64;
    let squares = shares.iter().map(|share| (f64::from(*share) - mean) * (f64::from(*share) - mean));
    (squares.sum::<f64>() / workers as f64).sqrt() / mean
}

impl Model {
    fn new(way: Way, workers: usize) -> Self {
        let mut random = Random::new(workers as u64);
        let now = Time::from_zero(Duration::from_secs(1000));
        let mut calendar = Calendar::new();
        let mut busy = vec![false; workers];
        for (worker, busy) in busy.iter_mut().enumerate() {
            // As it would be after a long time.
            let work = match way {
                Way::Sticky | Way::ReusePort => draw::work_and_queue(&mut random),
                Way::RoundRobin | Way::RoundRobinDeep | Way::LeastConn | Way::Shared => {
                    draw::work(&mut random)
                }
            };
            *busy = !work.is_zero();
            if *busy {
                calendar.enter(now + work, What::Done(worker as u32));
            }
        }
        let idle = || (0..).zip(&busy).filter(|(_, busy)| !**busy).map(|(worker, _)| worker).collect();
        let queues = match way {
            Way::Shared => Queues::One { waiting: VecDeque::new(), idle: idle() },
            Way::ReusePort => Queues::Each(vec![VecDeque::new(); workers]),
            Way::RoundRobin | Way::RoundRobinDeep | Way::LeastConn | Way::Sticky => {
                Queues::Primary(Box::new(Shares::new(way, now, workers)))
            }
        };
        calendar.enter(now, What::Client);
        Self { random, now, calendar, busy, clients: Vec::new(), queues }
    }

    /// Something happens, until so many clients have come and are taken.
    fn step(&mut self, clients: usize) -> bool {
        let Some((at, what)) = self.calendar.take_next() else { return false };
        self.now = at;
        match what {
            What::Client if self.clients.len() == clients => {}
            What::Client => self.comes(),
            What::Done(worker) => self.done(worker),
        }
        true
    }

    fn comes(&mut self) {
        let client = self.clients.len() as u32;
        self.clients.push(Client { came: self.now, taken: self.now, worker: 0 });
        let workers = self.busy.len();
        let next = draw::gap(&mut self.random, workers);
        self.calendar.enter(self.now + next, What::Client);
        match &mut self.queues {
            Queues::One { waiting, idle } => match idle.pop() {
                Some(worker) => self.takes(worker, client),
                None => waiting.push_back(client),
            },
            Queues::Each(queues) => {
                let worker = self.random.below(workers);
                if self.busy[worker] {
                    queues[worker].push_back(client);
                } else {
                    self.takes(worker as u32, client);
                }
            }
            Queues::Primary(shares) => {
                let name = self.random.below(NAMES * workers);
                shares.comes(self.now, client, name as u64);
                self.go_on();
            }
        }
    }

    fn done(&mut self, worker: u32) {
        self.busy[worker as usize] = false;
        match &mut self.queues {
            Queues::One { waiting, idle } => match waiting.pop_front() {
                Some(client) => self.takes(worker, client),
                None => idle.push(worker),
            },
            Queues::Each(queues) => {
                if let Some(client) = queues[worker as usize].pop_front() {
                    self.takes(worker, client);
                }
            }
            Queues::Primary(shares) => {
                shares.done(self.now, worker);
                self.go_on();
            }
        }
    }

    /// Those that have something in their channel and nothing to do take it.
    fn go_on(&mut self) {
        loop {
            let Queues::Primary(shares) = &mut self.queues else { return };
            let Some(worker) = shares.next_reached() else { return };
            if self.busy[worker as usize] {
                continue;
            }
            let taken: Option<(Seq, u32)> = shares.takes(worker);
            let Some((seq, client)) = taken else { continue };
            shares.answers(self.now, worker, seq, client);
            self.takes(worker, client);
        }
    }

    fn takes(&mut self, worker: u32, client: u32) {
        self.busy[worker as usize] = true;
        let client = &mut self.clients[client as usize];
        (client.taken, client.worker) = (self.now, worker);
        let takes = draw::service(&mut self.random);
        self.calendar.enter(self.now + takes, What::Done(worker));
    }
}
