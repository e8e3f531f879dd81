//! Sockets that a primary opens for its workers: bound as Node and libuv bind them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Where a TCP socket is to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpBind {
    /// The address; `None` is every address: `::` for both families, or `0.0.0.0` where IPv6 does not work.
    pub address: Option<IpAddr>,
    /// The port; 0 lets the kernel choose.
    pub port: u16,
    /// Whether an IPv6 socket leaves IPv4 alone (`IPV6_V6ONLY`). No meaning for an IPv4 address.
    pub ipv6_only: bool,
}

/// Binds a TCP socket, non-blocking and close-on-exec, with `SO_REUSEADDR` (libuv's `uv__tcp_bind`). It does not
/// listen yet. The fallback of an address `None` is that of `setupListenHandle` in Node's `lib/net.js`: on every
/// error but a port in use.
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`. Two sockets with `SO_REUSEADDR` of which none listens may share a
/// port: then the second hears of `EADDRINUSE` only from [`listen`].
pub fn bind_tcp(bind: &TcpBind) -> io::Result<OwnedFd> {
    let Some(address) = bind.address else {
        return match tcp(Ipv6Addr::UNSPECIFIED.into(), bind.port, bind.ipv6_only) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                tcp(Ipv4Addr::UNSPECIFIED.into(), bind.port, false)
            }
            result => result,
        };
    };
    tcp(address, bind.port, bind.ipv6_only)
}

/// Permissions added to a Unix socket's file, beyond what the umask left (libuv's `uv_pipe_chmod`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnixMode {
    /// Everybody may read: 0444.
    pub readable_all: bool,
    /// Everybody may write, which is what connecting needs: 0222.
    pub writable_all: bool,
}

/// Binds a Unix stream socket, non-blocking and close-on-exec. It does not listen yet.
///
/// A path that begins with NUL is a name in the abstract namespace, where `mode` means nothing. A path that is
/// longer than the 107 bytes of an address is made relative to the working directory if that is shorter, as in
/// Node's `lib/internal/cluster/primary.js`. A socket file that nobody listens on any more is replaced. Who
/// connects before [`listen`] is refused, and takes the socket for such a file.
///
/// # Errors
/// `EADDRINUSE` if a process listens there, or if there is a file that is no socket; `ENAMETOOLONG`; `ENOENT` for
/// a directory that does not exist; `EACCES`.
pub fn bind_unix(path: &Path, mode: UnixMode) -> io::Result<OwnedFd> {
    if let [0, name @ ..] = path.as_os_str().as_bytes() {
        let socket = open(AddressFamily::UNIX, SocketType::STREAM)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
        return Ok(socket);
    }
    let path = shortened(path);
    let address = SocketAddrUnix::new(&*path)?;
    let socket = open(AddressFamily::UNIX, SocketType::STREAM)?;
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) if is_stale(&path, &address)? => {
            // Somebody else may have removed it since.
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => rustix::net::bind(&socket, &address)?,
            }
        }
        result => result?,
    }
    let added = if mode.readable_all { 0o444 } else { 0 } | if mode.writable_all { 0o222 } else { 0 };
    if added != 0 {
        let mut permissions = std::fs::metadata(&path)?.permissions();
        permissions.set_mode(permissions.mode() | added);
        std::fs::set_permissions(&path, permissions)?;
    }
    Ok(socket)
}

/// Binds a UDP socket, non-blocking and close-on-exec (libuv's `uv__udp_bind`). With `reuse_addr` several sockets
/// may share the port, of which the last one gets what arrives.
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`.
pub fn bind_udp(address: IpAddr, port: u16, ipv6_only: bool, reuse_addr: bool) -> io::Result<OwnedFd> {
    let socket = open(family(address), SocketType::DGRAM)?;
    if reuse_addr {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind_ip(socket, address, port, ipv6_only)
}

/// Starts to listen, or changes the backlog of a socket that does. The kernel caps it at
/// `/proc/sys/net/core/somaxconn`.
///
/// # Errors
/// `EADDRINUSE` if another socket on the port was quicker to listen; `EINVAL` for a connected socket.
pub fn listen(fd: impl AsFd, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(fd, backlog)?)
}

fn tcp(address: IpAddr, port: u16, ipv6_only: bool) -> io::Result<OwnedFd> {
    let socket = open(family(address), SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind_ip(socket, address, port, ipv6_only)
}

fn bind_ip(socket: OwnedFd, address: IpAddr, port: u16, ipv6_only: bool) -> io::Result<OwnedFd> {
    if address.is_ipv6() {
        // Said either way: the default is the administrator's (`net.ipv6.bindv6only`).
        sockopt::set_ipv6_v6only(&socket, ipv6_only)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    Ok(socket)
}

fn open(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}

/// Whether the file is a socket that refuses connections. A regular file refuses them just as well.
fn is_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    }
    let probe = open(AddressFamily::UNIX, SocketType::STREAM)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(true),
        // Connected, no room in its backlog, another type of socket, no permission: somebody's, in any case.
        _ => Ok(false),
    }
}

/// The path from the working directory, where the path itself is too long for an address.
fn shortened(path: &Path) -> PathBuf {
    if path.as_os_str().len() <= SUN_PATH_MAX || path.is_relative() {
        return path.to_owned();
    }
    match std::env::current_dir().map(|cwd| relative(&cwd, path)) {
        Ok(relative) if relative.as_os_str().len() < path.as_os_str().len() => relative,
        _ => path.to_owned(),
    }
}

/// `to` seen from `from`; both are absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// The bytes of `sun_path` without the closing NUL that other programs expect.
const SUN_PATH_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::sys::fixture;
    use crate::sys::socket::{Kind, accept, kind, local_addr};

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(address: Option<IpAddr>, port: u16) -> TcpBind {
        TcpBind { address, port, ipv6_only: false }
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
    fn ipv6_only_is_said_either_way() {
        for ipv6_only in [false, true] {
            let address = Some(Ipv6Addr::UNSPECIFIED.into());
            let socket = bind_tcp(&TcpBind { address, port: 0, ipv6_only }).unwrap();
            assert_eq!(sockopt::ipv6_v6only(&socket).unwrap(), ipv6_only);
            let socket = bind_udp(Ipv6Addr::UNSPECIFIED.into(), 0, ipv6_only, false).unwrap();
            assert_eq!(sockopt::ipv6_v6only(&socket).unwrap(), ipv6_only);
        }
    }

    #[test]
    fn udp_shares_its_port_only_if_asked() {
        let first = bind_udp(LOCALHOST, 0, false, true).unwrap();
        assert_eq!(kind(&first).unwrap(), Kind::Udp);
        let port = port_of(&first);
        assert_eq!(bind_udp(LOCALHOST, port, false, false).unwrap_err().kind(), ErrorKind::AddrInUse);
        bind_udp(LOCALHOST, port, false, true).unwrap();

        let socket = UdpSocket::from(first);
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_socket_file_serves_and_is_not_taken_from_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = bind_unix(&path, UnixMode::default()).unwrap();
        listen(&socket, 8).unwrap();
        let error = bind_unix(&path, UnixMode::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);

        let _probe = accept(socket.as_fd()).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        accept(socket.as_fd()).unwrap();
    }

    #[test]
    fn a_full_backlog_is_no_abandoned_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = bind_unix(&path, UnixMode::default()).unwrap();
        listen(&socket, 0).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        let error = bind_unix(&path, UnixMode::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    #[test]
    fn an_abandoned_socket_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = bind_unix(&path, UnixMode::default()).unwrap();
        listen(&socket, 8).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let error = bind_unix(&path, UnixMode::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn a_missing_directory_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = bind_unix(&directory.path().join("no/socket"), UnixMode::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn modes_are_added_to_what_the_umask_left() {
        fixture::own_process(concat!(module_path!(), "::modes_are_added_to_what_the_umask_left"), || {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            let directory = tempfile::tempdir().unwrap();
            for (readable_all, writable_all, expected) in
                [(false, false, 0o700), (true, false, 0o744), (false, true, 0o722), (true, true, 0o766)]
            {
                let path = directory.path().join(format!("{expected:o}"));
                bind_unix(&path, UnixMode { readable_all, writable_all }).unwrap();
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, expected);
            }
        });
    }

    #[test]
    fn a_name_that_begins_with_nul_is_abstract() {
        let directory = tempfile::tempdir().unwrap();
        let name = format!("\0ganger {}", directory.path().display());
        let socket =
            bind_unix(Path::new(&name), UnixMode { readable_all: true, writable_all: true }).unwrap();
        listen(&socket, 8).unwrap();
        let client = open(AddressFamily::UNIX, SocketType::STREAM).unwrap();
        rustix::net::connect(&client, &SocketAddrUnix::new_abstract_name(&name.as_bytes()[1..]).unwrap())
            .unwrap();
        let error = bind_unix(Path::new(&name), UnixMode::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_long_path_is_taken_from_the_working_directory() {
        fixture::own_process(
            concat!(module_path!(), "::a_long_path_is_taken_from_the_working_directory"),
            || {
                let directory = tempfile::tempdir().unwrap();
                let deep = directory.path().canonicalize().unwrap().join("d".repeat(120));
                std::fs::create_dir_all(deep.join("beside")).unwrap();
                let path = deep.join("socket");
                let error = bind_unix(&path, UnixMode::default()).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));

                std::env::set_current_dir(deep.join("beside")).unwrap();
                let socket = bind_unix(&path, UnixMode { readable_all: true, writable_all: false }).unwrap();
                listen(&socket, 8).unwrap();
                UnixStream::connect("../socket").unwrap();
                assert!(path.exists());
            },
        );
    }

    #[test]
    fn paths_seen_from_elsewhere() {
        let check = |from: &str, to: &str, expected: &str| {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(expected));
        };
        check("/a/b", "/a/b/c", "c");
        check("/a/b", "/a/c", "../c");
        check("/a/b", "/c", "../../c");
        check("/", "/a/b", "a/b");
        check("/ab", "/a", "../a");
    }
}
