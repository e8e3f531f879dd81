//! The channel, with a real Node at the other end and with one played by hand.

use std::{
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use ganger::{
    Channel, Handle, Serialization,
    channel::{Fault, Limits, NoReply, Received, SendError, Unread},
    process::{Child, Command, Exit},
    sys::socket,
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::support::{Directory, NODE, ask, node, read, run};

/// A Node that runs a script at the other end of a channel.
pub(crate) fn child(directory: &Directory, major: &str, script: &str) -> (Child, Channel) {
    let script = directory.write("child.js", script);
    let mut child = Command::fork(script).exec_path(node(major)).guarded(true).spawn().unwrap();
    let channel = child.take_channel().unwrap();
    (child, channel)
}

/// The next message.
pub(crate) async fn message(channel: &mut Channel) -> Value {
    match channel.recv().await {
        Some(Received::Message(message)) => message.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

on_each_node! {
    messages_go_both_ways: "messages",
    big_messages_arrive_whole: "big messages",
    either_end_ends_the_channel: "disconnect",
    sockets_become_nodes_own: "sockets as handles",
    nothing_overtakes_a_handle: "order behind a handle",
}

async fn messages_go_both_ways(major: &str) {
    let directory = Directory::new();
    let (_child, mut channel) = child(
        &directory,
        major,
        "process.send(['first', process.env.NODE_CHANNEL_FD ?? null]);
         process.on('message', (message) => process.send({ echo: message }));",
    );
    // Sent long before there is anybody to hear it.
    assert!(
        channel
            .send(&json!({ "text": "é 日本 \u{1f600} \u{2028} \" \\ \n", "n": [1.5, null, true] }))
            .unwrap()
    );
    channel.send("second").unwrap();
    assert_eq!(message(&mut channel).await, json!(["first", null]));
    let echo = json!({ "echo": { "text": "é 日本 \u{1f600} \u{2028} \" \\ \n", "n": [1.5, null, true] } });
    assert_eq!(message(&mut channel).await, echo);
    assert_eq!(message(&mut channel).await, json!({ "echo": "second" }));
}

async fn big_messages_arrive_whole(major: &str) {
    let directory = Directory::new();
    let (_child, mut channel) =
        child(&directory, major, "process.on('message', (message) => process.send(message));");
    let big = "é".repeat(400_000);
    for _ in 0..3 {
        channel.send(&big).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(message(&mut channel).await, big.as_str());
    }
}

async fn either_end_ends_the_channel(major: &str) {
    let directory = Directory::new();
    let script = "process.on('message', () => process.disconnect());
                  process.on('disconnect', () => { process.exitCode = 7; });";
    let (mut ended_by_it, mut channel) = child(&directory, major, script);
    channel.send("please").unwrap();
    assert!(channel.recv().await.is_none());
    assert!(!channel.is_connected());
    assert!(matches!(channel.send("too late"), Err(SendError::Refused { .. })));
    assert_eq!(ended_by_it.wait().await.unwrap(), Exit::Code(7));

    let script = "process.on('message', (message) => process.send(message));
                  process.on('disconnect', () => { process.exitCode = 8; });";
    let (mut ended_by_us, mut channel) = child(&directory, major, script);
    channel.send("hello").unwrap();
    assert_eq!(message(&mut channel).await, "hello");
    channel.disconnect();
    assert!(channel.recv().await.is_none());
    drop(channel);
    assert_eq!(ended_by_us.wait().await.unwrap(), Exit::Code(8));
}

async fn sockets_become_nodes_own(major: &str) {
    let directory = Directory::new();
    let (_child, mut channel) = child(
        &directory,
        major,
        "const { Server, Socket } = require('node:net');
         const dgram = require('node:dgram');
         process.on('message', (what, handle) => {
           if (handle instanceof Server) handle.on('connection', (socket) => socket.end('from the child'));
           if (handle instanceof Socket) handle.end('a gift');
           if (handle instanceof dgram.Socket) handle.on('message', (m, { port }) => handle.send(m, port, '127.0.0.1'));
           process.send([what, handle.constructor.name]);
         });",
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    channel.send_with("listener", Some(listener.into())).unwrap();
    assert_eq!(message(&mut channel).await, json!(["listener", "Server"]));
    assert_eq!(ask(address).await, "from the child");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accepted = listener.accept().await.unwrap().0.into_std().unwrap();
    channel.send_with("connection", Some(accepted.into())).unwrap();
    assert_eq!(message(&mut channel).await, json!(["connection", "Socket"]));
    assert_eq!(read(client).await, "a gift");

    let (ours, theirs) = UnixStream::pair().unwrap();
    channel.send_with("unix", Some(theirs.into())).unwrap();
    assert_eq!(message(&mut channel).await, json!(["unix", "Socket"]));
    ours.set_nonblocking(true).unwrap();
    assert_eq!(read(tokio::net::UnixStream::from_std(ours).unwrap()).await, "a gift");

    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    channel.send_with("udp", Some(udp.into())).unwrap();
    assert_eq!(message(&mut channel).await, json!(["udp", "Socket"]));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"ping", address).await.unwrap();
    let mut echo = [0; 16];
    let count = client.recv(&mut echo).await.unwrap();
    assert_eq!(&echo[..count], b"ping");
}

async fn nothing_overtakes_a_handle(major: &str) {
    let directory = Directory::new();
    let (_child, mut channel) = child(
        &directory,
        major,
        "const said = [];
         process.on('message', (message, handle) => {
           said.push(message);
           handle?.close?.();
           handle?.destroy?.();
           if (message === 'last') process.send(said);
         });",
    );
    let sent = ["one", "listener", "two", "stream", "three", "last"];
    for text in sent {
        let handle: Option<Handle> = match text {
            "listener" => Some(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()),
            "stream" => Some(UnixStream::pair().unwrap().0.into()),
            _ => None,
        };
        channel.send_with(text, handle).unwrap();
    }
    assert_eq!(message(&mut channel).await, json!(sent));
}

#[test]
fn a_listener_comes_from_node() {
    run(async {
        let directory = Directory::new();
        let (_child, mut channel) = child(
            &directory,
            NODE,
            "const server = require('node:net').createServer().listen(0, '127.0.0.1', () => {
               process.send(server.address().port, server, () => server.close());
             });",
        );
        let Some(Received::Message(message)) = channel.recv().await else { panic!("no message") };
        let port: u16 = message.parse().unwrap();
        let listener = TcpListener::try_from(message.handle.unwrap()).unwrap();
        assert_eq!(listener.local_addr().unwrap().port(), port);
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

#[test]
fn pitfall_09_garbage_from_a_child_is_told_and_survived() {
    run(async {
        let directory = Directory::new();
        let (_child, mut channel) = child(
            &directory,
            NODE,
            r#"const { writeSync } = require('node:fs');
               writeSync(3, 'garbage\n');
               writeSync(3, '{"cmd":"NODE_HANDLE"\n');
               writeSync(3, '{"cmd":"NODE_HANDLE_ACK"}\n');
               process.send('still here');
               process.on('message', (message) => process.send(message));"#,
        );
        // A user's message is looked at when somebody wants to know.
        let Some(Received::Message(garbage)) = channel.recv().await else { panic!("no message") };
        assert_eq!(garbage.as_json(), "garbage");
        assert!(garbage.parse::<Value>().is_err());
        let Some(Received::Fault(fault)) = channel.recv().await else { panic!("no fault") };
        assert_eq!(fault, Fault::NotJson { start: "{\"cmd\":\"NODE_HANDLE\"".into() });
        assert!(!fault.is_fatal());
        let Some(Received::Fault(fault)) = channel.recv().await else { panic!("no fault") };
        assert_eq!(fault, Fault::UnexpectedAck);
        assert_eq!(message(&mut channel).await, "still here");
        channel.send("and here").unwrap();
        assert_eq!(message(&mut channel).await, "and here");
    });
}

/// A channel whose other end is in the test's own hands.
fn by_hand() -> (Channel, UnixStream) {
    let (ours, theirs) = socket::channel_pair().unwrap();
    (Channel::new(ours).unwrap(), theirs.into())
}

/// What has come so far.
fn arrived(peer: &mut UnixStream) -> String {
    peer.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    let error = peer.read_to_end(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    peer.set_nonblocking(false).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn pitfall_07_what_follows_a_handle_waits_for_the_ack_and_only_acks_do_not() {
    run(async {
        let (mut channel, mut peer) = by_hand();
        let (stream, _other_end) = UnixStream::pair().unwrap();
        channel.send_with("handle", Some(stream.into())).unwrap();
        channel.send("after").unwrap();
        assert_eq!(
            arrived(&mut peer),
            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":\"handle\"}\n"
        );
        // A handle the other way, which never comes: the NACK may overtake.
        peer.write_all(b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\"}\n\"x\"\n").unwrap();
        assert_eq!(message(&mut channel).await, "x");
        tokio::select! {
            biased;
            flushed = channel.flush() => panic!("flushed without the ACK: {flushed:?}"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(arrived(&mut peer), "{\"cmd\":\"NODE_HANDLE_NACK\"}\n");
        peer.write_all(b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n\"y\"\n").unwrap();
        assert_eq!(message(&mut channel).await, "y");
        channel.flush().await.unwrap();
        assert_eq!(arrived(&mut peer), "\"after\"\n");
    });
}

#[test]
fn who_waits_for_something_else_keeps_only_so_much() {
    run(async {
        let (ours, theirs) = socket::channel_pair().unwrap();
        let limits = Limits { unread: 10_000, ..Limits::default() };
        let mut channel = Channel::with_limits(ours, Serialization::Json, limits).unwrap();
        let mut peer = UnixStream::from(theirs);
        let (stream, _other_end) = UnixStream::pair().unwrap();
        channel.send_with("handle", Some(Handle::from(stream).with_server("key"))).unwrap();
        channel.send("after").unwrap();
        // Long after the peer has said so much the ACK comes.
        let talker = tokio::task::spawn_blocking(move || {
            for number in 0..1000 {
                writeln!(peer, "[{number}, \"{}\"]", "x".repeat(1000)).unwrap();
            }
            writeln!(peer, "{{\"cmd\":\"NODE_HANDLE_ACK\"}}").unwrap();
            peer
        });
        let error = channel.flush().await.unwrap_err();
        let unread = error.get_ref().and_then(|error| error.downcast_ref::<Unread>());
        assert!(unread.is_some_and(|unread| unread.bytes < 500_000), "{error}");
        let counted = channel.lent_sockets("key").await;
        assert!(matches!(counted, Err(NoReply::Unread(_))), "{counted:?}");
        for number in 0..1000 {
            assert_eq!(message(&mut channel).await[0], number);
            // With each that is taken there may be room for more.
            if number % 100 == 0 && number < 500 {
                assert!(channel.flush().await.is_err());
            }
        }
        channel.flush().await.unwrap();
        let mut peer = talker.await.unwrap();
        let arrived = arrived(&mut peer);
        assert!(arrived.contains("\"after\"\n"), "{arrived}");
    });
}

#[test]
fn pitfall_21_our_copy_of_a_handle_is_closed_when_it_has_arrived() {
    run(async {
        let (mut channel, mut peer) = by_hand();
        let (stream, mut other_end) = UnixStream::pair().unwrap();
        channel.send_with("handle", Some(stream.into())).unwrap();
        // Reading without room for descriptors closes the copy on its way.
        arrived(&mut peer);
        other_end.set_nonblocking(true).unwrap();
        assert_eq!(other_end.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "ours is open");
        peer.write_all(b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n\"y\"\n").unwrap();
        assert_eq!(message(&mut channel).await, "y");
        // A process that is being started in another test has a copy for a moment.
        let mut end = tokio::net::UnixStream::from_std(other_end).unwrap();
        assert_eq!(end.read(&mut [0]).await.unwrap(), 0);
    });
}

#[test]
fn pitfall_19_a_full_channel_says_so_and_loses_nothing() {
    run(async {
        let (mut channel, peer) = by_hand();
        let line = "x".repeat(10_000);
        let mut sent = 0;
        while channel.send(&line).unwrap() {
            sent += 1;
        }
        // It is advice: what is sent all the same is kept as well.
        for _ in 0..100 {
            assert!(!channel.send(&line).unwrap());
        }
        let expected = (sent + 101) * (line.len() + 3);
        let reader = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            { peer }.read_to_string(&mut text).unwrap();
            text
        });
        channel.flush().await.unwrap();
        assert!(channel.send(&line).unwrap(), "it has drained");
        drop(channel);
        let text = reader.await.unwrap();
        assert_eq!(text.len(), expected + line.len() + 3);
        assert!(text.lines().all(|received| received.trim_matches('"') == line));
    });
}

#[test]
fn a_refused_handle_comes_back() {
    run(async {
        let (mut channel, peer) = by_hand();
        drop(peer);
        assert!(channel.recv().await.is_none());
        let (stream, mut other_end) = UnixStream::pair().unwrap();
        let refused = channel.send_with("too late", Some(stream.into())).unwrap_err();
        let SendError::Refused { handle: Some(handle), .. } = refused else { panic!("{refused:?}") };
        UnixStream::from(OwnedFd::from(handle)).write_all(b"whole").unwrap();
        let mut text = String::new();
        other_end.read_to_string(&mut text).unwrap();
        assert_eq!(text, "whole");
    });
}

#[test]
fn the_peer_sees_the_end_while_the_channel_is_still_held() {
    run(async {
        let (mut channel, mut peer) = by_hand();
        channel.send("last").unwrap();
        channel.disconnect();
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\"last\"\n");
        assert!(channel.recv().await.is_none());

        // What is not acknowledged is waited for.
        let (mut channel, mut peer) = by_hand();
        channel.send_with("handle", Some(UnixStream::pair().unwrap().0.into())).unwrap();
        channel.disconnect();
        arrived(&mut peer);
        peer.write_all(b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n").unwrap();
        assert!(channel.recv().await.is_none());
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_handle_is_acknowledged_before_anybody_works_with_it() {
    run(async {
        let (mut channel, mut peer) = by_hand();
        let (stream, _other_end) = UnixStream::pair().unwrap();
        let line = b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\"}\n";
        assert_eq!(socket::send(peer.as_fd(), line, Some(stream.as_fd())).unwrap(), line.len());
        let Some(Received::Message(message)) = channel.recv().await else { panic!("no message") };
        assert!(message.handle.is_some());
        assert_eq!(arrived(&mut peer), "{\"cmd\":\"NODE_HANDLE_ACK\"}\n");
    });
}
