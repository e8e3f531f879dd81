//! What catches who implements Node's channel, each under a number of its own, with real sockets and a real Node; what
//! takes no system is in `ganger-proto/tests/it`, under the same numbers. Some are checked where they belong:
//!
//! ```text
//!   13 signals of a child        sys::spawn::tests
//!   15 what a child inherits     process/part.rs, process/ipc.rs
//!   16 before the child is up    channel::messages_go_both_ways
//!   18 events of the end         process/kid.rs
//!   23 labels                    ganger-proto
//!   24 lent sockets              process/kid.rs
//! ```
//!
//! What a real Node does is said where it is something else.

mod by_hand;
mod shortage;

use std::{io::Write, net::TcpListener, os::unix::net::UnixStream};

use ganger::{
    Channel,
    channel::{Received, SendError, SendErrorReason},
    process::{Command, Exit, Stdio},
    sys::socket,
};
use ganger_proto::{Payload, Serialization, node::CHANNEL_FD};
use serde_json::json;

use self::by_hand::{NACK, Peer};
use crate::{
    channel::{child, message},
    support::{Directory, NODE, ask, node, read, run},
};

on_each_node! {
    pitfall_04_a_listener_does_not_freeze_its_receiver: "listeners do not block",
    pitfall_06_handles_that_cross_are_answered_once: "crossing handles",
    pitfall_08_what_was_refused_is_taken_and_answered_once: "refused handles come again",
    pitfall_22_what_nobody_has_read_travels_along: "unread data travels",
}

/// A blocking one freezes Node 18 after its first connection.
async fn pitfall_04_a_listener_does_not_freeze_its_receiver(major: &str) {
    let directory = Directory::new();
    let script = "process.on('message', (message, server) => {
                    server?.on('connection', (socket) => socket.end('served'));
                    process.send(message);
                  });";
    let (_child, mut channel) = child(&directory, major, script);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    channel.send_with("listener", Some(listener.into())).unwrap();
    assert_eq!(message(&mut channel).await, "listener");
    for round in 0..3 {
        assert_eq!(ask(address).await, "served");
        channel.send(&round).unwrap();
        assert_eq!(message(&mut channel).await, round);
    }
}

/// A second answer kills a Node, and one that is missing holds up all that it has to say.
async fn pitfall_06_handles_that_cross_are_answered_once(major: &str) {
    let directory = Directory::new();
    let script = "const server = require('node:net').createServer().listen(0, '127.0.0.1', () => {
                    for (let i = 0; i < 10; i++) process.send(i, server);
                    process.send('all');
                  });
                  process.on('message', (message, handle) => {
                    handle?.close();
                    if (message === 'last') { server.close(); process.disconnect(); }
                  });";
    let (mut child, mut channel) = child(&directory, major, script);
    for text in 0..10 {
        channel.send_with(&text, Some(TcpListener::bind("127.0.0.1:0").unwrap().into())).unwrap();
    }
    for expected in 0..10 {
        let Some(Received::Message(message)) = channel.recv().await else { panic!("no message") };
        assert_eq!((message.parse::<i32>().unwrap(), message.handle.is_some()), (expected, true));
    }
    assert_eq!(message(&mut channel).await, "all");
    channel.send("last").unwrap();
    assert!(channel.recv().await.is_none());
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
}

/// It comes again in a wrapping of its own, which wants one answer: a Node gives two, and the second kills the sender.
async fn pitfall_08_what_was_refused_is_taken_and_answered_once(major: &str) {
    let directory = Directory::new();
    let script = "const net = require('node:net');
                  const server = net.createServer((socket) => {
                    process.send('connection', socket);
                    process.send('after');
                  }).listen(0, '127.0.0.1', () => net.connect(server.address().port));
                  process.on('message', (message) => { process.send(message); });";
    let (ours, theirs) = socket::channel_pair().unwrap();
    let mut command = Command::new(node(major));
    command.arg(directory.write("child.js", script)).env(CHANNEL_FD, "3").guarded(true);
    command.stdio([Stdio::Ignore, Stdio::Inherit, Stdio::Inherit, Stdio::from_fd(theirs)]);
    let _child = command.spawn().unwrap();
    drop(command);
    let peer = Peer(ours);
    let (first, _) = loop {
        match peer.recv() {
            Some(received) => break received,
            None => tokio::task::yield_now().await,
        }
    };
    assert!(first.contains(r#""type":"net.Socket","msg":"connection""#), "{first}");
    peer.send(NACK, &[]);
    let mut channel = Channel::new(peer.0).unwrap();
    let Some(Received::Message(again)) = channel.recv().await else { panic!("no message") };
    assert_eq!((again.parse::<String>().unwrap().as_str(), again.handle.is_some()), ("connection", true));
    assert_eq!(message(&mut channel).await, "after");
    channel.send("alive").unwrap();
    assert_eq!(message(&mut channel).await, "alive");
}

async fn pitfall_22_what_nobody_has_read_travels_along(major: &str) {
    let directory = Directory::new();
    let script =
        "process.on('message', (message, socket) => socket.on('data', (data) => socket.end(`got ${data}`)));";
    let (_child, mut channel) = child(&directory, major, script);
    let (mut client, theirs) = UnixStream::pair().unwrap();
    client.write_all(b"before").unwrap();
    channel.send_with("connection", Some(theirs.into())).unwrap();
    client.set_nonblocking(true).unwrap();
    let client = tokio::net::UnixStream::from_std(client).unwrap();
    // Our copy goes when the ACK is read.
    tokio::select! {
        answer = read(client) => assert_eq!(answer, "got before"),
        received = channel.recv() => panic!("{received:?}"),
    }
}

/// It came from a peer that nobody has looked at yet. A Node dies of it.
#[test]
fn pitfall_09_garbage_is_not_passed_on() {
    run(async {
        let directory = Directory::new();
        let script = "process.on('message', (message) => process.send(message));";
        for serialization in [Serialization::Json, Serialization::Advanced] {
            let script = directory.write("child.js", script);
            let mut command = Command::fork(script);
            let mut child =
                command.exec_path(node(NODE)).serialization(serialization).guarded(true).spawn().unwrap();
            let mut channel = child.take_channel().unwrap();
            let garbage: [Payload; 3] = match serialization {
                Serialization::Json => ["garbage", "undefined", "1\n2"].map(Payload::json),
                _ => [&b"garbage"[..], b"\xff\x100", b"\xff\x0fo"].map(Payload::advanced),
            };
            for payload in garbage {
                let refused = channel.send_payload(&payload, None).unwrap_err();
                let SendError::Refused { reason, .. } = refused else { panic!("{refused:?}") };
                assert_eq!(reason, SendErrorReason::Unspeakable);
            }
            channel.send("still here").unwrap();
            assert_eq!(message(&mut channel).await, "still here");
        }
    });
}

#[test]
fn pitfall_11_only_what_is_internal_vanishes() {
    run(async {
        let directory = Directory::new();
        let script = "for (const cmd of ['NODE_', 'NODE_x', 'node_x', 'NODE_HANDLES']) process.send({ cmd });
                      process.on('message', (message) => process.send(message));";
        let (_child, mut channel) = child(&directory, NODE, script);
        assert_eq!(message(&mut channel).await, json!({ "cmd": "NODE_" }));
        assert_eq!(message(&mut channel).await, json!({ "cmd": "node_x" }));
        for cmd in ["NODE_x", "NODE_"] {
            channel.send(&json!({ "cmd": cmd })).unwrap();
        }
        assert_eq!(message(&mut channel).await, json!({ "cmd": "NODE_" }));
    });
}

/// A sibling that had a copy would keep it from being seen.
#[test]
fn pitfall_14_the_end_is_seen_while_a_sibling_lives() {
    run(async {
        let directory = Directory::new();
        let script = "process.on('message', (message) => process.send(message));";
        let (mut first, ours) = child(&directory, NODE, script);
        let (mut second, mut channel) = child(&directory, NODE, script);
        channel.send("up").unwrap();
        assert_eq!(message(&mut channel).await, "up");
        drop(ours);
        assert_eq!(first.wait().await.unwrap(), Exit::Code(0));
        second.kill(9).unwrap();
        assert!(channel.recv().await.is_none());
    });
}

/// A Node that exits right after `send` loses what the kernel has not taken.
#[test]
fn pitfall_17_what_is_flushed_arrives_though_the_sender_is_gone() {
    run(async {
        let directory = Directory::new();
        let script = "let length;
                      process.on('message', (message) => { length = message.length; });
                      process.on('disconnect', () => { process.exitCode = length === 1 << 20 ? 7 : 8; });";
        let (mut child, mut channel) = child(&directory, NODE, script);
        channel.send(&"x".repeat(1 << 20)).unwrap();
        channel.flush().await.unwrap();
        drop(channel);
        assert_eq!(child.wait().await.unwrap(), Exit::Code(7));
    });
}

/// A Node that sent it would say nothing of the end, and keep the socket for ever.
#[test]
fn pitfall_25_a_peer_that_dies_with_a_handle_gives_it_back() {
    run(async {
        let directory = Directory::new();
        // It takes no message any more.
        let script = "process.send('up', () => { for (;;); });";
        let (mut child, mut channel) = child(&directory, NODE, script);
        assert_eq!(message(&mut channel).await, "up");
        let (client, theirs) = UnixStream::pair().unwrap();
        channel.send_with("connection", Some(theirs.into())).unwrap();
        channel.send("after").unwrap();
        child.kill(9).unwrap();
        let Some(Received::Undelivered(handle)) = channel.recv().await else { panic!("it is lost") };
        assert!(channel.recv().await.is_none());
        let mut connection = tokio::net::UnixStream::try_from(handle).unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut connection, b"whole").await.unwrap();
        drop(connection);
        client.set_nonblocking(true).unwrap();
        assert_eq!(read(tokio::net::UnixStream::from_std(client).unwrap()).await, "whole");
    });
}
