//! Operations on two joined sessions: what their owners want, what the kernel does to them, and what a hostile peer
//! writes on top. `tests/it/session` has Node's rules to compare with; here it is what must hold even if a peer
//! keeps none.

#[path = "session_ops/end.rs"]
mod end;
#[path = "../it/stream.rs"]
mod stream;

use ganger_proto::session::{Limits, Order, Serialization};

use self::{
    end::{End, Message},
    stream::Stream,
};

/// The first byte chooses the serialization and the limits; the others are operations with their arguments.
pub(crate) fn check(data: &[u8]) {
    let mut source = Source { bytes: data };
    let mut world = World::new(source.byte());
    while !source.bytes.is_empty() {
        world.operation(&mut source);
        world.ends.iter().for_each(End::check);
    }
    world.finish();
}

/// Two ends of a channel and what is on its way between them.
struct World {
    ends: [End; 2],
    /// What each end has written and the other one not read.
    streams: [Stream<u32>; 2],
    last_number: u32,
    /// Whether each end wrote all that is in its stream; nobody has cut into it.
    clean: bool,
    /// Whether the streams are still whole messages, though not all of them the sessions'.
    whole: bool,
}

impl World {
    fn new(choice: u8) -> Self {
        let serialization = if choice & 1 == 0 { Serialization::Json } else { Serialization::Advanced };
        let (line, queue) = if choice & 2 == 0 { (4096, 8192) } else { (200, 600) };
        let limits = Limits { line, queue, validate: choice & 4 != 0, ..Limits::default() };
        let end = || End::new(serialization, limits);
        Self {
            ends: [end(), end()],
            streams: [Stream::new(), Stream::new()],
            last_number: 0,
            clean: true,
            whole: true,
        }
    }

    fn operation(&mut self, source: &mut Source<'_>) {
        let operation = source.byte();
        let side = usize::from(operation >> 7);
        match operation & 15 {
            0 | 1 => self.send(side, source.byte(), None),
            2 => self.send(side, source.byte(), Some(Order::Barrier)),
            3 => self.send(side, source.byte(), Some(Order::Pipelined)),
            4..=6 => self.transmit(side, source.byte()),
            7 | 8 => self.receive(side, source.byte(), &[], false),
            9 => self.receive(side, source.byte(), &[], true),
            10 => {
                let most = source.byte();
                let foreign: Vec<u32> = (0..u32::from(source.byte())).map(|n| FOREIGN + n).collect();
                self.clean &= foreign.is_empty();
                self.receive(side, most, &foreign, false);
            }
            11 => {
                let length = source.byte() % 64;
                let garbage = source.take(usize::from(length)).to_vec();
                self.inject(side, &garbage, false);
            }
            12 => {
                let word = self.ends[side].word(source.byte());
                self.inject(side, &word, self.ends[side].is_between_messages());
            }
            13 => self.ends[side].disconnect(),
            14 => self.ends[side].move_elsewhere(),
            _ => self.ends[side].kill(),
        }
    }

    fn send(&mut self, side: usize, size: u8, order: Option<Order>) {
        self.last_number += 1;
        self.ends[side].send(Message::new(self.last_number, size, order));
    }

    /// One `sendmsg`.
    fn transmit(&mut self, side: usize, most: u8) {
        if !self.ends[1 - side].is_open() {
            return;
        }
        if let Some((bytes, descriptor)) = self.ends[side].transmit(usize_or_all(most)) {
            self.streams[side].sendmsg(&bytes, descriptor);
        }
    }

    /// One `recvmsg`, with descriptors that nobody sent on top; `lose` drops them as a full table does.
    fn receive(&mut self, side: usize, most: u8, foreign: &[u32], lose: bool) {
        if !self.ends[side].is_open() {
            return;
        }
        if self.streams[1 - side].unread() == 0 {
            if !self.ends[1 - side].is_open() {
                self.ends[side].end_of_stream();
            }
            return;
        }
        let (bytes, descriptor) = self.streams[1 - side].recvmsg(usize_or_all(most));
        let mut descriptors: Vec<u32> = descriptor.into_iter().chain(foreign.iter().copied()).collect();
        if lose {
            descriptors.clear();
        }
        self.ends[side].receive(&bytes, &descriptors, self.clean, self.whole);
        if !self.ends[side].is_open() {
            self.streams[1 - side].discard().for_each(drop);
        }
    }

    /// Bytes that the session at this end did not write.
    fn inject(&mut self, side: usize, bytes: &[u8], whole: bool) {
        if bytes.is_empty() || !self.ends[1 - side].is_open() {
            return;
        }
        self.clean = false;
        self.whole &= whole;
        self.streams[side].sendmsg(bytes, None);
    }

    /// Nothing more is wanted: all goes its way, then the channel ends.
    fn finish(&mut self) {
        loop {
            let before = self.progress();
            for side in [0, 1] {
                self.transmit(side, 0);
                self.receive(side, 0, &[], false);
            }
            self.ends.iter().for_each(End::check);
            if self.progress() == before {
                break;
            }
        }
        for side in [0, 1] {
            self.ends[side].check_quiet(self.clean);
            if self.clean && self.ends.iter().all(End::is_undisturbed) {
                assert_eq!(self.streams[side].descriptors().count(), 0, "descriptors that nobody got");
                self.ends[1 - side].check_complete(&self.ends[side]);
            }
        }
        for end in &mut self.ends {
            end.end_of_stream();
            end.check();
            end.check_home();
        }
    }

    fn progress(&self) -> [usize; 4] {
        let [one, other] = &self.ends;
        [one.moved(), other.moved(), self.streams[0].unread(), self.streams[1].unread()]
    }
}

fn usize_or_all(most: u8) -> usize {
    if most == 0 { usize::MAX } else { most.into() }
}

/// Descriptors from here on were sent by nobody.
const FOREIGN: u32 = 1 << 30;

/// The data, from the front; behind its end there are zeros.
struct Source<'a> {
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }
}
