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
    match read_answer(stream) {
        Ok(Answer { body, .. }) => Ok(body),
        Err(Broken::Before(error) | Broken::Within(error)) => Err(error),
    }
}

/// An answer of a length that it says.
pub(crate) struct Answer {
    pub(crate) body: String,
    /// Whether the server wants the connection closed behind it.
    pub(crate) closes: bool,
}

/// An answer that did not come, or not whole.
pub(crate) enum Broken {
    /// There was not one byte of it.
    Before(io::Error),
    Within(io::Error),
}

/// The next answer.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Result<Answer, Broken> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).and_then(|read| match read {
            0 => Err(io::Error::other("the connection ended")),
            read => Ok(read),
        });
        let read = read.map_err(|error| match &*String::from_utf8_lossy(&answer) {
            "" => Broken::Before(error),
            some => Broken::Within(io::Error::other(format!("not a whole answer: {error} behind {some:?}"))),
        })?;
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |wanted: &str| {
            let mut headers = head.lines().filter_map(|line| line.split_once(": "));
            headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
        };
        if header("content-length").is_some_and(|length| length.parse() == Ok(body.len())) {
            let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            return Ok(Answer { body: body.to_owned(), closes });
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
