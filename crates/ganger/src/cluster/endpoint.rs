//! Where a listener or one end of a connection is.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::{ffi::OsStrExt, net},
    path::{Path, PathBuf},
};

use crate::sys::socket;

/// The address of a listener, or of one end of a connection. Shows as a person would write it: `127.0.0.1:8000`,
/// `/run/app.sock`, `@abstract`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// TCP or UDP.
    Ip(SocketAddr),
    /// A Unix-domain socket: its path, which begins with NUL for a name in the abstract namespace. Clients mostly have
    /// none.
    Unix(Option<PathBuf>),
}

impl Endpoint {
    /// The address, unless it is a Unix-domain socket.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The port, unless it is a Unix-domain socket.
    pub fn port(&self) -> Option<u16> {
        self.ip().map(|address| address.port())
    }

    /// The path of a Unix-domain socket that has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Ip(_) => None,
            Self::Unix(path) => path.as_deref(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(None) => f.write_str("unnamed"),
            Self::Unix(Some(path)) => match path.as_os_str().as_bytes() {
                [0, name @ ..] => write!(f, "@{}", name.escape_ascii()),
                _ => path.display().fmt(f),
            },
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<net::SocketAddr> for Endpoint {
    fn from(address: net::SocketAddr) -> Self {
        use std::os::linux::net::SocketAddrExt;
        let abstract_path = |name: &[u8]| {
            let bytes = [b"\0", name].concat();
            Path::new(std::ffi::OsStr::from_bytes(&bytes)).to_owned()
        };
        let named = address.as_pathname().map(Path::to_owned);
        Self::Unix(named.or_else(|| address.as_abstract_name().map(abstract_path)))
    }
}

/// Tokio keeps the one of the standard library inside.
impl From<tokio::net::unix::SocketAddr> for Endpoint {
    fn from(address: tokio::net::unix::SocketAddr) -> Self {
        net::SocketAddr::from(address).into()
    }
}

/// A numeric address, perhaps with an interface, and a port.
pub(super) fn of_ip(host: &str, port: u16) -> Option<Endpoint> {
    let (ip, scope) = socket::parse_ip(host).ok()?;
    Some(socket::socket_addr(ip, scope, port).into())
}

/// Where a socket is bound.
pub(super) fn of_socket(fd: impl std::os::fd::AsFd) -> io::Result<Endpoint> {
    let address = rustix::net::getsockname(fd)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(address.into());
    }
    let unix = rustix::net::SocketAddrUnix::try_from(address)?;
    let bytes = match unix.abstract_name() {
        // What was never bound counts as an empty name.
        Some(name) => (!name.is_empty()).then(|| [b"\0", name].concat()),
        None => unix.path().map(|path| path.to_bytes().to_vec()),
    };
    let path = |bytes: Vec<u8>| PathBuf::from(std::ffi::OsStr::from_bytes(&bytes));
    Ok(Endpoint::Unix(bytes.map(path)))
}

#[cfg(test)]
mod tests {
    use std::os::{linux::net::SocketAddrExt, unix::net::UnixListener};

    use super::*;

    #[test]
    fn it_shows_as_one_would_write_it() {
        let check = |endpoint: Endpoint, text: &str| assert_eq!(endpoint.to_string(), text);
        check(SocketAddr::from(([127, 0, 0, 1], 80)).into(), "127.0.0.1:80");
        check("[::1]:80".parse::<SocketAddr>().unwrap().into(), "[::1]:80");
        check(Endpoint::Unix(Some("/run/app.sock".into())), "/run/app.sock");
        check(Endpoint::Unix(Some("\0name\n".into())), "@name\\n");
        check(Endpoint::Unix(None), "unnamed");
    }

    #[test]
    fn both_ways_of_asking_say_the_same() {
        let name = format!("ganger {}", std::process::id());
        let abstract_name = net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&abstract_name).unwrap();
        let expected = Endpoint::Unix(Some(format!("\0{name}").into()));
        assert_eq!(Endpoint::from(listener.local_addr().unwrap()), expected);
        assert_eq!(of_socket(&listener).unwrap(), expected);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(of_socket(&listener).unwrap().path(), Some(&*path));
        assert_eq!(Endpoint::from(listener.local_addr().unwrap()), of_socket(&listener).unwrap());
        let client = net::UnixStream::connect(&path).unwrap();
        assert_eq!(of_socket(&client).unwrap(), Endpoint::Unix(None));
    }
}
