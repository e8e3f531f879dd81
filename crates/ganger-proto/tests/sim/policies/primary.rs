//! The real primary, with workers that answer for a connection when they take it.

use std::collections::VecDeque;

use ganger_proto::{
    Generation, Seq, Slot, SocketId, Time, WorkerId,
    cluster::{Capabilities, Client, Effect, Input, Peer, Policy, Primary, StickyBy},
    node::{Act, ClusterMessage, Query, Sockname, Target},
};

use super::Way;

pub(super) struct Shares {
    primary: Primary<u32>,
    socket: SocketId,
    accepting: bool,
    /// What the primary has not accepted.
    backlog: VecDeque<(u32, u64)>,
    /// What is in each worker's channel.
    channels: Vec<VecDeque<(Seq, u32)>>,
    /// Whose channel has got something, or who has done what it had.
    reached: VecDeque<u32>,
    /// Whether the workers say when they are done.
    tell: bool,
}

fn id(worker: u32) -> WorkerId {
    WorkerId(worker + 1)
}

fn said(worker: u32, act: Act) -> Input<u32> {
    Input::Message { worker: id(worker), message: ClusterMessage { seq: Some(Seq(0)), act } }
}

impl Shares {
    /// A primary whose workers all listen.
    pub(super) fn new(way: Way, now: Time, workers: usize) -> Self {
        let (policy, capabilities) = match way {
            Way::RoundRobin => (Policy::RoundRobin, Capabilities::PLAIN),
            Way::RoundRobinDeep => (Policy::RoundRobin, Capabilities::GANGER),
            Way::LeastConn => (Policy::LeastConn, Capabilities::GANGER),
            Way::Sticky => (Policy::Sticky(StickyBy::Ip), Capabilities::GANGER),
            Way::Shared | Way::ReusePort => unreachable!("the kernel shares out"),
        };
        let mut shares = Self {
            primary: Primary::new(policy),
            socket: SocketId(0),
            accepting: false,
            backlog: VecDeque::new(),
            channels: vec![VecDeque::new(); workers],
            reached: VecDeque::new(),
            tell: way == Way::LeastConn,
        };
        let target = Target::Tcp { host: None, port: 80, ipv6_only: false };
        for worker in 0..workers as u32 {
            shares.primary.fork(Slot(worker), Generation(0), true);
            shares.primary.set_capabilities(now, id(worker), capabilities);
            shares.hears(now, said(worker, Act::QueryServer(Query::new(&target, None))));
        }
        shares
    }

    fn hears(&mut self, now: Time, input: Input<u32>) {
        self.primary.handle(now, input);
        self.perform(now);
    }

    fn perform(&mut self, now: Time) {
        loop {
            while let Some(effect) = self.primary.poll_effect() {
                match effect {
                    Effect::SendConnection { worker, seq, connection, .. } => {
                        let worker = worker.0 - 1;
                        self.channels[worker as usize].push_back((seq, connection));
                        self.reached.push_back(worker);
                    }
                    Effect::Accept { on, .. } => self.accepting = on,
                    Effect::Bind { socket, .. } => {
                        self.socket = socket;
                        let sockname = Sockname { address: "::".into(), family: "IPv6".into(), port: 80 };
                        self.primary.handle(now, Input::Bound { socket, outcome: Ok(Some(sockname)) });
                    }
                    Effect::Send { .. } | Effect::Drop { .. } | Effect::Event(_) => {}
                    other => unreachable!("nobody does what leads to {other:?}"),
                }
            }
            if !self.accepting {
                return;
            }
            let Some((client, name)) = self.backlog.pop_front() else { return };
            let peer = Peer { client: Client::known(&name.to_le_bytes()), cookie: None };
            self.primary.handle(now, Input::Accepted { socket: self.socket, connection: client, peer });
        }
    }

    /// A client comes.
    pub(super) fn comes(&mut self, now: Time, client: u32, name: u64) {
        self.backlog.push_back((client, name));
        self.perform(now);
    }

    /// A worker has nothing to do any more.
    pub(super) fn done(&mut self, now: Time, worker: u32) {
        if self.tell {
            self.hears(now, said(worker, Act::Closes { count: 1 }));
        }
        self.reached.push_back(worker);
    }

    /// The next worker that may have something in its channel.
    pub(super) fn next_reached(&mut self) -> Option<u32> {
        self.reached.pop_front()
    }

    /// What is the first in a worker's channel.
    pub(super) fn takes(&mut self, worker: u32) -> Option<(Seq, u32)> {
        self.channels[worker as usize].pop_front()
    }

    /// The worker takes it.
    pub(super) fn answers(&mut self, now: Time, worker: u32, seq: Seq, client: u32) {
        self.hears(now, Input::Delivered { worker: id(worker), seq, connection: client });
        self.hears(now, said(worker, Act::Accepted { ack: seq, accepted: true }));
    }
}
