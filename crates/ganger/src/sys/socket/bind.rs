//! Sockets that a primary opens for its workers: bound as Node and libuv bind them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::zone::socket_addr;

/// Where a TCP socket is to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpBind {
    /// The address; `None` is every address: `::` for both families, or `0.0.0.0` where IPv6 does not work.
    pub address: Option<IpAddr>,
    /// The interface that an IPv6 address is meant on, by its index; 0 is none, which will not do for a link-local one.
    pub scope: u32,
    /// The port; 0 lets the kernel choose.
    pub port: u16,
    /// Whether an IPv6 socket leaves IPv4 alone (`IPV6_V6ONLY`). No meaning for an IPv4 address.
    pub ipv6_only: bool,
    /// Whether others of this user may bind the same port and get a share of its connections.
    pub reuse_port: ReusePort,
}

/// Whether several sockets may share a port, and what arrives there (`SO_REUSEPORT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReusePort {
    /// They may not.
    #[default]
    Never,
    /// Not with those that are there already, but with those that come later: a stranger's socket on the port is found
    /// out, whatever its options, and nobody can be quicker than the next one of ours.
    WithLater,
    /// They may.
    Always,
}

/// Where a UDP socket is to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpBind {
    /// The address.
    pub address: IpAddr,
    /// As in [`TcpBind::scope`].
    pub scope: u32,
    /// The port; 0 lets the kernel choose.
    pub port: u16,
    /// Whether an IPv6 socket leaves IPv4 alone (`IPV6_V6ONLY`). No meaning for an IPv4 address.
    pub ipv6_only: bool,
    /// Whether several sockets may share the port, of which the last one gets what arrives (`SO_REUSEADDR`).
    pub reuse_addr: bool,
    /// Whether several sockets may share the port, and what arrives.
    pub reuse_port: ReusePort,
}

/// Binds a TCP socket, non-blocking and close-on-exec, with `SO_REUSEADDR` (libuv's `uv__tcp_bind`). It does not
/// listen yet. The fallback of an address `None` is that of `setupListenHandle` in Node's `lib/net.js`: on every
/// error but a port in use.
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, `EINVAL` for a link-local address without its interface. Two sockets with
/// `SO_REUSEADDR` of which none listens may share a port: then the second hears of `EADDRINUSE` only from [`listen`].
pub fn bind_tcp(bind: &TcpBind) -> io::Result<OwnedFd> {
    match bind.address {
        Some(address) => tcp(bind, address),
        None => match tcp(bind, Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => tcp(bind, Ipv4Addr::UNSPECIFIED.into()),
            result => result,
        },
    }
}

/// Binds a UDP socket, non-blocking and close-on-exec (libuv's `uv__udp_bind`).
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`; `EINVAL` for a link-local address without its interface, and for IPv6 only on an
/// address of IPv4.
pub fn bind_udp(bind: &UdpBind) -> io::Result<OwnedFd> {
    if bind.ipv6_only && bind.address.is_ipv4() {
        return Err(Errno::INVAL.into());
    }
    let socket = open(family(bind.address), SocketType::DGRAM)?;
    if bind.reuse_addr {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    let address = socket_addr(bind.address, bind.scope, bind.port);
    bind_ip(socket, address, bind.ipv6_only, bind.reuse_port)
}

/// A UDP socket that is bound to nothing, non-blocking and close-on-exec: as long as nothing is sent, nothing arrives.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`.
pub fn unbound_udp() -> io::Result<OwnedFd> {
    open(AddressFamily::INET, SocketType::DGRAM)
}

/// Starts to listen, or changes the backlog of a socket that does. The kernel caps it at
/// `/proc/sys/net/core/somaxconn`.
///
/// # Errors
/// `EADDRINUSE` if another socket on the port was quicker to listen; `EINVAL` for a connected socket.
pub fn listen(fd: impl AsFd, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(fd, backlog)?)
}

/// The backlog that the kernel makes of this one: at most `/proc/sys/net/core/somaxconn` (`__sys_listen` in its
/// `net/socket.c`). One connection more than that can wait in the queue.
pub fn capped_backlog(backlog: u32) -> u32 {
    capped(backlog, std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().as_deref())
}

/// The kernel's own limit where nobody can read what is set (Linux 5.4 or later).
const SOMAXCONN: u32 = 4096;

fn capped(backlog: u32, somaxconn: Option<&str>) -> u32 {
    backlog.min(somaxconn.and_then(|text| text.trim().parse().ok()).unwrap_or(SOMAXCONN))
}

fn tcp(bind: &TcpBind, address: IpAddr) -> io::Result<OwnedFd> {
    let socket = open(family(address), SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    let address = socket_addr(address, bind.scope, bind.port);
    bind_ip(socket, address, bind.ipv6_only, bind.reuse_port)
}

fn bind_ip(
    socket: OwnedFd,
    address: SocketAddr,
    ipv6_only: bool,
    reuse_port: ReusePort,
) -> io::Result<OwnedFd> {
    if address.is_ipv6() {
        // Said either way: the default is the administrator's (`net.ipv6.bindv6only`).
        sockopt::set_ipv6_v6only(&socket, ipv6_only)?;
    }
    if reuse_port == ReusePort::Always {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if reuse_port == ReusePort::WithLater {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    Ok(socket)
}

pub(super) fn open(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpStream, UdpSocket};

    use super::*;
    use crate::sys::socket::{Kind, accept, kind, local_addr};

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(address: Option<IpAddr>, port: u16) -> TcpBind {
        TcpBind { address, scope: 0, port, ipv6_only: false, reuse_port: ReusePort::Never }
    }

    fn udp(address: IpAddr, port: u16) -> UdpBind {
        UdpBind { address, scope: 0, port, ipv6_only: false, reuse_addr: false, reuse_port: ReusePort::Never }
    }

    fn port_of(socket: &OwnedFd) -> u16 {
        local_addr(socket).unwrap().unwrap().port()
    }

    #[test]
    fn no_address_means_both_families() {
        let socket = bind_tcp(&at(None, 0)).unwrap();
        let ipv6_works = std::net::TcpListener::bind("[::]:0").is_ok();
        let address = local_addr(&socket).unwrap().unwrap();
        assert!(address.ip().is_unspecified());
        assert_eq!(address.is_ipv6(), ipv6_works);
        listen(&socket, 511).unwrap();
        assert_eq!(kind(&socket).unwrap(), Kind::TcpListener);

        let client = TcpStream::connect((LOCALHOST, port_of(&socket))).unwrap();
        let (_, peer) = accept(socket.as_fd()).unwrap();
        assert_eq!(peer.map(|peer| peer.port()), Some(client.local_addr().unwrap().port()));
    }

    #[test]
    fn a_port_in_use_is_told_when_binding() {
        let first = bind_tcp(&at(Some(LOCALHOST), 0)).unwrap();
        listen(&first, 1).unwrap();
        let error = bind_tcp(&at(Some(LOCALHOST), port_of(&first))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_in_use_is_not_evaded_by_the_fallback() {
        let first = bind_tcp(&at(None, 0)).unwrap();
        listen(&first, 1).unwrap();
        let error = bind_tcp(&at(None, port_of(&first))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_in_use_is_told_when_listening() {
        let first = bind_tcp(&at(Some(LOCALHOST), 0)).unwrap();
        let second = bind_tcp(&at(Some(LOCALHOST), port_of(&first))).unwrap();
        listen(&first, 1).unwrap();
        assert_eq!(listen(&second, 1).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_backlog_is_no_longer_than_the_kernels() {
        assert_eq!(
            [0, 1, 128, 129, u32::MAX].map(|backlog| capped(backlog, Some("128\n"))),
            [0, 1, 128, 128, 128]
        );
        for unknown in [None, Some(""), Some("-1\n")] {
            assert_eq!([511, u32::MAX].map(|backlog| capped(backlog, unknown)), [511, SOMAXCONN]);
        }
    }

    #[test]
    fn ipv6_only_is_said_either_way() {
        for ipv6_only in [false, true] {
            let address = Some(Ipv6Addr::UNSPECIFIED.into());
            let socket = bind_tcp(&TcpBind { ipv6_only, ..at(address, 0) }).unwrap();
            assert_eq!(sockopt::ipv6_v6only(&socket).unwrap(), ipv6_only);
            let socket = bind_udp(&UdpBind { ipv6_only, ..udp(Ipv6Addr::UNSPECIFIED.into(), 0) }).unwrap();
            assert_eq!(sockopt::ipv6_v6only(&socket).unwrap(), ipv6_only);
        }
    }

    #[test]
    fn udp_of_ipv4_cannot_be_ipv6_only() {
        let error = bind_udp(&UdpBind { ipv6_only: true, ..udp(LOCALHOST, 0) }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn udp_shares_its_port_only_if_asked() {
        let first = bind_udp(&UdpBind { reuse_addr: true, ..udp(LOCALHOST, 0) }).unwrap();
        assert_eq!(kind(&first).unwrap(), Kind::Udp);
        let port = port_of(&first);
        assert_eq!(bind_udp(&udp(LOCALHOST, port)).unwrap_err().kind(), ErrorKind::AddrInUse);
        bind_udp(&UdpBind { reuse_addr: true, ..udp(LOCALHOST, port) }).unwrap();

        let socket = UdpSocket::from(first);
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    #[test]
    fn a_port_is_shared_by_those_who_all_agree() {
        let bind = TcpBind { reuse_port: ReusePort::Always, ..at(Some(LOCALHOST), 0) };
        let first = bind_tcp(&bind).unwrap();
        listen(&first, 1).unwrap();
        let port = port_of(&first);
        let second = bind_tcp(&TcpBind { port, ..bind }).unwrap();
        listen(&second, 1).unwrap();
        assert_eq!(bind_tcp(&at(Some(LOCALHOST), port)).unwrap_err().kind(), ErrorKind::AddrInUse);

        let bind = UdpBind { reuse_port: ReusePort::Always, ..udp(LOCALHOST, 0) };
        let port = port_of(&bind_udp(&bind).unwrap());
        let _first = bind_udp(&UdpBind { port, ..bind }).unwrap();
        bind_udp(&UdpBind { port, ..bind }).unwrap();
        assert_eq!(bind_udp(&udp(LOCALHOST, port)).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
}
