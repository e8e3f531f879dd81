//! Connections of ours to one worker, past the schedule.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use ganger_proto::WorkerId;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::Primary;
use crate::{clock, cluster::Connection, handle::Kind, sys::socket};

impl Primary {
    /// Whatever the worker listens on, it gets no connections before it is [admitted](Self::admit), but those that are
    /// [for it alone](Self::connect_to). What the kernel gives it (`shared`, `reuseport`) it gets all the same.
    pub fn hold_back(&mut self, id: WorkerId) {
        self.machine.hold_back(id);
    }

    /// Puts a worker that was held back into dispatch.
    pub fn admit(&mut self, id: WorkerId) {
        self.machine.admit(clock::now(), id);
    }

    /// A connection to the worker that no other one gets, as if it had come by the first address, TCP or Unix-domain, that
    /// the worker has opened. None if there is no such address. It resolves as soon as there is our end; the worker's is
    /// handed over by whoever drives the primary, and closed if the worker does not take it.
    ///
    /// # Errors
    /// The future's are those of a connection within this machine: descriptors have run out, it has no loopback.
    pub fn connect_to(
        &self,
        id: WorkerId,
    ) -> Option<impl Future<Output = io::Result<Connection>> + Send + use<>> {
        let address = self.sockets.get(&self.machine.first_socket(id)?)?;
        let kind = socket::kind(address).ok()?;
        let calls = self.calls.clone();
        Some(async move {
            let (ours, theirs) = match kind {
                Kind::UnixListener => unix_pair()?,
                _ => tcp_pair().await?,
            };
            // Without a primary it is closed.
            let _ = calls.send(Box::new(move |primary| primary.machine.hand_private(id, theirs)));
            Ok(ours)
        })
    }
}

fn unix_pair() -> io::Result<(Connection, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ours.into(), theirs.into_std()?.into()))
}

async fn tcp_pair() -> io::Result<(Connection, OwnedFd)> {
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(|ip| SocketAddr::new(ip, 0));
    let listener = TcpListener::bind(&loopback[..]).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let address = ours.local_addr()?;
    loop {
        // A stranger may have found the port.
        let (theirs, client) = listener.accept().await?;
        if client == address {
            return Ok((ours.into(), theirs.into_std()?.into()));
        }
    }
}
