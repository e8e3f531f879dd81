//! Rows udp: datagrams in workers.

use ganger::{
    WorkerId,
    cluster::{Event, Policy, Worker},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::{
    part::Part,
    rows::{Kid, rows, rows_of},
    rr::{by_number, nodes, two_flows, with_reuse_port},
    sockets::Sockets,
    support::Directory,
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        rows("test-cluster-dgram-1", ten_each),
        rows("test-cluster-dgram-2", forty_sent),
        rows("test-cluster-dgram-ipv6only", ipv6_only),
        rows_of(with_reuse_port(), "test-cluster-dgram-reuseport", reuse_port),
        rows("test-cluster-child-index-dgram", child_index),
        rows("test-dgram-cluster-bind-error", bind_error),
        rows("test-dgram-cluster-close-in-listening", close_in_listening),
        rows_of(nodes(18), "test-dgram-bind-socket-close-before-cluster-reply", close_before_the_reply),
        rows_of(nodes(18), "test-dgram-unref-in-cluster", unref),
        rows("test-dgram-bind-shared-ports", shared_ports),
        rows("test-dgram-bind-shared-ports-after-port-0", after_port_0),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) const PARTS: &[Part] = &[RECEIVE_TEN, SEND_ALWAYS];

/// Closes its socket after ten datagrams, and says how many it got.
const RECEIVE_TEN: Part = Part {
    name: "receive ten",
    node: "const socket = require('dgram').createSocket('udp4');
        let count = 0;
        socket.on('message', () => { if (++count === 10) socket.close(() => process.send(count)); });
        socket.bind(0, '127.0.0.1');",
    rust: |worker| Box::pin(receive_ten(worker)),
};

async fn receive_ten(worker: Worker) -> ganger::Result {
    let socket = worker.bind_udp("127.0.0.1:0".parse::<std::net::SocketAddr>()?).await?;
    for _ in 0..10 {
        socket.receive(&mut [0; 64]).await?;
    }
    drop(socket);
    worker.send(&10)?;
    worker.stopping().await;
    Ok(())
}

/// Sends to the port that its argument names, until it is told to leave.
const SEND_ALWAYS: Part = Part {
    name: "send always",
    node: "const socket = require('dgram').createSocket('udp4');
        const port = Number(process.argv[2]);
        socket.bind(0, '127.0.0.1', () => {
          const timer = setInterval(() => socket.send('x', port, '127.0.0.1', () => {}), 1);
          socket.on('close', () => clearInterval(timer));
        });",
    rust: |worker| Box::pin(send_always(worker)),
};

async fn send_always(worker: Worker) -> ganger::Result {
    let port: u16 = std::env::args().nth(2).ok_or("no port")?.parse()?;
    let socket = worker.bind_udp("127.0.0.1:0".parse::<std::net::SocketAddr>()?).await?;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(1));
    let mut stopping = std::pin::pin!(worker.stopping());
    loop {
        tokio::select! {
            () = &mut stopping => return Ok(()),
            _ = tick.tick() => {
                // Nobody may be there any more.
                let _ = socket.send_to(b"x", ("127.0.0.1", port)).await;
            }
        }
    }
}

/// Whoever has ten closes, so the others get theirs.
async fn ten_each(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &RECEIVE_TEN);
    for _ in 0..4 {
        gang.fork().await;
    }
    let mut addresses = Vec::new();
    while addresses.len() < 4 {
        addresses.push(gang.listening().await.1);
    }
    assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(addresses[0].strip_prefix("udp ").unwrap()).await.unwrap();
    for _ in 0..40 {
        client.send(b"hello").await.unwrap();
    }
    let mut workers = Vec::new();
    while workers.len() < 4 {
        let (worker, count) = gang.message().await;
        assert_eq!(count, 10);
        workers.push(worker);
    }
    for worker in workers {
        gang.disconnect(worker).await;
    }
    for _ in 0..4 {
        assert_eq!(gang.exit().await.1.to_string(), "exit code 0");
    }
}

async fn forty_sent(kid: Kid) {
    let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let directory = Directory::new();
    let mut settings = kid.settings(&directory, Policy::RoundRobin, &SEND_ALWAYS);
    settings.args.push(receiver.local_addr().unwrap().port().to_string().into());
    let mut gang = crate::support::Gang::new(settings);
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(gang.fork().await);
    }
    for _ in 0..40 {
        receiver.recv(&mut [0; 8]).await.unwrap();
    }
    drop(receiver);
    for worker in workers {
        gang.disconnect(worker.id).await;
    }
    for _ in 0..4 {
        assert_eq!(gang.exit().await.1.to_string(), "exit code 0");
    }
}

fn localhost(port: u64) -> Value {
    json!({ "type": "udp4", "address": "127.0.0.1", "port": port })
}

async fn ipv6_only(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    // By chance the port may be somebody else's in IPv4; that it always is would be no chance.
    for attempt in 0..10 {
        let ipv6 = json!({ "type": "udp6", "ipv6Only": true, "address": "::", "port": 0 });
        let port = sockets.open(worker, "bind", &format!("ipv6 {attempt}"), ipv6).await[1].clone();
        let ipv4 = json!({ "type": "udp4", "address": "0.0.0.0", "port": port });
        let answer = sockets.ask(worker, "bind", &format!("ipv4 {attempt}"), ipv4).await;
        if answer == json!(["listening", ["0.0.0.0", port]]) {
            return sockets.end(worker).await;
        }
        assert_eq!(answer, json!(["error", "EADDRINUSE"]));
    }
    panic!("IPv4 never has the port free");
}

async fn reuse_port(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    let options =
        |port: &Value| json!({ "type": "udp4", "address": "127.0.0.1", "port": port, "reusePort": true });
    let address = sockets.open(worker, "bind", "one", options(&json!(0))).await;
    assert_eq!(sockets.open(worker, "bind", "other", options(&address[1])).await, address);
    assert!(
        sockets.gang.with(|primary| primary.snapshot().listeners.is_empty()).await,
        "nobody has asked it"
    );
    sockets.close(worker, "one").await;
    sockets.close(worker, "other").await;
    sockets.end(worker).await;
}

async fn child_index(kid: Kid) {
    two_flows(kid, "bind", localhost(0)).await;
}

/// The primary finds that it cannot be: no address of this machine's.
async fn bind_error(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let worker = sockets.fork().await;
    let elsewhere = json!({ "type": "udp4", "address": "240.0.0.1", "port": 0 });
    assert_eq!(sockets.ask(worker, "bind", "it", elsewhere).await, json!(["error", "EADDRNOTAVAIL"]));
    // It goes on as if nothing had been.
    sockets.open(worker, "bind", "it", localhost(0)).await;
    sockets.close(worker, "it").await;
    sockets.end(worker).await;
}

/// Three, as soon as they listen.
async fn close_in_listening(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    for _ in 0..3 {
        let worker = sockets.fork().await;
        let answer = sockets.ask(worker, "bind and close", "it", localhost(0)).await;
        assert_eq!(answer, json!(["closed"]));
        sockets.end(worker).await;
    }
}

async fn close_before_the_reply(kid: Kid) {
    let directory = Directory::new();
    let script = "const socket = require('dgram').createSocket('udp4');
        socket.on('error', () => process.send('error'));
        socket.bind(0, '240.0.0.1');
        // The address is looked up first, and asked for then.
        const send = process.send;
        process.send = (message, ...rest) => {
          const result = send.call(process, message, ...rest);
          if (message.act === 'queryServer') { process.send = send; socket.close(() => process.send('closed')); }
          return result;
        };";
    let part = Part { name: "only in Node", node: script, rust: |_| Box::pin(std::future::pending()) };
    let mut gang = kid.gang(&directory, &part);
    let worker = gang.fork().await;
    let mut told = Vec::new();
    let mut failed = false;
    while told.is_empty() || !failed {
        match gang.event().await {
            Event::Message { message, .. } => told.push(message.parse::<Value>().unwrap()),
            Event::BindFailed { .. } => failed = true,
            _ => {}
        }
    }
    gang.disconnect(worker.id).await;
    assert_eq!(gang.exit().await.1.to_string(), "exit code 0");
    assert_eq!(told, [json!("closed")]);
}

/// Nothing but the channel keeps it alive.
async fn unref(kid: Kid) {
    let directory = Directory::new();
    let script = "const socket = require('dgram').createSocket('udp4');
        socket.unref();
        socket.bind(0, '127.0.0.1', () => process.send(process._getActiveHandles().includes(socket)));";
    let part = Part { name: "only in Node", node: script, rust: |_| Box::pin(std::future::pending()) };
    let mut gang = kid.gang(&directory, &part);
    let worker = gang.fork().await;
    assert_eq!(gang.message().await, (worker.id, json!(false)));
    gang.disconnect(worker.id).await;
    assert_eq!(gang.exit().await.1.to_string(), "exit code 0");
}

async fn shared_ports(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let (one, other) = (sockets.fork().await, sockets.fork().await);
    let exclusive =
        |port: &Value| json!({ "type": "udp4", "address": "127.0.0.1", "port": port, "exclusive": true });
    let shared = sockets.open(one, "bind", "shared", localhost(0)).await;
    let alone = sockets.open(one, "bind", "alone", exclusive(&json!(0))).await;
    assert_eq!(sockets.open(other, "bind", "shared", localhost(0)).await, shared);
    let taken = json!(["error", "EADDRINUSE"]);
    assert_eq!(sockets.ask(other, "bind", "alone", exclusive(&alone[1])).await, taken);
    let free = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    by_number(&mut sockets, "bind", || localhost(free().into())).await;
    // A Node does not count it among what it closes when it is told to leave.
    sockets.close(one, "alone").await;
    for worker in [one, other] {
        sockets.end(worker).await;
    }
}

/// The port that came of 0 is another one than the same port by its number.
async fn after_port_0(kid: Kid) {
    let mut sockets = Sockets::new(kid, Policy::RoundRobin);
    let (one, other) = (sockets.fork().await, sockets.fork().await);
    let port = sockets.open(one, "bind", "it", localhost(0)).await[1].as_u64().unwrap();
    assert_eq!(sockets.ask(other, "bind", "it", localhost(port)).await, json!(["error", "EADDRINUSE"]));
    for worker in [WorkerId(1), WorkerId(2)] {
        sockets.end(worker).await;
    }
}
