//! The primary's sockets: binding what a worker asks for, accepting, closing.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use ganger_proto::{
    Time,
    node::{Sockname, Target},
};

use crate::sys::{
    fd::{self, Reserve},
    socket::{self, Kind, TcpBind, UnixMode},
};

/// Accepting goes on this long after descriptors ran out.
pub(super) const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// A socket that the primary owns.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: Arc<OwnedFd>,
    /// The file to remove when it is closed.
    path: Option<PathBuf>,
    /// The length of its queue.
    pub(super) backlog: u32,
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
    /// Binds, and listens unless it is a datagram socket. The primary listens itself before anybody is told:
    /// bound but not listening, the port could be taken by a stranger.
    pub(super) fn bind(target: &Target, backlog: u32) -> io::Result<(Self, Option<Sockname>)> {
        let queue = i32::try_from(backlog).unwrap_or(i32::MAX);
        let mut path = None;
        let fd = match target {
            Target::Tcp { host, port, ipv6_only } => {
                let address = host.as_deref().map(parse_address).transpose()?;
                let bind = TcpBind { address, port: *port, ipv6_only: *ipv6_only };
                let fd = socket::bind_tcp(&bind)?;
                socket::listen(&fd, queue)?;
                fd
            }
            Target::Unix { path: name, readable_all, writable_all } => {
                let name = unix_path(name);
                let mode = UnixMode { readable_all: *readable_all, writable_all: *writable_all };
                let fd = socket::bind_unix(&name, mode)?;
                socket::listen(&fd, queue)?;
                path = (!name.as_os_str().as_encoded_bytes().starts_with(b"\0")).then_some(name);
                fd
            }
            Target::Udp { host, port, ipv6_only, reuse_addr } => {
                socket::bind_udp(parse_address(host)?, *port, *ipv6_only, *reuse_addr)?
            }
            Target::Fd(number) => {
                let fd = fd::duplicate_inherited(*number)?;
                // Its flags are others' as well, so what cannot be listened on is left as it is.
                match socket::kind(&fd)? {
                    Kind::Udp => {}
                    Kind::TcpListener | Kind::UnixListener | Kind::TcpStream | Kind::UnixStream => {
                        socket::listen(&fd, queue)?;
                    }
                    Kind::UnixDatagram | Kind::Other => return Err(rustix::io::Errno::INVAL.into()),
                }
                fd::set_nonblocking(&fd)?;
                fd
            }
        };
        let sockname = socket::local_addr(&fd)?.map(sockname);
        Ok((Self { fd: Arc::new(fd), path, backlog, accepting: false, paused_until: None }, sockname))
    }

    /// The next connection that the kernel has completed; none for now. What fails on the way of a single
    /// connection is passed over, as in Node.
    pub(super) fn accept(&mut self, reserve: &mut Reserve, now: Time) -> Option<OwnedFd> {
        for _ in 0..16 {
            match socket::accept(self.fd.as_fd()) {
                Ok((connection, _)) => return Some(connection),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if is_shortage(&error) => {
                    // The rest waits in the kernel's queue, where it is safe; this one goes out by the
                    // descriptor that was kept back.
                    self.paused_until = Some(now + PAUSE);
                    return reserve.release(|| socket::accept(self.fd.as_fd())).ok().map(|(fd, _)| fd);
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Removes its file: nobody can come by it any more.
    pub(super) fn unlink(&self) {
        if let Some(path) = &self.path {
            // Somebody may have removed it before; then there is nothing to do.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The address in the form of Node's `server.address()`.
fn sockname(address: SocketAddr) -> Sockname {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    Sockname { address: address.ip().to_string(), family: family.into(), port: address.port() }
}

/// Whether descriptors or buffers have run out, here or in the whole system.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A numeric address; Node resolves names in the worker.
fn parse_address(host: &str) -> io::Result<IpAddr> {
    let unscoped = host.split('%').next().unwrap_or(host);
    unscoped.parse().map_err(|_| rustix::io::Errno::INVAL.into())
}

/// A worker names an abstract socket by `<its directory>/\0name`, since Node resolves it like a path.
fn unix_path(name: &str) -> PathBuf {
    match name.find('\0') {
        Some(at) => PathBuf::from(&name[at..]),
        None => Path::new(name).into(),
    }
}
