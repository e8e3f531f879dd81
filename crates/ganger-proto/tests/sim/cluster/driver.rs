//! The driver: performs effects exactly as the real one does, and moves the state into another program.

use ganger_proto::{
    Seq, WorkerId,
    cluster::{Capabilities, Effect, Event, Input, Policy, Primary},
    node::{Act, ClusterMessage, HandleKind},
    session::{Attachment, Order, SendErrorReason},
};

use super::{
    temper::Kind,
    world::{Process, World},
};
use crate::clients::{Connection, Handle, Place};

impl World {
    /// Something happened; the machine decides, the driver performs.
    pub(crate) fn handle(&mut self, input: Input<Connection>) {
        self.primary.handle(self.around.now, input);
        if !self.lazy {
            self.perform();
        }
    }

    /// Performs what the primary wants.
    pub(crate) fn perform(&mut self) {
        while let Some(effect) = self.primary.poll_effect() {
            self.perform_one(effect);
        }
    }

    fn perform_one(&mut self, effect: Effect<Connection>) {
        match effect {
            Effect::Send { worker, message } => self.send(worker, message, None),
            Effect::SendSocket { worker, socket, datagram, message } => {
                let kind = if datagram { HandleKind::DgramNative } else { HandleKind::NetNative };
                let handle = Handle::Socket(socket);
                self.send(worker, message, Some(Attachment { handle, kind, tag: 0, order: Order::Barrier }));
            }
            Effect::SendConnection { worker, seq, message, connection, pipelined } => {
                let order = if pipelined { Order::Pipelined } else { Order::Barrier };
                self.around.clients.moved(connection.0, Place::Primary, Place::Session(worker));
                self.around.note("to worker", worker, connection.0);
                self.numbers.insert(seq, connection.0);
                let (handle, kind) = (Handle::Connection(connection), HandleKind::NetNative);
                self.send(worker, message, Some(Attachment { handle, kind, tag: seq.0, order }));
            }
            Effect::Bind { socket, target, .. } => self.binding.push_back((socket, target)),
            Effect::Accept { socket, on } => {
                let entry = self.around.kernel.get_mut(&socket).expect("it accepts from an open socket");
                assert_ne!(entry.accepting, on, "accepting is only ever changed");
                entry.accepting = on;
                assert!(!on || self.lazy || self.is_held(socket), "it accepts for nobody");
            }
            Effect::Close { socket, .. } => {
                let unwanted = !self.is_held(socket) && !self.gang.is_due();
                assert!(
                    self.gang.is_stopped() || self.is_steered(socket) || unwanted,
                    "it is closed while somebody has it or is about to come"
                );
                self.close(socket);
            }
            Effect::Steer { socket, away } => {
                let steered = &mut self.around.steered;
                let changed = if away { steered.insert(socket) } else { steered.remove(&socket) };
                assert!(changed, "steering is only ever changed");
            }
            Effect::Peek { listener, connection, peer } => {
                self.around.clients.moved(connection.0, Place::Primary, Place::Driver);
                self.peeking.push((listener, connection, peer));
            }
            Effect::Examine { listener, connection, peer } => {
                self.around.clients.moved(connection.0, Place::Primary, Place::Driver);
                self.examining.push((listener, connection, peer));
            }
            Effect::Drop { connection, fate } => {
                self.check_given_up(connection.0, fate);
                self.around.clients.closed(connection.0, Place::Primary, fate);
            }
            Effect::Event(event) => self.tell(event),
        }
    }

    fn send(&mut self, worker: WorkerId, message: ClusterMessage, attachment: Option<Attachment<Handle>>) {
        if let Act::QueryReply { key, errno, .. } = &message.act
            && errno.is_none_or(|errno| errno == 0)
        {
            self.joined.insert((worker, key.clone()), self.around.step);
        }
        let back = self.post(worker, &message, attachment);
        if let (Some(Handle::Connection(connection)), Some(seq)) = (back, message.seq) {
            self.take_back(worker, seq, connection);
        }
    }

    /// Gives back what cannot be sent, because the channel is full, or gone since the primary decided this.
    fn post(
        &mut self,
        worker: WorkerId,
        message: &ClusterMessage,
        attachment: Option<Attachment<Handle>>,
    ) -> Option<Handle> {
        let process = self.processes.iter_mut().find(|process| process.worker.id == worker);
        let Some(Process { worker, session: Some(session), reaped }) = process else {
            return attachment.map(|attachment| attachment.handle);
        };
        let connection = matches!(&attachment, Some(Attachment { handle: Handle::Connection(_), .. }));
        assert!(!(connection && *reaped), "a connection for the dead");
        let mut text = Vec::new();
        message.write(&mut text);
        let text = String::from_utf8(text).expect("JSON is UTF-8");
        let refused = session.send_json(&text, attachment).err()?;
        let lost = !matches!(refused.handle, Some(Handle::Connection(_)));
        if refused.reason == SendErrorReason::QueueFull && lost {
            // Who does not read what it asked for is beyond help.
            worker.die(&mut self.around);
        }
        refused.handle
    }

    pub(crate) fn take_back(&mut self, worker: WorkerId, seq: Seq, connection: Connection) {
        self.around.clients.moved(connection.0, Place::Session(worker), Place::Primary);
        self.around.clients.refused(connection.0, worker, self.around.step);
        self.handle(Input::Returned { worker, seq, connection });
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Online { worker } => {
                let kind = self.process(worker).map(|process| process.worker.temper.kind);
                if kind == Some(Kind::Node) && self.around.random.chance(700) {
                    self.primary.set_capabilities(self.around.now, worker, Capabilities::NODE);
                }
            }
            Event::Disconnect { worker } | Event::Exit { worker, .. } => self.replace(worker),
            _ => {}
        }
    }

    pub(crate) fn upgrade(&mut self) {
        self.around.note("upgrade", WorkerId(0), 0);
        let primary = std::mem::replace(&mut self.primary, Primary::new(Policy::RoundRobin));
        let before = primary.snapshot();
        let text =
            serde_json::to_string(&primary.map_handles(|connection| connection.0)).expect("plain data");
        let primary: Primary<u32> = serde_json::from_str(&text).expect("what was written is read");
        self.primary = primary.map_handles(Connection);
        assert_eq!(self.primary.snapshot(), before);
        for process in &mut self.processes {
            let Some(session) = process.session.take() else { continue };
            let text = serde_json::to_string(&session).expect("plain data");
            process.session = Some(serde_json::from_str(&text).expect("what was written is read"));
        }
    }
}
