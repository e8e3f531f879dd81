//! What the machine wants done, done.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use ganger_proto::{
    Seq, SocketId, WorkerId,
    cluster::{self as proto, Effect, Input, Share},
    node::{Act, ClusterMessage, HandleKind, Target},
    session::{Attachment, Order, SendErrorReason},
};

use super::{Cargo, Primary, Token, deaf, life, worker::Worker};
use crate::{
    clock,
    cluster::{Event, WorkerFault, sockets::Socket},
    sys::{poll::Interest, socket},
};

impl Primary {
    /// Performs all effects and writes what they left to be written.
    pub(super) fn perform(&mut self) {
        self.perform_effects();
        self.flush();
    }

    /// Performs all effects, as far as that goes without writing to channels.
    pub(super) fn perform_effects(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Send { worker, message } => {
                    if matches!(message.act, Act::Drain | Act::Disconnect) {
                        self.drain_lane(worker);
                    }
                    self.post(worker, &message, None);
                }
                Effect::SendSocket { worker, socket, datagram, message } => {
                    let Some(socket) = self.sockets.get(&socket) else { continue };
                    let attachment = Attachment {
                        handle: Cargo::Socket(socket.fd.clone()),
                        kind: if datagram { HandleKind::DgramNative } else { HandleKind::NetNative },
                        tag: 0,
                        order: Order::Barrier,
                    };
                    self.post(worker, &message, Some(attachment));
                }
                Effect::SendConnection { worker, seq, message, connection, pipelined } => {
                    let connection = match &message.act {
                        Act::NewConn { key } => self.send_on_lane(worker, key, seq, connection),
                        _ => Some(connection),
                    };
                    if let Some(connection) = connection {
                        self.send_on_channel(worker, seq, &message, connection, pipelined);
                    }
                }
                Effect::Bind { socket, target, backlog, share } => self.bind(socket, &target, backlog, share),
                Effect::Steer { socket, away } => self.steer(socket, away),
                Effect::Accept { socket, on } => {
                    let Some(entry) = self.sockets.get_mut(&socket) else { continue };
                    entry.accepting = on;
                    entry.paused_until = None;
                    let interest = if on { Interest::Read } else { Interest::None };
                    let _ = self.poller.get_ref().modify(&*entry, Token::Socket(socket).into(), interest);
                }
                Effect::Close { socket, dispatched } => self.close(socket, dispatched),
                Effect::Peek { listener, connection, peer } => self.peek(listener, connection, peer),
                Effect::Examine { listener, connection, peer } => {
                    let untouched = socket::untouched(connection.as_fd()).unwrap_or(false);
                    let examined = Input::Examined { listener, connection, peer, untouched };
                    self.machine.handle(clock::now(), examined);
                }
                // Dropping it closes it, here; a worker has its own copy.
                Effect::Drop { connection, .. } => drop(connection),
                Effect::Event(event) => self.emit(event),
            }
        }
    }

    /// Puts a message into a worker's session. What is not sent comes back.
    fn post(
        &mut self,
        id: WorkerId,
        message: &ClusterMessage,
        attachment: Option<Attachment<Cargo>>,
    ) -> Option<Cargo> {
        let Some(worker) = self.workers.get_mut(&id) else {
            return attachment.map(|attachment| attachment.handle);
        };
        let Some(link) = worker.link.as_mut() else {
            return attachment.map(|attachment| attachment.handle);
        };
        self.json.clear();
        message.write(&mut self.json);
        let json = std::str::from_utf8(&self.json).unwrap_or_default();
        match link.session.send_json(json, attachment) {
            Ok(_) => {
                self.dirty.push(id);
                None
            }
            Err(error) => {
                if error.reason == SendErrorReason::QueueFull {
                    let worker = worker.info;
                    self.events.push_back(Event::Fault { worker, fault: deaf() });
                }
                error.handle
            }
        }
    }

    pub(super) fn send_on_channel(
        &mut self,
        worker: WorkerId,
        seq: Seq,
        message: &ClusterMessage,
        connection: OwnedFd,
        pipelined: bool,
    ) {
        let attachment = Attachment {
            handle: Cargo::Connection(connection),
            kind: HandleKind::NetNative,
            tag: seq.0,
            order: if pipelined { Order::Pipelined } else { Order::Barrier },
        };
        if let Some(Cargo::Connection(connection)) = self.post(worker, message, Some(attachment)) {
            self.machine.handle(clock::now(), Input::Returned { worker, seq, connection });
        }
    }

    fn bind(&mut self, id: SocketId, target: &Target, backlog: u32, share: Option<Share>) {
        let bound = match share {
            None => Socket::open(target, backlog),
            Some(Share::First) => Socket::open_to_others(target, backlog),
            Some(Share::With(sibling)) => match self.sockets.get(&sibling) {
                Some(sibling) => Socket::beside(sibling, target, backlog),
                None => Err(rustix::io::Errno::BADF.into()),
            },
        };
        let bound = bound.and_then(|(socket, sockname)| {
            if !target.is_datagram() {
                self.poller.get_ref().add(&socket, Token::Socket(id).into(), Interest::None)?;
            }
            Ok((socket, sockname))
        });
        let outcome = match bound {
            Ok((socket, sockname)) => {
                self.sockets.insert(id, socket);
                if let Some(share) = share {
                    let with = match share {
                        Share::With(sibling) => Some(sibling),
                        Share::First => None,
                    };
                    self.share_port(id, with);
                }
                Ok(sockname)
            }
            // What has no errno is a path that is too long or a name that is none.
            Err(error) => Err(error.raw_os_error().unwrap_or(rustix::io::Errno::INVAL.raw_os_error())),
        };
        self.machine.handle(clock::now(), Input::Bound { socket: id, outcome });
    }

    /// Takes what the kernel has completed, then closes the socket.
    fn close(&mut self, id: SocketId, dispatched: bool) {
        let now = clock::now();
        if let Some(mut socket) = self.sockets.remove(&id) {
            let _ = self.poller.get_ref().remove(&socket);
            socket.unlink();
            if dispatched {
                // As many as its queue can have held: under load there are always more.
                for _ in 0..=Socket::longest_queue() {
                    let Some((connection, client)) = socket.accept(&mut self.reserve, now) else { break };
                    let peer = self.peer(&connection, client);
                    self.machine.handle(now, Input::Accepted { socket: id, connection, peer });
                }
            }
            // Both leave it now: the machine, and the kernel when the last holder has closed it.
            drop(socket);
            self.leave_port(id);
            self.end_peeks_of(id);
        }
        self.machine.handle(now, Input::Closed { socket: id });
    }

    /// The machine's events are the user's, with what only the driver knows.
    fn emit(&mut self, event: proto::Event) {
        use proto::Event::*;
        let id = match &event {
            Online { worker }
            | Listening { worker, .. }
            | TakesHints { worker }
            | ListensToTerm { worker, .. }
            | Leaving { worker }
            | Disconnect { worker }
            | Exit { worker, .. }
            | BindFailed { worker, .. }
            | Probed { worker, .. }
            | Misbehaved { worker, .. } => *worker,
            _ => return,
        };
        let Some(entry) = self.workers.get(&id) else { return };
        life::lock(&entry.life).follow(&event);
        let worker = entry.info;
        let event = match event {
            Online { .. } => Event::Online { worker },
            Listening { query, .. } => Event::Listening { worker, address: query.into() },
            TakesHints { .. } => Event::TakesHints { worker },
            ListensToTerm { listens, .. } => Event::ListensToTerm { worker, listens },
            Leaving { .. } => Event::Leaving { worker },
            Disconnect { .. } => Event::Disconnect { worker },
            Exit { exited_after_disconnect, .. } => {
                let Some(Worker { exit: Some(exit), held, .. }) = self.workers.remove(&id) else { return };
                if self.workers.is_empty() {
                    self.waiting.clear();
                }
                Event::Exit { worker, exit, exited_after_disconnect, held }
            }
            BindFailed { target, errno, .. } => {
                let error = io::Error::from_raw_os_error(errno);
                Event::BindFailed { worker, address: target.into(), error }
            }
            Probed { lag, .. } => Event::Probed { worker, lag },
            Misbehaved { what, .. } => Event::Fault { worker, fault: WorkerFault::Cluster(what) },
            _ => return,
        };
        self.events.push_back(event);
    }
}
