//! Sockets that travel.

use std::{env, path::PathBuf, pin::pin};

use ganger::Handle;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream},
};

use super::{Line, Side};
use crate::support::read;

const ANYWHERE: &str = "127.0.0.1:0";

/// The giver is the parent, unless the feature's name says otherwise.
pub(super) async fn act(feature: &str, side: Side, line: &mut Line) {
    let gives = (side == Side::Parent) != feature.ends_with("-to-parent");
    match feature {
        "server" | "server-to-parent" | "native" if gives => {
            let listener = TcpListener::bind(ANYWHERE).await.unwrap();
            let address = listener.local_addr().unwrap();
            let handle = Handle::try_from(listener).unwrap();
            line.give("server", if feature == "native" { handle.native() } else { handle });
            line.hear("serving").await;
            for _ in 0..3 {
                assert_eq!(read(TcpStream::connect(address).await.unwrap()).await, "taker");
            }
            line.say("stop");
        }
        "server-shared" if gives => {
            let ours = TcpListener::bind(ANYWHERE).await.unwrap().into_std().unwrap();
            let address = ours.local_addr().unwrap();
            line.give("server", ours.try_clone().unwrap());
            line.hear("closed").await;
            let ours = TcpListener::from_std(ours).unwrap();
            let served = async { end(ours.accept().await.unwrap().0, "giver").await };
            let asked = async { assert_eq!(read(TcpStream::connect(address).await.unwrap()).await, "giver") };
            tokio::join!(served, asked);
        }
        "server-shared" => {
            drop(line.hear_with::<TcpListener>("server").await);
            line.say("closed");
        }
        // A raw handle is a listener here as well.
        "server" | "server-to-parent" | "native" => {
            let (message, handle) = line.take().await.unwrap();
            let handle = handle.unwrap();
            assert_eq!((message, handle.is_native()), ("server".into(), feature == "native"));
            serve(line, handle).await;
        }
        "unix-server" if gives => {
            let path = path();
            line.give("server", UnixListener::bind(&path).unwrap());
            line.hear("serving").await;
            for _ in 0..3 {
                assert_eq!(read(UnixStream::connect(&path).await.unwrap()).await, "taker");
            }
            line.say("stop");
        }
        "unix-server" => {
            let listener: UnixListener = line.hear_with("server").await;
            line.say("serving");
            for _ in 0..3 {
                end(listener.accept().await.unwrap().0, "taker").await;
            }
            line.hear("stop").await;
        }
        "socket" | "socket-to-parent" if gives => {
            let (client, accepted) = pair().await;
            give(line, client, accepted).await;
        }
        "socket" | "socket-to-parent" => {
            let socket = line.hear_with::<TcpStream>("socket").await;
            converse(socket).await;
        }
        "socket-close" if gives => {
            let (client, accepted) = pair().await;
            line.give("socket", accepted);
            while_listening(line, async { assert_eq!(read(client).await, "bye") }).await;
        }
        "socket-close" => {
            let mut socket: TcpStream = line.hear_with("socket").await;
            socket.write_all(b"bye").await.unwrap();
        }
        "unix-socket" if gives => {
            let listener = UnixListener::bind(path()).unwrap();
            let client = UnixStream::connect(path()).await.unwrap();
            let accepted = listener.accept().await.unwrap().0;
            give(line, client, accepted).await;
        }
        "unix-socket" => {
            let socket = line.hear_with::<UnixStream>("socket").await;
            converse(socket).await;
        }
        "keep-open" if gives => {
            let (client, accepted) = pair().await;
            let ours = Handle::try_from(accepted).unwrap();
            line.give("socket", ours.try_clone().unwrap());
            line.hear("written").await;
            let mut ours = TcpStream::try_from(ours).unwrap();
            ours.write_all(b" parent").await.unwrap();
            ours.shutdown().await.unwrap();
            assert_eq!(read(client).await, "child parent");
        }
        "keep-open" => {
            let mut socket: TcpStream = line.hear_with("socket").await;
            socket.write_all(b"child").await.unwrap();
            line.say("written");
            assert_eq!(read(socket).await, "");
        }
        "pause-on-connect" if gives => {
            let (mut client, accepted) = pair().await;
            client.write_all(b"early").await.unwrap();
            accepted.readable().await.unwrap();
            line.give("socket", accepted);
            while_listening(line, async { assert_eq!(read(client).await, "late") }).await;
        }
        "pause-on-connect" => {
            let mut socket: TcpStream = line.hear_with("socket").await;
            hear(&mut socket, "early").await;
            end(socket, "late").await;
        }
        "dgram" | "dgram-native" if gives => {
            let socket = UdpSocket::bind(ANYWHERE).await.unwrap();
            let address = socket.local_addr().unwrap();
            let handle = Handle::try_from(socket).unwrap();
            line.give("socket", if feature == "dgram" { handle } else { handle.native() });
            line.hear("got").await;
            let client = UdpSocket::bind(ANYWHERE).await.unwrap();
            client.send_to(b"ping", address).await.unwrap();
            let mut answer = [0; 8];
            let (count, from) = client.recv_from(&mut answer).await.unwrap();
            assert_eq!((&answer[..count], from), (b"pong".as_slice(), address));
        }
        "dgram" | "dgram-native" => {
            let socket: UdpSocket = line.hear_with("socket").await;
            line.say("got");
            let mut text = [0; 8];
            let (count, from) = socket.recv_from(&mut text).await.unwrap();
            assert_eq!(&text[..count], b"ping");
            socket.send_to(b"pong", from).await.unwrap();
        }
        other => panic!("no such feature: {other:?}"),
    }
}

/// Where the harness wants a Unix-domain socket.
fn path() -> PathBuf {
    env::var_os("GANGER_TEST_SOCKET").unwrap().into()
}

/// A connection of ours to ourselves.
pub(super) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(ANYWHERE).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

async fn serve(line: &mut Line, handle: Handle) {
    let listener = TcpListener::try_from(handle).unwrap();
    line.say("serving");
    for _ in 0..3 {
        end(listener.accept().await.unwrap().0, "taker").await;
    }
    line.hear("stop").await;
}

async fn give(
    line: &mut Line,
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    accepted: impl TryInto<Handle, Error: std::fmt::Debug>,
) {
    line.give("socket", accepted);
    let talk = async {
        hear(&mut client, "hello").await;
        client.write_all(b"ping").await.unwrap();
        assert_eq!(read(client).await, "pong");
    };
    while_listening(line, talk).await;
}

/// What was sent is acknowledged, and ours closed, while somebody listens; no message is meant to come.
async fn while_listening(line: &mut Line, talk: impl Future<Output = ()>) {
    let mut talk = pin!(talk);
    tokio::select! {
        () = &mut talk => {}
        taken = line.take() => {
            // The other side may have come to its end first.
            assert!(taken.is_none(), "{taken:?}");
            talk.await;
        }
    }
}

async fn converse(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    socket.write_all(b"hello").await.unwrap();
    hear(&mut socket, "ping").await;
    end(socket, "pong").await;
}

/// Says the last, and waits until the other end has closed as well.
async fn end(mut socket: impl AsyncRead + AsyncWrite + Unpin, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read(socket).await, "");
}

/// As much as there is of `text`.
async fn hear(socket: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut heard = vec![0; text.len()];
    socket.read_exact(&mut heard).await.unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), text);
}
