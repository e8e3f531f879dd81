//! Rows cluster-disconnect: the ways in which a worker goes.

use std::net::SocketAddr;

use ganger::{
    cluster::{Cluster, Event, Events, Policy, Primary, WorkerHandle, WorkerState},
    process::Exit,
};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    part::{OBEY, Part, ask, fork},
    row,
    rows::{Kid, rows},
    rows_under_node,
    support::{self, Directory, Gang, POLICIES, gone},
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        rows("test-cluster-disconnect", disconnect),
        rows_under_node("test-cluster-disconnect", DISCONNECT),
        rows("test-cluster-disconnect-before-exit", before_exit),
        rows_under_node("test-cluster-disconnect-before-exit", BEFORE_EXIT),
        rows("test-cluster-disconnect-idle-worker", idle_worker),
        rows_under_node("test-cluster-disconnect-idle-worker", IDLE_WORKER),
        rows("test-cluster-disconnect-leak", leak),
        rows_under_node("test-cluster-disconnect-leak", LEAK),
        rows("test-cluster-disconnect-unshared-tcp", unshared_tcp),
        rows_under_node("test-cluster-disconnect-unshared-tcp", UNSHARED_TCP),
        rows("test-cluster-disconnect-unshared-udp", unshared_udp),
        rows_under_node("test-cluster-disconnect-unshared-udp", UNSHARED_UDP),
        vec![row("test-cluster-disconnect-with-no-workers", with_no_workers)],
        rows("a busy worker goes with its primary", with_its_primary),
        rows("test-cluster-process-disconnect", process_disconnect),
        rows_under_node("test-cluster-process-disconnect", PROCESS_DISCONNECT),
        rows("test-cluster-worker-disconnect", worker_disconnect),
        rows_under_node("test-cluster-worker-disconnect", WORKER_DISCONNECT),
        rows("test-cluster-worker-disconnect-on-error", on_error),
        rows_under_node("test-cluster-worker-disconnect-on-error", ON_ERROR),
        rows("test-cluster-worker-forced-exit", forced_exit),
        rows_under_node("test-cluster-worker-forced-exit", FORCED_EXIT),
        rows("test-cluster-worker-no-exit", no_exit),
        rows_under_node("test-cluster-worker-no-exit", NO_EXIT),
        worker_destroy(),
        rows("test-cluster-call-and-destroy", call_and_destroy),
        rows_under_node("test-cluster-call-and-destroy", CALL_AND_DESTROY),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) const PARTS: &[Part] = &[GO_WHEN_LISTENING];

/// Closes its channel when it listens, and says nothing of it before.
const GO_WHEN_LISTENING: Part = Part {
    name: "go when listening",
    node: "require('http').createServer().listen(0, '127.0.0.1', () => process.disconnect());",
    rust: |worker| {
        Box::pin(async move {
            let address: SocketAddr = "127.0.0.1:0".parse()?;
            worker.listen(address).await.map(drop).map_err(Into::into)
        })
    },
};

/// A cluster in a task of its own.
fn cluster(kid: Kid, directory: &Directory, policy: Policy) -> (Cluster, Events) {
    Primary::new(kid.settings(directory, policy, &OBEY)).unwrap().spawn()
}

/// How the workers ended that have ended by now, in the order of their ids; the stream has to end.
async fn exits(cluster: Cluster, mut events: Events) -> Vec<(u32, Exit, bool)> {
    assert!(cluster.workers().await.is_empty());
    drop(cluster);
    let mut exits = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Exit { worker, exit, exited_after_disconnect, .. } = event {
            exits.push((worker.id.0, exit, exited_after_disconnect));
        }
    }
    exits.sort_unstable_by_key(|(worker, ..)| *worker);
    exits
}

/// The port at which a worker listens now.
async fn listen(events: &mut Events, worker: &WorkerHandle) -> u16 {
    worker.send(&("listen", "127.0.0.1:0")).unwrap();
    loop {
        if let Event::Message { worker: from, message } = events.next().await.unwrap() {
            assert_eq!(from, worker.info());
            return message.parse::<(String, u16)>().unwrap().1;
        }
    }
}

/// Connects, and hears what the server has to say.
async fn served(port: u16) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut text = [0; 6];
    client.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"served");
    client
}

/// Four workers of two servers each, twice.
async fn disconnect(kid: Kid) {
    let directory = Directory::new();
    let (cluster, mut events) = cluster(kid, &directory, Policy::RoundRobin);
    for round in 0..2 {
        let mut ports = Vec::new();
        for _ in 0..4 {
            let worker = cluster.fork().await.unwrap();
            ports.push([listen(&mut events, &worker).await, listen(&mut events, &worker).await]);
        }
        assert!(ports.iter().all(|both| *both == ports[0] && both[0] != both[1]), "{ports:?}");
        for port in ports[0] {
            drop(served(port).await);
        }
        cluster.disconnect().await;
        let snapshot = cluster.snapshot().await;
        assert!(snapshot.workers.is_empty(), "round {round}: {snapshot:?}");
    }
    // Of those before nobody wanted to know.
    let expected: Vec<_> = (5..=8).map(|worker| (worker, Exit::Code(0), true)).collect();
    assert_eq!(exits(cluster, events).await, expected);
}

const DISCONNECT: &str = "
const net = require('net');
const round = (then) => {
  const ports = new Set();
  let listening = 0, served = 0;
  for (let i = 0; i < 4; i++) {
    const worker = cluster.fork();
    for (let j = 0; j < 2; j++) worker.send(['listen', '127.0.0.1:0']);
    worker.on('listening', mustCall(({ port }) => {
      ports.add(port);
      if (++listening < 8) return;
      assert.strictEqual(ports.size, 2);
      for (const port of ports) {
        net.connect(port, '127.0.0.1').once('data', function (data) {
          assert.strictEqual(data.toString(), 'served');
          this.destroy();
          if (++served === 2) cluster.disconnect(mustCall(then));
        });
      }
    }, 2));
    worker.on('exit', mustCall((code) => assert.strictEqual(code, 0)));
  }
};
workers('obey');
round(() => round(() => {}));";

async fn before_exit(kid: Kid) {
    let directory = Directory::new();
    let (cluster, mut events) = cluster(kid, &directory, Policy::RoundRobin);
    let worker = cluster.fork().await.unwrap();
    loop {
        match events.next().await.unwrap() {
            Event::Online { .. } => worker.disconnect(),
            Event::Disconnect { .. } => break,
            _ => {}
        }
    }
    cluster.disconnect().await;
    assert_eq!(exits(cluster, events).await, [(1, Exit::Code(0), true)]);
}

const BEFORE_EXIT: &str = "
workers('obey');
const worker = cluster.fork();
worker.on('online', mustCall(() => worker.disconnect()));
worker.on('disconnect', mustCall(() => cluster.disconnect(mustCall())));
worker.on('exit', mustCall((code) => assert.strictEqual(code, 0)));";

async fn idle_worker(kid: Kid) {
    let directory = Directory::new();
    let (cluster, events) = cluster(kid, &directory, Policy::RoundRobin);
    for _ in 0..2 {
        cluster.fork().await.unwrap();
    }
    cluster.disconnect().await;
    assert_eq!(exits(cluster, events).await, [(1, Exit::Code(0), true), (2, Exit::Code(0), true)]);
}

const IDLE_WORKER: &str = "
workers('obey');
for (let i = 0; i < 2; i++) cluster.fork().on('exit', mustCall((code) => assert.strictEqual(code, 0)));
cluster.disconnect(mustCall(() => assert.deepStrictEqual(Object.keys(cluster.workers), [])));";

/// It hears that it should go before or after it listens.
async fn leak(kid: Kid) {
    let directory = Directory::new();
    let (cluster, events) = cluster(kid, &directory, Policy::Shared);
    let worker = cluster.fork().await.unwrap();
    worker.send(&("listen", "127.0.0.1:0")).unwrap();
    cluster.disconnect().await;
    assert!(!worker.is_connected() && worker.is_dead());
    assert!(cluster.snapshot().await.listeners.iter().all(|listener| listener.holders.is_empty()));
    assert_eq!(exits(cluster, events).await, [(1, Exit::Code(0), true)]);
}

const LEAK: &str = "
cluster.schedulingPolicy = cluster.SCHED_NONE;
workers('obey');
const worker = cluster.fork();
worker.send(['listen', '127.0.0.1:0']);
worker.on('disconnect', mustCall());
for (const it of [worker, cluster]) it.on('exit', mustCall());
cluster.disconnect();";

async fn unshared_tcp(kid: Kid) {
    let directory = Directory::new();
    let (cluster, mut events) = cluster(kid, &directory, Policy::Shared);
    let without = cluster.fork().await.unwrap();
    let with = cluster.fork().await.unwrap();
    listen(&mut events, &with).await;
    without.disconnect();
    while !matches!(events.next().await, Some(Event::Disconnect { worker }) if worker == without.info()) {}
    cluster.disconnect().await;
    assert!(without.is_dead() && with.is_dead() && cluster.workers().await.is_empty());
}

const UNSHARED_TCP: &str = "
cluster.schedulingPolicy = cluster.SCHED_NONE;
workers('obey');
const without = cluster.fork(), worker = cluster.fork();
worker.send(['listen', '127.0.0.1:0']);
worker.on('listening', mustCall(() => without.disconnect()));
without.on('disconnect', mustCall(() => cluster.disconnect(mustCall())));
for (const it of [without, worker]) it.on('exit', mustCall((code) => assert.strictEqual(code, 0)));";

async fn unshared_udp(kid: Kid) {
    let directory = Directory::new();
    let (cluster, mut events) = cluster(kid, &directory, Policy::RoundRobin);
    let without = cluster.fork().await.unwrap();
    let with = cluster.fork().await.unwrap();
    with.send(&("bind", "127.0.0.1:0")).unwrap();
    while !matches!(events.next().await, Some(Event::Listening { .. })) {}
    without.disconnect();
    while !matches!(events.next().await, Some(Event::Disconnect { worker }) if worker == without.info()) {}
    cluster.disconnect().await;
    assert!(without.is_dead() && with.is_dead() && cluster.workers().await.is_empty());
}

const UNSHARED_UDP: &str = "
workers('obey');
const without = cluster.fork(), worker = cluster.fork();
worker.send(['bind', '127.0.0.1:0']);
worker.on('listening', mustCall(() => without.disconnect()));
without.on('disconnect', mustCall(() => cluster.disconnect(mustCall())));
for (const it of [without, worker]) it.on('exit', mustCall((code) => assert.strictEqual(code, 0)));";

/// The test of a row with workers of every Node.
fn nodes_only<F: Future<Output = ()> + 'static>(
    name: &'static str,
    test: fn(&'static str) -> F,
) -> Vec<Trial> {
    let trial = |major: &'static str| {
        Trial::test(format!("{name} with Node {major}"), move || {
            support::run(test(major));
            support::passed(name, major);
            Ok(())
        })
    };
    crate::rows::NODES.into_iter().map(trial).collect()
}

async fn with_no_workers() {
    let directory = Directory::new();
    let (cluster, events) = cluster(Kid::Rust, &directory, Policy::RoundRobin);
    cluster.disconnect().await;
    assert_eq!(exits(cluster, events).await, []);

    // Nor does who drives it wait for anything.
    let settings = Kid::Rust.settings(&directory, Policy::RoundRobin, &OBEY);
    let mut primary = Primary::new(settings).unwrap();
    primary.disconnect_all();
    assert!(primary.next().await.is_none());
}

/// It hears nothing of its channel, and nothing is left of it.
async fn with_its_primary(kid: Kid) {
    let directory = Directory::new();
    let (cluster, mut events) = cluster(kid, &directory, Policy::RoundRobin);
    let worker = cluster.fork().await.unwrap();
    while !matches!(events.next().await, Some(Event::Online { .. })) {}
    worker.send(&("spin",)).unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{}", worker.info().pid));
    assert!(cluster.workers().await[0].is_connected() && process.exists());
    drop(cluster);
    support::until(|| !worker.is_connected()).await;
    support::until(|| !process.exists()).await;
    assert!(worker.is_dead() && !worker.destroy());
    assert_eq!(worker.exited_after_disconnect(), Some(false));
}

async fn process_disconnect(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &GO_WHEN_LISTENING);
    let worker = fork(&gang).await;
    let (id, exit, _) = gang.exit().await;
    assert_eq!((id, exit), (worker.id(), Exit::Code(0)));
}

const PROCESS_DISCONNECT: &str = "
workers('go when listening');
const worker = cluster.fork();
worker.on('listening', mustCall());
worker.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));";

async fn worker_disconnect(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    assert_eq!(ask(&mut gang, &worker, json!(["exit when told to leave", 42])).await, "will do");
    assert_eq!(ask(&mut gang, &worker, json!(["listen", "127.0.0.1:0"])).await[0], "listening");
    worker.disconnect();
    assert_eq!(worker.exited_after_disconnect(), Some(true));
    gang.find(|event| matches!(event, Event::Disconnect { .. }).then_some(())).await;
    assert!(matches!(worker.state(), WorkerState::Disconnected | WorkerState::Dead));
    assert!(!worker.is_connected());
    assert_eq!(gang.exit().await, (worker.id(), Exit::Code(42), true));
    gone(worker.info().pid).await;
}

const WORKER_DISCONNECT: &str = "
workers('obey');
const worker = cluster.fork();
ask(worker, ['exit when told to leave', 42], () => worker.send(['listen', '127.0.0.1:0']));
worker.on('listening', mustCall(() => assert.strictEqual(worker.disconnect(), worker)));
for (const it of [cluster, worker]) {
  it.on('disconnect', mustCall(() => {
    assert.deepStrictEqual([worker.exitedAfterDisconnect, worker.state], [true, 'disconnected']);
  }));
  it.on('exit', mustCall(() => assert.strictEqual(worker.process.exitCode, 42)));
}";

async fn on_error(kid: Kid) {
    let directory = Directory::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gang = Gang::new(kid.settings(&directory, Policy::Shared, &OBEY));
    let worker = fork(&gang).await;
    let order = json!(["listen", taken.local_addr().unwrap().to_string()]);
    assert_eq!(ask(&mut gang, &worker, order).await, json!(["error", "EADDRINUSE"]));
    worker.send(&("disconnect",)).unwrap();
    assert_eq!(gang.exit().await, (worker.id(), Exit::Code(0), true));
}

const ON_ERROR: &str = "
cluster.schedulingPolicy = cluster.SCHED_NONE;
workers('obey');
const taken = require('net').createServer().listen(0, '127.0.0.1', mustCall(() => {
  const worker = cluster.fork();
  ask(worker, ['listen', `127.0.0.1:${taken.address().port}`], mustCall((answer) => {
    assert.deepStrictEqual(answer, ['error', 'EADDRINUSE']);
    worker.send(['disconnect']);
  }));
  worker.on('exit', mustCall((code) => { assert.strictEqual(code, 0); taken.close(); }));
}));";

/// Who is told has its time; who finds the channel gone has not.
async fn forced_exit(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    for told in [true, false] {
        let worker = fork(&gang).await;
        if told {
            assert_eq!(ask(&mut gang, &worker, json!(["exit when told to leave", 42])).await, "will do");
            worker.disconnect();
        } else {
            assert_eq!(ask(&mut gang, &worker, json!(["echo", "here"])).await, "here");
            worker.close_channel();
        }
        assert_eq!(gang.exit().await, (worker.id(), Exit::Code(if told { 42 } else { 0 }), told));
    }
}

const FORCED_EXIT: &str = "
workers('obey');
for (const told of [true, false]) {
  const worker = cluster.fork();
  ask(worker, told ? ['exit when told to leave', 42] : ['echo', 'here'], mustCall(() => {
    if (told) worker.disconnect(); else worker.process.disconnect();
  }));
  worker.on('exit', mustCall((code) => assert.strictEqual(code, told ? 42 : 0)));
}";

async fn no_exit(kid: Kid) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let (cluster, mut events) = cluster(kid, &directory, policy.clone());
        let worker = cluster.fork().await.unwrap();
        let client = served(listen(&mut events, &worker).await).await;
        worker.disconnect();
        // It has heard of it: a second worker does what it is asked to, and goes.
        let other = cluster.fork().await.unwrap();
        other.send(&("disconnect",)).unwrap();
        while !other.is_dead() {
            events.next().await.unwrap();
        }
        assert!(!worker.is_dead() && worker.is_connected());
        drop(client);
        cluster.disconnect().await;
        assert!(worker.is_dead());
        assert_eq!(worker.exited_after_disconnect(), Some(true));
    }
}

const NO_EXIT: &str = "
workers('obey');
const worker = cluster.fork();
worker.send(['listen', '127.0.0.1:0']);
let closed = false;
worker.on('listening', mustCall(({ port }) => {
  const client = require('net').connect(port, '127.0.0.1').once('data', () => {
    worker.disconnect();
    const other = cluster.fork();
    other.send(['disconnect']);
    other.on('exit', mustCall(() => {
      assert(!worker.isDead());
      closed = true;
      client.destroy();
    }));
  });
}));
worker.on('exit', mustCall((code) => assert.deepStrictEqual([code, closed], [0, true])));";

/// A Rust worker has no such word: it ends its process.
fn worker_destroy() -> Vec<Trial> {
    nodes_only("test-cluster-worker-destroy", |major| async move {
        let directory = Directory::new();
        let script = "
            const { worker } = require('cluster');
            if (worker.id === 1) {
              worker.destroy();
            } else {
              worker.on('disconnect', () => worker.destroy());
              require('assert').strictEqual(worker.disconnect(), worker);
            }";
        let settings = directory.workers(major, Policy::RoundRobin, script);
        let (cluster, mut events) = Primary::new(settings).unwrap().spawn();
        for _ in 0..2 {
            cluster.fork().await.unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() < 4 {
            match events.next().await.unwrap() {
                Event::Disconnect { worker } => seen.push((worker.id.0, "disconnect".to_owned())),
                Event::Exit { worker, exit, exited_after_disconnect, .. } => {
                    seen.push((worker.id.0, format!("{exit}, {exited_after_disconnect}")));
                }
                _ => {}
            }
        }
        seen.sort_unstable();
        let exit = "exit code 0, true".to_owned();
        assert_eq!(seen, [(1, "disconnect".into()), (1, exit.clone()), (2, "disconnect".into()), (2, exit)]);
    })
}

async fn call_and_destroy(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    assert!(worker.is_connected());
    worker.send(&("disconnect",)).unwrap();
    gang.find(|event| matches!(event, Event::Disconnect { .. }).then_some(())).await;
    assert!(!worker.is_connected());
    worker.destroy();
    worker.disconnect();
    let (id, _, exited_after_disconnect) = gang.exit().await;
    assert_eq!((id, exited_after_disconnect), (worker.id(), true));
    assert!(!worker.destroy(), "there is nobody any more");
}

const CALL_AND_DESTROY: &str = "
workers('obey');
const worker = cluster.fork();
worker.send(['disconnect']);
worker.on('disconnect', mustCall(() => { assert.strictEqual(worker.isConnected(), false); worker.destroy(); }));
worker.on('exit', mustCall(() => assert.strictEqual(worker.exitedAfterDisconnect, true)));";
