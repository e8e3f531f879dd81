//! Sockets that this process was started with (`LISTEN_FDS`, as systemd does it).

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::{OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::{
    cluster::{
        endpoint::{self, Endpoint},
        listen::{Flow, Listen, Place},
    },
    sys::{
        env::{self, TooLate},
        fd,
        socket::{self, Kind},
    },
};

/// Who the sockets are for, and how many there are (`sd_listen_fds(3)`).
const NAMES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// The number of the first one.
const FIRST: RawFd = 3;
/// A number that is larger than this is nonsense.
const MOST: i32 = 1024;

/// The sockets, which stay open as long as the process lives: what comes when nobody listens waits in them.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    number: RawFd,
    fd: OwnedFd,
    address: Endpoint,
    flow: Flow,
    /// Whoever listens on it now.
    held: Mutex<Weak<()>>,
}

/// An inherited socket in use, until this is dropped.
#[derive(Debug)]
pub(in crate::cluster) struct Held(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl Inherited {
    /// Takes them over, and the variables that tell of them out of the environment.
    pub(super) fn take() -> io::Result<Self> {
        let too_late = |error: TooLate| io::Error::other(error);
        let [pid, count, _] = <[_; 3]>::try_from(env::take(&NAMES).map_err(too_late)?).unwrap_or_default();
        let number = |text: Option<OsString>| text.as_deref().and_then(OsStr::to_str)?.parse::<i32>().ok();
        if number(pid) != i32::try_from(std::process::id()).ok() {
            // Meant for another process, which started this one.
            return Ok(Self::default());
        }
        let count = number(count).unwrap_or(0).clamp(0, MOST);
        (FIRST..FIRST + count)
            .map(Socket::adopt)
            .filter_map(Result::transpose)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// The socket that is meant, another descriptor of it, and what says that it is in use; none if there is no such
    /// socket. One that is bound to the very address comes first; a port without an address is content with any.
    pub(super) fn find(&self, listen: &Listen, flow: Flow) -> Option<io::Result<(OwnedFd, Held)>> {
        let fitting = |exactly| {
            self.0.iter().find(|socket| socket.flow == flow && socket.is_meant(listen.place(), exactly))
        };
        fitting(true).or_else(|| fitting(false)).map(|socket| socket.hold(listen))
    }
}

impl Socket {
    /// None for what is no socket to listen on.
    fn adopt(number: RawFd) -> io::Result<Option<Self>> {
        let gone = |error: io::Error| {
            let message = format!(
                "LISTEN_FDS in the environment names descriptor {number}, which is not there: {error}"
            );
            io::Error::new(error.kind(), message)
        };
        let fd = fd::adopt(number).map_err(gone)?;
        let flow = match socket::kind(&fd)? {
            Kind::TcpListener | Kind::TcpStream | Kind::UnixListener | Kind::UnixStream => Flow::Connections,
            Kind::Udp => Flow::Datagrams,
            Kind::UnixDatagram | Kind::Other => return Ok(None),
        };
        let address = endpoint::of_socket(&fd)?;
        Ok(Some(Self { number, fd, address, flow, held: Mutex::default() }))
    }

    fn is_meant(&self, place: &Place, exactly: bool) -> bool {
        match (place, &self.address) {
            (Place::Descriptor(number), _) => self.number == *number,
            (Place::Path(path), Endpoint::Unix(bound)) => bound.as_ref() == Some(path),
            // Port 0 is another one.
            (Place::Port(port), Endpoint::Ip(bound)) => {
                *port != 0 && bound.port() == *port && (!exactly || bound.ip().is_unspecified())
            }
            (Place::Ip(wanted), Endpoint::Ip(bound)) => {
                let scope = socket::scope(*bound);
                // The kernel keeps the interface only of an address that needs one.
                let fits = bound.ip() == wanted.ip() && (scope == 0 || scope == socket::scope(*wanted));
                fits && wanted.port() != 0 && bound.port() == wanted.port()
            }
            _ => false,
        }
    }

    fn hold(&self, listen: &Listen) -> io::Result<(OwnedFd, Held)> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.strong_count() > 0 {
            return Err(rustix::io::Errno::ADDRINUSE.into());
        }
        let fd = self.fd.try_clone()?;
        let listens = matches!(socket::kind(&fd)?, Kind::TcpListener | Kind::UnixListener);
        // Its backlog is whoever's who made it, unless we have an opinion.
        if self.flow == Flow::Connections && (!listens || listen.wanted_backlog().is_some()) {
            socket::listen(&fd, i32::try_from(listen.effective_backlog()).unwrap_or(i32::MAX))?;
        }
        let count = Arc::new(());
        *held = Arc::downgrade(&count);
        Ok((fd, Held(count)))
    }
}
