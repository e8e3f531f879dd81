//! Rows cluster-rr: the primary accepts.

use std::os::unix::fs::PermissionsExt;

use ganger::{
    WorkerId,
    cluster::{Address, AddressType, Policy},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::{
    part::Part,
    rows::{Kid, rows, rows_of},
    sockets::Sockets,
    support::{self, Directory, Gang, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        rows_of(nodes(18), "test-cluster-rr-handle-keep-loop-alive", keeps_the_loop_alive),
        rows_of(nodes(18), "test-cluster-rr-ref", unref_and_ref),
        rows("test-cluster-net-listen-backlog", backlog),
        rows_of(nodes(22), "test-http-server-drop-connections-in-cluster", dropped_connections),
        rows("test-cluster-server-restart-rr", server_restart),
        rows_of(nodes(18), "test-cluster-ipc-throw", throw),
        rows("test-cluster-net-listen-ipv6only-rr", ipv6_only),
        rows("test-cluster-net-listen-ipv6only-false", dual_stack),
        rows("test-cluster-http-pipe", path),
        rows("test-cluster-listen-pipe-readable-writable", modes),
        rows("test-cluster-net-listen", listen_anywhere),
        rows("test-cluster-bind-twice", bind_twice),
        rows("test-cluster-child-index-net", child_index),
        // Node 18 may be left with a second server behind the closed one.
        rows_of(nodes(20), "test-net-listen-twice", listen_twice),
        rows("test-net-listen-exclusive-random-ports", exclusive_random_ports),
        rows("test-net-listen-shared-ports", shared_ports),
        rows_of(with_reuse_port(), "test-cluster-net-reuseport", reuse_port),
        rows_of(nodes(18), "test-tls-ticket-cluster", ticket_keys),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The releases of Node from this one on.
pub(crate) fn nodes(first: u32) -> impl Iterator<Item = Kid> {
    let recent = move |kid: &Kid| matches!(kid, Kid::Node(major) if major.parse::<u32>().unwrap() >= first);
    Kid::all().filter(recent)
}

/// Those that have the option `reusePort`, which came with 22.12, and Rust.
pub(crate) fn with_reuse_port() -> impl Iterator<Item = Kid> {
    nodes(22).chain([Kid::Rust])
}

fn localhost(port: u64) -> Value {
    json!({ "host": "127.0.0.1", "port": port })
}

fn port_of(address: &Value) -> u64 {
    address[1].as_u64().unwrap_or_else(|| panic!("no port: {address}"))
}

/// Workers of Node's that do nothing but this.
fn gang_of(kid: Kid, directory: &Directory, script: &'static str) -> Gang {
    kid.gang(
        directory,
        &Part { name: "only in Node", node: script, rust: |_| Box::pin(std::future::pending()) },
    )
}

/// Nothing but the server does, which is no handle of the system's.
async fn keeps_the_loop_alive(kid: Kid) {
    let directory = Directory::new();
    let script = "require('net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1', () => process.channel.unref());";
    let mut gang = gang_of(kid, &directory, script);
    let (worker, address) = gang.fork_listening().await;
    for _ in 0..50 {
        assert_eq!(support::ask(address).await, "served");
    }
    gang.kill(worker.id).await;
    assert_eq!(gang.exit().await.1.to_string(), "signal SIGKILL");
}

async fn unref_and_ref(kid: Kid) {
    let directory = Directory::new();
    let script = "const server = require('net').createServer().listen(0, '127.0.0.1', () => {
        server.unref(); server.ref(); server.close(() => process.send('done')); });";
    let mut gang = gang_of(kid, &directory, script);
    let worker = gang.fork().await;
    assert_eq!(gang.message().await, (worker.id, json!("done")));
    gang.kill(worker.id).await;
}

/// As many connections as the queue has room for (the kernel adds one) are completed while nobody accepts.
async fn backlog(kid: Kid) {
    const BACKLOG: usize = 127;
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    let options = json!({ "host": "127.0.0.1", "port": 0, "backlog": BACKLOG });
    let port = port_of(&sockets.open(worker, "listen", "it", options).await);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port as u16));
    // The primary has this thread alone.
    let clients: Vec<_> = (0..2 * BACKLOG).map(|_| begin_to_connect(address)).collect();
    let completed = || clients.iter().filter(|client| client.peer_addr().is_ok()).count();
    while completed() <= BACKLOG {}
    assert_eq!(completed(), BACKLOG + 1);
}

/// Does not wait for the other side.
fn begin_to_connect(address: std::net::SocketAddr) -> std::net::TcpStream {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
    let client = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    assert_eq!(connect(&client, &address), Err(rustix::io::Errno::INPROGRESS));
    client.into()
}

/// They are the worker's to drop: it does not give them back.
async fn dropped_connections(kid: Kid) {
    let directory = Directory::new();
    let script = "const server = require('http').createServer(() => {});
        server.maxConnections = 0;
        server.dropMaxConnection = true;
        server.on('drop', () => process.send('drop'));
        server.listen(0, '127.0.0.1');";
    let mut gang = gang_of(kid, &directory, script);
    let (worker, address) = gang.fork_listening().await;
    assert_eq!(support::ask(address).await, "");
    assert_eq!(gang.message().await, (worker.id, json!("drop")));
    gang.until(|primary| primary.snapshot().counters.served == 1).await;
    assert_eq!(gang.with(|primary| primary.snapshot().counters.refused).await, 0);
}

pub(crate) async fn restart(kid: Kid, policy: Policy) {
    let mut sockets = Sockets::new(kid, policy);
    let (stays, goes) = (sockets.fork().await, sockets.fork().await);
    let address = sockets.open(stays, "listen", "it", localhost(0)).await;
    for _ in 0..2 {
        assert_eq!(sockets.open(goes, "listen", "it", localhost(0)).await, address);
        sockets.close(goes, "it").await;
    }
    sockets.tell(goes, "disconnect", "", Value::Null).await;
    sockets.ended(goes).await;
    sockets.end(stays).await;
}

async fn server_restart(kid: Kid) {
    restart(kid, Policy::RoundRobin).await;
}

/// What the worker's own handler throws is its own affair.
async fn throw(kid: Kid) {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = Directory::new();
    let script = "const cluster = require('cluster');
        let count = 0;
        process.on('uncaughtException', ({ message }) => { count += 1; process.exitCode = message === 'thrown' ? 10 + count : 1; });
        require('net').createServer()
          .on('error', () => { cluster.worker.disconnect(); throw new Error('thrown'); })
          .listen(Number(process.argv[2]), '127.0.0.1');";
    let part = Part { name: "only in Node", node: script, rust: |_| Box::pin(std::future::pending()) };
    let mut settings = kid.settings(&directory, Policy::RoundRobin, &part);
    settings.args.push(taken.local_addr().unwrap().port().to_string().into());
    let mut gang = Gang::new(settings);
    gang.fork().await;
    let (_, exit, asked) = gang.exit().await;
    assert_eq!((exit.to_string().as_str(), asked), ("exit code 11", true));
}

/// Three workers at one address of IPv6 alone; IPv4 has the port free.
pub(crate) async fn ipv6_alone(kid: Kid, policy: Policy) {
    // By chance the port may be somebody else's in IPv4; that it always is would be no chance.
    for _ in 0..10 {
        if ipv6_beside_ipv4(kid, policy.clone()).await {
            return;
        }
    }
    panic!("IPv4 never has the port free");
}

/// Whether IPv4 had the port free.
async fn ipv6_beside_ipv4(kid: Kid, policy: Policy) -> bool {
    let mut sockets = Sockets::new(kid, policy);
    let options = json!({ "host": "::", "port": 0, "ipv6Only": true });
    let port = told_the_same(&mut sockets, options).await;
    let Ok(_ipv4) = TcpListener::bind(("0.0.0.0", port)).await else { return false };
    let served = read(TcpStream::connect(("::1", port)).await.unwrap()).await;
    assert!(["1", "2", "3"].contains(&served.as_str()), "{served}");
    for worker in 1..=3 {
        sockets.end(WorkerId(worker)).await;
    }
    true
}

/// The port on all addresses of IPv6 at which three workers listen, as the primary is told of each.
async fn told_the_same(sockets: &mut Sockets, options: Value) -> u16 {
    let mut told = Vec::new();
    for _ in 0..3 {
        let worker = sockets.fork().await;
        let Address { address, port, address_type, .. } = sockets.told(worker, options.clone()).await;
        assert_eq!((address.as_deref(), address_type), (Some("::"), AddressType::V6));
        told.push(port);
    }
    assert!(told.iter().all(|port| *port == told[0]), "{told:?}");
    told[0].and_then(|port| port.try_into().ok()).unwrap_or_else(|| panic!("no port: {told:?}"))
}

async fn ipv6_only(kid: Kid) {
    ipv6_alone(kid, Policy::RoundRobin).await;
}

async fn dual_stack(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let port = told_the_same(&mut sockets, json!({ "host": "::", "port": 0 })).await;
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    for worker in 1..=3 {
        sockets.end(WorkerId(worker)).await;
    }
}

async fn path(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    let path = sockets.directory.path("app.sock");
    assert_eq!(sockets.open(worker, "listen", "it", json!({ "path": path })).await, json!(path));
    let client = UnixStream::connect(&path).await.unwrap();
    assert!(client.local_addr().unwrap().is_unnamed());
    assert_eq!(read(client).await, "1");
    sockets.end(worker).await;
}

async fn modes(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    let path = sockets.directory.path("app.sock");
    let options = json!({ "path": path, "readableAll": true, "writableAll": true });
    sockets.open(worker, "listen", "it", options).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o666, 0o666);
    sockets.close(worker, "it").await;
    sockets.end(worker).await;
}

async fn listen_anywhere(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    assert_ne!(port_of(&sockets.open(worker, "listen", "it", Value::Null).await), 0);
    sockets.end(worker).await;
}

/// By two primaries.
async fn bind_twice(kid: Kid) {
    let (mut one, mut other) = (Sockets::new(kid, Policy::RoundRobin), Sockets::new(kid, Policy::RoundRobin));
    let (first, second) = (one.fork().await, other.fork().await);
    let port = port_of(&one.open(first, "listen", "it", localhost(0)).await);
    assert_eq!(other.ask(second, "listen", "it", localhost(port)).await, json!(["error", "EADDRINUSE"]));
    one.end(first).await;
    other.end(second).await;
}

pub(crate) async fn two_flows(kid: Kid, what: &str, options: Value) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    for name in ["a", "b"] {
        sockets.tell(worker, what, name, options.clone()).await;
    }
    // Each opens twice and closes twice, whoever is quicker.
    let mut closed = 0;
    while closed < 4 {
        let (_, answer) = sockets.gang.message().await;
        let name = answer[0].as_str().unwrap();
        match answer[1].as_str().unwrap() {
            "listening" => {
                sockets.tell(worker, "close", name, Value::Null).await;
            }
            "closed" => {
                closed += 1;
                if !name.ends_with('2') {
                    sockets.tell(worker, what, &format!("{name}2"), options.clone()).await;
                }
            }
            _ => panic!("{answer}"),
        }
    }
    sockets.end(worker).await;
}

async fn child_index(kid: Kid) {
    two_flows(kid, "listen", localhost(0)).await;
}

async fn listen_twice(kid: Kid) {
    let directory = Directory::new();
    let script = "const server = require('net').createServer();
        let listening = 0;
        server.on('listening', () => { listening += 1; });
        try { server.listen(0, '127.0.0.1'); server.listen(0, '127.0.0.1'); } catch ({ code }) { process.send(code); }
        server.once('listening', () => setImmediate(() => {
          server.close(() => { process.send(['closed', listening]); require('cluster').worker.disconnect(); });
        }));";
    let mut gang = gang_of(kid, &directory, script);
    gang.fork().await;
    let closed = loop {
        match gang.message().await.1 {
            // Newer Nodes do not let it come so far.
            Value::String(code) => assert_eq!(code, "ERR_SERVER_ALREADY_LISTEN"),
            closed => break closed,
        }
    };
    assert_eq!(closed, json!(["closed", 1]));
    assert_eq!(gang.exit().await.1.to_string(), "exit code 0");
}

async fn exclusive_random_ports(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let mut ports = Vec::new();
    for _ in 0..2 {
        let worker = sockets.fork().await;
        let options = json!({ "host": "127.0.0.1", "port": 0, "exclusive": true });
        ports.push(port_of(&sockets.open(worker, "listen", "it", options).await));
    }
    assert!(ports[0] != ports[1] && !ports.contains(&0), "{ports:?}");
    assert!(
        sockets.gang.with(|primary| primary.snapshot().listeners.is_empty()).await,
        "nobody has asked it"
    );
}

async fn shared_ports(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let (one, other) = (sockets.fork().await, sockets.fork().await);
    let exclusive = |port: u64| json!({ "host": "127.0.0.1", "port": port, "exclusive": true });
    let shared = port_of(&sockets.open(one, "listen", "shared", localhost(0)).await);
    let alone = port_of(&sockets.open(one, "listen", "alone", exclusive(0)).await);
    assert_eq!(port_of(&sockets.open(other, "listen", "shared", localhost(0)).await), shared);
    let taken = json!(["error", "EADDRINUSE"]);
    assert_eq!(sockets.ask(other, "listen", "alone", exclusive(alone)).await, taken);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    by_number(&mut sockets, "listen", || localhost(free().into())).await;
    // A Node does not count it among what it closes when it is told to leave.
    sockets.close(one, "alone").await;
    for worker in [one, other] {
        sockets.end(worker).await;
    }
}

/// Two workers at a port that has a number of its own, by which they share it too.
pub(crate) async fn by_number(sockets: &mut Sockets, what: &str, free: impl Fn() -> Value) {
    loop {
        let place = free();
        let answer = sockets.ask(WorkerId(1), what, "by number", place.clone()).await;
        if answer[0] == "listening" {
            assert_eq!(sockets.ask(WorkerId(2), what, "by number", place).await, answer);
            return;
        }
        // Somebody else was faster.
        assert_eq!(answer, json!(["error", "EADDRINUSE"]));
    }
}

async fn reuse_port(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    let options = |port: u64| json!({ "host": "127.0.0.1", "port": port, "reusePort": true });
    let port = port_of(&sockets.open(worker, "listen", "one", options(0)).await);
    assert_eq!(port_of(&sockets.open(worker, "listen", "other", options(port)).await), port);
    assert!(
        sockets.gang.with(|primary| primary.snapshot().listeners.is_empty()).await,
        "nobody has asked it"
    );
    sockets.close(worker, "one").await;
    sockets.close(worker, "other").await;
    sockets.end(worker).await;
}

/// The first one's are everybody's.
async fn ticket_keys(kid: Kid) {
    let directory = Directory::new();
    let script = "const server = require('tls').createServer({});
        server.listen(0, '127.0.0.1', () => process.send(server.getTicketKeys().toString('hex')));";
    let mut gang = gang_of(kid, &directory, script);
    let mut keys = Vec::new();
    for _ in 0..3 {
        gang.fork().await;
        keys.push(gang.message().await.1);
    }
    assert!(keys[0].as_str().is_some_and(|key| key.len() == 96), "{keys:?}");
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}
