//! What Node programs do that know nothing of us: each with workers of every Node, two of them on the same port.

use std::net::SocketAddr;

use ganger::{cluster::Policy, process::Command};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use crate::{
    rows::NODES,
    support::{self, Directory, Gang, POLICIES, ask, node, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        trial("HTTP", |major| each_policy(major, http)),
        trial("HTTP/2", |major| each_policy(major, http2)),
        trial("WebSocket", |major| each_policy(major, web_socket)),
        trial("net", |major| each_policy(major, net)),
        trial("dgram", |major| each_policy(major, dgram)),
        trial("several ports", |major| each_policy(major, several_ports)),
        trial("worker threads in a worker", |major| each_policy(major, threads)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn trial<F: Future<Output = ()> + 'static>(
    what: &'static str,
    test: fn(&'static str) -> F,
) -> Vec<Trial> {
    let trial = |major: &'static str| {
        Trial::test(format!("{what} with Node {major}"), move || {
            support::run(test(major));
            support::passed(what, major);
            Ok(())
        })
    };
    NODES.into_iter().map(trial).collect()
}

pub(crate) async fn each_policy<F: Future<Output = ()>>(
    major: &'static str,
    test: fn(&'static str, Policy) -> F,
) {
    for policy in &POLICIES {
        test(major, policy.clone()).await;
    }
}

/// Two workers with a script, and where both of them listen.
pub(crate) async fn two(
    directory: &Directory,
    major: &str,
    policy: Policy,
    script: &str,
) -> (Gang, SocketAddr) {
    let mut gang = Gang::new(directory.workers(major, policy, script));
    let (_, address) = gang.fork_listening().await;
    let (_, other) = gang.fork_listening().await;
    assert_eq!(address, other);
    (gang, address)
}

/// What a client in the same Node prints, which finds the port in `port`.
pub(crate) async fn client(directory: &Directory, major: &str, address: SocketAddr, script: &str) -> String {
    let script = directory.write("client.js", &format!("const port = Number(process.argv[2]);\n{script}"));
    let mut command = Command::new(node(major));
    command.arg(script).arg(address.port().to_string()).guarded(true).kill_on_drop(true).kill_signal(9);
    match command.exec().await {
        Ok(output) => output.stdout.text().trim().to_owned(),
        Err(error) => panic!("{error}"),
    }
}

async fn http(major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let script = "
        require('http').createServer((request, response) => {
          let text = '';
          request.on('data', (data) => { text += data; });
          request.on('end', () => response.end(`${request.method} ${request.url} ${text}`));
        }).listen(0, '127.0.0.1');";
    let (_gang, address) = two(&directory, major, policy, script).await;
    let client = |path: &str| {
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody");
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            read(stream).await
        }
    };
    for path in ["/1", "/2", "/3"] {
        let answer = client(path).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.contains(&format!("POST {path} body")),
            "{answer}"
        );
    }
}

async fn http2(major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let script = "
        require('http2').createServer((request, response) => response.end(request.url)).listen(0, '127.0.0.1');";
    let (_gang, address) = two(&directory, major, policy, script).await;
    let script = "
        const session = require('http2').connect(`http://127.0.0.1:${port}`);
        let open = 3;
        for (const path of ['/1', '/2', '/3']) {
          let text = '';
          session.request({ ':path': path }).setEncoding('utf8').on('data', (data) => { text += data; }).on('end', () => {
            console.log(text);
            if (--open === 0) session.close();
          });
        }";
    let answer = client(&directory, major, address, script).await;
    let mut lines: Vec<&str> = answer.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["/1", "/2", "/3"]);
}

/// The handshake by hand, and each frame sent back.
async fn web_socket(major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let script = "
        const { createHash } = require('crypto');
        const server = require('http').createServer((request, response) => response.end('no socket'));
        server.on('upgrade', (request, socket) => {
          const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
          const accept = createHash('sha1').update(key).digest('base64');
          socket.write(`HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ${accept}\\r\\n\\r\\n`);
          socket.on('data', (frame) => {
            const length = frame[1] & 127, mask = frame.subarray(2, 6);
            const text = frame.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4]);
            socket.write(Buffer.concat([Buffer.from([0x81, length]), text]));
          });
        });
        server.listen(0, '127.0.0.1');";
    let (_gang, address) = two(&directory, major, policy, script).await;
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        // "Hello" in one masked frame, as in RFC 6455, 5.7.
        stream.write_all(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]).await.unwrap();
        let mut frame = [0; 7];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, b"\x81\x05Hello");
    }
}

async fn net(major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let script = "require('net').createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');";
    let (_gang, address) = two(&directory, major, policy, script).await;
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let sent = vec![b'x'; 200_000];
        let (mut from, mut to) = stream.split();
        let mut back = Vec::new();
        let (written, taken) = tokio::join!(
            async {
                to.write_all(&sent).await?;
                to.shutdown().await
            },
            from.read_to_end(&mut back)
        );
        written.unwrap();
        taken.unwrap();
        assert!(back == sent);
    }
}

async fn dgram(major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let script = "
        const socket = require('dgram').createSocket('udp4');
        socket.on('message', (text, { port, address }) => socket.send(`${text}!`, port, address));
        socket.bind(0, '127.0.0.1');";
    let mut gang = Gang::new(directory.workers(major, policy, script));
    let mut places = Vec::new();
    for _ in 0..2 {
        gang.fork().await;
        places.push(gang.listening().await.1);
    }
    assert_eq!(places[0], places[1]);
    let address = places[0].strip_prefix("udp ").unwrap().to_owned();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    for _ in 0..3 {
        client.send(b"hello").await.unwrap();
        let mut buffer = [0; 16];
        let count = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"hello!");
    }
}

async fn several_ports(major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let script = "
        const net = require('net');
        const ports = [];
        for (const name of ['a', 'b', 'c']) {
          const server = net.createServer((socket) => socket.end(name)).listen(0, '127.0.0.1', () => {
            ports.push([name, server.address().port]);
            if (ports.length === 3) setImmediate(() => process.send(ports.sort()));
          });
        }";
    let mut gang = Gang::new(directory.workers(major, policy, script));
    gang.fork().await;
    let (_, ports) = gang.message().await;
    gang.fork().await;
    assert_eq!(gang.message().await.1, ports);
    for entry in ports.as_array().unwrap() {
        let port = entry[1].as_u64().unwrap() as u16;
        assert_eq!(Value::from(ask(([127, 0, 0, 1], port).into()).await), entry[0]);
    }
}

async fn threads(major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let script = "
        const { Worker, isMainThread, parentPort } = require('worker_threads');
        if (isMainThread) {
          const thread = new Worker(__filename);
          const waiting = [];
          thread.on('message', (answer) => waiting.shift().end(String(answer)));
          require('http').createServer((request, response) => {
            waiting.push(response);
            thread.postMessage(Number(request.url.slice(1)));
          }).listen(0, '127.0.0.1');
        } else {
          // A thread has no channel of the process's.
          parentPort.on('message', (number) => parentPort.postMessage(number * 2 + (process.connected ? 1 : 0)));
        }";
    let (_gang, address) = two(&directory, major, policy, script).await;
    for number in [1, 20, 300] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read(stream).await;
        assert!(answer.contains(&(number * 2).to_string()), "{answer}");
    }
}
