//! Listens in on the channel between a primary and one of its workers.
//!
//! The relay is started in the worker's place, with the channel that was meant for the worker. It
//! starts the real worker with a channel of its own and passes on everything that either side sends,
//! bytes and descriptors, chunk by chunk, so that neither can tell. What passes is also written down:
//!
//! ```text
//! Node primary ──── NODE_CHANNEL_FD ──── wiretap ──── a socketpair ──── Node worker
//!                                           │
//!                             WIRETAP_OUT/<id>.primary     what the primary sent
//!                             WIRETAP_OUT/<id>.worker      what the worker sent
//! ```
//!
//! To see the wire of Node's own cluster:
//!
//! ```text
//! cargo build --example wiretap && mkdir wire
//! WIRETAP_NODE=$(which node) WIRETAP_OUT=wire node -e '
//!   process.execPath = "target/debug/examples/wiretap";
//!   const cluster = require("cluster");
//!   cluster.setupPrimary({ exec: "examples/node/plain.js", execArgv: [] });
//!   cluster.fork();'
//! ```
//!
//! and ganger's: `ganger run --runtime target/debug/examples/wiretap examples/node/plain.js`.
//!
//! `<id>` is the worker's `NODE_UNIQUE_ID`; for a child that is not a cluster worker, the relay's pid.
//! Files are appended to. The relay ends as its worker ended, with the same status or by the same
//! signal. A signal sent to it is not passed on: it ends the relay, and with it the worker's channel.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;

use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, send, sendmsg, shutdown,
    socketpair,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open};

/// Node's own read size.
const CHUNK: usize = 64 * 1024;
/// The most descriptors that the kernel passes with one message (SCM_MAX_FD).
const MAX_DESCRIPTORS: usize = 253;

fn main() {
    match relay() {
        Ok(status) => end_as(status),
        Err(message) => {
            eprintln!("wiretap: {message}");
            std::process::exit(1);
        }
    }
}

fn relay() -> Result<ExitStatus, String> {
    let node =
        env::var_os("WIRETAP_NODE").ok_or("WIRETAP_NODE is not set: give the path of the real node")?;
    let out =
        env::var_os("WIRETAP_OUT").ok_or("WIRETAP_OUT is not set: give a directory for the transcripts")?;
    let id = env::var("NODE_UNIQUE_ID").unwrap_or_else(|_| getpid().to_string());
    let transcript = |side: &str| {
        let path = Path::new(&out).join(format!("{id}.{side}"));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let (mut primary_said, mut worker_said) = (transcript("primary")?, transcript("worker")?);

    let primary = channel()?;
    let (worker, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .and_then(|(near, far)| fcntl_setfd(&far, FdFlags::empty()).map(|()| (near, far)))
        .map_err(|error| format!("cannot make a channel for the worker: {error}"))?;
    let mut child = Command::new(&node)
        .args(env::args_os().skip(1))
        .env("NODE_CHANNEL_FD", far.as_raw_fd().to_string())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", node.display()))?;
    drop(far);

    thread::scope(|scope| {
        scope.spawn(|| pass_on(&primary, &worker, &mut primary_said));
        pass_on(&worker, &primary, &mut worker_said);
    });
    child.wait().map_err(|error| format!("cannot wait for the worker: {error}"))
}

/// The channel that the primary made, taken by its number.
///
/// The number itself stays open, also in the worker, which does not use it: that is why [`pass_on`]
/// ends a channel by `shutdown`, which holds for all copies of it.
fn channel() -> Result<OwnedFd, String> {
    let number = env::var("NODE_CHANNEL_FD")
        .map_err(|_| "NODE_CHANNEL_FD is not set: let a primary start the wiretap in place of node")?;
    let parsed = number.parse().map_err(|_| format!("NODE_CHANNEL_FD={number} is not a descriptor"))?;
    pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(&own, parsed, PidfdGetfdFlags::empty()))
        .map_err(|error| format!("cannot take the channel, descriptor {number}: {error}"))
}

/// Passes on what `from` sends until one of the two is closed, then closes both.
fn pass_on(from: &OwnedFd, to: &OwnedFd, transcript: &mut File) {
    let mut buffer = vec![0; CHUNK];
    let result = loop {
        match pass_on_chunk(from.as_fd(), to.as_fd(), &mut buffer, transcript) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    match result.map_err(|error| error.kind()) {
        Ok(()) | Err(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        Err(kind) => eprintln!("wiretap: the relay stopped: {kind}"),
    }
    for channel in [from, to] {
        // The one error, ENOTCONN, means that it is closed already.
        let _ = shutdown(channel, Shutdown::Both);
    }
}

/// One chunk: what one `recvmsg` brings leaves by one `sendmsg`, so that a descriptor stays at the
/// byte that it was sent with. Returns how many bytes passed; 0 at the end.
fn pass_on_chunk(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    buffer: &mut [u8],
    transcript: &mut File,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let bytes = &buffer[..received.bytes];
    transcript.write_all(bytes)?;
    if bytes.is_empty() {
        return Ok(0);
    }

    let lent: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !lent.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&lent));
    }
    let mut sent = retry_on_intr(|| sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL))?;
    while sent < bytes.len() {
        sent += retry_on_intr(|| send(to, &bytes[sent..], SendFlags::NOSIGNAL))?;
    }
    Ok(sent)
}

/// Ends this process as the worker ended.
fn end_as(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal().and_then(Signal::from_named_raw) {
        // If the signal cannot end this process either, the shell's convention below tells of it.
        let _ = kill_process(getpid(), signal);
    }
    std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}
