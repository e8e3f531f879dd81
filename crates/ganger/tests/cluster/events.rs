//! Rows cluster-events: what the primary is told, in which order, and what of it is known when.

use std::net::SocketAddr;

use ganger::{
    WorkerId,
    cluster::{Event, Policy, Primary, WorkerState},
    process::Exit,
};
use libtest_mimic::Trial;
use tokio::io::AsyncWriteExt;

use crate::{
    part::{IDLE, Part},
    row,
    rows::{Kid, rows},
    rows_under_node,
    support::Directory,
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        rows("test-cluster-basic", basic),
        rows("test-cluster-worker-death", worker_death),
        rows_under_node("test-cluster-worker-death", WORKER_DEATH),
        vec![row("test-cluster-disconnect-with-no-workers", no_workers)],
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) const PARTS: &[Part] = &[LISTEN, EXIT_42];

/// Listens on 127.0.0.1, port 0.
const LISTEN: Part = Part {
    name: "listen",
    node: "require('net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1');",
    rust: |worker| {
        Box::pin(async move {
            let mut listener = worker.listen("127.0.0.1:0".parse::<SocketAddr>()?).await?;
            while let Some(mut connection) = listener.accept().await {
                connection.write_all(b"served").await?;
            }
            Ok(())
        })
    },
};

const EXIT_42: Part = Part { name: "exit 42", node: "process.exit(42);", rust: |_| std::process::exit(42) };

async fn basic(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &LISTEN);
    let state = |primary: &mut Primary| primary.snapshot().workers[0].state;
    let worker = gang.fork().await;
    assert_eq!((worker.id, gang.with(state).await), (WorkerId(1), WorkerState::None));
    assert!(matches!(gang.event().await, Event::Fork { worker: it } if it == worker));
    assert!(matches!(gang.event().await, Event::Online { worker: it } if it == worker));
    let Event::Listening { worker: it, address } = gang.event().await else { panic!("it does not listen") };
    let address: SocketAddr = address.to_string().parse().unwrap();
    assert_eq!((it, gang.with(state).await), (worker, WorkerState::Listening));
    assert_ne!(address.port(), 0);
    assert!(gang.with(|primary| primary.kill(WorkerId(1), 15)).await);
    assert!(matches!(gang.event().await, Event::Disconnect { worker: it } if it == worker));
    let killed = Exit::Signal { signal: 15, core_dumped: false };
    assert_eq!(gang.exit().await, (worker.id, killed, false));
    assert!(gang.with(|primary| primary.snapshot().workers.is_empty()).await);
}

async fn worker_death(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &EXIT_42);
    let worker = gang.fork().await;
    assert_eq!(gang.exit().await, (worker.id, Exit::Code(42), false));
}

const WORKER_DEATH: &str = "
workers('exit 42');
const worker = cluster.fork();
worker.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [42, null])));
cluster.on('exit', mustCall((it) => assert.strictEqual(it, worker)));";

/// Nothing is waited for.
async fn no_workers() {
    let directory = Directory::new();
    let mut primary = Primary::new(Kid::Rust.settings(&directory, Policy::RoundRobin, &IDLE)).unwrap();
    assert!(primary.next().await.is_none());
}
