//! A worker's UDP socket.

use std::{io, net::SocketAddr, ops::Deref, os::fd::OwnedFd};

use tokio::net;
use tokio_util::sync::CancellationToken;

use super::worker::Hold;
use crate::handle::{Handle, Kind};

/// A worker's UDP socket. The others have it too, unless it is exclusive, and what arrives goes to whichever reads first;
/// under the policy `reuseport` each slot has its own part of what arrives. All that tokio's socket can do it can as well.
/// Dropped, it is closed.
#[derive(Debug)]
pub struct UdpSocket {
    socket: net::UdpSocket,
    stopping: CancellationToken,
    /// Behind the socket: closed first, given back then.
    _hold: Hold,
}

impl UdpSocket {
    pub(super) fn new(fd: OwnedFd, stopping: CancellationToken, hold: Hold) -> io::Result<Self> {
        let handle = Handle::try_from(fd)?;
        if handle.kind() != Kind::Udp {
            // `lib/dgram.js`: ERR_INVALID_FD_TYPE.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no UDP socket"));
        }
        let socket = net::UdpSocket::from_std(OwnedFd::from(handle).into())?;
        Ok(Self { socket, stopping, _hold: hold })
    }

    /// The next datagram, its length and its sender; none when the worker is to leave: what arrives from then on is the
    /// other workers'. Cancel safe. What is longer than the buffer is cut.
    ///
    /// # Errors
    /// Those of `recvfrom`; `ECONNREFUSED` tells of an earlier datagram that nobody wanted, and the socket goes on.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Ok(None),
            received = self.socket.recv_from(buffer) => received.map(Some),
        }
    }
}

impl Deref for UdpSocket {
    type Target = net::UdpSocket;

    fn deref(&self) -> &net::UdpSocket {
        &self.socket
    }
}
