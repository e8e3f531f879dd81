//! What `cargo xtask bench` measures of channels, with system calls and nothing else: `OURS THEIRS MESSAGE SECONDS`.
//!
//! The parts are those of `channel.rs` beside this file. The messages have a newline at their end and are looked at
//! no further. The child is this program too; its socket is its standard input.

mod meter;

use std::{
    error::Error,
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
};

use meter::Meter;
use rustix::{
    event::epoll,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [part, message, seconds] => {
            play(part, std::io::stdin().as_fd().try_clone_to_owned()?.into(), message, seconds)
        }
        [ours, theirs, message, seconds] => {
            // The buffers are those of every channel.
            let (near, far) = ganger::sys::socket::channel_pair()?;
            let mut command = Command::new(std::env::current_exe()?);
            let mut child = command.args([theirs, message, seconds]).stdin(Stdio::from(far)).spawn()?;
            drop(command);
            play(ours, near.into(), message, seconds)?;
            child.wait()?;
            Ok(())
        }
        _ => Err("usage: OURS THEIRS MESSAGE SECONDS".into()),
    }
}

fn play(part: &str, mut socket: UnixStream, message: &str, seconds: &str) -> Result {
    socket.set_nonblocking(false)?;
    let length = match message {
        "small" => 100,
        _ => 1 << 20,
    };
    let mut message = vec![b'x'; length];
    message.push(b'\n');
    let mut meter = Meter::new(seconds, if length == 100 && part != "ping" { 64 } else { 1 })?;
    let mut buffer = vec![0; 64 << 10];
    match part {
        "send" => {
            // Who counts has counted enough, and has gone.
            while socket.write_all(&message).is_ok() {}
            Ok(())
        }
        "count" => loop {
            let count = socket.read(&mut buffer)?;
            let messages = buffer[..count].iter().filter(|byte| **byte == b'\n').count();
            if let Some(result) = meter.count(messages as u64) {
                println!("{result}");
                return Ok(());
            }
        },
        "ping" => {
            let mut turn = Turn::new(socket)?;
            loop {
                turn.socket.write_all(&message)?;
                turn.receive(&mut buffer)?;
                if let Some(result) = meter.count(1) {
                    println!("{result}");
                    return Ok(());
                }
            }
        }
        "echo" => {
            let mut turn = Turn::new(socket)?;
            while turn.receive(&mut buffer)? {
                turn.socket.write_all(&message)?;
            }
            Ok(())
        }
        "send-listeners" => send_listeners(socket),
        "take-listeners" => loop {
            take_listener(&socket)?;
            socket.write_all(b"a")?;
            if let Some(result) = meter.count(1) {
                println!("{result}");
                return Ok(());
            }
        },
        other => Err(format!("no such part: {other}").into()),
    }
}

/// A socket that is waited for with epoll.
struct Turn {
    socket: UnixStream,
    epoll: OwnedFd,
}

impl Turn {
    fn new(socket: UnixStream) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Self { socket, epoll })
    }

    /// Waits for one message; false at the end.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool> {
        loop {
            let mut events = [MaybeUninit::uninit(); 8];
            let (events, _) = epoll::wait(&self.epoll, &mut events, None)?;
            if events.is_empty() {
                continue;
            }
            match self.socket.read(buffer)? {
                0 => return Ok(false),
                count if buffer[..count].contains(&b'\n') => return Ok(true),
                _ => {}
            }
        }
    }
}

fn send_listeners(mut socket: UnixStream) -> Result {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let lent = [listener.as_fd()];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&lent));
        let sent = sendmsg(&socket, &[IoSlice::new(b"l")], &mut control, SendFlags::NOSIGNAL);
        if sent.is_err() || !matches!(socket.read(&mut [0]), Ok(1)) {
            return Ok(());
        }
    }
}

fn take_listener(socket: &UnixStream) -> Result {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(listeners) = message {
            return listeners.map(TcpListener::from).next().map(drop).ok_or("no listener".into());
        }
    }
    Err("no listener".into())
}
