//! Which TCP connections some process has open, asked of the kernel (`sock_diag(7)`).

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// `linux/sock_diag.h`, `linux/netlink.h`, `linux/inet_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// All states but `TIME_WAIT`, `LISTEN`, the two of half-open ones, and `CLOSE`.
const STATES: u32 = 0xfff & !(1 << 3 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 12);
/// Where things are in a `struct nlmsghdr` and in the `struct inet_diag_msg` behind it.
const HEADER: usize = 16;
const COOKIE: usize = 44;
const INODE: usize = 68;
const ENTRY: usize = 72;

/// The kernel's numbers (`SO_COOKIE`) of the connections to these local ports that some process has open. A
/// connection that every process has closed is not among them, even while its last bytes are on their way.
///
/// # Errors
/// `EPROTONOSUPPORT`, `ENOENT` on a kernel without `inet_diag`; `EACCES` or `EPERM` where it is forbidden.
pub fn open_connections(ports: &BTreeSet<u16>) -> io::Result<BTreeSet<u64>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::DGRAM;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::SOCK_DIAG))?;
    let mut open = BTreeSet::new();
    let mut buffer = vec![0; 64 << 10];
    for port in ports {
        for family in [AF_INET, AF_INET6] {
            rustix::net::send(&socket, &request(family, *port), SendFlags::empty())?;
            // The kernel makes up its answer while it is read, so there is nothing to wait for.
            while !read_some(&socket, &mut buffer, &mut open)? {}
        }
    }
    Ok(open)
}

/// Asks for all connections of one local port.
fn request(family: u8, port: u16) -> [u8; 72] {
    let mut bytes = [0; 72];
    bytes[0..4].copy_from_slice(&72_u32.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[16..18].copy_from_slice(&[family, IPPROTO_TCP]);
    bytes[20..24].copy_from_slice(&STATES.to_ne_bytes());
    bytes[24..26].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// Reads one part of the answer; true if it was the last.
fn read_some(
    socket: &impl std::os::fd::AsFd,
    buffer: &mut [u8],
    open: &mut BTreeSet<u64>,
) -> io::Result<bool> {
    let (length, _) = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?;
    let mut rest = &buffer[..length];
    while let Some(header) = rest.get(..HEADER) {
        let size = u32::from_ne_bytes(array(header, 0)) as usize;
        let kind = u16::from_ne_bytes(array(header, 4));
        let Some(body) = rest.get(HEADER..size) else { return Err(Errno::BADMSG.into()) };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR if body.len() >= 4 => {
                return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(array(body, 0))));
            }
            SOCK_DIAG_BY_FAMILY if body.len() >= ENTRY && u32::from_ne_bytes(array(body, INODE)) != 0 => {
                open.insert(u64::from_ne_bytes(array(body, COOKIE)));
            }
            _ => {}
        }
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// So many bytes from there; what is not there is 0.
fn array<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    std::array::from_fn(|at| bytes.get(from + at).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn connections_are_open_until_the_last_process_closes_them() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let ports = BTreeSet::from([listener.local_addr().unwrap().port()]);
            let clients: Vec<_> =
                (0..3).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
            let mut served: Vec<_> = clients.iter().map(|_| listener.accept().unwrap().0).collect();
            let cookies = |served: &[TcpStream]| {
                served.iter().map(|stream| sockopt::socket_cookie(stream).unwrap()).collect::<BTreeSet<_>>()
            };
            assert_eq!(open_connections(&ports).unwrap(), cookies(&served));
            let copy = served[0].try_clone().unwrap();
            let gone = cookies(&served[1..2]);
            served.truncate(1);
            assert_eq!(open_connections(&ports).unwrap(), cookies(&served), "{gone:?} are gone");
            drop(served);
            assert_eq!(open_connections(&ports).unwrap(), cookies(&[copy]));
            // What the client has closed and we have not is open all the same.
            drop(clients);
            assert_eq!(open_connections(&ports).unwrap().len(), 0);
        }
    }

    #[test]
    fn more_than_one_answer_holds() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pairs: Vec<_> =
            (0..400).map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap())).collect();
        assert_eq!(open_connections(&BTreeSet::from([address.port()])).unwrap().len(), pairs.len());
    }
}
