//! The same with a peer in the test's own hands, which does what no Node would, and looks at every byte.

use std::{
    fs::File,
    io::{IoSlice, Read},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
};

use ganger::{
    Channel, Handle,
    channel::{Fault, Received, SendError},
    sys::socket,
};
use ganger_proto::{Serialization, session::Limits};
use rustix::{
    fs::{OFlags, fcntl_getfl, fstat},
    io::{FdFlags, fcntl_getfd},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg},
};
use serde_json::Value;

use crate::support::run;

pub(super) const HANDLE: &str = "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":1}\n";
pub(super) const ACK: &str = "{\"cmd\":\"NODE_HANDLE_ACK\"}\n";
pub(super) const NACK: &str = "{\"cmd\":\"NODE_HANDLE_NACK\"}\n";

/// The other end of a channel.
pub(super) struct Peer(pub(super) OwnedFd);

pub(super) fn joined() -> (Channel, Peer) {
    let (ours, theirs) = socket::channel_pair().unwrap();
    (Channel::new(ours).unwrap(), Peer(theirs))
}

impl Peer {
    /// One `sendmsg`, with any descriptors on it.
    pub(super) fn send(&self, bytes: impl AsRef<[u8]>, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let bytes = bytes.as_ref();
        let sent = sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// One `recvmsg`; nothing if nothing is there.
    pub(super) fn recv(&self) -> Option<(String, Vec<OwnedFd>)> {
        let (mut buffer, mut descriptors) = (vec![0; 64 << 10], Vec::new());
        let received = socket::receive(self.0.as_fd(), &mut buffer, &mut descriptors).ok()?;
        buffer.truncate(received.bytes);
        Some((String::from_utf8(buffer).unwrap(), descriptors))
    }

    /// All that is there.
    pub(super) fn said(&self) -> String {
        std::iter::from_fn(|| self.recv().filter(|(text, _)| !text.is_empty()))
            .map(|(text, _)| text)
            .collect()
    }
}

pub(super) async fn message(channel: &mut Channel) -> (Value, Option<Handle>) {
    match channel.recv().await {
        Some(Received::Message(message)) => (message.parse().unwrap(), message.handle),
        other => panic!("{other:?}"),
    }
}

async fn fault(channel: &mut Channel) -> Fault {
    match channel.recv().await {
        Some(Received::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// Whether both are the same socket.
pub(super) fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    let (one, other) = (fstat(one).unwrap(), fstat(other).unwrap());
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Waits until nobody has the other end of this any more.
async fn is_closed(end: UnixStream) {
    end.set_nonblocking(true).unwrap();
    // A process that is being started in another test has a copy for a moment.
    let end = tokio::net::UnixStream::from_std(end).unwrap();
    assert_eq!(crate::support::read(end).await, "");
}

/// A Node takes one of them and keeps the others for handles to come.
#[test]
fn pitfall_01_many_descriptors_come_close_on_exec_and_the_unannounced_are_closed() {
    run(async {
        let (mut channel, peer) = joined();
        let (one, other) = UnixStream::pair().unwrap();
        let (announced, _) = UnixStream::pair().unwrap();
        let mut descriptors = vec![announced.as_fd()];
        descriptors.resize(250, other.as_fd());
        peer.send(HANDLE, &descriptors);
        let (_, handle) = message(&mut channel).await;
        let handle = handle.unwrap();
        assert!(is_same(&handle, &announced) && fcntl_getfd(&handle).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(fault(&mut channel).await, Fault::Unannounced { count: 249 });
        drop(other);
        is_closed(one).await;
        assert_eq!(peer.said(), ACK);
    });
}

#[test]
fn pitfall_03_descriptors_on_what_is_no_handle_are_closed() {
    run(async {
        let (mut channel, peer) = joined();
        let (one, other) = UnixStream::pair().unwrap();
        peer.send("\"plain\"\n", &[other.as_fd()]);
        assert_eq!(message(&mut channel).await.0, "plain");
        assert_eq!(fault(&mut channel).await, Fault::Unannounced { count: 1 });
        drop(other);
        is_closed(one).await;
        // It does not become the next one's.
        peer.send(HANDLE, &[]);
        peer.send("2\n", &[]);
        assert_eq!(message(&mut channel).await.0, 2);
        assert_eq!(peer.said(), NACK);
    });
}

/// A Node refuses the second, and is one off from then on.
#[test]
fn pitfall_03_two_handles_in_one_write_are_both_taken() {
    run(async {
        let (mut channel, peer) = joined();
        let sockets = [UnixStream::pair().unwrap().0, UnixStream::pair().unwrap().0];
        peer.send(HANDLE.repeat(2), &sockets.each_ref().map(AsFd::as_fd));
        for socket in &sockets {
            assert!(is_same(message(&mut channel).await.1.unwrap(), socket));
        }
        channel.flush().await.unwrap();
        assert_eq!(peer.said(), ACK.repeat(2));
    });
}

#[test]
fn pitfall_03_a_write_in_parts_carries_its_handle_on_the_first_byte() {
    run(async {
        let (mut channel, peer) = joined();
        let (socket, _end) = UnixStream::pair().unwrap();
        let copy = socket.try_clone().unwrap();
        channel.send(&"before").unwrap();
        channel.send_with(&"x".repeat(1 << 20), Some(copy.into())).unwrap();
        let mut text = String::new();
        let mut handles = Vec::new();
        let read = async {
            while text.len() < 1 << 20 || !text.ends_with('\n') {
                match peer.recv() {
                    Some((part, descriptors)) => {
                        let starts = part.contains("{\"cmd\"");
                        assert!(starts || descriptors.is_empty(), "a descriptor without its first byte");
                        text += &part;
                        handles.extend(descriptors);
                    }
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let (flushed, ()) = tokio::join!(channel.flush(), read);
        flushed.unwrap();
        assert!(handles.len() == 1 && is_same(&handles[0], &socket));
        assert_eq!(
            (text.lines().count(), text.starts_with("\"before\"\n{\"cmd\":\"NODE_HANDLE\"")),
            (2, true)
        );
    });
}

/// A blocking socket can hold up a Node's event loop.
#[test]
fn pitfall_04_what_is_sent_and_what_is_received_does_not_block() {
    run(async {
        let (mut channel, peer) = joined();
        let is_nonblocking = |fd: BorrowedFd<'_>| fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let raw = Handle::try_from(OwnedFd::from(UnixStream::pair().unwrap().0)).unwrap();
        for handle in [listener.into(), stream.into(), raw] {
            channel.send_with("m", Some(handle)).unwrap();
            let (_, handles) = peer.recv().unwrap();
            assert!(handles.len() == 1 && is_nonblocking(handles[0].as_fd()));
            peer.send(format!("{ACK}1\n"), &[]);
            message(&mut channel).await;
        }
        let blocking = UnixStream::pair().unwrap().0;
        assert!(!is_nonblocking(blocking.as_fd()));
        peer.send(HANDLE, &[blocking.as_fd()]);
        assert!(is_nonblocking(message(&mut channel).await.1.unwrap().as_fd()));
    });
}

/// A Node aborts for a file, and takes no handle any more after what it has no object for.
#[test]
fn pitfall_05_what_is_no_socket_is_neither_sent_nor_handed_on() {
    run(async {
        let (mut channel, peer) = joined();
        let (pipe_end, pipe) = rustix::pipe::pipe().unwrap();
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        for fd in [File::open("/dev/null").unwrap().into(), tempfile::tempfile().unwrap().into(), event] {
            assert!(Handle::try_from(fd).is_err());
        }
        if let Ok(datagram) = Handle::try_from(OwnedFd::from(UnixDatagram::unbound().unwrap())) {
            let refused = channel.send_with("m", Some(datagram)).unwrap_err();
            assert!(matches!(refused, SendError::Unsendable { .. }), "{refused:?}");
        }
        assert_eq!(peer.said(), "");
        // Received, it is answered for and closed.
        peer.send(HANDLE, &[pipe.as_fd()]);
        drop(pipe);
        assert!(message(&mut channel).await.1.is_none());
        assert_eq!(File::from(pipe_end).read(&mut [0]).unwrap(), 0);
        peer.send("2\n", &[]);
        assert_eq!(message(&mut channel).await.0, 2);
        assert_eq!(peer.said(), ACK);
    });
}

/// What is missing holds up all that a Node has to say, however long we look at its message.
#[test]
fn pitfall_06_a_handle_is_answered_before_anybody_hears_of_it() {
    run(async {
        let (mut channel, peer) = joined();
        let socket = UnixStream::pair().unwrap().0;
        peer.send(HANDLE, &[socket.as_fd()]);
        message(&mut channel).await;
        assert_eq!(peer.said(), ACK);
    });
}

/// A Node dies of it.
#[test]
fn pitfall_06_a_second_ack_is_survived_and_never_sent() {
    run(async {
        let (mut channel, peer) = joined();
        channel.send_with("m", Some(UnixStream::pair().unwrap().0.into())).unwrap();
        let socket = UnixStream::pair().unwrap().0;
        peer.send(ACK.repeat(2), &[]);
        peer.send(HANDLE, &[socket.as_fd()]);
        assert_eq!(fault(&mut channel).await, Fault::UnexpectedAck);
        assert!(message(&mut channel).await.1.is_some());
        channel.send("last").unwrap();
        channel.flush().await.unwrap();
        let said = peer.said();
        assert!(said.matches("_ACK").count() == 1 && said.ends_with("\"last\"\n"), "{said}");
    });
}

/// A Node that survives a bad line has its beginning before all that follows, if it came in an earlier chunk.
#[test]
fn pitfall_09_a_bad_line_spoils_no_other_wherever_it_is_cut() {
    run(async {
        let (mut channel, peer) = joined();
        for part in ["1\n{\"cmd\":\"NODE_", "HANDLE\n", "\n", "undefined\n2", "\n"] {
            peer.send(part, &[]);
            tokio::select! {
                biased;
                () = async { channel.flush().await.unwrap() } => {}
            }
        }
        assert_eq!(message(&mut channel).await.0, 1);
        let cut = fault(&mut channel).await;
        assert_eq!(cut, Fault::NotJson { start: "{\"cmd\":\"NODE_HANDLE".into() });
        assert_eq!(fault(&mut channel).await, Fault::NotJson { start: String::new() });
        // Nobody has looked at it before.
        let Some(Received::Message(garbage)) = channel.recv().await else { panic!("no message") };
        assert!(garbage.parse::<Value>().is_err() && garbage.value().is_err());
        assert_eq!(message(&mut channel).await.0, 2);
    });
}

#[test]
fn pitfall_09_a_line_over_the_limit_is_told_and_ends_the_channel() {
    run(async {
        for serialization in [Serialization::Json, Serialization::Advanced] {
            let (ours, theirs) = socket::channel_pair().unwrap();
            let limits = Limits { line: 100, ..Limits::default() };
            let mut channel = Channel::with_limits(ours, serialization, limits).unwrap();
            Peer(theirs).send([b'1'; 200], &[]);
            assert_eq!(fault(&mut channel).await, Fault::TooLong { limit: 100 });
            assert!(channel.recv().await.is_none() && !channel.is_connected());
        }
    });
}

#[test]
fn pitfall_10_half_a_character_at_a_time_and_what_is_none() {
    run(async {
        let (mut channel, peer) = joined();
        for byte in "\"日😀\"\n".bytes() {
            peer.send([byte], &[]);
            // It is read, and there is nothing to say yet.
            let received = async { channel.recv().await };
            tokio::select! {
                biased;
                received = received => {
                    let Some(Received::Message(message)) = received else { panic!("{received:?}") };
                    assert_eq!((message.parse::<String>().unwrap().as_str(), byte), ("日😀", b'\n'));
                }
                () = tokio::task::yield_now() => assert_ne!(byte, b'\n'),
            }
        }
        peer.send(b"\"\xe6\x97x\xff\"\n", &[]);
        assert_eq!(message(&mut channel).await.0, "\u{fffd}x\u{fffd}");
    });
}

/// All of them are how a Node sees the end, and so is half of one.
#[test]
fn pitfall_12_every_end_is_an_end() {
    run(async {
        let (mut channel, peer) = joined();
        drop(peer);
        assert!(channel.recv().await.is_none(), "the end");

        let (mut channel, peer) = joined();
        channel.send("never read").unwrap();
        channel.flush().await.unwrap();
        drop(peer);
        assert!(channel.recv().await.is_none(), "ECONNRESET");

        let (mut channel, peer) = joined();
        peer.send("1\n", &[]);
        drop(peer);
        assert!(channel.send("too late").is_ok(), "EPIPE is seen when it is written");
        assert_eq!(channel.flush().await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        assert_eq!(message(&mut channel).await.0, 1);
        assert!(channel.recv().await.is_none(), "EPIPE");

        let (mut channel, peer) = joined();
        peer.send("1\n", &[]);
        rustix::net::shutdown(&peer.0, Shutdown::Write).unwrap();
        assert_eq!(message(&mut channel).await.0, 1);
        assert!(channel.recv().await.is_none(), "half an end");
        assert!(channel.send("too late").is_err());
    });
}

#[test]
fn pitfall_16_what_came_before_anybody_listened_is_there() {
    run(async {
        let (ours, theirs) = socket::channel_pair().unwrap();
        let (peer, socket) = (Peer(theirs), UnixStream::pair().unwrap().0);
        peer.send("1\n", &[]);
        peer.send(HANDLE, &[socket.as_fd()]);
        peer.send("2\n", &[]);
        drop(peer);
        let mut channel = Channel::new(ours).unwrap();
        assert_eq!(message(&mut channel).await.0, 1);
        assert!(is_same(message(&mut channel).await.1.unwrap(), &socket));
        assert_eq!(message(&mut channel).await.0, 2);
        assert!(channel.recv().await.is_none());
    });
}

#[test]
fn pitfall_19_two_that_only_write_do_not_wait_for_each_other_for_ever() {
    run(async {
        let (ours, theirs) = socket::channel_pair().unwrap();
        let (mut one, mut other) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        let long = "x".repeat(100_000);
        for _ in 0..30 {
            one.send(&long).unwrap();
            other.send(&long).unwrap();
        }
        let talk = async |channel: &mut Channel| {
            channel.flush().await.unwrap();
            for _ in 0..30 {
                assert_eq!(message(channel).await.0, long);
            }
        };
        tokio::join!(talk(&mut one), talk(&mut other));
    });
}

/// A Node keeps it for ever, and says nothing of the end.
#[test]
fn pitfall_25_a_handle_that_was_not_acknowledged_comes_back() {
    run(async {
        let (mut channel, peer) = joined();
        let sockets = [UnixStream::pair().unwrap().0, UnixStream::pair().unwrap().0];
        for socket in &sockets {
            channel.send_with("m", Some(socket.try_clone().unwrap().into())).unwrap();
        }
        // The first has arrived, its answer has not.
        let (_, arrived) = peer.recv().unwrap();
        assert_eq!(arrived.len(), 1);
        drop((peer, arrived));
        for socket in &sockets {
            let Some(Received::Undelivered(handle)) = channel.recv().await else { panic!("it is lost") };
            assert!(is_same(handle, socket));
        }
        assert!(channel.recv().await.is_none());
    });
}
