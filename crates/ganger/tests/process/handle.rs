//! Rows `handle`: sockets that travel, between Rust and Rust, Rust and Node, Node and Rust. What of them is the same
//! between all runtimes is in the test `pairs`.

pub(crate) mod listen_fd;
pub(crate) mod part;
mod reuseport;
mod socket_list;
mod under_node;

use std::{net::Ipv4Addr, os::fd::AsFd};

use ganger::{
    Handle,
    process::{Child, Command, Event, Stdio},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::{
    kid::{Kid, message_of, rows, rows_under_node, story},
    row,
    support::{self, Directory, read},
};
use part::{end, pair};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![row("an example without a cluster", example)];
    trials.extend(rows("test-child-process-fork-dgram", fork_dgram));
    trials.extend(rows("test-child-process-fork-net-server", fork_net_server));
    trials.extend(rows("test-child-process-fork-net-socket", fork_net_socket));
    trials.extend(rows("test-child-process-send-keep-open", send_keep_open));
    trials.extend(rows("test-cluster-net-send", net_send));
    trials.extend(rows("test-cluster-send-deadlock", send_deadlock));
    trials.extend(rows("test-cluster-send-socket-to-worker-http-server", socket_to_http_server));
    trials.extend(rows("test-net-listen-handle-in-cluster-1", server_without_a_message));
    trials.extend(rows("test-net-socket-constructor", further_pipes));
    trials.extend(rows("test-net-child-process-connect-reset", connect_reset));
    for (name, script) in under_node::SCRIPTS {
        trials.extend(rows_under_node(name, script));
    }
    trials.extend(reuseport::trials());
    trials.extend(socket_list::trials());
    trials.extend(listen_fd::trials());
    trials
}

fn start(kid: Kid, directory: &Directory, part: &str) -> Child {
    kid.command(directory, part).spawn().unwrap()
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// A copy of a socket, to be sent.
fn copy(listener: &TcpListener) -> Option<Handle> {
    Some(Handle::try_from(listener.as_fd().try_clone_to_owned().unwrap()).unwrap())
}

/// What came with the next message, which is this one.
async fn handle_of(child: &mut Child, expected: &Value) -> Handle {
    loop {
        match child.next().await {
            Some(Event::Message(mut message)) => {
                assert_eq!(message.parse::<Value>().unwrap(), *expected);
                return message.handle.take().expect("a socket");
            }
            Some(Event::Spawn) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Sees a child to its end, which is a good one.
async fn ends_well(child: &mut Child) {
    assert_eq!(story(child).await.last().unwrap(), "close exit code 0");
}

async fn example() {
    let output = Command::new(support::example("share")).exec().await.unwrap();
    assert_eq!(
        output.stdout,
        "served by first child, parent, second child\n\
         served by first child, second child\n\
         a child has ended: exit code 0\n\
         a child has ended: exit code 0\n"
    );
}

/// Both copies get what is sent; who has had one leaves the rest to the other.
async fn fork_dgram(kid: Kid) {
    let directory = Directory::new();
    let mut child = start(kid, &directory, "take one datagram");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().into_std().unwrap();
    let address = socket.local_addr().unwrap();
    child.send_with("socket", Some(socket.try_clone().unwrap().into())).unwrap();
    assert_eq!(message_of(&mut child).await, "ready");
    let socket = UdpSocket::from_std(socket).unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (mut ours, mut theirs) = (0, false);
    while ours == 0 || !theirs {
        client.send_to(b"hello", address).await.unwrap();
        let mut text = [0; 8];
        tokio::select! {
            received = socket.recv(&mut text), if ours == 0 => ours += received.unwrap(),
            event = child.next(), if !theirs => match event {
                Some(Event::Message(message)) => theirs = message.as_json() == "\"got one\"",
                other => panic!("{other:?}"),
            },
            () = tokio::task::yield_now() => {}
        }
    }
    ends_well(&mut child).await;
}

async fn fork_net_server(kid: Kid) {
    let directory = Directory::new();
    let mut child = start(kid, &directory, "serve and report");
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    child.send_with("server", copy(&listener)).unwrap();
    assert_eq!(message_of(&mut child).await, "ready");
    let clients = async {
        let one = || async { read(TcpStream::connect(address).await.unwrap()).await };
        <[String; 4]>::from(tokio::join!(one(), one(), one(), one()))
    };
    let mut clients = std::pin::pin!(clients);
    let (mut ours, mut theirs, mut said) = (0, 0, None);
    while ours + theirs < 4 || said.is_none() {
        tokio::select! {
            accepted = listener.accept() => {
                ours += 1;
                tokio::spawn(end(accepted.unwrap().0, "parent"));
            }
            message = message_of(&mut child) => {
                assert_eq!(message, "connection");
                theirs += 1;
            }
            all = &mut clients, if said.is_none() => said = Some(all),
        }
    }
    let said = said.unwrap();
    let count = |name: &str| said.iter().filter(|text| *text == name).count();
    assert_eq!((count("parent"), count("child")), (ours, theirs));
    drop(listener);
    child.send("close").unwrap();
    ends_well(&mut child).await;
    assert!(TcpStream::connect(address).await.is_err(), "somebody has a copy");
}

async fn fork_net_socket(kid: Kid) {
    let directory = Directory::new();
    let mut child = start(kid, &directory, "say echo and end");
    let (client, accepted) = pair().await;
    child.send_with("socket", Some(accepted.try_into().unwrap())).unwrap();
    let (text, ()) = tokio::join!(read(client), ends_well(&mut child));
    assert_eq!(text, "echo");
}

async fn send_keep_open(kid: Kid) {
    let directory = Directory::new();
    let mut child = start(kid, &directory, "write and tell");
    let (client, accepted) = pair().await;
    let ours = Handle::try_from(accepted).unwrap();
    child.send_with("socket", Some(ours.try_clone().unwrap())).unwrap();
    child.flush().await.unwrap();
    assert_eq!(message_of(&mut child).await, "written");
    let ours = TcpStream::try_from(ours).unwrap();
    let (text, ()) = tokio::join!(read(client), end(ours, "parent"));
    assert_eq!(text, "childparent");
    child.disconnect();
    ends_well(&mut child).await;
}

/// From the child to the parent.
async fn net_send(kid: Kid) {
    let directory = Directory::new();
    let mut child = start(kid, &directory, "send a client");
    let client = handle_of(&mut child, &json!("handle")).await;
    child.send("got").unwrap();
    let text = read(TcpStream::try_from(client).unwrap()).await;
    assert_eq!(text, "hello");
    assert!(child.kill(9).unwrap());
    assert_eq!(story(&mut child).await.last().unwrap(), "close signal SIGKILL");
}

/// Handles cross, each side waits for the other's ACK, and nothing stands still.
async fn send_deadlock(kid: Kid) {
    let directory = Directory::new();
    let mut child = start(kid, &directory, "send back");
    let listener = listener().await;
    child.send(&json!({ "port": listener.local_addr().unwrap().port() })).unwrap();
    let (mut sent, mut back) = (0, 0);
    let reply = json!("reply");
    while back < 2 {
        tokio::select! {
            accepted = listener.accept(), if sent < 2 => {
                sent += 1;
                let accepted = accepted.unwrap().0.try_into().unwrap();
                child.send_with(&json!({ "got": true }), Some(accepted)).unwrap();
            }
            handle = handle_of(&mut child, &reply) => {
                back += 1;
                let mut socket = TcpStream::try_from(handle).unwrap();
                socket.shutdown().await.unwrap();
            }
        }
    }
    ends_well(&mut child).await;
}

async fn socket_to_http_server(kid: Kid) {
    let directory = Directory::new();
    let mut child = start(kid, &directory, "feed a server");
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let pass_on = async {
        let accepted = listener.accept().await.unwrap().0;
        child.send_with("socket", Some(accepted.try_into().unwrap())).unwrap();
        ends_well(&mut child).await;
    };
    let (text, ()) = tokio::join!(listen_fd::request(address), pass_on);
    assert!(text.contains("hello from child"), "{text}");
}

async fn server_without_a_message(kid: Kid) {
    let directory = Directory::new();
    let mut child = start(kid, &directory, "listen on what comes without a message");
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    child.send_with(&Value::Null, Some(listener.try_into().unwrap())).unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (text, ()) = tokio::join!(read(client), ends_well(&mut child));
    assert_eq!(text, "child");
}

async fn further_pipes(kid: Kid) {
    let directory = Directory::new();
    let mut command = kid.command(&directory, "echo from 4, 5 and 6");
    let standard = [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit, Stdio::Ipc];
    let mut child = command.stdio(standard.into_iter().chain([const { Stdio::Pipe }; 3])).spawn().unwrap();
    for number in 4..7 {
        let mut pipe = child.take_pipe(number).unwrap();
        pipe.write_all(format!("hello {number}").as_bytes()).await.unwrap();
        let mut text = [0; 7];
        pipe.read_exact(&mut text).await.unwrap();
        assert_eq!(text, *format!("hello {number}").as_bytes());
    }
    child.disconnect();
    ends_well(&mut child).await;
}

/// Whoever is connected to a child that is killed sees the end, or a reset.
async fn connect_reset(kid: Kid) {
    let directory = Directory::new();
    let mut command = kid.command(&directory, "listen and say where");
    let mut child = command.stdio([Stdio::Ipc, Stdio::Inherit, Stdio::Inherit]).spawn().unwrap();
    let port = message_of(&mut child).await.as_u64().unwrap();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap())).await.unwrap();
    assert_eq!(message_of(&mut child).await, "accepted");
    assert!(child.kill(9).unwrap());
    assert_eq!(story(&mut child).await.last().unwrap(), "close signal SIGKILL");
    match client.read(&mut [0]).await {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}
