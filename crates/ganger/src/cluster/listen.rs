//! What a worker says of where and how it wants to listen: the options of Node's `server.listen` and `socket.bind`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::RawFd,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use ganger_proto::node::{DEFAULT_BACKLOG, Target};

use crate::sys::socket::{self, ReusePort};

/// Where and how to listen. Whatever says only where is enough: a port (on all addresses), a socket address, a path.
///
/// ```no_run
/// # async fn worker(worker: ganger::cluster::Worker) -> std::io::Result<()> {
/// use ganger::cluster::Listen;
///
/// worker.listen(8000).await?;
/// worker.listen("127.0.0.1:8000".parse::<Listen>()?).await?;
/// worker.listen(Listen::path("/run/app.sock").writable_all(true)).await?;
/// worker.listen(Listen::port(9000).exclusive(true).backlog(64)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    place: Place,
    backlog: Option<u32>,
    exclusive: bool,
    reuse_port: bool,
    reuse_addr: bool,
    ipv6_only: bool,
    readable_all: bool,
    writable_all: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Port(u16),
    Ip(SocketAddr),
    Path(PathBuf),
    Descriptor(RawFd),
}

/// What flows through a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Connections,
    Datagrams,
}

impl Listen {
    /// A port on all addresses: IPv6 and IPv4 for TCP where the machine can, IPv4 for UDP, as in Node. Port 0 is one
    /// that is free, the same for all workers that ask for it.
    pub fn port(port: u16) -> Self {
        Self::at(Place::Port(port))
    }

    /// A Unix-domain socket. A relative path is relative to the worker's directory, as in Node; one that begins with NUL
    /// is a name in the abstract namespace. Its file is there when the socket is ready, and goes with it. The file of a
    /// dead socket is replaced, one of a living socket is not, and neither is anything else.
    pub fn path(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let is_abstract = path.as_os_str().as_encoded_bytes().starts_with(b"\0");
        Self::at(Place::Path(if is_abstract { path.to_owned() } else { resolved(path) }))
    }

    /// A socket that was inherited as this descriptor: by the primary, as in Node, or by this process where there is no
    /// primary or the variable `LISTEN_FDS` names it.
    pub fn descriptor(number: RawFd) -> Self {
        Self::at(Place::Descriptor(number))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            backlog: None,
            exclusive: false,
            reuse_port: false,
            reuse_addr: false,
            ipv6_only: false,
            readable_all: false,
            writable_all: false,
        }
    }

    /// How many connections the kernel may keep that nobody has accepted. Default: 511, as in Node; the kernel caps it at
    /// `/proc/sys/net/core/somaxconn`. The first worker that asks for a socket decides; where the workers have the socket itself
    /// (the policies `shared` and `reuseport`), each that listens sets it anew. No meaning for UDP.
    #[must_use]
    pub fn backlog(self, connections: u32) -> Self {
        Self { backlog: Some(connections), ..self }
    }

    /// Not shared with other workers: the primary is not asked and does not hear of it. Default: false.
    #[must_use]
    pub fn exclusive(self, exclusive: bool) -> Self {
        Self { exclusive, ..self }
    }

    /// Shared by the kernel with all sockets of this user that say the same (`SO_REUSEPORT`), each of which has a queue
    /// of its own; what waits in it is lost with its worker. Not the cluster's way of sharing: the primary is not asked.
    /// No meaning for paths and descriptors. Default: false.
    #[must_use]
    pub fn reuse_port(self, reuse_port: bool) -> Self {
        Self { reuse_port, ..self }
    }

    /// For UDP: may be bound where others are that say the same (`SO_REUSEADDR`); the last one gets what arrives.
    /// Default: false.
    #[must_use]
    pub fn reuse_addr(self, reuse_addr: bool) -> Self {
        Self { reuse_addr, ..self }
    }

    /// An IPv6 address without IPv4, whose port somebody else may have. Default: false, `::` is both.
    #[must_use]
    pub fn ipv6_only(self, ipv6_only: bool) -> Self {
        Self { ipv6_only, ..self }
    }

    /// Everybody may read the socket's file. Default: what the umask leaves.
    #[must_use]
    pub fn readable_all(self, readable_all: bool) -> Self {
        Self { readable_all, ..self }
    }

    /// Everybody may write to the socket's file, which is what connecting needs. Default: what the umask leaves.
    #[must_use]
    pub fn writable_all(self, writable_all: bool) -> Self {
        Self { writable_all, ..self }
    }

    /// Whether the primary has nothing to do with it.
    pub(super) fn is_own(&self) -> bool {
        // `lib/net.js`: with `reusePort` a socket is exclusive.
        self.exclusive || self.port_sharing() != ReusePort::Never
    }

    pub(super) fn port_sharing(&self) -> ReusePort {
        let shares = self.reuse_port && matches!(self.place, Place::Port(_) | Place::Ip(_));
        if shares { ReusePort::Always } else { ReusePort::Never }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn wanted_backlog(&self) -> Option<u32> {
        self.backlog
    }

    pub(super) fn effective_backlog(&self) -> u32 {
        self.backlog.unwrap_or(DEFAULT_BACKLOG)
    }

    /// In the words of the cluster.
    pub(super) fn target(&self, flow: Flow) -> io::Result<Target> {
        let ipv6_only = self.ipv6_only;
        Ok(match (&self.place, flow) {
            (Place::Port(port), Flow::Connections) => Target::Tcp { host: None, port: *port, ipv6_only },
            (Place::Port(port), Flow::Datagrams) => {
                let host = Ipv4Addr::UNSPECIFIED.to_string();
                Target::Udp { host, port: *port, ipv6_only, reuse_addr: self.reuse_addr }
            }
            (Place::Ip(address), Flow::Connections) => {
                Target::Tcp { host: Some(socket::show_ip(*address)), port: address.port(), ipv6_only }
            }
            (Place::Ip(address), Flow::Datagrams) => {
                let (host, port) = (socket::show_ip(*address), address.port());
                Target::Udp { host, port, ipv6_only, reuse_addr: self.reuse_addr }
            }
            (Place::Path(path), Flow::Connections) => {
                let not_text = || {
                    io::Error::new(io::ErrorKind::InvalidInput, "a path that is not UTF-8 cannot be shared")
                };
                let path = path.to_str().ok_or_else(not_text)?.to_owned();
                Target::Unix { path, readable_all: self.readable_all, writable_all: self.writable_all }
            }
            (Place::Path(_), Flow::Datagrams) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "UDP has addresses and no paths"));
            }
            (Place::Descriptor(fd), Flow::Connections) => Target::Fd(*fd),
            (Place::Descriptor(fd), Flow::Datagrams) => Target::UdpFd(*fd),
        })
    }
}

/// An address on an interface that is named, if there is one of that name: `[fe80::1%eth0]:3000`.
fn on_interface(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.strip_prefix('[')?.split_once("]:")?;
    let (ip, scope) = socket::parse_ip(host).ok()?;
    (scope != 0).then_some(socket::socket_addr(ip, scope, port.parse().ok()?))
}

/// As Node's `path.resolve`: absolute, and without `..`. It is the text that workers share a socket by.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let mut resolved = PathBuf::new();
    for part in absolute.components() {
        if part == Component::ParentDir {
            resolved.pop();
        } else {
            resolved.push(part);
        }
    }
    resolved
}

impl From<u16> for Listen {
    fn from(port: u16) -> Self {
        Self::port(port)
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::at(Place::Ip(address))
    }
}

impl From<(IpAddr, u16)> for Listen {
    fn from((host, port): (IpAddr, u16)) -> Self {
        SocketAddr::from((host, port)).into()
    }
}

impl From<&Path> for Listen {
    fn from(path: &Path) -> Self {
        Self::path(path)
    }
}

impl From<PathBuf> for Listen {
    fn from(path: PathBuf) -> Self {
        Self::path(path)
    }
}

/// As a person writes it: `3000`, `:3000`, `127.0.0.1:3000`, `[::]:3000`, `[fe80::1%eth0]:3000`, `unix:/run/app.sock`,
/// `unix:@abstract`. Whatever has a slash in it is a path as well. The error is one of `InvalidInput`.
impl FromStr for Listen {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        if let Some(name) = text.strip_prefix("unix:@") {
            return Ok(Self::path(format!("\0{name}")));
        }
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.contains('/').then_some(text)) {
            return Ok(Self::path(path));
        }
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            return Ok(Self::port(port));
        }
        text.parse().ok().or_else(|| on_interface(text)).map(|address: SocketAddr| address.into()).ok_or_else(
            || {
                let message = format!(
                    "{text:?} is no place to listen: it takes a port, an address with a port, or a path"
                );
                io::Error::new(io::ErrorKind::InvalidInput, message)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let check = |text: &str, listen: Listen| assert_eq!(text.parse::<Listen>().unwrap(), listen);
        check("3000", Listen::port(3000));
        check(":3000", Listen::port(3000));
        check("127.0.0.1:80", SocketAddr::from(([127, 0, 0, 1], 80)).into());
        check("[::]:80", "[::]:80".parse::<SocketAddr>().unwrap().into());
        check("unix:/run/app.sock", Listen::path("/run/app.sock"));
        let lo = "[fe80::1%lo]:80".parse::<Listen>().unwrap();
        let host = "fe80::1%lo".to_owned();
        let target = Target::Tcp { host: Some(host.clone()), port: 80, ipv6_only: false };
        assert_eq!(lo.target(Flow::Connections).unwrap(), target);
        let target = Target::Udp { host, port: 80, ipv6_only: false, reuse_addr: false };
        assert_eq!(lo.target(Flow::Datagrams).unwrap(), target);
        check("./app.sock", Listen::path("app.sock"));
        check("unix:@name", Listen::path("\0name"));
        for wrong in ["", "65536", "-1", "localhost", "1.2.3.4", "[fe80::1%none]:80"] {
            let error = wrong.parse::<Listen>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("{wrong:?} is no place to listen")), "{error}");
        }
    }

    /// So that both get the same socket.
    #[test]
    fn a_port_alone_is_what_node_asks_for() {
        let target = Listen::port(53).target(Flow::Connections).unwrap();
        assert_eq!(target, Target::Tcp { host: None, port: 53, ipv6_only: false });
        let host = "0.0.0.0".into();
        let target = Listen::port(53).target(Flow::Datagrams).unwrap();
        assert_eq!(target, Target::Udp { host, port: 53, ipv6_only: false, reuse_addr: false });
        assert!(Listen::path("/x").target(Flow::Datagrams).is_err());
    }

    #[test]
    fn a_shared_port_is_not_the_clusters() {
        assert!(Listen::port(1).reuse_port(true).is_own());
        assert!(!Listen::path("/x").reuse_port(true).is_own());
        assert!(Listen::path("/x").exclusive(true).is_own());
    }
}
