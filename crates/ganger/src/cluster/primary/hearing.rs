//! What workers say, on their channels and with their end.

use std::os::fd::OwnedFd;

use ganger_proto::{
    Seq, Time, WorkerId,
    cluster::{Capabilities, Input},
    messenger::Party,
    node::{Act, ClusterMessage},
    session,
};

use super::{Event, Link, Primary, WorkerFault, WorkerInfo, worker::Cargo};
use crate::{clock, handle::Handle, sys::process};

impl Primary {
    /// Reads a worker's channel and tells the machine what it says.
    pub(super) fn receive(&mut self, id: WorkerId) {
        let Some(link) = self.workers.get_mut(&id).and_then(|worker| worker.link.as_mut()) else { return };
        link.receive(&mut self.buffer);
        self.hear(id);
    }

    pub(super) fn hear(&mut self, id: WorkerId) {
        let now = clock::now();
        while let Some(worker) = self.workers.get_mut(&id) {
            let info = worker.info;
            let Some(event) = worker.link.as_mut().and_then(|link| link.session.poll_event()) else { break };
            match event {
                session::Event::Cluster { message, .. } => self.handle_cluster(now, info, message),
                session::Event::Message { payload, handle } => {
                    if self.take_letter(Party::Worker(id), &payload, handle.is_some()) {
                        continue;
                    }
                    let message = self.message(id, payload, handle);
                    // What the worker said before comes before.
                    self.perform_effects();
                    self.events.push_back(Event::Message { worker: info, message });
                }
                session::Event::Panic(panic) => {
                    self.messenger.worker_leaves(id);
                    self.perform_effects();
                    self.events.push_back(Event::Panicked { worker: info, panic });
                }
                session::Event::Delivered { tag, handle: Cargo::Connection(connection) } => {
                    self.machine.handle(now, Input::Delivered { worker: id, seq: Seq(tag), connection });
                }
                session::Event::Returned { tag, handle: Cargo::Connection(connection) } => {
                    self.machine.handle(now, Input::Returned { worker: id, seq: Seq(tag), connection });
                }
                session::Event::Returned { handle, .. } => self.undelivered(info, handle.into_users()),
                session::Event::Fault(fault) => {
                    self.perform_effects();
                    self.fault(info, WorkerFault::Wire(fault));
                }
                session::Event::Disconnected => {
                    self.close_channel(now, id);
                    return;
                }
                // Our own socket, delivered or not: we have it still.
                _ => {}
            }
        }
        // ACKs wait to be written.
        self.dirty.push(id);
    }

    pub(super) fn handle_cluster(&mut self, now: Time, info: WorkerInfo, message: ClusterMessage) {
        if let Act::Online { ganger: None } = message.act
            && is_node(info.pid)
        {
            self.machine.set_capabilities(now, info.id, Capabilities::NODE);
        }
        if message.act == Act::ExitedAfterDisconnect {
            self.messenger.worker_leaves(info.id);
        }
        self.answers += 1;
        self.machine.handle(now, Input::Message { worker: info.id, message });
    }

    /// A user's socket did not arrive.
    pub(super) fn undelivered(&mut self, worker: WorkerInfo, socket: Option<OwnedFd>) {
        if let Some(handle) = socket.and_then(|socket| Handle::try_from(socket).ok()) {
            self.perform_effects();
            self.events.push_back(Event::Undelivered { worker, handle });
        }
    }

    pub(super) fn fault(&mut self, worker: WorkerInfo, fault: WorkerFault) {
        self.events.push_back(Event::Fault { worker, fault });
    }

    pub(super) fn close_channel(&mut self, now: Time, id: WorkerId) {
        // What it answered before is there already.
        self.receive_lane_to_its_end(id);
        let held = self.machine.held(id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.held = held;
        let Some(mut link) = worker.link.take() else { return };
        let _ = self.poller.get_ref().remove(&link);
        self.messenger.gone(Party::Worker(id));
        let mut undelivered: Vec<(Seq, OwnedFd)> = Vec::new();
        let mut lost = Vec::new();
        for (tag, cargo) in link.session.take_undelivered() {
            match cargo {
                Cargo::Connection(connection) => undelivered.push((Seq(tag), connection)),
                cargo => lost.push(cargo.into_users()),
            }
        }
        if let Some(mut lane) = worker.lane.take() {
            let _ = self.poller.get_ref().remove(&lane.link);
            undelivered.extend(lane.link.take_connections().map(|(_, seq, connection)| (seq, connection)));
        }
        let info = worker.info;
        lost.into_iter().for_each(|handle| self.undelivered(info, handle));
        self.machine.handle(now, Input::ChannelClosed { worker: id, undelivered });
    }

    /// A worker's process has ended. What it wrote before is still in its channel: that comes first.
    pub(super) fn reap(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Ok(Some(exit)) = worker.process.bury() else { return };
        let _ = self.poller.get_ref().remove(&**worker.process.pidfd());
        worker.exit = Some(exit);
        // All that the dead process wrote is there already. What a descendant that inherited the channel
        // still writes is nobody's word.
        let mut left = worker.link.as_ref().map_or(0, Link::unread);
        while let Some(link) = self.workers.get_mut(&id).and_then(|worker| worker.link.as_mut()) {
            match link.receive(&mut self.buffer) {
                read if read > 0 && read < left => left -= read,
                _ => link.session.handle_eof(),
            }
            self.hear(id);
        }
        self.end_notify(id);
        self.machine.handle(clock::now(), Input::Exited { worker: id });
    }
}

/// Whether the process is a real Node, whose receiver is known to take several hand-offs at once.
fn is_node(pid: i32) -> bool {
    let executable = process::executable(pid);
    let name = executable.as_deref().and_then(|path| path.file_name());
    name.is_some_and(|name| name == "node" || name == "nodejs")
}
