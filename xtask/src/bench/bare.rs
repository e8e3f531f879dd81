//! The least that a server with two workers can be: what any cluster is measured against.
//!
//! - `handoff`: one process accepts and sends each connection to one of two workers in turn. No protocol,
//!   no answer, no bookkeeping.
//! - `shared`: two workers accept from one socket.
//! - `reuse-port`: two workers accept, each from its own socket on the port (`SO_REUSEPORT`).
//!
//! Each serves one byte a connection, on 127.0.0.1 and the port in `PORT`, with blocking calls only.
//! The workers are this program too; their socket is their standard input.

use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, accept_with, bind, listen, recvmsg, sendmsg,
    socket_with, socketpair, sockopt,
};
use rustix::process::{Signal, set_parent_process_death_signal};

/// The backlog that Node asks for.
const BACKLOG: i32 = 511;

/// The part that this process plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Role {
    /// Accepts and hands over to two workers
    Handoff,
    /// Takes connections from `handoff`
    HandoffWorker,
    /// Lets two workers accept
    Shared,
    /// Lets two workers accept, each from a socket of its own
    ReusePort,
    /// Accepts from the socket that it was given
    Accept,
}

impl Role {
    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handoff => "handoff",
            Self::HandoffWorker => "handoff-worker",
            Self::Shared => "shared",
            Self::ReusePort => "reuse-port",
            Self::Accept => "accept",
        }
    }
}

/// Plays `role`; returns only with an error, or when the other side has gone.
pub fn bare(role: Role) -> Result<()> {
    match role {
        Role::Handoff => handoff(),
        Role::HandoffWorker => handoff_worker(),
        Role::Shared => {
            let listener = listener(false)?;
            let share = |_| listener.try_clone().context("cannot share a socket");
            let sockets: Result<_> = (0..super::server::WORKERS).map(share).collect();
            accepting(sockets?)
        }
        Role::ReusePort => {
            let sockets: Result<_> = (0..super::server::WORKERS).map(|_| listener(true)).collect();
            accepting(sockets?)
        }
        Role::Accept => accept(),
    }
}

fn handoff() -> Result<()> {
    let listener = listener(false)?;
    let mut workers = Vec::new();
    for _ in 0..super::server::WORKERS {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        start(Role::HandoffWorker, far)?;
        workers.push(near);
    }
    for worker in workers.iter().cycle() {
        let connection = accept_with(&listener, SocketFlags::CLOEXEC).context("cannot accept")?;
        let lent = [connection.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&lent));
        sendmsg(worker, &[IoSlice::new(b"c")], &mut control, SendFlags::NOSIGNAL)
            .context("cannot hand over")?;
    }
    Ok(())
}

fn handoff_worker() -> Result<()> {
    let channel = inherited()?;
    loop {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&channel, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Ok(());
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(connections) = message {
                connections.for_each(serve);
            }
        }
    }
}

/// A worker for each socket.
fn accepting(sockets: Vec<OwnedFd>) -> Result<()> {
    let workers: Result<Vec<_>> = sockets.into_iter().map(|socket| start(Role::Accept, socket)).collect();
    for worker in &mut workers? {
        worker.wait()?;
    }
    Ok(())
}

fn accept() -> Result<()> {
    let listener = TcpListener::from(inherited()?);
    loop {
        serve(accept_with(&listener, SocketFlags::CLOEXEC).context("cannot accept")?);
    }
}

fn serve(connection: OwnedFd) {
    // A client that is gone already is its own affair, as in the other servers.
    let _ = TcpStream::from(connection).write_all(b"x");
}

fn listener(with_others: bool) -> Result<OwnedFd> {
    let port = std::env::var("PORT").context("PORT is not set")?.parse().context("PORT is not a port")?;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, with_others)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).context("cannot bind")?;
    listen(&socket, BACKLOG).context("cannot listen")?;
    Ok(socket)
}

fn start(role: Role, socket: OwnedFd) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["bare", role.name()])
        .stdin(Stdio::from(socket))
        .spawn()
        .with_context(|| format!("cannot start a {}", role.name()))
}

/// The socket that the parent gave; from now on this process ends with its parent.
fn inherited() -> Result<OwnedFd> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    std::io::stdin().as_fd().try_clone_to_owned().context("no socket was given")
}
