//! Sockets that the primary was started with: the number that a worker names is the primary's.

use std::{
    net::{TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use ganger::process::Stdio;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
};

use crate::{
    alone,
    rows::{Kid, rows, rows_of},
    rows_under_node,
    sockets::SOCKETS,
    support::{Directory, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        rows("pitfall_40_a_descriptor_is_the_primarys", listeners),
        rows_under_node("pitfall_40_a_descriptor_is_the_primarys", LISTENERS),
        // A Node looks first what the number is in its own process.
        rows_of([Kid::Rust].into_iter(), "a descriptor of a UDP socket is the primary's", datagrams),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a worker of a primary that was started with a socket as descriptor 5 says when it opens that.
async fn opened(
    kid: Kid,
    policy: &str,
    what: &str,
    socket: impl Into<OwnedFd>,
) -> (ganger::process::Child, Value) {
    let directory = Directory::new();
    let settings = kid.settings(&directory, Default::default(), &SOCKETS);
    let mut command = alone::command("open what it was started with", Some(&settings), &[]);
    command.env("NODE_CLUSTER_SCHED_POLICY", policy).env("WHAT", what);
    command.descriptor(5, Stdio::from_fd(socket.into())).stderr(Stdio::Inherit);
    let mut primary = command.spawn().unwrap();
    let mut lines = BufReader::new(primary.stdout.take().unwrap()).lines();
    let said = lines.next_line().await.unwrap().expect("it has ended");
    (primary, serde_json::from_str(&said).unwrap())
}

async fn listeners(kid: Kid) {
    for policy in ["rr", "none"] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (_primary, said) = opened(kid, policy, "listen", socket).await;
        let it = ["descriptor 5".into(), json!(["it", "listening", ["127.0.0.1", address.port()]])];
        assert_eq!(said, json!(it), "{policy}");
        assert_eq!(read(TcpStream::connect(address).await.unwrap()).await, "1", "{policy}");
    }
}

const LISTENERS: &str = "
const net = require('net');
if (process.argv[2]) {
  workers('sockets');
  const worker = cluster.fork();
  ask(worker, ['listen', 'it', { fd: 4 }], mustCall(([, what, [address, port]]) => {
    assert.deepStrictEqual([what, address], ['listening', '127.0.0.1']);
    let text = '';
    net.connect(port, address).on('data', (data) => { text += data; }).on('end', mustCall(() => {
      assert.strictEqual(text, '1');
      worker.kill();
    }));
  }));
} else {
  for (const NODE_CLUSTER_SCHED_POLICY of ['rr', 'none']) {
    const server = net.createServer().listen(0, '127.0.0.1', mustCall(() => {
      const stdio = ['inherit', 'inherit', 'inherit', 'ignore', server._handle.fd];
      const env = { ...process.env, NODE_CLUSTER_SCHED_POLICY };
      const primary = require('child_process').spawn(node, [__filename, 'primary'], { stdio, env });
      primary.on('exit', mustCall((code) => assert.strictEqual(code, 0)));
      // From now on it is the other one's.
      server.close();
    }));
  }
}";

async fn datagrams(kid: Kid) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (_primary, said) = opened(kid, "rr", "bind", socket).await;
    assert_eq!(said[1], json!(["it", "listening", ["127.0.0.1", address.port()]]), "{said}");
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"who", address).await.unwrap();
    let mut answer = [0; 8];
    let count = client.recv(&mut answer).await.unwrap();
    assert_eq!(&answer[..count], b"1");
}
