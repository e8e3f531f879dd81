//! What is wrong with a worker, and how it goes wrong.

use ganger_proto::{
    ListenerKey, Seq,
    node::{self, Act, AddressType, Query},
};

use super::{worker::Worker, world::Surroundings};
use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Node as far as anybody knows: one hand-off at a time.
    Plain,
    /// Known to be Node.
    Node,
    /// A worker of this project: answers when the program takes the connection.
    Ganger,
}

#[derive(Debug)]
pub(crate) struct Temper {
    pub(crate) kind: Kind,
    /// The most connections it serves at a time (`maxConnections`).
    pub(crate) most: Option<usize>,
    /// How often in a thousand it rather keeps a connection open.
    pub(crate) lingers: usize,
    /// It takes its time to answer.
    pub(crate) slow: bool,
    /// It does nothing any more.
    pub(crate) hung: bool,
    /// It has sent an ACK for nothing.
    acknowledges_anything: bool,
    /// Its table of descriptors is full now and then.
    pub(crate) starved: bool,
    /// How often in a thousand steps it dies, …
    crashes: usize,
    /// … stops doing anything, …
    hangs: usize,
    /// … closes an address and opens it again, …
    fickle: usize,
    /// … says what it should not.
    lies: usize,
}

impl Temper {
    /// With `trouble` 0 a worker is as it should be.
    pub(crate) fn new(random: &mut Random, trouble: usize) -> Self {
        let kind = *random.pick(&[Kind::Plain, Kind::Node, Kind::Ganger]);
        let mut often = |share: usize, most: usize| {
            if random.chance(share * trouble) { 1 + random.below(most) } else { 0 }
        };
        let (most, slow, starved) = (often(200, 4), often(100, 1), often(100, 1));
        let (crashes, hangs, fickle, lies) = (often(200, 20), often(60, 5), often(150, 30), often(120, 60));
        let mut temper = Self {
            kind,
            most: None,
            lingers: 300,
            slow: slow > 0,
            hung: false,
            acknowledges_anything: false,
            starved: starved > 0,
            crashes,
            hangs,
            fickle,
            lies,
        };
        if most > 0 {
            temper.serves_few(most);
        }
        temper
    }

    /// It serves no more than this many at a time, and takes long.
    pub(crate) fn serves_few(&mut self, most: usize) {
        self.most = Some(most);
        self.lingers = 990;
    }
}

impl Worker {
    /// Perhaps does what it should not.
    pub(crate) fn go_wrong(&mut self, around: &mut Surroundings) -> bool {
        let random = &mut around.random;
        if random.chance(self.temper.crashes) {
            self.die(around);
        } else if random.chance(self.temper.hangs) {
            around.note("hangs", self.id, 0);
            self.temper.hung = true;
        } else if random.chance(self.temper.fickle) {
            return self.close_one(around);
        } else if self.channel_open && random.chance(self.temper.lies) {
            self.lie(around);
        } else {
            return false;
        }
        true
    }

    fn lie(&mut self, around: &mut Surroundings) {
        let what = around.random.below(15);
        around.note("misbehaves", self.id, what as u32);
        match what {
            0 => self.say_line(b"}{"),
            1 => self.say_line(br#"{"cmd":"NODE_CLUSTER","act":"#),
            2 => drop(self.say(Act::Accepted { ack: Seq(u64::MAX >> 2), accepted: true })),
            3 if around.random.chance(500) => {
                self.say(Act::Close { key: ListenerKey::from("127.0.0.1:1:4:undefined") });
            }
            3 => drop(self.say(Act::Accepted { ack: self.last_answered(), accepted: false })),
            // It shifts all answers after it, so from one that loses descriptors it would be as bad as
            // a stray NACK: who says that it lost what it has, and serves it, cannot be found out.
            5 if !self.temper.starved => {
                self.temper.acknowledges_anything = true;
                self.say_line(node::HANDLE_ACK.as_bytes());
            }
            // It guesses, and may meet what is on its way to it. What it has acknowledged besides, it has.
            4 if !self.temper.acknowledges_anything => {
                if let Some(ack) = self.guess(1 + around.random.below(3) as u64) {
                    self.say(Act::Accepted { ack, accepted: around.random.chance(500) });
                }
            }
            6 => self.say_line(br#"{"cmd":"NODE_CLUSTER","act":"queryServer","addressType":4,"port":70000}"#),
            7 => self.say_line(br#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1}"#),
            8 => (0..8).for_each(|_| self.say_line(&[b'7'; 900])),
            9 if around.random.chance(300) => self.say_line(&[b' '; 17 << 10]),
            10 if around.random.chance(300) => self.say_line(b"\x02{}"),
            11 => drop(self.say(Act::NewConn { key: ListenerKey::from("x") })),
            12 => {
                let query = Query::new(&around.program[0], None);
                self.say(Act::Listening(Query { address_type: AddressType::Null, ..query }));
            }
            13 => self.query_again(around),
            14 if around.random.chance(300) => {
                around.note("loses its channel", self.id, 0);
                self.drop_channel(around);
            }
            _ => self.announce(around),
        }
    }
}
