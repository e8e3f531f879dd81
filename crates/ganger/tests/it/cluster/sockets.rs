//! The primary's sockets: asked for, shared, refused, closed.

use std::{io::ErrorKind, net::SocketAddr};

use ganger::{
    WorkerId,
    cluster::{Event, Policy},
};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use crate::support::{Directory, Gang, NODE, POLICIES, ask, read, run, until};

on_each_node! {
    port_0_is_the_same_for_all: "port 0",
    an_address_in_use_is_told: "EADDRINUSE",
    pitfall_27_the_first_ones_data_is_everybodys: "TLS ticket keys",
    pitfall_30_datagrams_are_shared_in_every_policy: "UDP",
    a_path_is_served_and_removed: "Unix sockets",
    a_server_closes_and_listens_again: "listen again",
    who_listens_again_with_other_options_has_them: "listen again with other options",
    who_listens_again_on_the_port_that_was_drawn_has_it: "listen again on the port that was drawn",
}

async fn port_0_is_the_same_for_all(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const net = require('node:net');
             const first = net.createServer().listen(0, '127.0.0.1', () => {
               const second = net.createServer().listen(0, '127.0.0.1', () => {
                 process.send([first, second].map((server) => server.address().port));
               });
             });",
        ));
        gang.fork().await;
        gang.fork().await;
        let (one, ports) = gang.message().await;
        let (other, the_same) = gang.message().await;
        assert_ne!(one, other);
        assert_eq!(ports, the_same);
        assert_ne!(ports[0], ports[1], "two servers of a worker are two servers");
    }
}

async fn an_address_in_use_is_told(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut settings = directory.workers(
            major,
            policy,
            "require('node:net').createServer()
               .on('error', ({ code, port }) => process.send([code, port]))
               .listen(Number(process.argv[2]), '127.0.0.1');",
        );
        settings.args.push(address.port().to_string().into());
        let mut gang = Gang::new(settings);
        let (mut failures, mut codes) = (0, 0);
        for _ in 0..2 {
            gang.fork().await;
        }
        while codes < 2 {
            match gang.event().await {
                Event::BindFailed { address: failed, error, .. } => {
                    assert_eq!(failed.to_string(), address.to_string());
                    assert_eq!(error.kind(), ErrorKind::AddrInUse);
                    failures += 1;
                }
                Event::Message { message, .. } => {
                    assert_eq!(
                        message.parse::<(String, u16)>().unwrap(),
                        ("EADDRINUSE".into(), address.port())
                    );
                    codes += 1;
                }
                _ => {}
            }
        }
        assert_eq!(failures, 1, "said once a socket, not once a worker");
    }
}

async fn pitfall_27_the_first_ones_data_is_everybodys(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const server = require('node:tls').createServer({});
             server.listen(0, '127.0.0.1', () => process.send(server.getTicketKeys().toString('hex')));",
        ));
        gang.fork().await;
        gang.fork().await;
        let (_, keys) = gang.message().await;
        assert_eq!(keys.as_str().unwrap().len(), 96);
        assert_eq!(gang.message().await.1, keys);
    }
}

async fn pitfall_30_datagrams_are_shared_in_every_policy(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const socket = require('node:dgram').createSocket('udp4');
             socket.on('message', (message, { port }) => socket.send(message, port, '127.0.0.1'));
             socket.bind(0, '127.0.0.1');",
        ));
        gang.fork().await;
        gang.fork().await;
        let (_, address) = gang.listening().await;
        assert_eq!(gang.listening().await.1, address);
        let address: SocketAddr = address.strip_prefix("udp ").unwrap().parse().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(address).await.unwrap();
        client.send(b"ping").await.unwrap();
        let mut echo = [0; 16];
        let count = client.recv(&mut echo).await.unwrap();
        assert_eq!(&echo[..count], b"ping");
    }
}

async fn a_path_is_served_and_removed(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let path = directory.path("app.sock");
        let mut settings = directory.workers(
            major,
            policy,
            "require('node:net').createServer((socket) => socket.end('hello')).listen(process.argv[2]);",
        );
        settings.args.push(path.clone().into());
        let mut gang = Gang::new(settings);
        let worker = gang.fork().await;
        assert_eq!(gang.listening().await, (worker.id, path.display().to_string()));
        assert_eq!(read(UnixStream::connect(&path).await.unwrap()).await, "hello");
        gang.disconnect(worker.id).await;
        gang.exit().await;
        until(|| !path.exists()).await;
    }
}

async fn a_server_closes_and_listens_again(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const server = require('node:net').createServer((socket) => socket.end('hello'));
             const listen = (port) => server.listen(port, '127.0.0.1', () => process.send(server.address().port));
             process.on('message', (port) => server.close(() => listen(port)));
             listen(0);",
        ));
        let worker = gang.fork().await;
        let (_, port) = gang.message().await;
        let address = SocketAddr::from(([127, 0, 0, 1], port.as_u64().unwrap() as u16));
        for _ in 0..3 {
            assert_eq!(ask(address).await, "hello");
            gang.send(worker.id, 0).await;
            assert_eq!(gang.message().await.1, port, "the socket was still there");
        }
        assert_eq!(ask(address).await, "hello");
    }
}

async fn who_listens_again_with_other_options_has_them(major: &str) {
    for policy in &[Policy::RoundRobin, Policy::Shared, Policy::ReusePort] {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const server = require('node:net').createServer((socket) => socket.end('hello'));
             const listen = (ipv6Only) => {
               server.listen({ host: '::', port: 0, ipv6Only }, () => process.send(server.address().port));
             };
             process.on('message', (ipv6Only) => server.close(() => listen(ipv6Only)));
             listen(true);",
        ));
        let worker = gang.fork().await;
        gang.message().await;
        gang.send(worker.id, false).await;
        let (_, port) = gang.message().await;
        assert_eq!(ask(SocketAddr::from(([127, 0, 0, 1], port.as_u64().unwrap() as u16))).await, "hello");
    }
}

async fn who_listens_again_on_the_port_that_was_drawn_has_it(major: &str) {
    for policy in &[Policy::RoundRobin, Policy::Shared, Policy::ReusePort] {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const begin = () => {
               // Between fork and exec a child of another test has what is closed here: then once more.
               const server = require('node:net').createServer((socket) => socket.end('hello')).on('error', begin);
               const listen = (port, host, then) => server.listen(port, host, () => then(server.address().port));
               listen(0, '127.0.0.1', (port) => server.close(() =>
                 listen(port, '127.0.0.1', () => server.close(() =>
                   listen(port, '0.0.0.0', () => process.send(port))))));
             };
             begin();",
        ));
        gang.fork().await;
        let (_, port) = gang.message().await;
        assert_eq!(ask(SocketAddr::from(([127, 0, 0, 1], port.as_u64().unwrap() as u16))).await, "hello");
    }
}

#[test]
fn a_socket_that_nobody_holds_is_closed() {
    run(async {
        for policy in &POLICIES {
            let directory = Directory::new();
            let (gang, worker, address) = closable(&directory, policy).await;
            gang.send(worker, "close").await;
            gang.until(|primary| primary.snapshot().listeners.is_empty()).await;
            // A process that is being started has a copy of it for a moment.
            let refused = loop {
                if let Err(error) = TcpStream::connect(address).await {
                    break error;
                }
            };
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            assert!(gang.with(|primary| primary.workers().count() == 1).await);
        }
    });
}

#[test]
fn a_socket_stays_open_for_a_replacement() {
    run(async {
        let directory = Directory::new();
        let (gang, worker, address) = closable(&directory, &Policy::RoundRobin).await;
        let (other_gang, other_worker, _) = closable(&directory, &Policy::RoundRobin).await;
        gang.with(|primary| primary.set_replacements_due(true)).await;
        gang.send(worker, "close").await;
        gang.until(|primary| primary.snapshot().listeners[0].holders.is_empty()).await;
        // The other gang's socket is closed, which began later and takes as long.
        other_gang.send(other_worker, "close").await;
        other_gang.until(|primary| primary.snapshot().listeners.is_empty()).await;
        assert_eq!(gang.with(|primary| primary.snapshot().listeners.len()).await, 1);

        // A client may come now; it waits for whoever comes.
        let waiting = tokio::spawn(ask(address));
        let second = gang.fork().await;
        assert_eq!(waiting.await.unwrap(), second.id.to_string());
        gang.send(second.id, "close").await;
        gang.with(|primary| primary.set_replacements_due(false)).await;
        gang.until(|primary| primary.snapshot().listeners.is_empty()).await;
    });
}

/// A gang with a worker that closes its server when it gets a message.
async fn closable(directory: &Directory, policy: &Policy) -> (Gang, WorkerId, SocketAddr) {
    let mut gang = Gang::new(directory.workers(
        NODE,
        policy,
        "const { id } = require('node:cluster').worker;
         const server = require('node:net').createServer((socket) => socket.end(String(id)));
         server.listen(0, '127.0.0.1');
         process.on('message', () => server.close());",
    ));
    let (worker, address) = gang.fork_listening().await;
    (gang, worker.id, address)
}
