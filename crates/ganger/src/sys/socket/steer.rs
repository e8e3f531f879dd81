//! Which of the sockets on one port (`SO_REUSEPORT`) gets a new connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Leads new connections past some of the sockets on a port: they are spread over the rest at random. `group` is any of them,
/// `size` how many there are, `past` are the places of those to be passed by, in the order in which the sockets began to
/// listen. (A socket that is closed leaves its place to the last one.) Nothing to pass by is the kernel's own way:
/// by a hash of the addresses.
///
/// # Errors
/// `EINVAL` if all are to be passed by; those of `setsockopt` (`SO_ATTACH_REUSEPORT_CBPF`, since Linux 4.5;
/// `SO_DETACH_REUSEPORT_BPF`, since 5.3).
pub fn steer(group: impl AsFd, size: usize, past: &[usize]) -> io::Result<()> {
    let fd = group.as_fd().as_raw_fd();
    if past.is_empty() {
        let nothing: libc::c_int = 0;
        // SAFETY: the option takes no value, and the pointer is to a whole `int` nevertheless.
        return check(unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                SO_DETACH_REUSEPORT_BPF,
                (&raw const nothing).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        });
    }
    let mut program = program(size, past)?;
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points to a program of the length that it says; both outlive the call, which copies them.
    check(unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
}

/// A random place among those that are left, counted past the others.
fn program(size: usize, past: &[usize]) -> io::Result<Vec<libc::sock_filter>> {
    let mut past: Vec<u32> = past.iter().filter_map(|place| u32::try_from(*place).ok()).collect();
    past.sort_unstable();
    past.dedup();
    let left = u32::try_from(size).unwrap_or(u32::MAX).saturating_sub(past.len() as u32);
    if left == 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
    let mut program = vec![
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, random),
        statement(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, left),
    ];
    for place in past {
        let skip = libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: place,
        };
        program.extend([skip, statement(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 1)]);
    }
    program.push(statement(libc::BPF_RET | BPF_A, 0));
    Ok(program)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `asm-generic/socket.h`, `linux/filter.h`; not in the crate libc.
const SO_DETACH_REUSEPORT_BPF: libc::c_int = 68;
const BPF_A: u32 = 0x10;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

    use super::*;

    fn listener(port: u16) -> TcpListener {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket: OwnedFd =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        rustix::net::listen(&socket, 511).unwrap();
        socket.into()
    }

    /// Which of the listeners get something of two hundred connections.
    fn reached(listeners: &[TcpListener]) -> BTreeSet<usize> {
        let address = listeners[0].local_addr().unwrap();
        let _clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
        let served = |listener: &TcpListener| std::iter::from_fn(|| listener.accept().ok()).count() > 0;
        (0..listeners.len()).filter(|at| served(&listeners[*at])).collect()
    }

    #[test]
    fn nobody_comes_to_those_that_are_passed_by() {
        let first = listener(0);
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first, listener(port), listener(port), listener(port)];
        assert_eq!(reached(&listeners), BTreeSet::from([0, 1, 2, 3]));
        steer(&listeners[0], 4, &[1]).unwrap();
        assert_eq!(reached(&listeners), BTreeSet::from([0, 2, 3]));
        steer(&listeners[0], 4, &[3, 0]).unwrap();
        assert_eq!(reached(&listeners), BTreeSet::from([1, 2]));
        // The last one takes the place of the one that goes.
        drop(listeners.swap_remove(0));
        steer(&listeners[0], 3, &[0]).unwrap();
        assert_eq!(reached(&listeners), BTreeSet::from([1, 2]));
        steer(&listeners[0], 3, &[]).unwrap();
        assert_eq!(reached(&listeners), BTreeSet::from([0, 1, 2]));
        assert_eq!(steer(&listeners[0], 3, &[0, 1, 2]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
