//! What children do with the sockets that they get, in Node and in Rust.

use std::net::Ipv4Addr;

use ganger::{Channel, Handle, channel::Received};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::support::read;

pub(crate) const PARTS: &[(&str, &str)] = &[
    (
        "serve and report",
        "process.on('message', (message, server) => {
           if (message === 'close') return process.server.close(() => process.disconnect());
           process.server = server.on('connection', (socket) => process.send('connection', () => socket.end('child')));
           process.send('ready');
         });",
    ),
    (
        "say echo and end",
        "process.on('message', (message, socket) => socket.end('echo', () => process.disconnect()));",
    ),
    (
        "write and tell",
        "process.on('message', (message, socket) => {
           socket.write('child', () => process.send('written'));
           process.on('disconnect', () => socket.destroy());
         });",
    ),
    (
        "take one datagram",
        "process.on('message', (message, socket) => {
           socket.once('message', () => { socket.close(); process.send('got one', () => process.disconnect()); });
           process.send('ready');
         });",
    ),
    (
        "send a client",
        "const net = require('net');
         let ends = 0, ours, client;
         const end = () => { if (++ends === 2) process.send('handle', client); };
         const server = net.createServer((socket) => { ours = socket; end(); }).listen(0, '127.0.0.1', () => {
           client = net.connect(server.address().port, '127.0.0.1', end);
         });
         process.on('message', (message) => { if (message === 'got') ours.end('hello'); });",
    ),
    (
        "send back",
        "const net = require('net');
         let open = 2;
         process.on('message', ({ port, got }, socket) => {
           if (got) return process.send('reply', socket);
           for (let i = 0; i < 2; i++) {
             net.connect(port, '127.0.0.1').resume().on('close', () => { if (--open === 0) process.disconnect(); });
           }
         });",
    ),
    (
        "feed a server",
        "const server = require('http').createServer((request, response) => response.end('hello from child'));
         process.on('message', (message, socket) => {
           socket.server = server;
           server.emit('connection', socket);
           socket.on('close', () => process.disconnect());
         });",
    ),
    (
        "listen on what comes without a message",
        "process.on('message', (message, server) => {
           require('assert').deepStrictEqual([message, server.listening], [null, true]);
           server.on('connection', (socket) => { socket.end('child'); server.close(); process.disconnect(); });
         });",
    ),
    (
        "echo from 4, 5 and 6",
        "const { Socket } = require('net');
         require('assert').throws(() => new Socket({ fd: -1 }), { code: 'ERR_OUT_OF_RANGE' });
         for (const fd of [4, 5, 6]) {
           const socket = new Socket({ fd }).on('data', (data) => socket.write(data));
           process.on('disconnect', () => socket.destroy());
         }
         process.on('message', () => {});",
    ),
    (
        "listen and say where",
        "const server = require('net').createServer().listen(0, '127.0.0.1', () => process.send(server.address().port));
         process.on('message', () => {});
         server.on('connection', () => process.send('accepted'));",
    ),
    (
        "share a port",
        "let leave;
         process.on('message', (message) => {
           if (message === 'leave') return leave(() => process.disconnect());
           const [what, port] = message;
           const host = '127.0.0.1';
           const shared = what === 'net'
             ? require('net').createServer().listen({ port, host, reusePort: true })
             : require('dgram').createSocket({ type: 'udp4', reusePort: true }).bind(port, host);
           shared.on('listening', () => process.send(shared.address().port));
           leave = (then) => shared.close(then);
         });",
    ),
    (
        "serve on descriptor 3",
        "const server = require('http').createServer((request, response) => response.end('hello from child'));
         server.listen({ fd: 3 }, () => process.send('listening'));
         process.on('disconnect', () => server.close());",
    ),
];

/// The same, in Rust.
pub(crate) async fn act(part: &str, mut parent: Channel) {
    match part {
        "share a port" => {
            let (asked, _) = taken(&mut parent).await;
            let (what, port): (String, u16) = serde_json::from_value(asked).unwrap();
            let (socket, port) = super::reuseport::listen_on(&what, port);
            parent.send(&port).unwrap();
            assert_eq!(taken(&mut parent).await.0, "leave");
            drop(socket);
        }
        "serve and report" => {
            let listener: TcpListener = socket(&mut parent, &json!("server")).await;
            parent.send("ready").unwrap();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        parent.send("connection").unwrap();
                        end(accepted.unwrap().0, "child").await;
                    }
                    received = parent.recv() => {
                        let Some(Received::Message(message)) = received else { panic!("{received:?}") };
                        assert_eq!(message.as_json(), "\"close\"");
                        return;
                    }
                }
            }
        }
        "say echo and end" => {
            let socket: TcpStream = socket(&mut parent, &json!("socket")).await;
            end(socket, "echo").await;
        }
        "write and tell" => {
            let mut socket: TcpStream = socket(&mut parent, &json!("socket")).await;
            socket.write_all(b"child").await.unwrap();
            parent.send("written").unwrap();
            assert!(parent.recv().await.is_none());
        }
        "take one datagram" => {
            let socket: UdpSocket = socket(&mut parent, &json!("socket")).await;
            parent.send("ready").unwrap();
            socket.recv(&mut [0; 8]).await.unwrap();
            drop(socket);
            parent.send("got one").unwrap();
        }
        "send a client" => {
            let (client, server) = pair().await;
            parent.send_with("handle", Some(client.try_into().unwrap())).unwrap();
            assert_eq!(taken(&mut parent).await.0, "got");
            end(server, "hello").await;
            // It is killed.
            assert!(parent.recv().await.is_none());
        }
        "send back" => send_back(&mut parent).await,
        "feed a server" => {
            let socket: TcpStream = socket(&mut parent, &json!("socket")).await;
            answer(socket).await;
        }
        "listen on what comes without a message" => {
            let listener: TcpListener = socket(&mut parent, &Value::Null).await;
            end(listener.accept().await.unwrap().0, "child").await;
        }
        "echo from 4, 5 and 6" => {
            assert!(ganger::sys::fd::adopt(-1).is_err());
            let echoes = [4, 5, 6].map(|number| tokio::spawn(echo_from(number)));
            assert!(parent.recv().await.is_none());
            echoes.iter().for_each(tokio::task::JoinHandle::abort);
        }
        "listen and say where" => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            parent.send(&listener.local_addr().unwrap().port()).unwrap();
            let _accepted = listener.accept().await.unwrap();
            parent.send("accepted").unwrap();
            assert!(parent.recv().await.is_none());
        }
        "serve on descriptor 3" => {
            let listener = super::listen_fd::inherited(3).unwrap();
            parent.send("listening").unwrap();
            tokio::select! {
                () = async { loop { answer(listener.accept().await.unwrap().0).await } } => {}
                received = parent.recv() => assert!(received.is_none()),
            }
        }
        other => panic!("no such part: {other:?}"),
    }
    // What was said is written, and the end is seen.
    let _ = parent.flush().await;
}

/// Two connections to the parent, which it sends here, and gets back.
async fn send_back(parent: &mut Channel) {
    let port = taken(parent).await.0["port"].as_u64().unwrap();
    let port = u16::try_from(port).unwrap();
    let client = || async { read(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap()).await };
    let clients = async { tokio::join!(client(), client()) };
    let back = async {
        loop {
            let (message, handle) = taken(parent).await;
            assert_eq!(message["got"], true);
            parent.send_with("reply", handle).unwrap();
        }
    };
    tokio::select! {
        (one, other) = clients => assert_eq!((one.as_str(), other.as_str()), ("", "")),
        () = back => {}
    }
}

async fn echo_from(number: i32) {
    let socket = std::os::unix::net::UnixStream::from(ganger::sys::fd::adopt(number).unwrap());
    socket.set_nonblocking(true).unwrap();
    let mut socket = tokio::net::UnixStream::from_std(socket).unwrap();
    let mut buffer = [0; 64];
    loop {
        let count = socket.read(&mut buffer).await.unwrap();
        socket.write_all(&buffer[..count]).await.unwrap();
    }
}

/// The next message, and what came with it.
async fn taken(channel: &mut Channel) -> (Value, Option<Handle>) {
    match channel.recv().await {
        Some(Received::Message(mut message)) => {
            let handle = message.handle.take();
            (message.parse().unwrap(), handle)
        }
        other => panic!("{other:?}"),
    }
}

/// The socket that comes with this message.
async fn socket<T: TryFrom<Handle, Error = Handle>>(channel: &mut Channel, expected: &Value) -> T {
    let (message, handle) = taken(channel).await;
    assert_eq!(message, *expected);
    T::try_from(handle.expect("a socket")).unwrap_or_else(|handle| panic!("not a {:?}", handle.kind()))
}

/// A connection of ours to ourselves: the client, and the other end.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// Says the last, and waits until the other end has closed as well.
pub(crate) async fn end(mut socket: TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read(socket).await, "");
}

/// Answers one request.
pub(crate) async fn answer(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(socket.read_u8().await.unwrap());
    }
    let text = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 16\r\n\r\nhello from child";
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read(socket).await, "");
}
