//! The workers' native lanes: connections out, answers in.

use std::os::fd::OwnedFd;

use ganger_proto::{
    ListenerKey, Seq, WorkerId,
    cluster::Input,
    node::{Act, ClusterMessage},
    wire::lane::{self, Packet},
};

use super::{Primary, Token};
use crate::{
    channel::{Flushed, Moved},
    clock,
    sys::poll::Interest,
};

impl Primary {
    /// Puts a connection on a worker's lane; it comes back where there is none that is agreed on.
    pub(super) fn send_on_lane(
        &mut self,
        id: WorkerId,
        key: &ListenerKey,
        seq: Seq,
        connection: OwnedFd,
    ) -> Option<OwnedFd> {
        let lane = self.workers.get_mut(&id).and_then(|worker| worker.lane.as_mut());
        let Some(lane) = lane.filter(|lane| lane.agreed) else { return Some(connection) };
        lane.link.connection(key.clone(), seq, connection);
        self.dirty.push(id);
        None
    }

    /// What a worker is told to do comes after the connections that it was given before: those that the lane has no room for
    /// go by the channel.
    pub(super) fn drain_lane(&mut self, id: WorkerId) {
        self.flush_lane(id);
        let lane = self.workers.get_mut(&id).and_then(|worker| worker.lane.as_mut());
        let left: Vec<_> = lane.map(|lane| lane.link.take_connections().collect()).unwrap_or_default();
        for (key, seq, connection) in left {
            let message = ClusterMessage { seq: Some(seq), act: Act::NewConn { key } };
            self.send_on_channel(id, seq, &message, connection, true);
        }
    }

    /// Writes what waits for a worker's lane.
    pub(super) fn flush_lane(&mut self, id: WorkerId) {
        let Some(lane) = self.workers.get_mut(&id).and_then(|worker| worker.lane.as_mut()) else { return };
        let Moved { flushed, sent } = lane.link.flush();
        let blocked = flushed == Flushed::Blocked;
        if blocked != lane.blocked {
            lane.blocked = blocked;
            let interest = if blocked { Interest::ReadWrite } else { Interest::Read };
            let _ = self.poller.get_ref().modify(&lane.link, Token::Lane(id).into(), interest);
        }
        let now = clock::now();
        for (seq, connection) in sent {
            self.machine.handle(now, Input::Delivered { worker: id, seq, connection });
        }
        if flushed == Flushed::Broken {
            self.close_lane(id);
        }
    }

    /// Reads what a worker says on its lane.
    pub(super) fn receive_lane(&mut self, id: WorkerId) {
        loop {
            let Some(worker) = self.workers.get_mut(&id) else { return };
            let (info, Some(lane)) = (worker.info, worker.lane.as_mut()) else { return };
            let packet = match lane.link.receive(&mut self.buffer) {
                // Descriptors have no business here: they are closed.
                Ok(Some((packet, _))) => packet,
                Ok(None) => break,
                Err(_) => return self.close_lane(id),
            };
            match packet {
                Packet::Hello { version } => lane.agreed = version == lane::VERSION,
                Packet::Answers(answers) => {
                    for (ack, accepted) in answers {
                        let message = ClusterMessage { seq: None, act: Act::Accepted { ack, accepted } };
                        self.handle_cluster(clock::now(), info, message);
                    }
                }
                _ => {}
            }
        }
        // Room may have come with the answers.
        self.dirty.push(id);
    }

    /// Without its lane a worker is served by its channel.
    fn close_lane(&mut self, id: WorkerId) {
        let lane = self.workers.get_mut(&id).and_then(|worker| worker.lane.take());
        let Some(mut lane) = lane else { return };
        let _ = self.poller.get_ref().remove(&lane.link);
        for (_, seq, connection) in lane.link.take_connections() {
            self.machine.handle(clock::now(), Input::Returned { worker: id, seq, connection });
        }
    }
}
