//! Sockets: the channel's pair, bytes with descriptors on them, and what a listener needs.
//!
//! Nothing here blocks, whatever the flags of the descriptor say. It must not know what the bytes mean.

mod bind;
mod steer;
mod tcp;
mod unix;
mod zone;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, ioctl_fionbio, retry_on_intr};
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

pub use bind::{ReusePort, TcpBind, UdpBind, bind_tcp, bind_udp, capped_backlog, listen, unbound_udp};
pub use steer::steer;
pub use tcp::untouched;
pub use unix::{SocketFile, UnixMode, listen_unix, receive_at};
pub use zone::{parse_ip, scope, show_ip, socket_addr};

/// A connected pair for a channel: ours first, non-blocking, then the child's, blocking. Both are close-on-exec
/// Unix stream sockets with buffers of 64 KiB, as libuv makes them (`uv_socketpair` and
/// `uv__process_init_stdio`, since 1.51).
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOBUFS`.
pub fn channel_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    for end in [&ours, &theirs] {
        sockopt::set_socket_recv_buffer_size(end, CHANNEL_BUFFER)?;
        sockopt::set_socket_send_buffer_size(end, CHANNEL_BUFFER)?;
    }
    ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// A connected pair that keeps packets apart (`SOCK_SEQPACKET`), for a native lane. Both ends are non-blocking and
/// close-on-exec.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOBUFS`.
pub fn lane_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one packet with all its descriptors, or nothing. It never blocks and never raises `SIGPIPE`.
///
/// # Errors
/// `EAGAIN` ([`io::ErrorKind::WouldBlock`]) if there is no room; `EPIPE`; `ETOOMANYREFS` if too many descriptors
/// are under way; `EMSGSIZE` for a packet longer than the socket's buffer; [`io::ErrorKind::InvalidInput`] for more than
/// [`PACKET_DESCRIPTORS`] descriptors.
pub fn send_packet(socket: BorrowedFd<'_>, bytes: &[u8], handles: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = handles.len() <= PACKET_DESCRIPTORS
        && (handles.is_empty() || control.push(SendAncillaryMessage::ScmRights(handles)));
    if !fits {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one packet"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags))?;
    Ok(())
}

/// So many descriptors fit into a packet.
pub const PACKET_DESCRIPTORS: usize = ganger_proto::wire::lane::DESCRIPTORS;

/// Sends `bytes` in one `sendmsg`, the descriptor riding on the first byte: once anything was sent, it has
/// left. Returns the number of bytes taken, at least 1 unless `bytes` is empty. It never blocks and never raises
/// `SIGPIPE`.
///
/// # Errors
/// `EAGAIN` ([`io::ErrorKind::WouldBlock`]) if there is no room; `EPIPE`; `ETOOMANYREFS` if too many descriptors
/// are under way; [`io::ErrorKind::InvalidInput`] for a descriptor without a byte to ride on.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], handle: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let Some(handle) = handle else {
        return Ok(retry_on_intr(|| rustix::net::send(socket, bytes, flags))?);
    };
    if bytes.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a descriptor needs at least one byte to travel with",
        ));
    }
    let handles = [handle];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&handles));
    debug_assert!(fits, "the space is that of one descriptor");
    Ok(retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags))?)
}

/// What one [`receive`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes; 0 is the end.
    pub bytes: usize,
    /// The kernel could not deliver all descriptors (our table is full): they are lost, the bytes are not.
    pub truncated: bool,
}

/// Receives bytes into `buffer` and appends the descriptors that came with them to `handles`, close-on-exec. It
/// never blocks. A reset connection is reported as the end.
///
/// A descriptor comes with the first byte of its [`send`]. Bytes that were sent before may precede it in the
/// same buffer; bytes that were sent afterwards, in another call, never follow.
///
/// # Errors
/// `EAGAIN` ([`io::ErrorKind::WouldBlock`]) if nothing is there; [`io::ErrorKind::InvalidInput`] for an empty
/// buffer.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    handles: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
    if buffer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty buffer cannot tell the end"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let result =
        retry_on_intr(|| rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags));
    let message = match result {
        Ok(message) => message,
        Err(Errno::CONNRESET) => return Ok(Received { bytes: 0, truncated: false }),
        Err(errno) => return Err(errno.into()),
    };
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            handles.extend(received);
        }
    }
    Ok(Received { bytes: message.bytes, truncated: message.flags.contains(ReturnFlags::CTRUNC) })
}

/// Takes one datagram and says how long it is; `None` for one that was longer than `buffer`, and is lost. Descriptors that came with
/// it are closed. It never blocks.
///
/// # Errors
/// `EAGAIN` ([`io::ErrorKind::WouldBlock`]) if none is there.
pub fn receive_datagram(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    let (_, length) = retry_on_intr(|| rustix::net::recv(socket, &mut *buffer, flags))?;
    Ok((length <= buffer.len()).then_some(length))
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A TCP socket that listens.
    TcpListener,
    /// Any other TCP socket: connected, bound, or new.
    TcpStream,
    /// A Unix stream socket that listens.
    UnixListener,
    /// Any other Unix stream socket.
    UnixStream,
    /// An IPv4 or IPv6 datagram socket.
    Udp,
    /// A Unix datagram socket.
    UnixDatagram,
    /// Another socket, or no socket at all.
    Other,
}

/// Tells what a descriptor is, by `TCP_INFO`, or by `SO_DOMAIN`, `SO_TYPE` and `SO_ACCEPTCONN`. A socket that is bound and does
/// not listen yet counts as a stream: the kernel knows no other difference.
///
/// # Errors
/// Those of `getsockopt`; `ENOTSOCK` is the answer [`Kind::Other`].
pub fn kind(fd: impl AsFd) -> io::Result<Kind> {
    let fd = fd.as_fd();
    // What is sent most is told by one question.
    if let Some(listens) = tcp::listens(fd) {
        return Ok(if listens { Kind::TcpListener } else { Kind::TcpStream });
    }
    let domain = match sockopt::socket_domain(fd) {
        Ok(domain) => domain,
        Err(Errno::NOTSOCK) => return Ok(Kind::Other),
        Err(errno) => return Err(errno.into()),
    };
    let listens = || sockopt::socket_acceptconn(fd);
    Ok(match (domain, sockopt::socket_type(fd)?) {
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => {
            if listens()? {
                Kind::TcpListener
            } else {
                Kind::TcpStream
            }
        }
        (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM) => Kind::Udp,
        (AddressFamily::UNIX, SocketType::STREAM) => {
            if listens()? {
                Kind::UnixListener
            } else {
                Kind::UnixStream
            }
        }
        (AddressFamily::UNIX, SocketType::DGRAM) => Kind::UnixDatagram,
        _ => Kind::Other,
    })
}

/// Takes one connection, non-blocking and close-on-exec, and its peer's address: `None` for Unix sockets.
///
/// # Errors
/// `EAGAIN` ([`io::ErrorKind::WouldBlock`]) if none waits; `EMFILE`, `ENFILE` (see
/// [`crate::sys::fd::Reserve`]); `ECONNABORTED`, after which the next call may succeed.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (stream, peer) = retry_on_intr(|| rustix::net::acceptfrom_with(listener, flags))?;
    Ok((stream, peer.and_then(|address| address.try_into().ok())))
}

/// What a connection has to be read, as far as it fits, without taking it; 0 bytes at its end.
///
/// # Errors
/// `EAGAIN` ([`io::ErrorKind::WouldBlock`]) while there is nothing; `ECONNRESET`.
pub fn peek(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    Ok(retry_on_intr(|| rustix::net::recv(&fd, &mut *buffer, flags))?.0)
}

/// The kernel's number of a socket (`SO_COOKIE`), the same in every process that has it.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.12.
pub fn cookie(fd: impl AsFd) -> io::Result<u64> {
    Ok(sockopt::socket_cookie(fd)?)
}

/// The address that a socket is bound to: `None` for Unix sockets.
///
/// # Errors
/// Those of `getsockname`: `ENOTSOCK`.
pub fn local_addr(fd: impl AsFd) -> io::Result<Option<SocketAddr>> {
    Ok(rustix::net::getsockname(fd)?.try_into().ok())
}

/// libuv's, which the kernel doubles for its own bookkeeping.
const CHANNEL_BUFFER: usize = 64 * 1024;

/// The most descriptors that the kernel puts on one message.
const SCM_MAX_FD: usize = 253;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use rustix::fs::{OFlags, fcntl_getfl, fstat};
    use rustix::io::{FdFlags, fcntl_getfd};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;
    use crate::sys::fixture;

    fn is_cloexec(fd: impl AsFd) -> bool {
        fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)
    }

    fn is_nonblocking(fd: impl AsFd) -> bool {
        fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    fn same_file(a: impl AsFd, b: impl AsFd) -> bool {
        let (a, b) = (fstat(a).unwrap(), fstat(b).unwrap());
        (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
    }

    #[test]
    fn a_channel_is_made_as_libuv_makes_it() {
        let (ours, theirs) = channel_pair().unwrap();
        assert!(is_nonblocking(&ours) && !is_nonblocking(&theirs));
        assert!(is_cloexec(&ours) && is_cloexec(&theirs));
        for end in [&ours, &theirs] {
            assert_eq!(kind(end).unwrap(), Kind::UnixStream);
            assert_eq!(sockopt::socket_recv_buffer_size(end).unwrap(), 2 * CHANNEL_BUFFER);
            assert_eq!(sockopt::socket_send_buffer_size(end).unwrap(), 2 * CHANNEL_BUFFER);
        }
    }

    #[test]
    fn a_descriptor_rides_on_the_first_byte() {
        let (ours, theirs) = channel_pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        assert_eq!(send(ours.as_fd(), b"plain", None).unwrap(), 5);
        assert_eq!(send(ours.as_fd(), b"handle", Some(file.as_fd())).unwrap(), 6);

        assert_eq!(send(ours.as_fd(), b"after", None).unwrap(), 5);

        let (mut buffer, mut handles) = ([0; 64], Vec::new());
        let mut next = |handles: &mut Vec<OwnedFd>| receive(theirs.as_fd(), &mut buffer, handles).unwrap();
        assert_eq!(next(&mut handles), Received { bytes: 11, truncated: false });
        assert_eq!(handles.len(), 1);
        assert_eq!(next(&mut handles), Received { bytes: 5, truncated: false });
        assert_eq!(handles.len(), 1);
        assert!(is_cloexec(&handles[0]));
        assert!(same_file(&handles[0], &file));
    }

    #[test]
    fn nothing_blocks_even_on_a_blocking_descriptor() {
        let (ours, theirs) = channel_pair().unwrap();
        let mut handles = Vec::new();
        let empty = receive(theirs.as_fd(), &mut [0; 8], &mut handles).unwrap_err();
        assert_eq!(empty.kind(), ErrorKind::WouldBlock);
        let full = loop {
            if let Err(error) = send(theirs.as_fd(), &[0; 4096], None) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        drop(ours);
        let broken = send(theirs.as_fd(), b"x", None).unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_peer_that_is_gone_raises_no_signal() {
        let path = concat!(module_path!(), "::a_peer_that_is_gone_raises_no_signal");
        fixture::own_process(path, || {
            // What ends a process that does not, as every Rust program does, ignore it.
            // SAFETY: two integers in, one out; nobody else in this process minds.
            assert_ne!(unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) }, libc::SIG_ERR);
            let check = |sent: io::Result<()>| assert_eq!(sent.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let handle = File::open("/dev/null").unwrap();
            // The parent's end, then the child's.
            for parents in [true, false] {
                let (ours, theirs) = channel_pair().unwrap();
                let (end, other) = if parents { (ours, theirs) } else { (theirs, ours) };
                drop(other);
                check(send(end.as_fd(), b"message", None).map(drop));
                check(send(end.as_fd(), b"message", Some(handle.as_fd())).map(drop));
            }
            let (end, other) = lane_pair().unwrap();
            drop(other);
            check(send_packet(end.as_fd(), b"packet", &[handle.as_fd()]));
        });
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let (ours, theirs) = channel_pair().unwrap();
        let error = send(ours.as_fd(), b"", Some(theirs.as_fd())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = receive(ours.as_fd(), &mut [], &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn the_end_and_a_reset_are_both_the_end() {
        let end = Received { bytes: 0, truncated: false };
        let (ours, theirs) = channel_pair().unwrap();
        drop(theirs);
        assert_eq!(receive(ours.as_fd(), &mut [0; 8], &mut Vec::new()).unwrap(), end);

        let (ours, theirs) = channel_pair().unwrap();
        send(ours.as_fd(), b"never read", None).unwrap();
        drop(theirs);
        let raw = rustix::net::recv(&ours, &mut [0; 8], RecvFlags::PEEK).map(|(_, bytes)| bytes);
        assert_eq!(raw, Err(Errno::CONNRESET));

        let (ours, theirs) = channel_pair().unwrap();
        send(ours.as_fd(), b"never read", None).unwrap();
        drop(theirs);
        assert_eq!(receive(ours.as_fd(), &mut [0; 8], &mut Vec::new()).unwrap(), end);
    }

    #[test]
    fn a_full_table_loses_the_descriptor_and_keeps_the_bytes() {
        let path = concat!(module_path!(), "::a_full_table_loses_the_descriptor_and_keeps_the_bytes");
        fixture::own_process(path, || {
            let (ours, theirs) = channel_pair().unwrap();
            send(ours.as_fd(), b"bytes", Some(ours.as_fd())).unwrap();
            let next = rustix::io::dup(&ours).map(|fd| std::os::fd::AsRawFd::as_raw_fd(&fd)).unwrap();
            let limit = getrlimit(Resource::Nofile);
            setrlimit(Resource::Nofile, Rlimit { current: Some(next as u64), ..limit }).unwrap();

            let (mut buffer, mut handles) = ([0; 16], Vec::new());
            let received = receive(theirs.as_fd(), &mut buffer, &mut handles).unwrap();
            assert_eq!(received, Received { bytes: 5, truncated: true });
            assert_eq!(&buffer[..5], b"bytes");
            assert!(handles.is_empty());
        });
    }

    #[test]
    fn kinds_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let bound = bind_tcp(&TcpBind {
            address: Some([127, 0, 0, 1].into()),
            scope: 0,
            port: 0,
            ipv6_only: false,
            reuse_port: ReusePort::Never,
        });
        let directory = tempfile::tempdir().unwrap();
        let unix_listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let seqpacket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        assert_eq!(kind(&listener).unwrap(), Kind::TcpListener);
        assert_eq!(kind(&stream).unwrap(), Kind::TcpStream);
        assert_eq!(kind(bound.unwrap()).unwrap(), Kind::TcpStream);
        assert_eq!(kind(&unix_listener).unwrap(), Kind::UnixListener);
        assert_eq!(kind(UnixStream::pair().unwrap().0).unwrap(), Kind::UnixStream);
        assert_eq!(kind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap(), Kind::Udp);
        assert_eq!(kind(UnixDatagram::unbound().unwrap()).unwrap(), Kind::UnixDatagram);
        assert_eq!(kind(seqpacket).unwrap(), Kind::Other);
        assert_eq!(kind(File::open("/dev/null").unwrap()).unwrap(), Kind::Other);
    }

    #[test]
    fn accepts_without_blocking_and_tells_the_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(local_addr(&listener).unwrap(), Some(address));
        let client = TcpStream::connect(address).unwrap();
        let (stream, peer) = accept(listener.as_fd()).unwrap();
        assert_eq!(peer, Some(client.local_addr().unwrap()));
        assert!(is_nonblocking(&stream) && is_cloexec(&stream));

        listener.set_nonblocking(true).unwrap();
        assert_eq!(accept(listener.as_fd()).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn unix_sockets_have_no_address_to_tell() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let (stream, peer) = accept(listener.as_fd()).unwrap();
        assert_eq!(peer, None);
        assert_eq!(local_addr(&listener).unwrap(), None);
        drop(stream);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
