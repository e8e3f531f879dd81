//! Sockets that are lent, counted as frames: both of Node's lists, with the other end in the test's own hands.

use std::{
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use ganger::{Channel, Handle, channel::Received, handle::Lent, sys::socket};
use libtest_mimic::Trial;

use crate::{kid::message, row};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        row("test-internal-socket-list-send", send),
        row("test-internal-socket-list-receive", receive),
        row("a count is the answer to the last question", last_question),
        row("a socket that was lent goes back on its own channel", back),
    ]
}

fn by_hand() -> (Channel, UnixStream) {
    let (ours, theirs) = socket::channel_pair().unwrap();
    (Channel::new(ours).unwrap(), theirs.into())
}

/// The next line of the peer's. Each is there before it is asked for.
fn line(peer: &mut UnixStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

/// Says it, and waits until it was heard.
async fn say(channel: &mut Channel, peer: &mut UnixStream, line: &str) {
    writeln!(peer, "{line}\n\"heard\"").unwrap();
    assert_eq!(message(channel).await, "heard");
}

async fn send() {
    // Nobody is there to be asked.
    let (mut channel, peer) = by_hand();
    drop(peer);
    assert!(channel.recv().await.is_none());
    let error = channel.lent_sockets("key").await.unwrap_err();
    assert_eq!(error.to_string(), "the channel was closed before the peer replied");
    assert!(channel.lent_sockets_closed("key").await.is_err());

    let (mut channel, mut peer) = by_hand();
    let answer = std::thread::spawn(move || {
        assert_eq!(line(&mut peer), r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"key"}"#);
        // Of another server, and what is no answer.
        writeln!(peer, r#"{{"cmd":"NODE_SOCKET_COUNT","key":"other","count":7}}"#).unwrap();
        writeln!(peer, r#"{{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"key"}}"#).unwrap();
        writeln!(peer, r#"{{"cmd":"NODE_SOCKET_COUNT","key":"key","count":2}}"#).unwrap();
        assert_eq!(line(&mut peer), r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"other"}"#);
        writeln!(peer, r#"{{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"other"}}"#).unwrap();
        assert_eq!(line(&mut peer), r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"other again"}"#);
        // Which is where it ends, with no answer.
    });
    assert_eq!(channel.lent_sockets("key").await, Ok(2));
    assert_eq!(channel.lent_sockets_closed("other").await, Ok(()));
    assert!(channel.lent_sockets("other again").await.is_err());
    answer.join().unwrap();
}

/// Whoever asks and leaves gets no answer; whoever asks again gets none to what was asked before.
async fn last_question() {
    const COUNT: &str = r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"key"}"#;
    let (mut channel, mut peer) = by_hand();
    let answer = |peer: &mut UnixStream, count: u64| {
        writeln!(peer, r#"{{"cmd":"NODE_SOCKET_COUNT","key":"key","count":{count}}}"#)
    };
    // Nobody answers this: nothing was lent yet.
    ask_and_leave(&mut channel).await;
    assert_eq!(line(&mut peer), COUNT);
    let (stream, _other_end) = UnixStream::pair().unwrap();
    channel.send_with("lent", Some(Handle::from(stream).with_server("key"))).unwrap();
    // This waits behind the socket.
    ask_and_leave(&mut channel).await;
    assert!(line(&mut peer).starts_with(r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"lent""#));
    say(&mut channel, &mut peer, r#"{"cmd":"NODE_HANDLE_ACK"}"#).await;
    ask_and_leave(&mut channel).await;
    for _ in 0..2 {
        assert_eq!(line(&mut peer), COUNT);
    }
    // One answer is there before the next question, the other comes after it.
    answer(&mut peer, 3).unwrap();
    say(&mut channel, &mut peer, r#"{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"key"}"#).await;
    answer(&mut peer, 2).unwrap();
    answer(&mut peer, 1).unwrap();
    assert_eq!(channel.lent_sockets("key").await, Ok(1));
    answer(&mut peer, 0).unwrap();
    assert_eq!(channel.lent_sockets("key").await, Ok(0));
    // Nor is an end that was told before anybody asked the one that is asked for.
    let early = async { channel.lent_sockets_closed("key").await };
    tokio::select! {
        biased;
        closed = early => panic!("{closed:?}"),
        () = std::future::ready(()) => {}
    }
    writeln!(peer, r#"{{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"key"}}"#).unwrap();
    assert_eq!(channel.lent_sockets_closed("key").await, Ok(()));
}

async fn ask_and_leave(channel: &mut Channel) {
    tokio::select! {
        biased;
        count = channel.lent_sockets("key") => panic!("{count:?}"),
        () = std::future::ready(()) => {}
    }
}

/// A socket of the server `key`.
async fn lend(channel: &mut Channel, peer: &mut UnixStream) -> Handle {
    let (stream, _other_end) = UnixStream::pair().unwrap();
    let text = "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":1,\"key\":\"key\"}\n";
    assert_eq!(socket::send(peer.as_fd(), text.as_bytes(), Some(stream.as_fd())).unwrap(), text.len());
    let Some(Received::Message(message)) = channel.recv().await else { panic!("no message") };
    assert_eq!(line(peer), r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    let handle = message.handle.unwrap();
    assert_eq!(handle.server(), Some("key"));
    handle
}

/// Asks how many are open.
async fn count(channel: &mut Channel, peer: &mut UnixStream, expected: u64) {
    say(channel, peer, r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"key"}"#).await;
    let answer = format!(r#"{{"cmd":"NODE_SOCKET_COUNT","key":"key","count":{expected}}}"#);
    assert_eq!(line(peer), answer);
}

/// It is not open here any more, then.
async fn back() {
    let (mut channel, mut peer) = by_hand();
    let handle = lend(&mut channel, &mut peer).await;
    count(&mut channel, &mut peer, 1).await;
    channel.send_with("back", Some(handle)).unwrap();
    assert!(line(&mut peer).starts_with(r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"back""#));
    say(&mut channel, &mut peer, r#"{"cmd":"NODE_HANDLE_ACK"}"#).await;
    count(&mut channel, &mut peer, 0).await;
}

async fn receive() {
    let (mut channel, mut peer) = by_hand();
    // Of what nobody has lent nothing is said.
    say(&mut channel, &mut peer, r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"key"}"#).await;
    say(&mut channel, &mut peer, r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"key"}"#).await;

    let lend = async |channel: &mut Channel, peer: &mut UnixStream| -> Lent<tokio::net::UnixStream> {
        lend(channel, peer).await.into_lent().unwrap()
    };
    let one = lend(&mut channel, &mut peer).await;
    count(&mut channel, &mut peer, 1).await;
    let other = lend(&mut channel, &mut peer).await;
    count(&mut channel, &mut peer, 2).await;
    drop(one);
    count(&mut channel, &mut peer, 1).await;
    // It waits for the last one, and is told once.
    let all_closed = r#"{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"key"}"#;
    say(&mut channel, &mut peer, r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"key"}"#).await;
    drop(other);
    assert_eq!(line(&mut peer), all_closed);
    count(&mut channel, &mut peer, 0).await;
    // Without one it is told at once.
    say(&mut channel, &mut peer, r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"key"}"#).await;
    assert_eq!(line(&mut peer), all_closed);
    // Whoever outlives the channel has nobody to tell.
    let last = lend(&mut channel, &mut peer).await;
    drop(channel);
    drop(last);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}
