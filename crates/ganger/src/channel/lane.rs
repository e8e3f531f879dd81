//! The native lane: a second socket between two ends of ours, on which descriptors travel many at a time and without
//! JSON. Where there is none, or its ends differ in version, Node's wire is spoken.
//!
//! `LaneLink` moves packets without waiting, for the cluster's loops; [`Lane`] is the same for a library's user.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use ganger_proto::{
    ListenerKey, Seq,
    wire::lane::{self, NoPacket, Packet},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::Flushed;
use crate::sys::{fd, socket, watch::watch};

/// One end of a lane.
#[derive(Debug)]
pub(crate) struct LaneLink {
    socket: OwnedFd,
    /// Connections that wait to be sent.
    connections: VecDeque<(ListenerKey, Seq, OwnedFd)>,
    /// Answers that wait to be sent.
    answers: Vec<(Seq, bool)>,
}

/// Whether a packet was taken, and how it stands if not.
enum Sent {
    Yes,
    Not(Flushed),
}

/// What one read has brought.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) packet: Result<Packet, NoPacket>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// How long it was.
    pub(crate) bytes: usize,
}

/// What one flush has moved.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) flushed: Flushed,
    /// Connections that are with the peer, and our copies of them.
    pub(crate) sent: Vec<(Seq, OwnedFd)>,
}

impl LaneLink {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, connections: VecDeque::new(), answers: Vec::new() }
    }

    /// Says which version is spoken here. Nobody has written before, so there is room.
    pub(crate) fn greet(&self) -> io::Result<()> {
        socket::send_packet(self.socket.as_fd(), &Packet::Hello { version: lane::VERSION }.write(), &[])
    }

    pub(crate) fn connection(&mut self, key: ListenerKey, seq: Seq, connection: OwnedFd) {
        self.connections.push_back((key, seq, connection));
    }

    pub(crate) fn answer(&mut self, seq: Seq, taken: bool) {
        self.answers.push((seq, taken));
    }

    /// What has not been sent, oldest first.
    pub(crate) fn take_connections(&mut self) -> impl Iterator<Item = (ListenerKey, Seq, OwnedFd)> + use<> {
        std::mem::take(&mut self.connections).into_iter()
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Moved {
        let mut sent = Vec::new();
        let flushed = self.flush_into(&mut sent);
        Moved { flushed, sent }
    }

    fn flush_into(&mut self, sent: &mut Vec<(Seq, OwnedFd)>) -> Flushed {
        while !self.answers.is_empty() {
            let count = self.answers.len().min(lane::ANSWERS);
            let packet = Packet::Answers(self.answers[..count].to_vec());
            match self.send(&packet, &[]) {
                Sent::Yes => drop(self.answers.drain(..count)),
                Sent::Not(why) => return why,
            }
        }
        while let Some((key, _, _)) = self.connections.front() {
            // Of one socket, as many as a packet takes.
            let same = self.connections.iter().take_while(|(other, _, _)| other == key);
            let same: Vec<_> = same.take(lane::DESCRIPTORS).collect();
            let packet =
                Packet::Connections { key: key.clone(), seqs: same.iter().map(|(_, seq, _)| *seq).collect() };
            let handles: Vec<_> = same.iter().map(|(_, _, connection)| connection.as_fd()).collect();
            let count = handles.len();
            match self.send(&packet, &handles) {
                Sent::Yes => {
                    let connections = self.connections.drain(..count);
                    sent.extend(connections.map(|(_, seq, connection)| (seq, connection)));
                }
                Sent::Not(why) => return why,
            }
        }
        Flushed::All
    }

    fn send(&self, packet: &Packet, handles: &[BorrowedFd<'_>]) -> Sent {
        match socket::send_packet(self.socket.as_fd(), &packet.write(), handles) {
            Ok(()) => Sent::Yes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Not(Flushed::Blocked),
            // As on the channel: it goes on with the next answer, and not when the socket has room, which it has.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::TOOMANYREFS.raw_os_error()) => {
                Sent::Not(Flushed::All)
            }
            Err(_) => Sent::Not(Flushed::Broken),
        }
    }

    /// The next packet that is there, be it that it is none; nothing if nothing is there.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        let mut descriptors = Vec::new();
        match socket::receive(self.socket.as_fd(), buffer, &mut descriptors) {
            Ok(received) if received.bytes > 0 => {
                let packet = Packet::read(&buffer[..received.bytes]);
                Ok(Some(Arrived { packet, descriptors, bytes: received.bytes }))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Ok(_) | Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// How many bytes wait to be read, in all packets.
    pub(crate) fn unread(&self) -> usize {
        fd::unread(&self.socket)
    }
}

impl AsFd for LaneLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A second way between a parent and a child that are both of this library, for descriptors of any kind, up to
/// [`DESCRIPTORS`] of them in one system call. It is there if [`Command::lane`](crate::process::Command::lane) asked for it
/// and the child takes it ([`Channel::take_lane`](crate::Channel::take_lane)).
#[derive(Debug)]
pub struct Lane {
    link: LaneLink,
    watched: Option<AsyncFd<OwnedFd>>,
    buffer: Box<[u8]>,
}

/// So many descriptors travel together, at most.
pub const DESCRIPTORS: usize = lane::DESCRIPTORS;

impl Lane {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { link: LaneLink::new(socket), watched: None, buffer: Box::default() }
    }

    /// Two joined ends.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::lane_pair()?;
        Ok((Self::new(one), Self::new(other)))
    }

    /// Sends descriptors, and a note of at most 32 KiB that says what they are. The receiver gets copies. Waits for room.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`DESCRIPTORS`] descriptors; `BrokenPipe` if the other end is gone.
    pub async fn send(&mut self, note: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if note.len() > NOTE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a note is 32 KiB long at most"));
        }
        let packet = Packet::Note(note.into()).write();
        loop {
            match socket::send_packet(self.link.as_fd(), &packet, descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.watched()?.writable().await?.clear_ready();
                }
                outcome => return outcome,
            }
        }
    }

    /// The next note and the descriptors that came with it; none when the other end is closed. Where this process has no
    /// room for more descriptors, some of the last are missing. Can be dropped and called again.
    ///
    /// # Errors
    /// Those of watching the socket.
    pub async fn recv(&mut self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; lane::LONGEST].into();
        }
        loop {
            match self.link.receive(&mut self.buffer) {
                Ok(Some(Arrived { packet: Ok(Packet::Note(note)), descriptors, .. })) => {
                    return Ok(Some((note, descriptors)));
                }
                // The cluster's business is not ours; whoever has much of it is not to keep our task for itself.
                Ok(Some(_)) => tokio::task::consume_budget().await,
                Ok(None) => self.watched()?.readable().await?.clear_ready(),
                Err(_) => return Ok(None),
            }
        }
    }

    fn watched(&mut self) -> io::Result<&AsyncFd<OwnedFd>> {
        if self.watched.is_none() {
            let own = self.link.as_fd().try_clone_to_owned()?;
            self.watched = Some(watch(own, Interest::READABLE | Interest::WRITABLE)?);
        }
        self.watched.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// So long a note may be, in bytes.
const NOTE: usize = 32 << 10;
