//! The least of HTTP that a test needs.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::LIMIT;

/// What becomes of a connection after the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Connection {
    Close,
    KeepAlive,
}

/// A connection to a port of this machine.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// The same from an address of this machine, as if from another one.
pub(crate) fn connect_from(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(address, 0))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// One request on a connection of its own: the body of the answer.
pub(crate) fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = connect(port)?;
    request(&mut stream, path, Connection::Close)?;
    answer_to_end(stream)
}

/// Asks for a path. A connection that is to be closed speaks HTTP/1.0, so that the answer comes in one piece.
pub(crate) fn request(stream: &mut TcpStream, path: &str, connection: Connection) -> io::Result<()> {
    let head = match connection {
        Connection::Close => format!("GET {path} HTTP/1.0\r\n\r\n"),
        Connection::KeepAlive => format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
    };
    stream.write_all(head.as_bytes())
}

/// The body of an answer that ends with the connection.
pub(crate) fn answer_to_end(mut stream: TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    body(&String::from_utf8_lossy(&answer))
}

/// The body of an answer after which the connection stays open.
pub(crate) fn answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let headers = head.lines().filter_map(|line| line.split_once(": "));
            let mut lengths = headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if lengths.next().is_some_and(|(_, length)| length.parse() == Ok(body.len())) {
                return Ok(body.to_owned());
            }
        }
        if read == 0 {
            return Err(io::Error::other(format!("not a whole answer: {text:?}")));
        }
    }
}

fn body(answer: &str) -> io::Result<String> {
    match answer.split_once("\r\n\r\n") {
        // Not every server answers HTTP/1.0 in a version of its own.
        Some((head, body)) if head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200") => {
            Ok(body.to_owned())
        }
        _ => Err(io::Error::other(format!("not a good answer: {answer:?}"))),
    }
}
