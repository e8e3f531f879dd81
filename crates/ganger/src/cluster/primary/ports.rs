//! Sockets that share a port: which of them new connections are led past.

use std::collections::{BTreeMap, BTreeSet};

use ganger_proto::SocketId;

use super::Primary;
use crate::sys::socket;

/// The sockets on one port.
#[derive(Debug, Default)]
pub(super) struct Port {
    /// In the kernel's order.
    sockets: Vec<SocketId>,
    /// Where each of them stands in it.
    places: BTreeMap<SocketId, usize>,
    past: BTreeSet<SocketId>,
}

impl Port {
    fn has(&self, socket: SocketId) -> bool {
        self.places.contains_key(&socket)
    }

    fn join(&mut self, socket: SocketId) {
        self.places.insert(socket, self.sockets.len());
        self.sockets.push(socket);
    }

    /// The last one takes its place, as in the kernel.
    fn leave(&mut self, socket: SocketId) {
        if let Some(place) = self.places.remove(&socket) {
            self.sockets.swap_remove(place);
            if let Some(last) = self.sockets.get(place) {
                self.places.insert(*last, place);
            }
        }
    }
}

impl Primary {
    /// A socket listens beside another one, or is the first on its port.
    pub(super) fn share_port(&mut self, socket: SocketId, with: Option<SocketId>) {
        match self.ports.iter_mut().find(|port| with.is_some_and(|with| port.has(with))) {
            Some(port) => port.join(socket),
            None => {
                let mut port = Port::default();
                port.join(socket);
                self.ports.push(port);
            }
        }
        // The places of those that are passed by have to be counted among one more.
        self.lead_if_any(socket);
    }

    /// New connections are led past a socket from now on, or no more.
    pub(super) fn steer(&mut self, socket: SocketId, away: bool) {
        let port = self.ports.iter_mut().find(|port| port.has(socket));
        if let Some(port) = port {
            if away {
                port.past.insert(socket)
            } else {
                port.past.remove(&socket)
            };
            self.lead(socket);
        }
    }

    /// A socket is closed.
    pub(super) fn leave_port(&mut self, socket: SocketId) {
        let Some(at) = self.ports.iter().position(|port| port.has(socket)) else { return };
        let port = &mut self.ports[at];
        port.leave(socket);
        let steered = port.past.remove(&socket);
        match port.sockets.first().copied() {
            Some(other) if steered => self.lead(other),
            Some(other) => self.lead_if_any(other),
            None => drop(self.ports.swap_remove(at)),
        }
    }

    fn lead_if_any(&mut self, socket: SocketId) {
        let mut ports = self.ports.iter();
        if ports.any(|port| port.has(socket) && !port.past.is_empty()) {
            self.lead(socket);
        }
    }

    /// Tells the kernel. Where it does not listen to that, nobody is led anywhere, and what waits at the socket is taken
    /// from it before it is closed.
    fn lead(&mut self, socket: SocketId) {
        let Some(port) = self.ports.iter().find(|port| port.has(socket)) else { return };
        let Some(entry) = self.sockets.get(&socket) else { return };
        let places = port.past.iter().filter_map(|socket| port.places.get(socket));
        let places: Vec<usize> = places.copied().collect();
        if let Err(error) = socket::steer(entry, port.sockets.len(), &places) {
            tracing::debug!(%error, "new connections cannot be led past a socket");
        }
    }
}
