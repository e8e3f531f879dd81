//! Rows `listen-fd`: servers on sockets that a process was started with, or that were bound before.

use std::{
    fs::File,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use ganger::{
    Handle,
    process::Stdio,
    sys::{
        fd::adopt,
        socket::{ReusePort, TcpBind, UnixMode, bind_tcp, listen, listen_unix},
    },
};
use libtest_mimic::Trial;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use super::part::{answer, end};
use crate::{
    kid::{Kid, message_of, rows, rows_under_node, story},
    part, row,
    support::{Directory, gone, read},
};

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        row("test-listen-fd-detached", detached),
        row("test-listen-fd-ebadf", not_open),
        row("test-net-listen-fd0", no_socket),
        row("test-net-server-listen-handle", bound_before),
    ];
    trials.extend(rows("test-listen-fd-server", server));
    trials.extend(rows_under_node("test-listen-fd-server", UNDER_NODE));
    trials
}

/// The listener that this process was started with.
pub(crate) fn inherited(number: i32) -> io::Result<TcpListener> {
    let handle = Handle::try_from(adopt(number)?)?;
    TcpListener::try_from(handle).map_err(|_| ErrorKind::InvalidInput.into())
}

fn any_port() -> std::net::TcpListener {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// What an HTTP server says.
pub(super) async fn request(server: SocketAddr) -> String {
    let mut client = TcpStream::connect(server).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n").await.unwrap();
    read(client).await
}

/// The channel comes behind the server, and the parent does not serve.
async fn server(kid: Kid) {
    let directory = Directory::new();
    let listener = any_port();
    let address = listener.local_addr().unwrap();
    let mut child = {
        let mut command = kid.command(&directory, "serve on descriptor 3");
        let standard = [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit];
        let server = Stdio::from_fd(OwnedFd::from(listener));
        command.stdio(standard.into_iter().chain([server, Stdio::Ipc])).spawn().unwrap()
    };
    assert_eq!(message_of(&mut child).await, "listening");
    let text = request(address).await;
    assert!(text.contains("hello from child"), "{text}");
    child.disconnect();
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
    assert!(TcpStream::connect(address).await.is_err(), "somebody has a copy");
}

const UNDER_NODE: &str = "
const net = require('net');
const server = net.createServer(() => assert.fail('the parent does not serve')).listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const child = fork('serve on descriptor 3', [], { stdio: [0, 1, 2, server._handle, 'ipc'] });
  server.close();
  child.on('message', mustCall((message) => {
    assert.strictEqual(message, 'listening');
    require('http').get({ port, host: '127.0.0.1', agent: false }, mustCall((response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (data) => { text += data; });
      response.on('end', mustCall(() => { assert.strictEqual(text, 'hello from child'); child.disconnect(); }));
    }));
  }));
  child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));
});
";

/// It outlives the process that has started it and opened its server.
async fn detached() {
    let output = part::command("listen and leave").exec().await.unwrap();
    let text = output.stdout.into_text();
    let (pid, address) = text.trim().split_once(' ').unwrap();
    assert!(request(address.parse().unwrap()).await.contains("hello from child"));
    gone(pid.parse().unwrap()).await;
}

/// Opens a server for a child of its own, and ends.
pub(crate) fn listen_and_leave() {
    let listener = any_port();
    let address = listener.local_addr().unwrap();
    let mut command = part::command("serve one on descriptor 3");
    command.detached(true).stdio([Stdio::Ignore, Stdio::Ignore, Stdio::Ignore, Stdio::from_fd(listener)]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { println!("{} {address}", command.spawn().unwrap().pid()) });
}

pub(crate) fn serve_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { answer(inherited(3).unwrap().accept().await.unwrap().0).await });
}

async fn not_open() {
    assert_eq!(adopt(1_000_000).unwrap_err().raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
    // What this process has opened itself is not meant either.
    let own = any_port();
    assert!(adopt(std::os::fd::AsRawFd::as_raw_fd(&own)).is_err());
    own.local_addr().unwrap();
}

async fn no_socket() {
    let null = File::open("/dev/null").unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    for fd in [OwnedFd::from(null), OwnedFd::from(reader)] {
        assert_eq!(Handle::try_from(fd).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // Nor is every socket a server.
    let bound = bind_tcp(&localhost()).unwrap();
    assert!(TcpListener::try_from(Handle::try_from(bound).unwrap()).is_err());
}

fn localhost() -> TcpBind {
    TcpBind {
        address: Some(Ipv4Addr::LOCALHOST.into()),
        scope: 0,
        port: 0,
        ipv6_only: false,
        reuse_port: ReusePort::Never,
    }
}

async fn bound_before() {
    let bound = bind_tcp(&localhost()).unwrap();
    listen(bound.as_fd(), 511).unwrap();
    let listener = TcpListener::try_from(Handle::try_from(bound).unwrap()).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    end_both(client, listener.accept().await.unwrap().0).await;

    let directory = Directory::new();
    let path = directory.path("socket");
    let (bound, file) = listen_unix(&path, UnixMode::default(), 511).unwrap();
    let listener = UnixListener::try_from(Handle::try_from(bound).unwrap()).unwrap();
    let client = UnixStream::connect(&path).await.unwrap();
    drop(listener.accept().await.unwrap());
    assert_eq!(read(client).await, "");
    drop(listener);
    assert!(path.exists(), "whoever bound it may listen again");
    drop(file);
    assert!(!path.exists());
}

async fn end_both(client: TcpStream, accepted: TcpStream) {
    let (text, ()) = tokio::join!(read(client), end(accepted, "served"));
    assert_eq!(text, "served");
}
