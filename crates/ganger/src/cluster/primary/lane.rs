//! The workers' native lanes: connections out, answers in.

use std::os::fd::OwnedFd;

use ganger_proto::{
    ListenerKey, Seq, WorkerId,
    cluster::Input,
    node::{Act, ClusterMessage},
    wire::lane::{self, Packet},
};

use super::{Primary, Token, WorkerFault};
use crate::{
    channel::{Flushed, Moved},
    clock,
    sys::poll::Interest,
};

/// So many packets are read before others have their turn; fewer, if they have brought as many answers as one may.
const PACKETS: usize = 16;

/// What one packet was.
struct Heard {
    bytes: usize,
    answers: usize,
}

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

    /// Reads what a worker says on its lane, as far as its turn goes: the poller comes back for the rest.
    pub(super) fn receive_lane(&mut self, id: WorkerId) {
        let mut answers = 0;
        for _ in 0..PACKETS {
            match self.receive_packet(id) {
                Some(heard) => answers += heard.answers,
                None => break,
            }
            if answers >= lane::ANSWERS {
                break;
            }
        }
        // Room may have come with the answers.
        self.dirty.push(id);
    }

    /// Reads all that a worker has said on its lane by now, and nothing that it says meanwhile.
    pub(super) fn receive_lane_to_its_end(&mut self, id: WorkerId) {
        let lane = self.workers.get(&id).and_then(|worker| worker.lane.as_ref());
        let mut left = lane.map_or(0, |lane| lane.link.unread());
        while left > 0 {
            let Some(heard) = self.receive_packet(id) else { break };
            left = left.saturating_sub(heard.bytes);
        }
    }

    /// One packet, if there is one.
    fn receive_packet(&mut self, id: WorkerId) -> Option<Heard> {
        let worker = self.workers.get_mut(&id)?;
        let (info, lane) = (worker.info, worker.lane.as_mut()?);
        // Descriptors have no business here: they are closed.
        let (packet, bytes) = match lane.link.receive(&mut self.buffer) {
            Ok(arrived) => arrived.map(|arrived| (arrived.packet, arrived.bytes))?,
            Err(_) => {
                self.close_lane(id);
                return None;
            }
        };
        let mut heard = Heard { bytes, answers: 0 };
        match packet {
            Ok(Packet::Hello { version }) => lane.agreed = version == lane::VERSION,
            Ok(Packet::Answers(answers)) => {
                heard.answers = answers.len();
                for (ack, accepted) in answers {
                    let message = ClusterMessage { seq: None, act: Act::Accepted { ack, accepted } };
                    self.handle_cluster(clock::now(), info, message);
                }
            }
            // What another version says is not ours to judge.
            Err(_) if lane.agreed => {
                self.perform_effects();
                self.fault(info, WorkerFault::Lane);
            }
            _ => {}
        }
        Some(heard)
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
