//! The load generator: clients that connect, exchange something, close, and again.
//!
//! One thread, non-blocking sockets, one epoll; so it can be pinned to one CPU and its own use of that CPU be told. Where it has
//! that CPU for itself it does not sleep: whoever sleeps is woken by the server's CPU, which takes long, and long in very
//! different ways, on a virtual machine. The clients of a real server are somewhere else, and woken there.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, send, socket_with, sockopt};

use super::{Sample, machine::Cpus};

/// How many exchanges come before those that are counted: so many, and not so long, since Node's compiler goes by how often
/// it has seen a function. A cluster's rate grows until it has served 30,000 to 45,000 requests, to more than twice of what it is at first.
const WARM_UP: u64 = 60_000;
/// How long they may take.
const WARM_UP_LIMIT: Duration = Duration::from_secs(60);

/// After a look in vain it looks away for so many pauses, some µs: a CPU may share its core with the server's.
const PAUSES: u32 = 100;

/// What a client does with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exchange {
    /// Reads at least one byte, to the end.
    Byte,
    /// Sends an HTTP request and reads its response to the end.
    Request,
    /// Sends one HTTP request after the other.
    Requests,
}

/// How long a server may take to answer those who have asked already.
const REST_LIMIT: Duration = Duration::from_secs(10);

/// What a load has brought about.
#[derive(Default)]
pub(super) struct Outcome {
    /// Exchanges that were complete, and clean at the end.
    completed: u64,
    /// Those that brought nothing, something wrong, or an error.
    failed: u64,
    /// How many of the completed ones each worker did, by what it calls itself.
    workers: BTreeMap<Vec<u8>, u64>,
    /// How long it was measured.
    elapsed: Duration,
    /// How long of it the load generator had nothing to do.
    idle: Duration,
    /// How long of it the server side's CPUs had nothing to do.
    server_idle: Duration,
}

impl Outcome {
    /// One exchange has come to its end with this response.
    fn complete(&mut self, response: &[u8]) {
        self.completed += 1;
        if let Some(worker) = body(response) {
            match self.workers.get_mut(worker) {
                Some(count) => *count += 1,
                None => drop(self.workers.insert(worker.to_vec(), 1)),
            }
        }
    }

    /// Another time at the same server.
    pub(super) fn add(&mut self, other: Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        other
            .workers
            .into_iter()
            .for_each(|(worker, count)| *self.workers.entry(worker).or_default() += count);
        self.elapsed += other.elapsed;
        self.idle += other.idle;
        self.server_idle += other.server_idle;
    }

    /// Its rate a second.
    pub(super) fn into_sample(self) -> Sample {
        let mut shares: Vec<u64> = self.workers.into_values().collect();
        shares.sort_unstable_by(|one, other| other.cmp(one));
        let elapsed = self.elapsed.as_secs_f64();
        let busy = |idle: Duration| Some((1.0 - idle.as_secs_f64() / elapsed).max(0.0));
        Sample {
            value: self.completed as f64 / elapsed,
            load_busy: busy(self.idle),
            server_busy: busy(self.server_idle),
            failed: self.failed,
            shares,
        }
    }
}

/// Keeps `clients` connections to `server` going until it is warm.
pub(super) fn warm_up(server: SocketAddr, exchange: Exchange, clients: usize, cpus: &Cpus) -> Result<()> {
    let completed = begin(server, exchange, clients, cpus)?.run(WARM_UP_LIMIT, WARM_UP, cpus)?.completed;
    if completed < WARM_UP {
        bail!(
            "{server} has answered {completed} clients in {WARM_UP_LIMIT:?}, and is not warm before {WARM_UP}"
        );
    }
    Ok(())
}

/// Keeps `clients` connections to `server` going for `duration`. Afterwards the server has nothing left to do.
pub(super) fn run(
    server: SocketAddr,
    exchange: Exchange,
    clients: usize,
    duration: Duration,
    cpus: &Cpus,
) -> Result<Outcome> {
    begin(server, exchange, clients, cpus)?.run(duration, u64::MAX, cpus)
}

fn begin(server: SocketAddr, exchange: Exchange, clients: usize, cpus: &Cpus) -> Result<Load> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
    let sleeps = !cpus.are_divided();
    let mut load = Load { server, exchange, epoll, sleeps, clients: Vec::new(), so_far: Outcome::default() };
    for index in 0..clients {
        let client = load.open(index)?;
        load.clients.push(Some(client));
    }
    Ok(load)
}

/// Whether `server` takes a connection and sends something on it.
pub(super) fn answers(server: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(server) else { return false };
    let limited = stream.set_read_timeout(Some(Duration::from_secs(5)));
    // Whoever speaks first does not mind a request.
    let asked = std::io::Write::write_all(&mut stream, request(Exchange::Request, 0).as_bytes());
    limited.and(asked).is_ok() && std::io::Read::read(&mut stream, &mut [0]).is_ok_and(|bytes| bytes > 0)
}

/// What a client sends; it has a name, by which it can be known again.
fn request(exchange: Exchange, client: usize) -> String {
    let connection = match exchange {
        Exchange::Byte => return String::new(),
        Exchange::Request => "close",
        Exchange::Requests => "keep-alive",
    };
    format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: client={client}\r\nConnection: {connection}\r\n\r\n"
    )
}

struct Load {
    server: SocketAddr,
    exchange: Exchange,
    epoll: OwnedFd,
    /// Whether it sleeps as long as there is nothing to do.
    sleeps: bool,
    /// By the number that epoll reports. None: it was through when nothing new was to begin.
    clients: Vec<Option<Client>>,
    so_far: Outcome,
}

struct Client {
    socket: OwnedFd,
    exchange: Exchange,
    /// What it sends, and how much of it is still to be sent.
    request: String,
    unsent: usize,
    received: Vec<u8>,
}

/// Where a connection stands after reading what there was.
enum Progress {
    Open,
    /// One exchange is over, and so is the connection.
    Completed,
    /// One is over, and the connection is good for another.
    Again,
    Failed,
}

impl Load {
    fn open(&self, index: usize) -> Result<Client> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
            .context("the load cannot make a socket")?;
        sockopt::set_tcp_nodelay(&socket, true).context("the load cannot set up a socket")?;
        match connect(&socket, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => bail!("the load cannot connect to {}: {error}", self.server),
        }
        let request = request(self.exchange, index);
        let unsent = request.len();
        let mut client = Client { socket, exchange: self.exchange, request, unsent, received: Vec::new() };
        // Here a connection is there at once; where it is not, there is room to write when it is.
        let writable = if client.send() {
            epoll::EventFlags::empty()
        } else {
            epoll::EventFlags::OUT | epoll::EventFlags::ET
        };
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &client.socket, data, epoll::EventFlags::IN | writable)
            .context("the load cannot watch")?;
        Ok(client)
    }

    /// Until the time is over, or so many exchanges are complete; then until those under way have come to their end too,
    /// of which only what went wrong is counted.
    fn run(mut self, limit: Duration, enough: u64, cpus: &Cpus) -> Result<Outcome> {
        let (start, idle) = (Instant::now(), cpus.server_idle()?);
        while self.so_far.completed < enough && start.elapsed() < limit {
            self.turn(start + limit, true)?;
        }
        let (elapsed, server_idle) = (start.elapsed(), cpus.server_idle()?.saturating_sub(idle));
        let mut outcome = Outcome { elapsed, server_idle, ..std::mem::take(&mut self.so_far) };

        let end = Instant::now() + REST_LIMIT;
        while self.clients.iter().any(Option::is_some) {
            if Instant::now() >= end {
                bail!("{} has left clients without an answer for {REST_LIMIT:?}", self.server);
            }
            self.turn(end, false)?;
        }
        outcome.failed += self.so_far.failed;
        Ok(outcome)
    }

    /// Does what there is to do, if need be after having waited for it; whoever is through begins `again`, or does not.
    fn turn(&mut self, end: Instant, again: bool) -> Result<()> {
        let start = Instant::now();
        let patience = if self.sleeps { end.saturating_duration_since(start) } else { Duration::ZERO };
        let patience = Timespec::try_from(patience).context("a duration out of range")?;
        let mut events = Vec::with_capacity(self.clients.len());
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("the load cannot wait"),
        }
        if self.sleeps || events.is_empty() {
            if !self.sleeps {
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
            }
            self.so_far.idle += start.elapsed();
        }
        for event in &events {
            let index = usize::try_from(event.data.u64()).context("a number that we gave")?;
            // Who is through is not watched any more.
            let Some(client) = &mut self.clients[index] else { continue };
            match client.progress() {
                Progress::Open => continue,
                Progress::Completed => self.so_far.complete(&client.received),
                Progress::Again => {
                    self.so_far.complete(&client.received);
                    if again && client.ask_again() {
                        continue;
                    }
                    self.so_far.failed += u64::from(again);
                }
                Progress::Failed => self.so_far.failed += 1,
            }
            self.clients[index] = if again { Some(self.open(index)?) } else { None };
        }
        Ok(())
    }
}

impl Client {
    /// Sends what is unsent; false if there is something left.
    fn send(&mut self) -> bool {
        while self.unsent > 0 {
            let unsent = &self.request.as_bytes()[self.request.len() - self.unsent..];
            match send(&self.socket, unsent, SendFlags::NOSIGNAL) {
                Ok(count) => self.unsent -= count,
                Err(Errno::INTR) => {}
                // What has failed shows when it is read.
                Err(_) => return false,
            }
        }
        true
    }

    /// A request is short: there is always room for it, unless the server is gone.
    fn ask_again(&mut self) -> bool {
        self.received.clear();
        self.unsent = self.request.len();
        self.send()
    }

    fn progress(&mut self) -> Progress {
        self.send();
        let mut buffer = [0; 4096];
        loop {
            match retry_on_intr(|| read(&self.socket, &mut buffer)) {
                Ok(0) if self.is_complete() => return Progress::Completed,
                Ok(0) => return Progress::Failed,
                Ok(bytes) => {
                    self.received.extend_from_slice(&buffer[..bytes]);
                    if self.exchange == Exchange::Requests && self.is_complete() {
                        return Progress::Again;
                    }
                }
                Err(Errno::AGAIN) => return Progress::Open,
                Err(_) => return Progress::Failed,
            }
        }
    }

    fn is_complete(&self) -> bool {
        match self.exchange {
            Exchange::Byte => !self.received.is_empty(),
            Exchange::Request | Exchange::Requests => body(&self.received).is_some(),
        }
    }
}

/// The body of a complete response that went well and says how long it is.
fn body(response: &[u8]) -> Option<&[u8]> {
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&response[..end]).ok().filter(|head| head.starts_with("HTTP/1.1 200 "))?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    response.get(end + 4..end + 4 + length)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::{Shutdown, shutdown};

    use super::*;

    #[test]
    fn after_its_turn_a_server_has_nothing_left_to_do() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, queue) = (listener.local_addr().unwrap(), listener.try_clone().unwrap());
        let serve = move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::io::Write::write_all(&mut stream, b"x").unwrap();
            }
        };
        let server = std::thread::spawn(serve);
        let cpus = Cpus::divide().unwrap();
        let mut outcome = Outcome::default();
        for turn in 1..=3 {
            let more = begin(address, Exchange::Byte, 64, &cpus)
                .unwrap()
                .run(Duration::from_secs(60), 1000, &cpus)
                .unwrap();
            outcome.add(more);
            assert!((turn * 1000..turn * 1064).contains(&outcome.completed), "{}", outcome.completed);
            assert_eq!(outcome.failed, 0);
            let mut waiting = [PollFd::new(&queue, PollFlags::IN)];
            assert_eq!(poll(&mut waiting, Some(&Timespec::default())).unwrap(), 0);
        }
        assert!(outcome.into_sample().value > 0.0);
        shutdown(&queue, Shutdown::Both).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn a_response_is_complete_when_its_body_is() {
        let response = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 4\r\n\r\n1234";
        assert_eq!(body(response), Some(&b"1234"[..]));
        for end in 0..response.len() {
            assert_eq!(body(&response[..end]), None, "of {end} bytes");
        }
        assert_eq!(body(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), None);
    }
}
