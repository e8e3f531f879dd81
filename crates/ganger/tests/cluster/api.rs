//! Rows worker-api, and those rows about handles where a cluster sends them.

use ganger::{
    Handle,
    cluster::{Event, Policy},
    process::{Exit, Stdio},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    part::{OBEY, Part, ask, fork},
    rows::{Kid, rows},
    rows_under_node,
    support::{Directory, Gang, exchange, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    // Node 18 asks its primary for a place to listen on nothing.
    let mut listen_handle = rows("test-net-listen-handle-in-cluster-1", listen_handle);
    listen_handle.retain(|trial| !trial.name().ends_with("Node 18"));
    [
        rows("test-cluster-worker-init", init),
        rows_under_node("test-cluster-worker-init", INIT),
        rows("test-cluster-worker-isconnected", is_connected),
        rows_under_node("test-cluster-worker-isconnected", IS_CONNECTED),
        rows("test-cluster-worker-isdead", is_dead),
        rows_under_node("test-cluster-worker-isdead", IS_DEAD),
        rows("test-cluster-send-deadlock", send_deadlock),
        rows_under_node("test-cluster-send-deadlock", SEND_DEADLOCK),
        rows("test-cluster-send-socket-to-worker-http-server", socket_to_worker),
        rows_under_node("test-cluster-send-socket-to-worker-http-server", SOCKET_TO_WORKER),
        listen_handle,
        rows_under_node("test-net-listen-handle-in-cluster-1", LISTEN_HANDLE),
        rows("test-net-socket-constructor", further_pipes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) const PARTS: &[Part] = &[SEND_BACK, SAY_HELLO, LISTEN_ON_IT, ECHO_FROM_4];

async fn init(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    gang.find(|event| matches!(event, Event::Online { .. }).then_some(())).await;
    assert_eq!(ask(&mut gang, &worker, json!(["echo", true])).await, true);
    worker.disconnect();
    assert_eq!(gang.exit().await, (worker.id(), Exit::Code(0), true));
}

const INIT: &str = "
workers('obey');
const worker = cluster.fork();
worker.on('online', mustCall(() => ask(worker, ['echo', true], mustCall((answer) => {
  assert.strictEqual(answer, true);
  assert.strictEqual(worker.disconnect(), worker);
}))));";

async fn is_connected(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    assert!(worker.is_connected());
    assert_eq!(ask(&mut gang, &worker, json!(["echo", 1])).await, 1);
    assert!(worker.is_connected());
    if kid != Kid::Rust {
        // So it says itself; what it is when it leaves is in test-cluster-worker-disconnect.
        assert_eq!(ask(&mut gang, &worker, json!(["state"])).await, json!([true, false]));
    }
    worker.disconnect();
    gang.find(|event| matches!(event, Event::Disconnect { .. }).then_some(())).await;
    assert!(!worker.is_connected());
    let error = worker.send("nobody").unwrap_err();
    assert_eq!(error.code(), Some("ERR_IPC_CHANNEL_CLOSED"));
}

const IS_CONNECTED: &str = "
workers('obey');
const worker = cluster.fork();
assert.strictEqual(worker.isConnected(), true);
worker.on('disconnect', mustCall(() => assert.strictEqual(worker.isConnected(), false)));
ask(worker, ['echo', 1], mustCall(() => worker.disconnect()));";

async fn is_dead(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    assert!(!worker.is_dead());
    assert_eq!(ask(&mut gang, &worker, json!(["echo", 1])).await, 1);
    assert!(!worker.is_dead());
    if kid != Kid::Rust {
        assert_eq!(ask(&mut gang, &worker, json!(["state"])).await, json!([true, false]));
    }
    worker.destroy();
    gang.exit().await;
    assert!(worker.is_dead());
}

const IS_DEAD: &str = "
workers('obey');
const worker = cluster.fork();
assert.strictEqual(worker.isDead(), false);
worker.on('exit', mustCall(() => assert.strictEqual(worker.isDead(), true)));
ask(worker, ['echo', 1], mustCall(() => { assert.strictEqual(worker.isDead(), false); worker.kill(); }));";

/// Connects twice to the port that it is told, and sends back at once what comes.
const SEND_BACK: Part = Part {
    name: "send back",
    node: "
        const net = require('net');
        let open = 2;
        process.on('message', (port, socket) => {
          if (socket) return process.send('reply', socket);
          for (let i = 0; i < 2; i++) {
            net.connect(port, '127.0.0.1').resume().on('close', () => { if (--open === 0) require('cluster').worker.disconnect(); });
          }
        });",
    rust: |worker| {
        Box::pin(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Some(mut message) = worker.recv().await {
                if let Some(handle) = message.handle.take() {
                    worker.send_with("reply", Some(handle))?;
                    continue;
                }
                let port: u16 = message.parse()?;
                for _ in 0..2 {
                    let client = TcpStream::connect(("127.0.0.1", port)).await?;
                    clients.spawn(read(client));
                }
                let (clients, worker) = (std::mem::take(&mut clients), worker.clone());
                tokio::spawn(async move {
                    clients.join_all().await;
                    worker.disconnect();
                });
            }
            Ok(())
        })
    },
};

/// Handles cross while each side waits for an acknowledgement.
async fn send_deadlock(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &SEND_BACK);
    let worker = fork(&gang).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    worker.send(&server.local_addr().unwrap().port()).unwrap();
    for _ in 0..2 {
        let (socket, _) = server.accept().await.unwrap();
        worker.send_with("socket", Some(socket.try_into().unwrap())).unwrap();
    }
    for _ in 0..2 {
        let mut socket = TcpStream::try_from(handle(&mut gang, "reply").await).unwrap();
        socket.shutdown().await.unwrap();
    }
    assert_eq!(gang.exit().await, (worker.id(), Exit::Code(0), true));
}

/// The socket of the next message.
async fn handle(gang: &mut Gang, text: &str) -> Handle {
    gang.find(|event| match event {
        Event::Message { mut message, .. } => {
            assert_eq!(message.parse::<Value>().unwrap(), text);
            Some(message.handle.take().unwrap())
        }
        _ => None,
    })
    .await
}

const SEND_DEADLOCK: &str = "
workers('send back');
const worker = cluster.fork();
let replies = 0;
const server = require('net').createServer((socket) => worker.send('socket', socket));
server.listen(0, '127.0.0.1', mustCall(() => worker.send(server.address().port)));
worker.on('message', mustCall((message, socket) => {
  assert.strictEqual(message, 'reply');
  socket.end();
  if (++replies === 2) server.close();
}, 2));
worker.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));";

/// Feeds the socket to its own HTTP server, which answers one request.
const SAY_HELLO: Part = Part {
    name: "say hello to a socket",
    node: "
        const server = require('http').createServer((request, response) => response.end('hello'));
        server.on('connection', mustBeOurs);
        function mustBeOurs(socket) { require('assert').strictEqual(socket.server, server); }
        process.on('message', (message, socket) => {
          socket.server = server;
          server.emit('connection', socket);
          socket.on('close', () => require('cluster').worker.disconnect());
        });",
    rust: |worker| {
        Box::pin(async move {
            let mut message = worker.recv().await.ok_or("no message")?;
            let mut socket = TcpStream::try_from(message.handle.take().ok_or("no socket")?)
                .map_err(|handle| format!("{handle:?}"))?;
            let mut request = [0; 1024];
            let count = socket.read(&mut request).await?;
            assert!(request[..count].starts_with(b"GET / HTTP/1.1\r\n"));
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            socket.write_all(answer.as_bytes()).await?;
            worker.disconnect();
            Ok(())
        })
    },
};

async fn socket_to_worker(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &SAY_HELLO);
    let worker = fork(&gang).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    let (socket, _) = server.accept().await.unwrap();
    worker.send_with("socket", Some(socket.try_into().unwrap())).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = read(client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("hello"), "{answer}");
    assert_eq!(gang.exit().await, (worker.id(), Exit::Code(0), true));
}

const SOCKET_TO_WORKER: &str = "
workers('say hello to a socket');
const worker = cluster.fork();
const http = require('http');
const server = require('net').createServer({ pauseOnConnect: true }, mustCall((socket) => {
  worker.send('socket', socket);
  server.close();
}));
server.listen(0, '127.0.0.1', () => {
  http.get({ port: server.address().port, host: '127.0.0.1', agent: false }, mustCall((response) => {
    response.once('data', mustCall((data) => assert.strictEqual(data.toString(), 'hello')));
  }));
});
worker.on('exit', mustCall((code) => assert.strictEqual(code, 0)));";

/// Serves one connection of the server that comes without a message, and asks nobody whether it may.
const LISTEN_ON_IT: Part = Part {
    name: "listen on what comes without a message",
    node: "
        process.on('message', (message, server) => {
          require('assert').deepStrictEqual([message, server.listening], [null, true]);
          server.on('connection', (socket) => { socket.end('worker'); server.close(); require('cluster').worker.disconnect(); });
        });",
    rust: |worker| {
        Box::pin(async move {
            let mut message = worker.recv().await.ok_or("no message")?;
            assert_eq!(message.as_json(), "null");
            let server = TcpListener::try_from(message.handle.take().ok_or("no server")?)
                .map_err(|handle| format!("{handle:?}"))?;
            let (mut socket, _) = server.accept().await?;
            socket.write_all(b"worker").await?;
            worker.disconnect();
            Ok(())
        })
    },
};

async fn listen_handle(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &LISTEN_ON_IT);
    let worker = fork(&gang).await;
    gang.find(|event| matches!(event, Event::Online { .. }).then_some(())).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    worker.send_with(&Value::Null, Some(server.try_into().unwrap())).unwrap();
    assert_eq!(read(TcpStream::connect(address).await.unwrap()).await, "worker");
    assert!(gang.with(|primary| primary.snapshot().listeners.is_empty()).await, "nobody was asked");
    assert_eq!(gang.exit().await, (worker.id(), Exit::Code(0), true));
}

const LISTEN_HANDLE: &str = "
const net = require('net');
workers('listen on what comes without a message');
const worker = cluster.fork();
worker.on('online', mustCall(() => {
  const server = net.createServer().listen(0, '127.0.0.1', mustCall(() => {
    const { port } = server.address();
    worker.send(null, server, () => server.close(() => {
      net.connect(port, '127.0.0.1').once('data', mustCall((data) => assert.strictEqual(data.toString(), 'worker')));
    }));
  }));
}));
worker.on('listening', mustNotCall('listening'));
worker.on('exit', mustCall((code) => assert.strictEqual(code, 0)));";

/// Echoes what comes from its descriptor 4; its channel is at 3, as ever.
const ECHO_FROM_4: Part = Part {
    name: "echo from 4",
    node: "
        const { Socket } = require('net');
        require('assert').throws(() => new Socket({ fd: -1 }), { code: 'ERR_OUT_OF_RANGE' });
        const socket = new Socket({ fd: 4 });
        socket.pipe(socket);
        process.on('disconnect', () => socket.destroy());",
    rust: |worker| {
        Box::pin(async move {
            let socket = ganger::sys::fd::adopt(4)?;
            let socket = std::os::unix::net::UnixStream::from(socket);
            socket.set_nonblocking(true)?;
            let (mut from, mut to) = tokio::net::UnixStream::from_std(socket)?.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
            worker.stopping().await;
            Ok(())
        })
    },
};

async fn further_pipes(kid: Kid) {
    let directory = Directory::new();
    let mut settings = kid.settings(&directory, Policy::RoundRobin, &ECHO_FROM_4);
    settings.stdio = Some(vec![Stdio::Ignore, Stdio::Inherit, Stdio::Inherit, Stdio::Ipc, Stdio::Pipe]);
    let mut gang = Gang::new(settings);
    let worker = fork(&gang).await;
    let id = worker.id();
    let mut streams = gang.with(move |primary| primary.take_streams(id)).await.unwrap();
    let mut fourth = streams.pipes[4].take().unwrap();
    assert_eq!(exchange(&mut fourth, "to and fro").await, "to and fro");
    worker.disconnect();
    assert_eq!(gang.exit().await, (id, Exit::Code(0), true));
}
