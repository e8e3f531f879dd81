//! What is easily done wrong in a primary, each by its number. Those that have no test here have one elsewhere, with the number
//! in its name: 27 and 30 in `sockets`, 36 in `hand_off`, 39 in `tests/it/guard`, 40 (descriptors) and 42 in `tests/cluster`, 37
//! and 41 in `tests/worker`, 32 and 33 at the worker's machine.

use std::{
    io::ErrorKind,
    net::TcpListener,
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr},
};

use ganger::{
    WorkerId,
    cluster::{Event, Misbehaviour, Policy, Settings, WorkerFault},
    process::Exit,
};
use serde_json::json;
use tokio::net::{TcpStream, UnixStream};

use super::rogue::{fault, with_rogue};
use crate::support::{Directory, Gang, NODE, POLICIES, ask, exchange, read, run};

on_each_node! {
    pitfall_26_a_query_is_answered_with_all_that_node_wants: "replies to queries",
    pitfall_34_who_leaves_gets_its_answer: "the answer to a farewell",
    pitfall_38_a_signal_is_no_disconnect: "worker.kill() in the primary",
    pitfall_40_a_path_is_the_workers: "paths and abstract names",
}

/// An address, a port, an error that is Node's own.
async fn pitfall_26_a_query_is_answered_with_all_that_node_wants(major: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::new();
    let script = "
        const server = require('net').createServer().listen(0, '127.0.0.1', () => {
          require('net').createServer().listen(Number(process.argv[2]), '127.0.0.1').on('error', ({ code, errno, syscall, port }) => {
            setImmediate(() => process.send([server.address(), code, errno, syscall, port]));
          });
        });";
    let mut settings = directory.workers(major, Policy::RoundRobin, script);
    let port = taken.local_addr().unwrap().port();
    settings.args.push(port.to_string().into());
    let mut gang = Gang::new(settings);
    let (_, address) = gang.fork_listening().await;
    let is = json!({ "address": "127.0.0.1", "family": "IPv4", "port": address.port() });
    assert_eq!(gang.message().await.1, json!([is, "EADDRINUSE", -98, "bind", port]));
}

/// Whatever a worker writes into the fields of a query, it is understood or refused, and the next one is served.
#[test]
fn pitfall_28_odd_queries_are_answered() {
    run(async {
        let directory = Directory::new();
        let rogue = r#"
            const odd = [
              { backlog: false }, { backlog: -1 }, { backlog: 1e300 }, { address: null }, { address: 7 }, { port: null },
              { port: -1 }, { port: 65536 }, { port: 'x' }, { addressType: null }, { addressType: 'udp7' }, { addressType: {} },
              { fd: -1 }, { fd: 1e9 }, { fd: null }, { flags: 'all' }, { index: -1 }, { data: [null, { deep: [] }] },
              { addressType: -1, address: '' }, { addressType: -1, address: '\u0000' }, { addressType: -1, address: 'x'.repeat(500) },
            ];
            // Each for an address of its own, where its fields do not say another.
            const plain = { cmd: 'NODE_CLUSTER', act: 'queryServer', data: null, address: '127.0.0.1', port: 0, addressType: 4 };
            const outcomes = odd.map(() => null);
            process.on('internalMessage', ({ ack, key, errno }) => {
              if (!(ack >= 1000)) return;
              outcomes[ack - 1000] = errno ?? (key ? 'understood' : 'no key');
              if (!outcomes.includes(null)) process.send(outcomes);
            });
            odd.forEach((fields, number) => say(JSON.stringify({ ...plain, index: 100 + number, ...fields, seq: 1000 + number })));"#;
        let (mut gang, address) = with_rogue(&directory, rogue).await;
        let (understood, invalid, too_long) = (json!("understood"), json!(-22), json!(-36));
        // Only without a port, or with a type that is none, there is nothing to listen on.
        let outcomes = [
            vec![understood.clone(); 5],
            vec![invalid.clone(); 7],
            vec![understood.clone(); 6],
            vec![invalid, understood, too_long],
        ];
        assert_eq!(gang.message().await, (WorkerId(1), outcomes.concat().into()));
        assert_eq!(ask(address).await, "served");
    });
}

/// A port of ours is taken from the first moment on, also where workers accept.
#[test]
fn pitfall_29_a_stranger_does_not_get_a_shared_port() {
    run(async {
        let directory = Directory::new();
        let script = "require('net').createServer().listen(0, '127.0.0.1');";
        let mut gang = Gang::new(directory.workers(NODE, Policy::Shared, script));
        let (_, address) = gang.fork_listening().await;
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    });
}

/// Two answers to one connection, and both of them needed: without the second one it is still on its way.
#[test]
fn pitfall_31_a_connection_is_under_way_until_it_is_answered() {
    run(async {
        let directory = Directory::new();
        let script = "
            process.on('message', () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
            require('net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1');";
        let mut gang = Gang::new(directory.workers(NODE, Policy::RoundRobin, script));
        let (worker, address) = gang.fork_listening().await;
        assert_eq!(ask(address).await, "served");
        gang.until(|primary| primary.snapshot().workers[0].under_way == 0).await;
        gang.send(worker.id, "block").await;
        let _waiting = TcpStream::connect(address).await.unwrap();
        gang.until(|primary| primary.snapshot().workers[0].under_way == 1).await;
    });
}

async fn pitfall_34_who_leaves_gets_its_answer(major: &str) {
    let directory = Directory::new();
    let mut gang =
        Gang::new(directory.workers(major, Policy::RoundRobin, "require('cluster').worker.disconnect();"));
    let worker = gang.fork().await;
    assert_eq!(gang.exit().await, (worker.id, Exit::Code(0), true));
}

/// Who answers for connections of another's is not believed: it stays where it is.
#[test]
fn pitfall_35_nobody_answers_for_another() {
    run(async {
        let directory = Directory::new();
        let script = r#"
            const { id } = require('cluster').worker;
            const { writeSync } = require('fs');
            if (id === 1) {
              require('net').createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
              process.on('message', () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000));
            } else {
              for (let ack = 0; ack < 100; ack++) writeSync(3, `{"cmd":"NODE_CLUSTER","ack":${ack},"accepted":true,"seq":1}\n`);
              process.send('done');
            }"#;
        let mut gang = Gang::new(directory.workers(NODE, Policy::RoundRobin, script));
        let (worker, address) = gang.fork_listening().await;
        gang.send(worker.id, "block").await;
        let mut client = TcpStream::connect(address).await.unwrap();
        gang.until(|primary| primary.snapshot().workers[0].under_way == 1).await;
        let rogue = gang.fork().await;
        let mut faults = 0;
        gang.find(|event| match event {
            Event::Fault { worker, fault } => {
                assert_eq!(worker, rogue);
                assert_eq!(fault, WorkerFault::Cluster(Misbehaviour::UnknownAnswer));
                faults += 1;
                None
            }
            Event::Message { .. } => Some(()),
            _ => None,
        })
        .await;
        assert_eq!(faults, 100);
        // The one whose it is serves it when it can.
        assert_eq!(exchange(&mut client, "hello").await, "hello");
    });
}

async fn pitfall_38_a_signal_is_no_disconnect(major: &str) {
    let directory = Directory::new();
    let script = "require('net').createServer().listen(0, '127.0.0.1');";
    let mut gang = Gang::new(directory.workers(major, Policy::RoundRobin, script));
    let (worker, _) = gang.fork_listening().await;
    assert!(gang.with(move |primary| primary.worker(worker.id).unwrap().destroy()).await);
    let killed = Exit::Signal { signal: 15, core_dumped: false };
    assert_eq!(gang.exit().await, (worker.id, killed, false));
}

/// Seen from the worker's directory, also where it is none but a name of the kernel's.
async fn pitfall_40_a_path_is_the_workers(major: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let name = directory.path("name").display().to_string();
        let mut settings = directory.workers(
            major,
            policy,
            "const server = () => require('net').createServer((socket) => socket.end('served'));
             server().listen('app.sock', () => server().listen('\\0' + process.argv[2], () => process.send('ready')));",
        );
        settings.args.push(name.clone().into());
        settings.cwd = Some(directory.path(""));
        let mut gang = Gang::new(settings);
        gang.fork().await;
        assert_eq!(gang.message().await.1, "ready");
        assert_eq!(read(UnixStream::connect(directory.path("app.sock")).await.unwrap()).await, "served");
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let client = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
        client.set_nonblocking(true).unwrap();
        assert_eq!(read(UnixStream::from_std(client).unwrap()).await, "served");
    }
}

#[test]
fn a_key_of_anothers_is_not_closed() {
    run(async {
        let directory = Directory::new();
        // All that another could have, and its own when it has none.
        let rogue = r#"
            for (const key of ['127.0.0.1:0:4:undefined:0', '127.0.0.1:0:4:undefined', '']) {
              say(JSON.stringify({ cmd: 'NODE_CLUSTER', act: 'close', key, seq: 1 }));
            }
            say('{"cmd":"NODE_CLUSTER","act":"listening","index":0,"address":"127.0.0.1","port":80,"addressType":4,"seq":2}');
            process.send('done');"#;
        let (mut gang, address) = with_rogue(&directory, rogue).await;
        let key = gang.with(|primary| primary.snapshot().listeners[0].key.clone()).await;
        assert_eq!(key.to_string(), "127.0.0.1:0:4:undefined:0", "the rogue does mean it");
        for _ in 0..3 {
            assert_eq!(fault(&mut gang).await, WorkerFault::Cluster(Misbehaviour::UnknownKey));
        }
        let told = gang
            .find(|event| match event {
                Event::Listening { .. } => Some("a lie"),
                Event::Message { .. } => Some("done"),
                _ => None,
            })
            .await;
        assert_eq!(told, "done");
        assert_eq!(ask(address).await, "served");
    });
}

/// Not as a Node begins: without `online`, it asks, talks, and leaves.
#[test]
fn who_speaks_before_it_is_online_is_answered() {
    run(async {
        let mut settings = Settings::new("/bin/sh");
        let script = r#"
            printf '%s\n' '{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4,"seq":0}' >&3
            read answer <&3
            printf '%s\n' "$answer" '{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":1}' >&3"#;
        settings.args = vec!["-c".into(), script.into()];
        let mut gang = Gang::new(settings);
        let worker = gang.fork().await;
        // What it says back is a reply, and none of a worker's business: it is no message of a user's.
        let mut story = Vec::new();
        while story.last() != Some(&"exit") {
            story.push(match gang.event().await {
                Event::Setup { .. } | Event::Fork { .. } => continue,
                Event::Online { .. } => "online",
                Event::Fault { fault: WorkerFault::Cluster(Misbehaviour::BeforeOnline), .. } => "too early",
                Event::Message { .. } => "message",
                Event::Leaving { .. } => "leaving",
                Event::Disconnect { .. } => "disconnect",
                Event::Exit { worker: it, exit, .. } => {
                    assert_eq!((it, exit), (worker, Exit::Code(0)));
                    "exit"
                }
                event => panic!("{event:?}"),
            });
        }
        let early = "too early";
        assert_eq!(story, [early, early, early, "leaving", "disconnect", "exit"]);
    });
}
