//! Numeric addresses with the interface that they are meant on, as Node and libuv write them: `fe80::1%eth0`.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Reads a numeric address, and the index of its interface. Without one, or with one that is not there, that is 0, and
/// binding tells whether the address needs one (libuv's `uv_ip6_addr`). An index instead of a name will do as well, since
/// that is what Rust's [`SocketAddr`] shows.
///
/// # Errors
/// `EINVAL` if it is no address.
pub fn parse_ip(text: &str) -> io::Result<(IpAddr, u32)> {
    let wrong = || io::Error::from(rustix::io::Errno::INVAL);
    let Some((address, zone)) = text.split_once('%') else {
        return Ok((text.parse().map_err(|_| wrong())?, 0));
    };
    let address = IpAddr::V6(address.parse().map_err(|_| wrong())?);
    let socket = any_socket()?;
    let by_index = |index: &u32| index_to_name(&socket, *index).is_ok();
    let index = name_to_index(&socket, zone).ok().or_else(|| zone.parse().ok().filter(by_index));
    Ok((address, index.unwrap_or_default()))
}

/// The socket address that has these parts.
pub fn socket_addr(ip: IpAddr, scope: u32, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
    }
}

/// Writes the address without its port, with the name of its interface if it has one; with the index where there is no such
/// interface.
pub fn show_ip(address: SocketAddr) -> String {
    let ip = address.ip();
    let scope = scope(address);
    if scope == 0 {
        return ip.to_string();
    }
    match any_socket().and_then(|socket| Ok(index_to_name(socket, scope)?)) {
        Ok(name) => format!("{ip}%{name}"),
        Err(_) => format!("{ip}%{scope}"),
    }
}

/// The index of the interface that an address is meant on; 0 is none.
pub fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

/// The kernel is asked by way of one, whatever it is.
fn any_socket() -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn interfaces_have_names_and_indices() {
        let (address, lo) = parse_ip("fe80::1%lo").unwrap();
        assert_eq!(address, "fe80::1".parse::<IpAddr>().unwrap());
        assert_ne!(lo, 0);
        assert_eq!(parse_ip(&format!("fe80::1%{lo}")).unwrap(), (address, lo));
        let bound = |scope| socket_addr(address, scope, 80);
        assert_eq!(show_ip(bound(lo)), "fe80::1%lo");
        assert_eq!(show_ip(bound(u32::MAX)), format!("fe80::1%{}", u32::MAX));
        assert_eq!(show_ip(bound(0)), "fe80::1");
    }

    #[test]
    fn an_interface_that_is_not_there_is_none() {
        for zone in ["", "no such one", "a name that is longer than any", "-1", "4294967295"] {
            assert_eq!(parse_ip(&format!("::1%{zone}")).unwrap(), (Ipv6Addr::LOCALHOST.into(), 0));
        }
        assert_eq!(parse_ip("127.0.0.1").unwrap(), ("127.0.0.1".parse().unwrap(), 0));
        for wrong in ["", "localhost", "127.0.0.1%lo", "%lo", "fe80::1:80:"] {
            assert_eq!(parse_ip(wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{wrong}");
        }
    }
}
