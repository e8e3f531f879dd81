//! What `cargo xtask bench dispatch` counts the instructions of: `POLICY WORKERS CONNECTIONS`.
//!
//! The primary's machine, its end of each worker's channel, and a loop around them that does what that of
//! `ganger::cluster::Primary` does, without system calls: a connection is a number, a socket two queues. The workers are
//! sessions in this process. What the primary does is all in `dispatch_turn`; only that is counted.

use std::{collections::BTreeMap, error::Error, mem, time::Duration};

use ganger_proto::{
    Generation, Seq, Session, Slot, SocketId, Time, WorkerId,
    cluster::{Capabilities, Effect, Input, Peer, Policy, Primary},
    node::{Act, AddressType, ClusterMessage, HandleKind, Query},
    session::{Attachment, Event, Limits, Order},
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Connections that are open or being opened at any time.
const CLIENTS: u32 = 64;
/// So many connections are accepted in a row.
const ACCEPTS: u32 = 16;

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [policy, workers, connections] = &args[..] else {
        return Err("usage: POLICY WORKERS CONNECTIONS".into());
    };
    let connections: u32 = connections.parse()?;
    let mut gang = Gang::start(Primary::new(policy.parse()?), workers.parse()?)?;
    let mut next = 0;
    while next < connections {
        let last = connections.min(next + CLIENTS);
        while next < last {
            let upto = last.min(next + ACCEPTS);
            dispatch_turn(&mut gang.primary, Ready::Socket(next..upto));
            next = upto;
        }
        for worker in gang.busy() {
            gang.workers_turn(worker);
            dispatch_turn(&mut gang.primary, Ready::Channel(worker));
        }
    }
    if gang.primary.dropped != connections {
        return Err(format!("{} of {connections} connections were served", gang.primary.dropped).into());
    }
    Ok(())
}

/// A primary and its workers.
struct Gang {
    primary: Driver,
    workers: BTreeMap<WorkerId, Session<u32>>,
}

/// What the driver of a primary has.
struct Driver {
    machine: Primary<u32>,
    links: BTreeMap<WorkerId, Link>,
    dirty: Vec<WorkerId>,
    json: Vec<u8>,
    socket: Option<SocketId>,
    accepting: bool,
    now: Time,
    dropped: u32,
}

/// One end of a channel, and what is under way on it, in each direction as many pieces as there were writes.
struct Link {
    session: Session<u32>,
    /// To the worker.
    sent: Vec<(Vec<u8>, Option<u32>)>,
    /// To the primary.
    unread: Vec<u8>,
}

/// What the poller reports.
enum Ready {
    /// There are connections.
    Socket(std::ops::Range<u32>),
    /// A worker has said something.
    Channel(WorkerId),
}

impl Gang {
    /// All workers listen on one port.
    fn start(mut machine: Primary<u32>, count: u32) -> Result<Self> {
        let now = Time::from_zero(Duration::ZERO);
        let (mut links, mut workers) = (BTreeMap::new(), BTreeMap::new());
        for slot in 0..count {
            let id = machine.fork(Slot(slot), Generation(0), true);
            let session = || Session::new(Limits::default());
            links.insert(id, Link { session: session(), sent: Vec::new(), unread: Vec::new() });
            workers.insert(id, session());
        }
        let primary = Driver {
            machine,
            links,
            dirty: Vec::new(),
            json: Vec::new(),
            socket: None,
            accepting: false,
            now,
            dropped: 0,
        };
        let mut gang = Self { primary, workers };
        for id in gang.workers.keys().copied().collect::<Vec<_>>() {
            // They tell of what they have closed, so there is nothing to survey.
            gang.primary.machine.set_capabilities(now, id, Capabilities::GANGER);
            gang.say(id, 1, Act::QueryServer(query()))?;
            gang.primary.turn(Ready::Channel(id));
            gang.workers_turn(id);
        }
        Ok(gang)
    }

    /// Who has something to read.
    fn busy(&self) -> Vec<WorkerId> {
        let links = self.primary.links.iter();
        links.filter(|(_, link)| !link.sent.is_empty()).map(|(id, _)| *id).collect()
    }

    fn say(&mut self, id: WorkerId, seq: u64, act: Act) -> Result {
        let session = self.workers.get_mut(&id).ok_or("no such worker")?;
        let mut json = Vec::new();
        ClusterMessage { seq: Some(Seq(seq)), act }.write(&mut json);
        let _ = session.send_json(std::str::from_utf8(&json)?, None);
        let link = self.primary.links.get_mut(&id).ok_or("no such worker")?;
        while let Some(transmit) = session.poll_transmit() {
            link.unread.extend_from_slice(transmit.bytes);
            let count = transmit.bytes.len();
            session.transmitted(count);
        }
        Ok(())
    }

    /// A worker takes every connection that it was given, and closes it.
    fn workers_turn(&mut self, id: WorkerId) {
        let sent = self.primary.links.get_mut(&id).map(|link| mem::take(&mut link.sent));
        for (bytes, handle) in sent.unwrap_or_default() {
            let Some(session) = self.workers.get_mut(&id) else { return };
            session.handle_input(&bytes, handle);
            while let Some(event) = self.workers.get_mut(&id).and_then(Session::poll_event) {
                let Event::Cluster {
                    message: ClusterMessage { seq: Some(ack), act: Act::NewConn { .. } },
                    ..
                } = event
                else {
                    continue;
                };
                self.say(id, 2, Act::Accepted { ack, accepted: true }).expect("it is there");
                if *self.primary.machine.policy() == Policy::LeastConn {
                    self.say(id, 3, Act::Closes { count: 1 }).expect("it is there");
                }
            }
        }
    }
}

fn query() -> Query {
    Query {
        index: 0,
        data: None,
        address: None,
        port: Some(8000),
        address_type: AddressType::V4,
        fd: None,
        flags: None,
        backlog: None,
        readable_all: false,
        writable_all: false,
    }
}

/// What is counted: a turn, once all workers are there.
#[inline(never)]
fn dispatch_turn(driver: &mut Driver, ready: Ready) {
    driver.turn(ready);
}

impl Driver {
    /// One turn of the primary's loop.
    fn turn(&mut self, ready: Ready) {
        match ready {
            Ready::Socket(connections) => {
                let Some(socket) = self.socket.filter(|_| self.accepting) else { return };
                for connection in connections {
                    let accepted = Input::Accepted { socket, connection, peer: Peer::default() };
                    self.machine.handle(self.now, accepted);
                }
            }
            Ready::Channel(id) => self.receive(id),
        }
        self.perform();
        // When the loop is to wake up at the latest.
        std::hint::black_box(self.machine.poll_timeout());
    }

    fn receive(&mut self, id: WorkerId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.session.handle_input(&link.unread, None);
        link.unread.clear();
        while let Some(event) = self.links.get_mut(&id).and_then(|link| link.session.poll_event()) {
            let input = match event {
                Event::Cluster { message, .. } => Input::Message { worker: id, message },
                Event::Delivered { tag, handle } => {
                    Input::Delivered { worker: id, seq: Seq(tag), connection: handle }
                }
                _ => continue,
            };
            self.machine.handle(self.now, input);
        }
        self.dirty.push(id);
    }

    fn perform(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Send { worker, message } => self.post(worker, &message, None),
                Effect::SendConnection { worker, seq, message, connection, pipelined } => {
                    let order = if pipelined { Order::Pipelined } else { Order::Barrier };
                    let attachment =
                        Attachment { handle: connection, kind: HandleKind::NetNative, tag: seq.0, order };
                    self.post(worker, &message, Some(attachment));
                }
                Effect::Bind { socket, .. } => {
                    self.socket = Some(socket);
                    self.machine.handle(self.now, Input::Bound { socket, outcome: Ok(None) });
                }
                Effect::Accept { on, .. } => self.accepting = on,
                Effect::Drop { .. } => self.dropped += 1,
                _ => {}
            }
        }
        while let Some(id) = self.dirty.pop() {
            let Some(Link { session, sent, .. }) = self.links.get_mut(&id) else { continue };
            while let Some(transmit) = session.poll_transmit() {
                sent.push((transmit.bytes.into(), transmit.handle.copied()));
                let count = transmit.bytes.len();
                session.transmitted(count);
            }
        }
    }

    fn post(&mut self, id: WorkerId, message: &ClusterMessage, attachment: Option<Attachment<u32>>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        self.json.clear();
        message.write(&mut self.json);
        let json = std::str::from_utf8(&self.json).unwrap_or_default();
        if link.session.send_json(json, attachment).is_ok() {
            self.dirty.push(id);
        }
    }
}
