//! What the kernel tells of a TCP socket: whether it listens, whether anybody has used it since it was accepted.

use std::io;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::ioctl_fionread;

use super::Kind;

/// Whether nothing was ever written to a TCP connection and everything that arrived is still unread, so that
/// another process can serve it from the start. `false` for everything that is no TCP connection, and for a
/// connection that is closed or half closed from our side.
///
/// # Errors
/// Those of `getsockopt` and `ioctl`; [`io::ErrorKind::Unsupported`] on a kernel before 4.19.
pub fn untouched(stream: BorrowedFd<'_>) -> io::Result<bool> {
    if super::kind(stream)? != Kind::TcpStream {
        return Ok(false);
    }
    let mut before = tcp_info(stream)?;
    // Bytes may arrive between the two questions: ask until none did.
    for _ in 0..ATTEMPTS {
        let unread = ioctl_fionread(stream)?;
        let after = tcp_info(stream)?;
        if after.bytes_received == before.bytes_received && after.state == before.state {
            return Ok(after.shows_untouched(unread));
        }
        before = after;
    }
    Ok(false)
}

/// The head of Linux's `struct tcp_info`, which only ever grows at its end.
#[repr(C)]
struct TcpInfo {
    state: u8,
    _flags: [u8; 7],
    _timers_to_retransmissions: [u32; 24],
    _pacing_rates_and_bytes_acked: [u64; 3],
    bytes_received: u64,
    _segments: [u32; 2],
    notsent_bytes: u32,
    _min_rtt_and_data_segments: [u32; 3],
    _delivery_rate_and_times: [u64; 4],
    _delivered: [u32; 2],
    bytes_sent: u64,
}

impl TcpInfo {
    fn shows_untouched(&self, unread: u64) -> bool {
        // The peer's FIN counts as a received byte, but never as an unread one.
        let received = match self.state {
            ESTABLISHED => self.bytes_received,
            CLOSE_WAIT => self.bytes_received.saturating_sub(1),
            _ => return false,
        };
        // Not `bytes_acked`: it lags behind, and counts our SYN on a connection that we opened.
        self.bytes_sent == 0 && self.notsent_bytes == 0 && received == unread
    }
}

fn tcp_info(stream: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<TcpInfo>::zeroed();
    let mut length = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < offset_of!(TcpInfo, bytes_sent) + size_of::<u64>() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "TCP_INFO of this kernel has no bytes_sent"));
    }
    // SAFETY: plain integers, zeroed at first: every bit pattern is valid.
    Ok(unsafe { info.assume_init() })
}

/// Whether a TCP socket listens; none for any other descriptor.
pub(super) fn listens(fd: BorrowedFd<'_>) -> Option<bool> {
    let mut state = 0u8;
    let mut length = size_of::<u8>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `state`, which is that long.
    let result = unsafe {
        let to = (&raw mut state).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, to, &mut length)
    };
    (result == 0 && length == 1).then_some(state == LISTEN)
}

/// The kernel's `enum` of `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// A peer that sends faster than we can ask is given up on after so many questions.
const ATTEMPTS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// Client and accepted end.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn wait_for(stream: &TcpStream, flags: PollFlags) {
        poll(&mut [PollFd::new(stream, flags)], None).unwrap();
    }

    #[track_caller]
    fn check(stream: &TcpStream, expected: bool) {
        assert_eq!(untouched(stream.as_fd()).unwrap(), expected);
    }

    #[test]
    fn an_accepted_connection_is() {
        let (_client, stream) = connection();
        check(&stream, true);
    }

    #[test]
    fn unread_bytes_do_not_matter_one_read_byte_does() {
        let (mut client, mut stream) = connection();
        client.write_all(b"abc").unwrap();
        wait_for(&stream, PollFlags::IN);
        check(&stream, true);
        stream.read_exact(&mut [0]).unwrap();
        check(&stream, false);
        stream.read_exact(&mut [0; 2]).unwrap();
        check(&stream, false);
    }

    #[test]
    fn a_half_closed_client_does_not_matter() {
        let (client, stream) = connection();
        client.shutdown(Shutdown::Write).unwrap();
        wait_for(&stream, PollFlags::RDHUP);
        check(&stream, true);
    }

    #[test]
    fn unread_bytes_before_the_clients_end() {
        let (mut client, mut stream) = connection();
        client.write_all(b"abc").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        wait_for(&stream, PollFlags::RDHUP);
        check(&stream, true);
        stream.read_exact(&mut [0]).unwrap();
        check(&stream, false);
        stream.read_to_end(&mut Vec::new()).unwrap();
        check(&stream, false);
    }

    #[test]
    fn one_written_byte_matters() {
        let (mut client, mut stream) = connection();
        stream.write_all(b"x").unwrap();
        check(&stream, false);
        client.read_exact(&mut [0]).unwrap();
        check(&stream, false);
    }

    #[test]
    fn a_byte_that_never_left_matters() {
        let (_client, mut stream) = connection();
        rustix::net::sockopt::set_tcp_cork(&stream, true).unwrap();
        stream.write_all(b"x").unwrap();
        assert_eq!(tcp_info(stream.as_fd()).unwrap().bytes_sent, 0);
        check(&stream, false);
    }

    #[test]
    fn our_own_end_matters() {
        let (_client, stream) = connection();
        stream.shutdown(Shutdown::Write).unwrap();
        check(&stream, false);
    }

    #[test]
    fn a_reset_connection_is_not() {
        let (client, stream) = connection();
        rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        wait_for(&stream, PollFlags::RDHUP);
        check(&stream, false);
    }

    #[test]
    fn no_tcp_connection_is_not() {
        let (unix, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!untouched(unix.as_fd()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!untouched(listener.as_fd()).unwrap());
    }
}
