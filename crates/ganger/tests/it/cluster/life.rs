//! A worker's life, as events tell it.

use ganger::{
    Serialization,
    cluster::{Event, Primary, Settings, WorkerFault},
    process::Exit,
};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{Directory, Gang, NODE, POLICIES, ask, exchange, node, run, until};

on_each_node! {
    events_come_in_order: "events",
    an_object_may_hold_itself: "test-cluster-advanced-serialization",
    a_worker_may_leave_of_its_own_accord: "worker.disconnect() in the worker",
    a_worker_finishes_its_connections: "worker.disconnect() in the primary",
}

async fn events_come_in_order(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const cluster = require('node:cluster');
             const net = require('node:net');
             net.createServer((socket) => socket.end(`worker ${cluster.worker.id}`)).listen(0, '127.0.0.1', function () {
               const seen = [cluster.isWorker, this.address().port, process.env.NODE_UNIQUE_ID ?? null];
               setImmediate(() => process.send(seen)); // after what Node itself says
             });",
        ));
        let forked = gang.fork().await;
        assert!(matches!(gang.event().await, Event::Setup { .. }));
        assert!(matches!(gang.event().await, Event::Fork { worker } if worker == forked));
        assert!(matches!(gang.event().await, Event::Online { worker } if worker == forked));
        let Event::Listening { worker, address } = gang.event().await else { panic!("not listening") };
        assert_eq!(worker, forked);
        let address: std::net::SocketAddr = address.to_string().parse().unwrap();
        assert_ne!(address.port(), 0);
        let Event::Message { worker, message } = gang.event().await else { panic!("no message") };
        assert_eq!(worker, forked);
        assert_eq!(message.parse::<serde_json::Value>().unwrap(), json!([true, address.port(), null]));
        assert_eq!(ask(address).await, "worker 1");

        gang.disconnect(forked.id).await;
        assert!(matches!(gang.event().await, Event::Disconnect { worker } if worker == forked));
        let Event::Exit { worker, exit, exited_after_disconnect, .. } = gang.event().await else { panic!() };
        assert_eq!((worker, exit, exited_after_disconnect), (forked, Exit::Code(0), true));

        assert_eq!(gang.fork().await.id.0, 2, "a number is never used again");
    }
}

/// In the other serialization, which the cluster speaks as well then.
async fn an_object_may_hold_itself(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut settings = directory.workers(
            major,
            policy,
            "const circular = { map: new Map([['key', 1n]]) };
             circular.circular = circular;
             process.on('message', (message) => process.send({ ...message, circular }));
             require('node:net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1');",
        );
        settings.serialization = Serialization::Advanced;
        let mut gang = Gang::new(settings);
        let (worker, address) = gang.fork_listening().await;
        assert_eq!(ask(address).await, "served");
        gang.send(worker.id, json!({ "text": "é" })).await;
        let value = gang
            .find(|event| match event {
                Event::Message { message, .. } => Some(message.value().unwrap()),
                _ => None,
            })
            .await;
        let circular = value.get("circular").unwrap();
        assert!(
            circular.get("circular").unwrap().is_same(circular)
                && circular.get("map").unwrap().pairs().is_some()
        );
        assert_eq!(value.get("text").and_then(|text| text.as_str()), Some("é"));
        gang.disconnect(worker.id).await;
        assert_eq!(gang.exit().await, (worker.id, Exit::Code(0), true));
    }
}

async fn a_worker_may_leave_of_its_own_accord(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const cluster = require('node:cluster');
             require('node:net').createServer().listen(0, '127.0.0.1');
             process.on('message', () => cluster.worker.disconnect());",
        ));
        let (forked, _) = gang.fork_listening().await;
        gang.send(forked.id, "leave").await;
        assert!(matches!(gang.event().await, Event::Leaving { worker } if worker == forked));
        assert!(matches!(gang.event().await, Event::Disconnect { worker } if worker == forked));
        assert_eq!(gang.exit().await, (forked.id, Exit::Code(0), true));
    }
}

async fn a_worker_finishes_its_connections(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(
            major,
            policy,
            "const cluster = require('node:cluster');
             const server = require('node:net').createServer((socket) => {
               socket.on('data', () => socket.write(cluster.worker.exitedAfterDisconnect ? 'leaving' : 'serving'));
             });
             server.listen(0, '127.0.0.1');",
        ));
        let (forked, address) = gang.fork_listening().await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        assert_eq!(exchange(&mut connection, "?").await, "serving");
        gang.disconnect(forked.id).await;
        while exchange(&mut connection, "?").await != "leaving" {}
        // It has heard that it should go, and has something to finish.
        assert_eq!(exchange(&mut connection, "?").await, "leaving");
        assert!(gang.with(|primary| primary.workers().count() == 1).await);
        drop(connection);
        assert!(matches!(gang.event().await, Event::Disconnect { worker } if worker == forked));
        assert_eq!(gang.exit().await, (forked.id, Exit::Code(0), true));
    }
}

#[test]
fn what_came_at_once_is_told_in_its_order() {
    run(async {
        let directory = Directory::new();
        let said = directory.path("said");
        let mut settings = directory.workers(
            NODE,
            &POLICIES[0],
            "const { writeFileSync, writeSync } = require('node:fs');
             writeSync(3, '{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\",\"key\":\"nobody\"}\\n');
             process.send('hello');
             writeSync(3, '{\"cmd\":\"NODE_CLUSTER\",\"act\":\"exitedAfterDisconnect\",\"seq\":1}\\n');
             writeSync(3, 'garbage\\n');
             writeFileSync(process.argv[2], '');",
        );
        settings.args.push(said.clone().into());
        let mut primary = Primary::new(settings).unwrap();
        primary.fork().unwrap();
        // All of it waits in the channel before anything of it is read.
        until(|| said.exists()).await;
        let mut order = Vec::new();
        while order.len() < 7 {
            order.push(match primary.event().await {
                Event::Setup { .. } => "setup",
                Event::Fork { .. } => "fork",
                Event::Online { .. } => "online",
                Event::Fault { fault: WorkerFault::Cluster(_), .. } => "unknown key",
                Event::Message { .. } => "message",
                Event::Leaving { .. } => "leaving",
                Event::Fault { fault: WorkerFault::Wire(_), .. } => "garbage",
                event => panic!("{event:?}"),
            });
        }
        assert_eq!(order, ["setup", "fork", "online", "unknown key", "message", "leaving", "garbage"]);
    });
}

#[test]
fn a_killed_worker_did_not_leave() {
    run(async {
        let directory = Directory::new();
        let script = "require('node:net').createServer().listen(0, '127.0.0.1');";
        let mut gang = Gang::new(directory.workers(NODE, &POLICIES[0], script));
        let (forked, _) = gang.fork_listening().await;
        gang.kill(forked.id).await;
        assert!(matches!(gang.event().await, Event::Disconnect { worker } if worker == forked));
        let killed = Exit::Signal { signal: 9, core_dumped: false };
        assert_eq!(gang.exit().await, (forked.id, killed, false));
    });
}

#[test]
fn a_worker_without_a_channel_has_a_fork_and_an_exit() {
    run(async {
        let mut settings = Settings::new(node(NODE));
        settings.args = vec![
            "-e".into(),
            "process.exit(!process.connected && !process.send && !require('cluster').isWorker ? 7 : 1)"
                .into(),
        ];
        settings.channel = false;
        let mut gang = Gang::new(settings);
        let forked = gang.fork().await;
        gang.disconnect(forked.id).await;
        assert!(matches!(gang.event().await, Event::Setup { .. }));
        assert!(matches!(gang.event().await, Event::Fork { worker } if worker == forked));
        let Event::Exit { worker, exit, .. } = gang.event().await else { panic!("no exit") };
        assert_eq!((worker, exit), (forked, Exit::Code(7)));
    });
}

#[test]
fn a_worker_knows_its_place() {
    run(async {
        let directory = Directory::new();
        let mut settings = directory.workers(
            NODE,
            &POLICIES[0],
            "const e = process.env;
             process.send([e.GANGER_NAME, e.GANGER_SLOT, e.GANGER_WORKERS, e.GANGER_ROLE, e.NODE_APP_INSTANCE, e.GANGER_ID]);",
        );
        settings.name = "shop".into();
        settings.workers = 2;
        let mut gang = Gang::new(settings);
        let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
        for slot in ["0", "1"] {
            let worker = gang.fork().await;
            let id = format!("{host}/shop/{slot}/{}", worker.id);
            assert_eq!(gang.message().await, (worker.id, json!(["shop", slot, "2", "worker", slot, id])));
        }
    });
}

#[test]
fn a_new_worker_gets_the_lowest_slot_that_nobody_holds() {
    run(async {
        let directory = Directory::new();
        let mut gang = Gang::new(directory.workers(NODE, &POLICIES[0], "process.on('message', () => {});"));
        let workers = [gang.fork().await, gang.fork().await, gang.fork().await];
        assert_eq!(workers.map(|worker| worker.slot.0), [0, 1, 2]);
        gang.kill(workers[1].id).await;
        assert_eq!(gang.exit().await.0, workers[1].id);
        let slots = [gang.fork().await, gang.fork().await].map(|worker| worker.slot.0);
        assert_eq!(slots, [1, 3]);
    });
}
