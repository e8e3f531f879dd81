//! Connections find a worker that serves them.

use std::{collections::BTreeMap, net::SocketAddr};

use ganger::cluster::Policy;
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet};

use crate::support::{Directory, Gang, POLICIES, ask, read};

on_each_node! {
    turns_are_taken: "round robin",
    all_are_served_by_one_socket: "shared",
    what_one_refuses_another_takes: "maxConnections",
    pitfall_36_a_lost_workers_connections_go_to_another: "connections of a killed worker",
}

/// Says who it is and hangs up.
const WHO: &str = "
    const { id } = require('node:cluster').worker;
    require('node:net').createServer((socket) => socket.end(String(id))).listen(0, '127.0.0.1');";

/// A gang of workers that all listen on the same address.
async fn listening(gang: &mut Gang, workers: usize) -> SocketAddr {
    let mut addresses = Vec::new();
    for _ in 0..workers {
        addresses.push(gang.fork_listening().await.1);
    }
    assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
    addresses[0]
}

async fn turns_are_taken(major: &str) {
    let directory = Directory::new();
    let mut gang = Gang::new(directory.workers(major, Policy::RoundRobin, WHO));
    let address = listening(&mut gang, 3).await;
    let mut served = BTreeMap::<String, u32>::new();
    for _ in 0..30 {
        *served.entry(ask(address).await).or_default() += 1;
    }
    assert_eq!(served, ["1", "2", "3"].map(|id| (id.to_owned(), 10)).into());
}

async fn all_are_served_by_one_socket(major: &str) {
    let directory = Directory::new();
    let mut gang = Gang::new(directory.workers(major, Policy::Shared, WHO));
    let address = listening(&mut gang, 2).await;
    for _ in 0..50 {
        let who = ask(address).await;
        assert!(who == "1" || who == "2", "{who}");
    }
}

async fn what_one_refuses_another_takes(major: &str) {
    let directory = Directory::new();
    let mut gang = Gang::new(directory.workers(
        major,
        Policy::RoundRobin,
        "const { id } = require('node:cluster').worker;
         const server = require('node:net').createServer((socket) => socket.write(String(id)));
         if (id === 1) server.maxConnections = 1;
         server.listen(0, '127.0.0.1');",
    ));
    let address = listening(&mut gang, 2).await;
    let (mut open, mut who) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let mut connection = TcpStream::connect(address).await.unwrap();
        who.push(connection.read_u8().await.unwrap());
        open.push(connection);
    }
    who.sort_unstable();
    assert_eq!(who, b"122222");
}

async fn pitfall_36_a_lost_workers_connections_go_to_another(major: &str) {
    const CLIENTS: usize = 200;
    for policy in &POLICIES {
        let directory = Directory::new();
        let script = format!(
            "{WHO}
             process.on('message', () => {{
               require('node:fs').writeSync(3, '\"blocked\"\\n');
               Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
             }});"
        );
        let mut gang = Gang::new(directory.workers(major, policy, &script));
        let (blocked, address) = gang.fork_listening().await;
        gang.send(blocked.id, "block").await;
        gang.message().await;

        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let connection = TcpStream::connect(address).await.unwrap();
            clients.spawn(read(connection));
        }
        if *policy == Policy::RoundRobin {
            gang.until(|primary| primary.snapshot().workers[0].under_way > 0).await;
        }
        gang.fork_listening().await;
        gang.kill(blocked.id).await;
        let served = clients.join_all().await;
        assert_eq!(served, vec!["2"; CLIENTS]);
    }
}
