//! The kernel's sockets: who waits in them, and who has them.

use std::collections::{BTreeMap, VecDeque};

use ganger_proto::{SocketId, WorkerId};

use super::world::{Occasion, World};
use crate::random::Random;

#[derive(Debug, Default)]
pub(crate) struct Kernel {
    sockets: BTreeMap<SocketId, Socket>,
    /// Those to which clients are led.
    ports: Vec<SocketId>,
}

#[derive(Debug, Default)]
struct Socket {
    queue: VecDeque<u32>,
    /// Whether the primary accepts from it.
    accepting: bool,
    /// The workers that have it.
    holders: Vec<WorkerId>,
}

impl Kernel {
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.sockets.values().map(|socket| socket.queue.len()).sum()
    }

    pub(crate) fn open(&mut self, id: SocketId) {
        self.sockets.insert(id, Socket::default());
        self.ports.push(id);
    }

    /// Clients are led away from it, or no more.
    pub(crate) fn steer(&mut self, id: SocketId, away: bool) {
        assert_ne!(self.is_steered(id), away, "steering is only ever changed");
        if away {
            self.ports.retain(|port| *port != id);
        } else {
            self.ports.push(id);
        }
    }

    pub(crate) fn is_steered(&self, id: SocketId) -> bool {
        self.sockets.contains_key(&id) && !self.ports.contains(&id)
    }

    /// Who waits there when it is closed.
    pub(crate) fn close(&mut self, id: SocketId) -> VecDeque<u32> {
        self.ports.retain(|port| *port != id);
        self.sockets.remove(&id).map(|socket| socket.queue).unwrap_or_default()
    }

    pub(crate) fn choose(&self, random: &mut Random) -> Option<SocketId> {
        self.ports.get(random.below(self.ports.len())).copied()
    }

    pub(crate) fn arrived(&mut self, id: SocketId, number: u32) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.queue.push_back(number);
        }
    }

    pub(crate) fn set_accepting(&mut self, id: SocketId, on: bool) {
        let socket = self.sockets.get_mut(&id).expect("it accepts from an open socket");
        assert_ne!(socket.accepting, on, "accepting is only ever changed");
        socket.accepting = on;
    }

    pub(crate) fn take_for_primary(&mut self, id: SocketId) -> Option<u32> {
        self.sockets.get_mut(&id).filter(|socket| socket.accepting)?.queue.pop_front()
    }

    pub(crate) fn take_for_worker(&mut self, id: SocketId) -> Option<u32> {
        self.sockets.get_mut(&id)?.queue.pop_front()
    }

    pub(crate) fn has_waiting(&self, id: SocketId) -> bool {
        self.sockets.get(&id).is_some_and(|socket| !socket.queue.is_empty())
    }

    pub(crate) fn give(&mut self, id: SocketId, worker: WorkerId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.holders.push(worker);
        }
    }

    pub(crate) fn take_away(&mut self, id: SocketId, worker: WorkerId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.holders.retain(|holder| *holder != worker);
        }
    }
}

impl World {
    /// Somebody waits in the socket: who can accept is told, one of them.
    pub(crate) fn wake_for(&mut self, id: SocketId) {
        let Some(socket) = self.around.kernel.sockets.get(&id) else { return };
        if socket.queue.is_empty() {
            return;
        }
        if socket.accepting {
            return self.around.within_ms(2, Occasion::Readable(id));
        }
        let count = socket.holders.len();
        let first = self.around.random.below(count);
        let mut holders = (0..count).map(|n| socket.holders[(first + n) % count]);
        let able = holders.find(|holder| self.workers.get(holder).is_some_and(|worker| worker.can_accept()));
        if let Some(worker) = able {
            self.with(worker, |worker, around| worker.wake(around));
        }
    }
}
