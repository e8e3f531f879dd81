//! The primary's sockets: binding what a worker asks for, accepting, closing.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use ganger_proto::{
    Time,
    node::{Sockname, Target},
};

use rustix::{io::Errno, net::sockopt};

use crate::sys::{
    fd::{self, Reserve},
    socket::{self, Kind, ReusePort, SocketFile, TcpBind, UdpBind, UnixMode},
};

/// Accepting goes on this long after descriptors ran out.
pub(super) const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// A socket that the primary owns.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: Arc<OwnedFd>,
    /// Its file, which goes with it.
    file: Option<SocketFile>,
    /// Whether the machine wants connections from it.
    pub(super) accepting: bool,
    /// Descriptors have run out: no accepting before this.
    pub(super) paused_until: Option<Time>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens what a worker asks for.
    pub(super) fn open(target: &Target, backlog: u32) -> io::Result<(Self, Option<Sockname>)> {
        Self::new(bind(target, backlog, ReusePort::Never)?)
    }

    /// The same for the first of several on one port.
    pub(super) fn open_to_others(target: &Target, backlog: u32) -> io::Result<(Self, Option<Sockname>)> {
        Self::new(bind(target, backlog, ReusePort::WithLater)?)
    }

    /// Another one on the port of a sibling, which may not be the one that was asked for (0), nor the address (all).
    pub(super) fn beside(
        sibling: &Self,
        target: &Target,
        backlog: u32,
    ) -> io::Result<(Self, Option<Sockname>)> {
        let Some(address) = socket::local_addr(sibling)? else { return Err(Errno::INVAL.into()) };
        let (host, port) = (socket::show_ip(address), address.port());
        let ipv6_only = address.is_ipv6() && sockopt::ipv6_v6only(sibling)?;
        let target = match target {
            Target::Udp { reuse_addr, .. } => Target::Udp { host, port, ipv6_only, reuse_addr: *reuse_addr },
            _ => Target::Tcp { host: Some(host), port, ipv6_only },
        };
        Self::new(bind(&target, backlog, ReusePort::Always)?)
    }

    fn new(Bound { fd, file }: Bound) -> io::Result<(Self, Option<Sockname>)> {
        let sockname = socket::local_addr(&fd)?.map(sockname);
        Ok((Self { fd: Arc::new(fd), file, accepting: false, paused_until: None }, sockname))
    }

    /// How many connections wait in its queue at most, but for one: the kernel's number. What a worker asked for says
    /// nothing: another that has the socket may have listened again.
    pub(super) fn longest_queue() -> u32 {
        socket::capped_backlog(u32::MAX)
    }

    /// The next connection that the kernel has completed; none for now. What fails on the way of a single
    /// connection is passed over, as in Node. With it comes the address of the client, if it has one.
    pub(super) fn accept(
        &mut self,
        reserve: &mut Reserve,
        now: Time,
    ) -> Option<(OwnedFd, Option<SocketAddr>)> {
        for _ in 0..16 {
            match socket::accept(self.fd.as_fd()) {
                Ok(accepted) => return Some(accepted),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if is_shortage(&error) => {
                    // The rest waits in the kernel's queue, where it is safe; this one goes out by the
                    // descriptor that was kept back.
                    self.paused_until = Some(now + PAUSE);
                    return reserve.release(|| socket::accept(self.fd.as_fd())).ok();
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Removes its file: nobody can come by it any more.
    pub(super) fn unlink(&mut self) {
        self.file = None;
    }
}

/// A socket that was bound, and its file if it has one.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) fd: OwnedFd,
    pub(super) file: Option<SocketFile>,
}

/// Binds, and listens unless it is a datagram socket. The primary listens itself before anybody is told: bound but not
/// listening, the port could be taken by a stranger.
pub(super) fn bind(target: &Target, backlog: u32, reuse_port: ReusePort) -> io::Result<Bound> {
    let queue = i32::try_from(backlog).unwrap_or(i32::MAX);
    let mut file = None;
    let fd = match target {
        Target::Tcp { host, port, ipv6_only } => {
            let (address, scope) = host.as_deref().map(socket::parse_ip).transpose()?.unzip();
            let scope = scope.unwrap_or_default();
            let bind = TcpBind { address, scope, port: *port, ipv6_only: *ipv6_only, reuse_port };
            let fd = socket::bind_tcp(&bind)?;
            socket::listen(&fd, queue)?;
            fd
        }
        Target::Unix { path: name, readable_all, writable_all } => {
            let mode = UnixMode { readable_all: *readable_all, writable_all: *writable_all };
            let fd;
            (fd, file) = socket::listen_unix(Path::new(name), mode, queue)?;
            fd
        }
        Target::Udp { host, port, ipv6_only, reuse_addr } => {
            let (address, scope) = socket::parse_ip(host)?;
            let (port, ipv6_only, reuse_addr) = (*port, *ipv6_only, *reuse_addr);
            socket::bind_udp(&UdpBind { address, scope, port, ipv6_only, reuse_addr, reuse_port })?
        }
        Target::Fd(number) | Target::UdpFd(number) => {
            let fd = fd::duplicate_inherited(*number)?;
            // Its flags are others' as well, so what is of no use here is left as it is.
            match (socket::kind(&fd)?, target.is_datagram()) {
                (Kind::Udp, true) => {}
                (Kind::TcpListener | Kind::UnixListener | Kind::TcpStream | Kind::UnixStream, false) => {
                    socket::listen(&fd, queue)?
                }
                _ => return Err(rustix::io::Errno::INVAL.into()),
            }
            fd::set_nonblocking(&fd)?;
            fd
        }
    };
    Ok(Bound { fd, file })
}

/// The address in the form of Node's `server.address()`.
fn sockname(address: SocketAddr) -> Sockname {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    Sockname { address: socket::show_ip(address), family: family.into(), port: address.port() }
}

/// Whether descriptors or buffers have run out, here or in the whole system.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_decides_how_long_its_closing_takes() {
        let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        assert_eq!(Socket::longest_queue().to_string(), somaxconn.trim());
    }
}
