//! What `cargo xtask bench` measures of the native lane: `CONTENDER SECONDS`.
//!
//! Listeners, 64 in a packet, sent one packet after the other and restored as what they were: by ganger's lane, or by
//! `sendmsg` and `recvmsg` alone. The child is this program too.

mod meter;

use std::{
    error::Error,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use ganger::{
    channel::{DESCRIPTORS, Lane},
    process::Command,
};
use meter::Meter;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let role = ganger::ipc::role()?;
    let mut parent = ganger::ipc::parent()?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [contender, seconds] = &args[..] else { return Err("usage: CONTENDER SECONDS".into()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match (role.is_some(), contender.as_str()) {
        (true, "bare") => take_bare(seconds),
        (true, _) => {
            let mut lane = parent.as_mut().and_then(ganger::Channel::take_lane).ok_or("no lane")?;
            runtime.block_on(take(&mut lane, seconds))
        }
        (false, "bare") => {
            let (near, far) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            let mut child =
                runtime.block_on(async { command(contender, seconds).descriptor(FAR, far).spawn() })?;
            send_bare(&near)?;
            runtime.block_on(child.wait())?;
            Ok(())
        }
        (false, _) => runtime.block_on(async {
            let mut child = command(contender, seconds).lane(true).spawn()?;
            let mut lane = child.take_lane().ok_or("no lane")?;
            send(&mut lane).await?;
            child.wait().await?;
            Ok(())
        }),
    }
}

fn command(contender: &str, seconds: &str) -> Command {
    let mut command = Command::fork_self("taker");
    command.args([contender, seconds]);
    command
}

fn listener() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
}

/// As fast as they are taken; who has taken enough goes.
async fn send(lane: &mut Lane) -> Result {
    let listener = listener()?;
    let batch = [listener.as_fd(); DESCRIPTORS];
    while lane.send(b"listeners", &batch).await.is_ok() {}
    Ok(())
}

async fn take(lane: &mut Lane, seconds: &str) -> Result {
    let mut meter = Meter::new(seconds, DESCRIPTORS as u64)?;
    while let Some((note, descriptors)) = lane.recv().await? {
        if note != b"listeners" {
            return Err("what is it?".into());
        }
        if report(&mut meter, descriptors) {
            return Ok(());
        }
    }
    Err("the sender is gone".into())
}

fn send_bare(socket: &OwnedFd) -> Result {
    let listener = listener()?;
    let batch: [BorrowedFd<'_>; DESCRIPTORS] = [listener.as_fd(); DESCRIPTORS];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&batch));
        if sendmsg(socket, &[IoSlice::new(b"listeners")], &mut control, SendFlags::NOSIGNAL).is_err() {
            return Ok(());
        }
    }
}

fn take_bare(seconds: &str) -> Result {
    let socket = ganger::sys::fd::adopt(FAR as i32)?;
    let mut meter = Meter::new(seconds, DESCRIPTORS as u64)?;
    loop {
        let mut bytes = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message
                && report(&mut meter, descriptors)
            {
                return Ok(());
            }
        }
    }
}

/// Restores a batch, and tells whether it was the last.
fn report(meter: &mut Meter, descriptors: impl IntoIterator<Item = OwnedFd>) -> bool {
    let restored = descriptors.into_iter().map(TcpListener::from).count();
    let result = meter.count(restored as u64);
    if let Some(result) = &result {
        println!("{result}");
    }
    result.is_some()
}

/// Where the bare child finds its socket.
const FAR: usize = 4;
