//! The file before a Node program: what it reports, how it leads clients away, and that the program does not notice.

use std::{future::Future, net::SocketAddr, time::Duration};

use ganger::{
    WorkerId,
    cluster::{Event, Policy, Report, Settings},
    process::Exit,
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    rows::NODES,
    support::{self, Directory, Gang, node},
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        trial("hints: a drain", drain),
        trial("hints: a drain of HTTPS and HTTP/2", drain_others),
        trial("hints: a drain cuts nothing short", spared),
        trial("hints: what lasts ends gradually", shed),
        trial("hints: reports", reports),
        trial("hints: a program does not notice", unnoticed),
        trial("hints: none", none),
        trial("hints: an uncaught exception", graceful),
        trial("hints: an uncaught exception is the program's", handled),
        trial("hints: an uncaught exception without --graceful", bare),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn trial<F: Future<Output = ()> + 'static>(what: &'static str, test: fn(&'static str) -> F) -> Vec<Trial> {
    let trial = |major: &'static str| {
        Trial::test(format!("{what} with Node {major}"), move || {
            support::run(test(major));
            support::passed(what, major);
            Ok(())
        })
    };
    NODES.into_iter().map(trial).collect()
}

/// Answers when it has the whole request, says `begun` when it has its head, and echoes what the primary says.
const SERVER: &str = "
const server = http.createServer((request, response) => {
  if (request.url === '/sync') throw new Error('sync');
  if (request.url === '/timer') return setTimeout(() => { throw new Error('timer'); });
  if (request.url === '/promise') return Promise.resolve().then(() => { throw new Error('promise'); });
  if (request.method === 'POST') process.send('begun');
  request.resume().on('end', () => {
    const length = ['Content-Length', '2'], keep = ['Connection', 'keep-alive'];
    if (request.url === '/object') response.writeHead(200, { connection: 'keep-alive', 'content-length': '2' });
    if (request.url === '/array') response.writeHead(200, [...keep, ...length]);
    if (request.url === '/pairs') response.writeHead(200, [keep, length]);
    if (request.url === '/set') response.setHeader(...keep);
    response.end('ok');
  });
});
server.listen(0, '127.0.0.1');
process.on('message', (message) => process.send(message));
";

const COMMON_JS: &str = "const http = require('http');";
const MODULE: &str = "import http from 'node:http';";

fn worker(directory: &Directory, major: &str, name: &str, script: &str) -> Settings {
    let script = directory.write(name, script);
    let mut settings = Settings::new(node(major));
    settings.args = vec![script.into()];
    settings
}

/// One worker with a script, and where it listens.
async fn one(settings: Settings) -> (Gang, WorkerId, SocketAddr) {
    let mut gang = Gang::new(settings);
    let (worker, address) = gang.fork_listening().await;
    (gang, worker.id, address)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

async fn write(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// One answer's head.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\nok") {
        let mut some = [0; 512];
        let count = stream.read(&mut some).await.unwrap();
        assert!(count > 0, "the connection ended behind {text:?}");
        text.push_str(std::str::from_utf8(&some[..count]).unwrap());
    }
    text.to_lowercase()
}

async fn get(stream: &mut TcpStream) -> String {
    write(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    answer(stream).await
}

/// A request that is under way until its body comes.
async fn begin(gang: &mut Gang, address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = connect(address).await;
    write(&mut stream, &format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")).await;
    assert_eq!(gang.message().await.1, json!("begun"));
    stream
}

/// Nothing more comes.
async fn ended(mut stream: TcpStream) {
    let mut rest = String::new();
    // Reset or closed, it has ended.
    let _ = stream.read_to_string(&mut rest).await;
    assert_eq!(rest, "");
}

/// Tells a worker to drain; it has heard it.
async fn told_to_drain(gang: &mut Gang, worker: WorkerId) {
    gang.with(move |primary| primary.drain(worker)).await;
    gang.send(worker, "heard").await;
    while gang.message().await.1 != json!("heard") {}
}

fn closes(answer: &str) -> bool {
    assert_eq!(answer.matches("connection: ").count(), 1, "{answer}");
    answer.contains("connection: close\r\n")
}

const PATHS: [&str; 5] = ["/", "/object", "/array", "/pairs", "/set"];

async fn drain(major: &'static str) {
    let directory = Directory::new();
    for (name, import) in [("worker.js", COMMON_JS), ("worker.mjs", MODULE)] {
        let settings = worker(&directory, major, name, &format!("{import}{SERVER}"));
        let (mut gang, worker, address) = one(settings).await;
        let mut idle = connect(address).await;
        assert!(!closes(&get(&mut idle).await));
        let mut busy = Vec::new();
        for path in PATHS {
            busy.push(begin(&mut gang, address, path).await);
        }
        told_to_drain(&mut gang, worker).await;
        // Once more does no harm.
        told_to_drain(&mut gang, worker).await;
        for mut stream in busy {
            write(&mut stream, "body").await;
            assert!(closes(&answer(&mut stream).await));
            ended(stream).await;
        }
        assert!(closes(&get(&mut idle).await), "an idle connection is left until its next request");
        ended(idle).await;
    }
}

/// Their clients are in the worker itself.
async fn drain_others(major: &'static str) {
    let directory = Directory::new();
    directory.write("key.pem", include_str!("tls/key.pem"));
    directory.write("cert.pem", include_str!("tls/cert.pem"));
    let script = "
        const { readFileSync } = require('fs'), { join } = require('path'), http2 = require('http2'), https = require('https');
        const [key, cert] = ['key.pem', 'cert.pem'].map((name) => readFileSync(join(__dirname, name)));
        const answer = (request, response) => response.end('ok');
        const servers = [https.createServer({ key, cert }, answer), http2.createServer(answer), http2.createSecureServer({ key, cert }, answer)];
        const agent = new https.Agent({ keepAlive: true, rejectUnauthorized: false, servername: 'x' });
        const get = (say) => https.get({ agent, host: '127.0.0.1', port: servers[0].address().port }, (response) => {
          response.resume().on('end', () => say(response.headers.connection));
        });
        const connect = (protocol, server) => {
          const session = http2.connect(`${protocol}://127.0.0.1:${server.address().port}`, { rejectUnauthorized: false });
          const name = `gone: ${protocol}`;
          session.once('goaway', () => process.send(name));
          session.request().resume().on('end', () => process.send('connected'));
        };
        let left = servers.length;
        // A connection that is this worker's for sure.
        servers.forEach((server) => server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => --left || get((first) => {
          process.send(first);
          connect('http', servers[1]);
          connect('https', servers[2]);
        })));
        process.on('message', (message) => get((second) => process.send(second)));";
    let mut gang = Gang::new(worker(&directory, major, "worker.js", script));
    let worker = gang.fork().await.id;
    for expected in ["keep-alive", "connected", "connected"] {
        assert_eq!(gang.message().await.1, json!(expected));
    }
    gang.with(move |primary| primary.drain(worker)).await;
    gang.send(worker, "again").await;
    let mut said = Vec::new();
    while said.len() < 3 {
        said.push(gang.message().await.1.as_str().unwrap().to_owned());
    }
    said.sort();
    assert_eq!(said, ["close", "gone: http", "gone: https"]);
}

/// A request that is still to come, and an answer that its client takes its time for, outlive the end of the server; what is idle
/// does not, where Node sees to that.
async fn spared(major: &'static str) {
    let directory = Directory::new();
    let script = "
        const server = require('http').createServer((request, response) => {
          response.end(request.url === '/big' ? Buffer.alloc(20_000_000) : 'ok');
        });
        server.on('connection', () => process.send('connected')).listen(0, '127.0.0.1');
        process.on('message', (message) => process.send(message));";
    let (mut gang, worker, address) = one(self::worker(&directory, major, "worker.js", script)).await;
    let mut connected = async |text: &str| {
        let mut stream = connect(address).await;
        write(&mut stream, text).await;
        assert_eq!(gang.message().await.1, json!("connected"));
        stream
    };
    let mut idle = connected("").await;
    get(&mut idle).await;
    let mut slow = connected("GET /big HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut begin = [0; 4];
    slow.read_exact(&mut begin).await.unwrap();
    let mut fresh = connected("").await;
    told_to_drain(&mut gang, worker).await;
    gang.with(move |primary| primary.disconnect(worker)).await;
    gang.send(worker, "asked").await;
    assert_eq!(gang.message().await.1, json!("asked"));
    assert!(closes(&get(&mut fresh).await));
    ended(fresh).await;
    if major == "18" {
        assert!(closes(&get(&mut idle).await));
    }
    ended(idle).await;
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() >= 20_000_000, "it was cut at {}", rest.len());
    assert_eq!(gang.exit().await, (worker, Exit::Code(0), true));
}

/// Responses without an end, over HTTP and HTTPS, and connections that became something else.
async fn shed(major: &'static str) {
    let directory = Directory::new();
    directory.write("key.pem", include_str!("tls/key.pem"));
    directory.write("cert.pem", include_str!("tls/cert.pem"));
    let script = "
        const { readFileSync } = require('fs'), { join } = require('path'), http = require('http'), https = require('https');
        const [key, cert] = ['key.pem', 'cert.pem'].map((name) => readFileSync(join(__dirname, name)));
        const events = (request, response) => response.write('ok');
        http.createServer(events).listen(0, '127.0.0.1').on('upgrade', (request, socket) => {
          socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: echo\\r\\nConnection: upgrade\\r\\n\\r\\nok');
          socket.pipe(socket);
        });
        const secure = https.createServer({ key, cert }, events).listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
          https.get({ host: '127.0.0.1', port: secure.address().port, rejectUnauthorized: false, agent: false }, (response) => {
            response.once('data', () => process.send('began'));
            response.once('close', () => { secure.close(); process.send('ended'); });
          });
        });";
    let settings = worker(&directory, major, "worker.js", script);
    let (mut gang, worker, address) = one(settings).await;
    assert_eq!(gang.message().await.1, json!("began"));
    let mut streams = Vec::new();
    for at in 0..100 {
        let mut stream = connect(address).await;
        let upgrade = if at % 2 == 1 { "Connection: upgrade\r\nUpgrade: echo\r\n" } else { "" };
        write(&mut stream, &format!("GET / HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n")).await;
        let mut text = Vec::new();
        while !text.windows(2).any(|window| window == b"ok") {
            assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0);
        }
        streams.push(stream);
    }
    gang.with(move |primary| primary.drain(worker)).await;
    gang.with(move |primary| primary.disconnect(worker)).await;
    gang.with(move |primary| primary.shed(worker, Duration::from_secs(30))).await;
    // The oldest goes first.
    assert_eq!(gang.message().await.1, json!("ended"));
    let last = streams.last_mut().unwrap();
    write(last, "still here").await;
    let mut echo = [0; 10];
    last.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still here");
    gang.with(move |primary| primary.shed(worker, Duration::ZERO)).await;
    for mut stream in streams {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    assert_eq!(gang.exit().await, (worker, Exit::Code(0), true));
}

async fn reports(major: &'static str) {
    let directory = Directory::new();
    let script = format!(
        "{COMMON_JS}{SERVER}\nprocess.on('message', (message) => message === 'listen' && process.on('SIGTERM', () => {{}}));"
    );
    for serialization in [ganger::Serialization::Json, ganger::Serialization::Advanced] {
        let mut settings = worker(&directory, major, "worker.js", &script);
        settings.serialization = serialization;
        settings.policy = Policy::LeastConn;
        let (gang, worker, address) = one(settings).await;
        gang.until(|primary| last(primary).is_some()).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = connect(address).await;
            get(&mut stream).await;
            streams.push(stream);
        }
        gang.until(|primary| last(primary).is_some_and(|report| report.connections == Some(3))).await;
        let snapshot = gang.with(|primary| primary.snapshot()).await;
        assert_eq!(snapshot.workers[0].open, 3, "least-conn goes by it");
        drop(streams);
        gang.until(|primary| last(primary).is_some_and(|report| report.connections == Some(0))).await;
        gang.until(|primary| primary.snapshot().workers[0].open == 0).await;
        let report = gang.with(|primary| last(primary)).await.unwrap();
        assert_eq!(report.term, Some(false));
        assert!(
            report.heap.unwrap() > 1 << 20 && report.heap_limit.unwrap() > report.heap.unwrap(),
            "{report:?}"
        );
        assert!(report.busy.unwrap() <= 1000 && report.late.is_some(), "{report:?}");
        gang.send(worker, "listen").await;
        gang.until(|primary| last(primary).is_some_and(|report| report.term == Some(true))).await;
    }
}

fn last(primary: &ganger::cluster::Primary) -> Option<Report> {
    primary.snapshot().workers.first()?.report
}

/// What each process finds, of itself and of what it starts.
async fn unnoticed(major: &'static str) {
    let directory = Directory::new();
    let find = "{ execArgv: process.execArgv, argv: process.argv.slice(2), options: process.env.NODE_OPTIONS ?? null }";
    let kid = directory.write("kid.js", &format!("process.send({find}, () => process.disconnect());"));
    directory.write("spawned.js", &format!("console.log(JSON.stringify({find}));"));
    let script = format!(
        "
        const {{ execFileSync, fork }} = require('child_process');
        const {{ Worker }} = require('worker_threads');
        const {{ join }} = require('path');
        if (require.main !== module || process.listenerCount('uncaughtException') > 0) process.exit(9);
        process.send({find});
        const spawned = [...process.execArgv, join(__dirname, 'spawned.js'), 'x'];
        process.send(JSON.parse(execFileSync(process.execPath, spawned)));
        const nested = `require('child_process').fork(${{JSON.stringify({kid:?})}}, ['x']).on('message', (found) => require('worker_threads').parentPort.postMessage(found));`;
        fork({kid:?}, ['x']).on('internalMessage', () => process.exit(8)).on('message', (found) => {{
          process.send(found);
          new Worker(nested, {{ eval: true }}).on('message', (found) => process.send(found, () => {{
            process.exitCode = 7;
            process.disconnect();
          }}));
        }});"
    );
    let mut settings = worker(&directory, major, "worker.js", &script);
    settings.args.insert(0, "--max-old-space-size=150".into());
    settings.args.push("x".into());
    let mut gang = Gang::new(settings);
    gang.fork().await;
    for who in ["the worker", "spawned", "forked", "forked by a thread"] {
        let expected = json!({ "execArgv": ["--max-old-space-size=150"], "argv": ["x"], "options": null });
        assert_eq!(gang.message().await.1, expected, "{who}");
    }
    assert_eq!(gang.exit().await.1, Exit::Code(0), "a worker that lost its channel");

    // It keeps nobody alive, with a channel and without one.
    for (channel, graceful) in [(true, false), (true, true), (false, true)] {
        let mut settings =
            worker(&directory, major, "worker.mjs", "process.exitCode = 6; process.channel?.unref();");
        (settings.channel, settings.graceful) = (channel, graceful);
        let mut gang = Gang::new(settings);
        gang.fork().await;
        assert_eq!(gang.exit().await.1, Exit::Code(6));
    }
}

async fn none(major: &'static str) {
    let directory = Directory::new();
    let mut settings = worker(&directory, major, "worker.js", &format!("{COMMON_JS}{SERVER}"));
    settings.hints = false;
    let (mut gang, worker, address) = one(settings).await;
    let mut stream = connect(address).await;
    assert!(!closes(&get(&mut stream).await));
    told_to_drain(&mut gang, worker).await;
    assert!(!closes(&get(&mut stream).await));
    assert_eq!(gang.with(|primary| last(primary)).await, None);
    // It leaves as ever.
    gang.disconnect(worker).await;
    drop(stream);
    assert_eq!(gang.exit().await, (worker, Exit::Code(0), true));
}

async fn graceful(major: &'static str) {
    let directory = Directory::new();
    for (name, import) in [("worker.js", COMMON_JS), ("worker.mjs", MODULE)] {
        for (path, policy) in
            [("/sync", Policy::RoundRobin), ("/timer", Policy::Shared), ("/promise", Policy::RoundRobin)]
        {
            // What does not keep the process alive is no less open.
            let unref = match policy {
                Policy::Shared => "server.on('connection', (socket) => socket.unref());",
                _ => "",
            };
            let mut settings = worker(&directory, major, name, &format!("{import}{SERVER}{unref}"));
            (settings.graceful, settings.policy) = (true, policy);
            let (mut gang, worker, address) = one(settings).await;
            let mut idle = connect(address).await;
            get(&mut idle).await;
            let mut busy = begin(&mut gang, address, "/").await;
            let mut doomed = connect(address).await;
            write(&mut doomed, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            ended(doomed).await;
            ended(idle).await;
            // A replacement can be started from here on.
            gang.find(|event| {
                matches!(event, Event::Leaving { worker: it } if it.id == worker).then_some(())
            })
            .await;
            gang.find(|event| {
                matches!(event, Event::Disconnect { worker: it } if it.id == worker).then_some(())
            })
            .await;
            write(&mut busy, "body").await;
            assert!(closes(&answer(&mut busy).await));
            ended(busy).await;
            assert_eq!(gang.exit().await, (worker, Exit::Code(1), true));
        }
    }
}

async fn handled(major: &'static str) {
    let directory = Directory::new();
    let script = format!(
        "{COMMON_JS}{SERVER}process.on('uncaughtException', (error) => process.send(error.message));"
    );
    let mut settings = worker(&directory, major, "worker.js", &script);
    settings.graceful = true;
    let (mut gang, _, address) = one(settings).await;
    let mut stream = connect(address).await;
    write(&mut stream, "GET /timer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(gang.message().await.1, Value::from("timer"));
    assert!(!closes(&get(&mut connect(address).await).await), "it goes on");
}

async fn bare(major: &'static str) {
    let directory = Directory::new();
    let mut settings = worker(&directory, major, "worker.js", &format!("{COMMON_JS}{SERVER}"));
    settings.output = ganger::process::Stdio::Ignore;
    let (mut gang, worker, address) = one(settings).await;
    let busy = begin(&mut gang, address, "/").await;
    let mut doomed = connect(address).await;
    write(&mut doomed, "GET /timer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    ended(doomed).await;
    ended(busy).await;
    assert_eq!(gang.exit().await, (worker, Exit::Code(1), false));
}
