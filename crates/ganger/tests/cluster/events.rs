//! Rows cluster-events: what the primary is told, in which order, and what of it is known when.

use std::{net::SocketAddr, os::unix::net::UnixListener};

use ganger::{
    WorkerId,
    cluster::{AddressType, Event, Policy, WorkerState},
    process::Exit,
};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    alone,
    part::{OBEY, ask, fork},
    rows::{Kid, rows, rows_of},
    rows_under_node,
    support::{Directory, gone, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        rows("test-cluster-basic", basic),
        rows_under_node("test-cluster-basic", BASIC),
        rows("test-cluster-message", message),
        rows_under_node("test-cluster-message", MESSAGE),
        rows("test-cluster-listening-port", listening_port),
        rows_under_node("test-cluster-listening-port", LISTENING_PORT),
        // A worker of Node 18 asks its primary all the same, for an address that is none.
        rows_of(
            Kid::all().filter(|kid| *kid != Kid::Node("18")),
            "test-net-listen-handle-in-cluster-2",
            listen_handle,
        ),
        rows_under_node("test-net-listen-handle-in-cluster-2", LISTEN_HANDLE),
        rows("test-cluster-worker-death", worker_death),
        rows_under_node("test-cluster-worker-death", WORKER_DEATH),
        rows("test-cluster-worker-kill", worker_kill),
        rows_under_node("test-cluster-worker-kill", WORKER_KILL),
        rows("test-cluster-kill-infinite-loop", kill_infinite_loop),
        rows_under_node("test-cluster-kill-infinite-loop", KILL_INFINITE_LOOP),
        rows("test-cluster-primary-kill", primary_kill),
        rows_under_node("test-cluster-primary-kill", PRIMARY_KILL),
        rows("test-cluster-uncaught-exception", uncaught_exception),
        rows("test-cluster-invalid-message", invalid_message),
        rows_under_node("test-cluster-invalid-message", INVALID_MESSAGE),
        rows("test-cluster-eaccess", eaccess),
        rows_under_node("test-cluster-eaccess", EACCESS),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const LISTEN: [&str; 2] = ["listen", "127.0.0.1:0"];

async fn basic(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    let is = worker.info();
    assert_eq!((worker.id(), worker.state()), (WorkerId(1), WorkerState::None));
    assert_eq!(worker.exited_after_disconnect(), None);
    assert!(matches!(gang.event().await, Event::Setup { .. }));
    assert!(matches!(gang.event().await, Event::Fork { worker } if worker == is));
    assert!(matches!(gang.event().await, Event::Online { worker } if worker == is));
    assert_eq!(worker.state(), WorkerState::Online);
    worker.send(&LISTEN).unwrap();
    let Event::Listening { worker: it, address } = gang.event().await else { panic!("it does not listen") };
    assert_eq!((it, worker.state()), (is, WorkerState::Listening));
    assert_eq!(address.address.as_deref(), Some("127.0.0.1"));
    assert_eq!((address.address_type, address.fd), (AddressType::V4, None));
    assert!(address.port.is_some_and(|port| (1..65536).contains(&port)), "{address:?}");
    assert!(worker.destroy());
    gang.find(|event| matches!(event, Event::Disconnect { worker } if worker == is).then_some(())).await;
    let killed = Exit::Signal { signal: 15, core_dumped: false };
    assert_eq!(gang.exit().await, (worker.id(), killed, false));
    assert_eq!(worker.state(), WorkerState::Dead);
    assert!(gang.with(|primary| primary.snapshot().workers.is_empty()).await);
}

const BASIC: &str = "
workers('obey');
const worker = cluster.fork();
assert.deepStrictEqual([worker.id, worker.state], [1, 'none']);
const seen = [];
for (const name of ['fork', 'online', 'listening', 'exit']) {
  cluster.on(name, mustCall((it) => { assert.strictEqual(it, worker); seen.push(`cluster ${name} ${worker.state}`); }));
}
for (const name of ['online', 'listening', 'exit']) {
  worker.on(name, mustCall(() => seen.push(`${name} ${worker.state}`)));
}
worker.on('online', () => worker.send(['listen', '127.0.0.1:0']));
worker.on('listening', (...args) => {
  assert.strictEqual(args.length, 1);
  assert.deepStrictEqual(Object.keys(args[0]), ['addressType', 'address', 'port', 'fd']);
  const { address, addressType, port, fd } = args[0];
  assert.deepStrictEqual([address, addressType, fd], ['127.0.0.1', 4, undefined]);
  assert(port >= 1 && port <= 65535);
  worker.kill();
});
worker.on('exit', (code, signal) => {
  assert.deepStrictEqual([code, signal], [worker.process.exitCode, worker.process.signalCode]);
  assert.deepStrictEqual([code, signal], [null, 'SIGTERM']);
  setImmediate(() => assert.deepStrictEqual(seen, ['cluster fork none', 'online online', 'cluster online online',
    'listening listening', 'cluster listening listening', 'exit dead', 'cluster exit dead']));
});";

async fn message(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    assert_eq!(ask(&mut gang, &worker, json!(["echo", "a string"])).await, "a string");
    let listening = ask(&mut gang, &worker, json!(LISTEN)).await;
    let port = listening[1].as_u64().unwrap() as u16;
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut text = [0; 6];
    tokio::io::AsyncReadExt::read_exact(&mut client, &mut text).await.unwrap();
    assert_eq!(&text, b"served");
    drop(client);
    worker.destroy();
    gang.exit().await;
}

const MESSAGE: &str = "
workers('obey');
const worker = cluster.fork();
worker.on('message', mustCall((message) => assert.strictEqual(message, 'a string')));
cluster.on('message', mustCall((it, message, handle) => {
  assert.deepStrictEqual([it, message, handle], [worker, 'a string', undefined]);
  worker.kill();
}));
worker.send(['echo', 'a string']);
worker.on('exit', mustCall());";

async fn listening_port(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    worker.send(&LISTEN).unwrap();
    let (_, address) = gang.listening().await;
    assert_ne!(address.parse::<SocketAddr>().unwrap().port(), 0);
    let (_, answer) = gang.message().await;
    assert_eq!(address, format!("127.0.0.1:{}", answer[1]));
}

const LISTENING_PORT: &str = "
workers('obey');
cluster.fork().send(['listen', '127.0.0.1:0']);
cluster.on('listening', mustCall((worker, { port }) => {
  assert(Number.isInteger(port) && port > 0);
  worker.kill();
}));";

/// What is bound already is the worker's own: nobody is asked for it.
async fn listen_handle(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    let answer = ask(&mut gang, &worker, json!(["listen on what is bound"])).await;
    // What the primary would have been told was told before.
    assert_eq!(worker.state(), WorkerState::Online);
    let client = TcpStream::connect(("127.0.0.1", answer[1].as_u64().unwrap() as u16)).await.unwrap();
    assert_eq!(read(client).await, "served");
}

const LISTEN_HANDLE: &str = "
workers('obey');
const worker = cluster.fork();
const heard = [];
worker.process.on('internalMessage', ({ act }) => heard.push(act));
ask(worker, ['listen on what is bound'], mustCall(([, port]) => {
  assert(!heard.includes('queryServer') && !heard.includes('listening'), heard);
  let text = '';
  require('net').connect(port, '127.0.0.1').on('data', (data) => { text += data; }).on('end', mustCall(() => {
    assert.strictEqual(text, 'served');
    worker.kill();
  }));
}));";

async fn worker_death(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    worker.send(&("exit", 42)).unwrap();
    assert_eq!(gang.exit().await, (worker.id(), Exit::Code(42), false));
}

const WORKER_DEATH: &str = "
workers('obey');
const worker = cluster.fork();
worker.send(['exit', 42]);
worker.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [42, null])));
cluster.on('exit', mustCall((it) => assert.strictEqual(it, worker)));";

async fn worker_kill(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    worker.send(&LISTEN).unwrap();
    gang.listening().await;
    assert!(worker.process().kill(9).unwrap());
    let mut story = Vec::new();
    gang.find(|event| {
        match event {
            Event::Disconnect { worker: it } if it == worker.info() => {
                assert!(!worker.is_connected());
                assert_eq!(worker.exited_after_disconnect(), Some(false));
                story.push("disconnect".to_owned());
            }
            Event::Exit { worker: it, exit, exited_after_disconnect, .. } if it == worker.info() => {
                story.push(format!("{exit}, {exited_after_disconnect}"));
                return Some(());
            }
            _ => {}
        }
        None
    })
    .await;
    assert_eq!(story, ["disconnect", "signal SIGKILL, false"]);
    assert!(worker.is_dead() && !worker.kill(0));
    gone(worker.info().pid).await;
}

const WORKER_KILL: &str = "
workers('obey');
const worker = cluster.fork();
worker.send(['listen', '127.0.0.1:0']);
worker.on('listening', mustCall(() => worker.process.kill('SIGKILL')));
for (const it of [worker, cluster]) {
  it.on('disconnect', mustCall(() => assert.deepStrictEqual([worker.state, worker.exitedAfterDisconnect], ['disconnected', false])));
  it.on('exit', mustCall(() => assert.deepStrictEqual([worker.process.exitCode, worker.process.signalCode], [null, 'SIGKILL'])));
}";

async fn kill_infinite_loop(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    // It is in its loop, and hears of nothing any more.
    assert_eq!(ask(&mut gang, &worker, json!(["echo", "here"])).await, "here");
    worker.send(&("spin",)).unwrap();
    worker.disconnect();
    assert!(worker.kill(15));
    let killed = Exit::Signal { signal: 15, core_dumped: false };
    assert_eq!(gang.exit().await, (worker.id(), killed, true));
}

const KILL_INFINITE_LOOP: &str = "
workers('obey');
const worker = cluster.fork();
worker.on('online', mustCall(() => worker.send(['spin'], () => worker.process.kill())));
worker.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [null, 'SIGTERM'])));";

async fn primary_kill(kid: Kid) {
    let directory = Directory::new();
    let settings = kid.settings(&directory, Policy::RoundRobin, &OBEY);
    let output = alone::command("leave", Some(&settings), &[]).exec().await.unwrap();
    gone(output.stdout.text().trim().parse().unwrap()).await;
}

const PRIMARY_KILL: &str = "
if (process.argv[2]) {
  workers('obey');
  cluster.fork().send(['listen', '127.0.0.1:0']);
  cluster.on('listening', (worker) => process.send(worker.process.pid, () => process.exit(0)));
} else {
  const { readFileSync } = require('fs');
  const primary = require('child_process').fork(__filename, ['primary'], { execPath: node });
  const lives = (pid) => {
    try { return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z '); } catch { return false; }
  };
  primary.on('message', mustCall((pid) => primary.on('exit', mustCall((code) => {
    assert.strictEqual(code, 0);
    const ended = mustCall();
    const look = () => lives(pid) ? setImmediate(look) : ended();
    look();
  }))));
}";

/// Nobody but the program itself says what a panic does.
async fn uncaught_exception(kid: Kid) {
    let directory = Directory::new();
    let settings = kid.settings(&directory, Policy::RoundRobin, &OBEY);
    let error = alone::command("panic", Some(&settings), &[]).exec().await.unwrap_err();
    assert_eq!(error.exit.map(|exit| exit.to_string()).as_deref(), Some("exit code 42"), "{error}");
}

async fn invalid_message(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    worker.send(&json!({ "cmd": "NODE_CLUSTER", "ack": -1 })).unwrap();
    assert_eq!(ask(&mut gang, &worker, json!(["echo", "alive"])).await, "alive");
    worker.disconnect();
    assert_eq!(gang.exit().await, (worker.id(), Exit::Code(0), true));
}

const INVALID_MESSAGE: &str = "
workers('obey');
const worker = cluster.fork();
worker.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));
worker.on('online', mustCall(() => worker.send({ cmd: 'NODE_CLUSTER', ack: -1 }, mustCall(() => worker.disconnect()))));";

/// Of a path that somebody else serves.
async fn eaccess(kid: Kid) {
    let directory = Directory::new();
    let path = directory.path("app.sock");
    let _taken = UnixListener::bind(&path).unwrap();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    assert_eq!(ask(&mut gang, &worker, json!(["listen", path])).await, json!(["error", "EADDRINUSE"]));
    assert_eq!(ask(&mut gang, &worker, json!(["echo", "alive"])).await, "alive");
}

const EACCESS: &str = "
const path = require('path').join(__dirname, 'app.sock');
const taken = require('net').createServer().listen(path, mustCall(() => {
  workers('obey');
  const worker = cluster.fork();
  ask(worker, ['listen', path], mustCall((answer) => {
    assert.deepStrictEqual(answer, ['error', 'EADDRINUSE']);
    worker.kill();
    taken.close();
  }));
}));";
