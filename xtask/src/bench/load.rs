//! The load generator of connections: clients that connect, read to the end, close, and again.
//!
//! One thread, non-blocking sockets, one epoll; so it can be pinned to one CPU and its own use of that
//! CPU be told.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::time::{ClockId, clock_gettime};

/// What a load has brought about in the time after its warm-up.
pub(super) struct Outcome {
    /// Connections that brought at least one byte and a clean end.
    pub(super) completed: u64,
    /// Connections that brought nothing, or an error.
    pub(super) failed: u64,
    /// How long it was measured.
    pub(super) elapsed: Duration,
    /// The CPU time that the load generator used of it.
    pub(super) cpu: Duration,
}

/// Keeps `clients` connections to `server` going, first for `warm_up`, which is not counted, then for
/// `duration`.
pub(super) fn connections(
    server: SocketAddr,
    clients: usize,
    warm_up: Duration,
    duration: Duration,
) -> Result<Outcome> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
    let mut load = Load { server, epoll, clients: Vec::with_capacity(clients), completed: 0, failed: 0 };
    for index in 0..clients {
        let client = load.open(index)?;
        load.clients.push(client);
    }
    load.run_until(Instant::now() + warm_up)?;

    let (completed, failed) = (load.completed, load.failed);
    let (start, cpu) = (Instant::now(), cpu_time());
    load.run_until(start + duration)?;
    Ok(Outcome {
        completed: load.completed - completed,
        failed: load.failed - failed,
        elapsed: start.elapsed(),
        cpu: cpu_time().saturating_sub(cpu),
    })
}

/// Whether `server` takes a connection and sends something on it.
pub(super) fn answers(server: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(server) else { return false };
    let limited = stream.set_read_timeout(Some(Duration::from_secs(5)));
    limited.is_ok() && std::io::Read::read(&mut stream, &mut [0]).is_ok_and(|bytes| bytes > 0)
}

struct Load {
    server: SocketAddr,
    epoll: OwnedFd,
    /// By the number that epoll reports.
    clients: Vec<Client>,
    completed: u64,
    failed: u64,
}

struct Client {
    socket: OwnedFd,
    bytes: usize,
}

/// Where a connection stands after reading what there was.
enum Progress {
    Open,
    Completed,
    Failed,
}

impl Load {
    fn open(&self, index: usize) -> Result<Client> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
            .context("the load cannot make a socket")?;
        match connect(&socket, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => bail!("the load cannot connect to {}: {error}", self.server),
        }
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).context("the load cannot watch")?;
        Ok(Client { socket, bytes: 0 })
    }

    fn run_until(&mut self, end: Instant) -> Result<()> {
        let mut events = Vec::with_capacity(self.clients.len());
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let left = Timespec::try_from(left).context("a duration out of range")?;
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("the load cannot wait"),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).context("a number that we gave")?;
                match self.clients[index].progress() {
                    Progress::Open => continue,
                    Progress::Completed => self.completed += 1,
                    Progress::Failed => self.failed += 1,
                }
                self.clients[index] = self.open(index)?;
            }
        }
    }
}

impl Client {
    fn progress(&mut self) -> Progress {
        let mut buffer = [0; 4096];
        loop {
            match retry_on_intr(|| read(&self.socket, &mut buffer)) {
                Ok(0) if self.bytes > 0 => return Progress::Completed,
                Ok(0) => return Progress::Failed,
                Ok(bytes) => self.bytes += bytes,
                Err(Errno::AGAIN) => return Progress::Open,
                Err(_) => return Progress::Failed,
            }
        }
    }
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a CPU time is not negative")
}
