//! Which connections a process has: what of it may be lost when it dies.
//!
//! A connection that waits at a socket, or on its way to a worker, is in nobody's hands; one that the primary still keeps its
//! copy of has not been answered for. Neither may be lost.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::getpeername;
use rustix::process::{PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_send_signal};

/// Stopping takes as long as a system call of the process, at most.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks whether it has stopped.
const LOOK: Duration = Duration::from_millis(1);
/// What a worker has written before it stopped, the primary has read by then.
const ANSWERS_ARRIVE: Duration = Duration::from_millis(50);

/// The connections that clients lose if a worker dies, and when that is.
#[derive(Debug)]
pub(super) struct Loss {
    /// From then on they are lost.
    pub(super) from: Instant,
    /// Later nobody can have connected to it.
    pub(super) until: Instant,
    /// The clients' ends, if they are known exactly.
    pub(super) held: Option<BTreeSet<SocketAddr>>,
    /// Later nobody may be waiting for an answer of the dead.
    pub(super) over: Instant,
}

/// The connections of a worker that has stopped.
pub(super) struct Stopped {
    pub(super) from: Instant,
    pub(super) until: Instant,
    pub(super) held: BTreeSet<SocketAddr>,
}

impl Loss {
    /// Whether it explains that a connection which was asked for at `since` failed at `at`.
    pub(super) fn explains(&self, local: SocketAddr, since: Instant, at: Instant) -> bool {
        let in_time = (self.from..=self.over).contains(&at);
        // Where it is known what it held, a client that was slow to look at its clock is not judged by it.
        in_time && self.held.as_ref().map_or(since <= self.until, |held| held.contains(&local))
    }
}

/// Stops a worker: what is lost if it never goes on. `pidfd` is its process's.
pub(super) fn stop(worker: i32, pidfd: BorrowedFd<'_>, primary: i32) -> Result<Stopped> {
    let from = Instant::now();
    pidfd_send_signal(pidfd, Signal::STOP).context("cannot stop a worker")?;
    let end = from + STOP_LIMIT;
    while !is_stopped(worker)? {
        if Instant::now() > end {
            bail!("worker {worker} does not stop");
        }
        thread::sleep(LOOK);
    }
    // Whoever connects from now on is not with it.
    let until = Instant::now();
    thread::sleep(ANSWERS_ARRIVE);
    let kept = sockets(primary)?;
    let mut held = BTreeSet::new();
    for (number, name) in
        sockets(worker)?.into_iter().filter(|(_, name)| !kept.iter().any(|(_, kept)| kept == name))
    {
        // It is stopped: its descriptors are what they were. What is not connected has no peer.
        let socket = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
            .with_context(|| format!("cannot look at {name} of worker {worker}"))?;
        let peer = getpeername(&socket).ok().flatten();
        if let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) {
            held.insert(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        }
    }
    Ok(Stopped { from, until, held })
}

/// Whether each of its threads has stopped.
fn is_stopped(pid: i32) -> Result<bool> {
    let threads = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&threads).with_context(|| format!("worker {pid} is gone"))? {
        let path = thread?.path().join("stat");
        // A thread may end while we look.
        let Ok(stat) = fs::read_to_string(&path) else { continue };
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if state != Some('T') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The sockets of a process: the numbers of its descriptors, and what the kernel calls them.
fn sockets(pid: i32) -> Result<Vec<(i32, String)>> {
    let directory = format!("/proc/{pid}/fd");
    let mut sockets = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {directory}"))? {
        let path = entry?.path();
        // It may be closed meanwhile.
        let Ok(target) = fs::read_link(&path) else { continue };
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let (Some(number), Some(name)) = (number, socket_name(&target)) {
            sockets.push((number, name));
        }
    }
    Ok(sockets)
}

fn socket_name(target: &Path) -> Option<String> {
    target.to_str().filter(|name| name.starts_with("socket:")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    /// A process that holds one of two connections, which is not ours, is the only one to lose it.
    #[test]
    fn what_a_stopped_process_holds_is_found() {
        use std::os::fd::{AsFd, OwnedFd};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clients = [0, 1].map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let [held, kept] = [0, 1].map(|_| listener.accept().unwrap().0);
        let [lost, _] = clients.each_ref().map(|client| client.local_addr().unwrap());
        // `cat` waits for input, and its outputs are the connections.
        let mut holder = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(OwnedFd::from(held))
            .stderr(OwnedFd::from(kept.try_clone().unwrap()))
            .spawn()
            .unwrap();
        let pidfd = pidfd_open(Pid::from_child(&holder), PidfdFlags::empty()).unwrap();
        let own = std::process::id().cast_signed();
        let Stopped { from, until, held } = stop(holder.id().cast_signed(), pidfd.as_fd(), own).unwrap();
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(held, BTreeSet::from([lost]));
        let (since, over) = (from - LOOK, Instant::now());
        let mut loss = Loss { from, until, held: Some(held), over };
        assert!(loss.explains(lost, since, over));
        assert!(!loss.explains(clients[1].local_addr().unwrap(), since, over));
        assert!(!loss.explains(lost, since, since), "it failed before the stop");
        assert!(!loss.explains(lost, since, over + LOOK), "somebody waited for the dead");
        loss.held = None;
        assert!(loss.explains(lost, since, over));
        assert!(!loss.explains(lost, over, over), "it was established after the stop");
    }
}
