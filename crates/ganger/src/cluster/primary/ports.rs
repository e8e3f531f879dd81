//! Sockets that share a port: which of them new connections are led past.

use std::collections::BTreeSet;

use ganger_proto::SocketId;

use super::Primary;
use crate::sys::socket;

/// The sockets on one port, in the kernel's order.
#[derive(Debug, Default)]
pub(super) struct Port {
    sockets: Vec<SocketId>,
    past: BTreeSet<SocketId>,
}

impl Primary {
    /// A socket listens beside another one, or is the first on its port.
    pub(super) fn share_port(&mut self, socket: SocketId, with: Option<SocketId>) {
        let port = self.ports.iter_mut().find(|port| with.is_some_and(|with| port.sockets.contains(&with)));
        match port {
            Some(port) => port.sockets.push(socket),
            None => self.ports.push(Port { sockets: vec![socket], past: BTreeSet::new() }),
        }
        // The places of those that are passed by have to be counted among one more.
        self.lead_if_any(socket);
    }

    /// New connections are led past a socket from now on, or no more.
    pub(super) fn steer(&mut self, socket: SocketId, away: bool) {
        let port = self.ports.iter_mut().find(|port| port.sockets.contains(&socket));
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
        let Some(at) = self.ports.iter().position(|port| port.sockets.contains(&socket)) else { return };
        let port = &mut self.ports[at];
        if let Some(place) = port.sockets.iter().position(|other| *other == socket) {
            // As the kernel does it.
            port.sockets.swap_remove(place);
        }
        let steered = port.past.remove(&socket);
        match port.sockets.first().copied() {
            Some(other) if steered => self.lead(other),
            Some(other) => self.lead_if_any(other),
            None => drop(self.ports.swap_remove(at)),
        }
    }

    fn lead_if_any(&mut self, socket: SocketId) {
        let mut ports = self.ports.iter();
        if ports.any(|port| port.sockets.contains(&socket) && !port.past.is_empty()) {
            self.lead(socket);
        }
    }

    /// Tells the kernel. Where it does not listen to that, nobody is led anywhere, and what waits at the socket is taken
    /// from it before it is closed.
    fn lead(&mut self, socket: SocketId) {
        let Some(port) = self.ports.iter().find(|port| port.sockets.contains(&socket)) else { return };
        let Some(entry) = self.sockets.get(&socket) else { return };
        let places = port.sockets.iter().enumerate().filter(|(_, socket)| port.past.contains(socket));
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        if let Err(error) = socket::steer(entry, port.sockets.len(), &places) {
            tracing::debug!(%error, "new connections cannot be led past a socket");
        }
    }
}
