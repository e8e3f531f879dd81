//! One client: what it asks for, and whether the answer is whole.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// Longer than anybody has to wait for an answer, also of a worker that hangs until the watchdog bites.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lasting {
    /// For one request.
    Once,
    /// Until the server says `Connection: close`.
    Kept,
}

/// A connection of a client.
pub(super) struct Connection {
    stream: TcpStream,
    /// The client's end.
    pub(super) local: SocketAddr,
    /// When it was asked for.
    pub(super) since: Instant,
    /// Whether something was answered on it before.
    pub(super) reused: bool,
}

/// What went wrong with a request.
pub(super) struct Trouble {
    pub(super) error: String,
    /// The connection was closed, or reset, before a byte of the answer came.
    pub(super) closed_unanswered: bool,
}

/// A whole answer.
pub(super) struct Answer {
    /// The worker's process.
    pub(super) worker: i32,
    pub(super) after: After,
}

/// What becomes of the connection after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    Close,
    Keep,
}

impl Connection {
    /// Connects from an address of the client's own, so that it can be told from the others and ports do not run out.
    pub(super) fn open(client: u8, port: u16) -> io::Result<Self> {
        let since = Instant::now();
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, client), 0))?;
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        let stream = TcpStream::from(socket);
        Ok(Self { local: stream.local_addr()?, stream, since, reused: false })
    }

    /// One request, and the whole of its answer.
    pub(super) fn get(&mut self, client: u8, path: &str, lasting: Lasting) -> Result<Answer, Trouble> {
        let connection = match lasting {
            Lasting::Once => "close",
            Lasting::Kept => "keep-alive",
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: client={client}\r\nConnection: {connection}\r\n\r\n"
        );
        let mut answer = Vec::new();
        self.stream
            .write_all(request.as_bytes())
            .map_err(|error| Trouble::new("sending", &error, &answer))?;
        let Head { body, end, after } = loop {
            if let Some(head) = Head::of(&answer).map_err(|error| Trouble::wrong(&error, &answer))? {
                break head;
            }
            self.read(&mut answer)?;
        };
        while answer.len() < end {
            self.read(&mut answer)?;
        }
        if answer.len() > end {
            return Err(Trouble::wrong("more than was announced", &answer));
        }
        let worker =
            std::str::from_utf8(&answer[body..]).ok().and_then(|body| body.lines().next()?.parse().ok());
        let worker = worker.ok_or_else(|| Trouble::wrong("it does not say who answers", &answer))?;
        self.reused = true;
        if lasting == Lasting::Kept {
            return Ok(Answer { worker, after });
        }
        // It was asked to be closed: an end that is no clean one is seen.
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(Answer { worker, after: After::Close }),
            Ok(_) => Err(Trouble::wrong("more than was announced", &answer)),
            Err(error) => Err(Trouble::new("at the end", &error, &answer)),
        }
    }

    fn read(&mut self, answer: &mut Vec<u8>) -> Result<(), Trouble> {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    let error = io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed");
                    return Err(Trouble::new("reading", &error, answer));
                }
                Ok(bytes) => {
                    answer.extend_from_slice(&buffer[..bytes]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Trouble::new("reading", &error, answer)),
            }
        }
    }
}

impl Trouble {
    fn new(when: &str, error: &io::Error, answer: &[u8]) -> Self {
        let closed = matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        );
        let text = match error.kind() {
            ErrorKind::WouldBlock => format!("nothing for {} s", PATIENCE.as_secs()),
            _ => error.to_string(),
        };
        Self {
            error: format!("{when}, {} bytes of the answer were there: {text}", answer.len()),
            closed_unanswered: closed && answer.is_empty(),
        }
    }

    fn wrong(what: &str, answer: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]);
        Self { error: format!("{what}: {shown:?}"), closed_unanswered: false }
    }
}

/// What has to be known of an answer's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Where the body begins and ends, in bytes from the answer's beginning.
    body: usize,
    end: usize,
    after: After,
}

impl Head {
    /// None as long as it is not complete; an error if it is not of a good answer.
    fn of(answer: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&answer[..end]).map_err(|_| "no text")?;
        let mut lines = head.lines();
        if !lines.next().is_some_and(|line| line.starts_with("HTTP/1.1 200")) {
            return Err("not a good answer".into());
        }
        let (mut length, mut after) = (None, After::Keep);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse::<usize>().ok();
            } else if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
                after = After::Close;
            }
        }
        let length = length.ok_or("it does not say how long it is")?;
        let body = end + 4;
        Ok(Some(Self { body, end: body + length, after }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_where_the_answer_ends_and_what_becomes_of_the_connection() {
        let head = b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 4\r\n\r\n12";
        let body = head.len() - 2;
        for end in 0..body {
            assert_eq!(Head::of(&head[..end]), Ok(None), "of {end} bytes");
        }
        assert_eq!(Head::of(head), Ok(Some(Head { body, end: body + 4, after: After::Close })));
        let kept = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(Head::of(kept), Ok(Some(Head { body: kept.len(), end: kept.len(), after: After::Keep })));
        assert!(Head::of(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(Head::of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
