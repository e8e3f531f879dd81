//! Connections that the kernel has completed, and who has come with them.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use ganger_proto::{
    SocketId, Time,
    cluster::{Client, Input, LeastConnBy, Peer, Policy},
};

use super::{Primary, Token};
use crate::{
    clock,
    sys::{poll::Interest, socket},
};

/// So many are accepted before others have their turn.
const ACCEPTS: usize = 16;

impl Primary {
    pub(super) fn accept(&mut self, id: SocketId) {
        let now = clock::now();
        for _ in 0..ACCEPTS {
            let Some(socket) = self.sockets.get_mut(&id).filter(|socket| socket.accepting) else { return };
            let connection = socket.accept(&mut self.reserve, now);
            let paused = socket.paused_until.is_some();
            if paused {
                // Level-triggered, it would wake us without end.
                let _ = self.poller.get_ref().modify(&*socket, Token::Socket(id).into(), Interest::None);
                self.short.insert(id);
            }
            let Some((connection, client)) = connection else { return };
            let peer = self.peer(&connection, client);
            self.machine.handle(now, Input::Accepted { socket: id, connection, peer });
            if paused {
                return;
            }
        }
    }

    /// What the policy asks of the client.
    pub(super) fn peer(&self, connection: &OwnedFd, client: Option<SocketAddr>) -> Peer {
        match self.settings.policy {
            Policy::Sticky(_) => {
                let known = |address: SocketAddr| match address.ip().to_canonical() {
                    IpAddr::V4(ip) => Client::known(&ip.octets()),
                    IpAddr::V6(ip) => Client::known(&ip.octets()),
                };
                Peer { client: client.map_or(Client::Anyone, known), cookie: None }
            }
            // A Unix socket has a number too, but a survey does not find it.
            Policy::LeastConn if self.machine.least_conn_by() == Some(LeastConnBy::Open) => {
                let cookie = client.and_then(|_| socket::cookie(connection).ok());
                Peer { client: Client::Anyone, cookie }
            }
            _ => Peer::default(),
        }
    }

    /// When accepting goes on that waits for descriptors.
    pub(super) fn accepting_timeout(&self) -> Option<Time> {
        self.short.iter().filter_map(|id| self.sockets.get(id)?.paused_until).min()
    }

    pub(super) fn accept_again(&mut self, now: Time) {
        self.short.retain(|id| {
            let Some(socket) = self.sockets.get_mut(id) else { return false };
            if socket.paused_until.take_if(|until| *until <= now).is_some() && socket.accepting {
                // What cannot be watched any more is looked at when its socket changes.
                let _ = self.poller.get_ref().modify(&*socket, Token::Socket(*id).into(), Interest::Read);
            }
            socket.paused_until.is_some()
        });
    }
}
