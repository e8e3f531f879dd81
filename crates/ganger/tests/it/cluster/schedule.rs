//! Every way to share out connections, seen from outside, with unmodified workers of Node's.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::SocketAddr,
    sync::PoisonError,
};

use ganger::{
    Slot, SocketId, WorkerId,
    cluster::{Policy, WorkerInfo},
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::support::{Directory, Gang, NODE, STARTING, read, run, run_here};

on_each_node! {
    each_slot_has_its_own_socket: "reuseport",
    the_least_busy_gets_the_next: "least-conn",
    a_client_stays_with_its_worker: "sticky",
}

/// Says who it is; goes on until the client hangs up.
const WHO: &str = "
    const { id } = require('node:cluster').worker;
    require('node:net').createServer((socket) => socket.on('error', () => {}).write(String(id)))
      .listen(0, '127.0.0.1');";

/// Says who it is by HTTP.
const HTTP: &str = "
    const { id } = require('node:cluster').worker;
    require('node:http').createServer((request, response) => response.setHeader('Content-Length', String(id).length).end(String(id))).listen(0, '127.0.0.1');";

async fn gang(directory: &Directory, major: &str, policy: &str, script: &str) -> Gang {
    Gang::new(directory.workers(major, policy.parse::<Policy>().unwrap(), script))
}

/// So many workers in slots of their own that listen on one address.
async fn listening(gang: &mut Gang, workers: u32) -> SocketAddr {
    let mut address = None;
    for slot in 0..workers {
        let (_, its_own) = fork_in(gang, slot).await;
        assert_eq!(*address.get_or_insert(its_own), its_own);
    }
    address.unwrap()
}

async fn fork_in(gang: &mut Gang, slot: u32) -> (WorkerInfo, SocketAddr) {
    let worker = gang.with(move |primary| primary.fork_in(Slot(slot), Default::default()).unwrap()).await;
    let (listening, address) = gang.listening().await;
    assert_eq!(listening, worker.id);
    (worker, address.parse().unwrap())
}

async fn each_slot_has_its_own_socket(major: &str) {
    const CLIENTS: usize = 100;
    let directory = Directory::new();
    // The last one never accepts.
    let script = format!(
        "if (process.env.GANGER_SLOT === '2') process.on('message', () => {{
           require('node:fs').writeSync(3, '\"blocked\"\\n');
           Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
         }});
         {WHO}"
    );
    let mut gang = gang(&directory, major, "reuseport", &script).await;
    let address = listening(&mut gang, 3).await;
    let sockets = gang.with(|primary| primary.snapshot().listeners[0].sockets.len()).await;
    assert_eq!(sockets, 3);
    gang.send(WorkerId(3), "block").await;
    gang.message().await;

    let clients: Vec<_> = connected(address, CLIENTS).await;
    let mut waiting = JoinSet::new();
    for mut client in clients {
        waiting.spawn(async move { client.read_u8().await.unwrap() });
    }
    // What the blocked one has, nobody else gets, as long as it lives; after its death the others have it, all of it.
    gang.kill(WorkerId(3)).await;
    let served = waiting.join_all().await;
    assert!(served.iter().all(|who| b"12".contains(who)), "{served:?}");
    assert_eq!(served.len(), CLIENTS);

    // Its successor has its socket again, and the siblings no more of it.
    gang.with(|primary| primary.set_replacements_due(true)).await;
    fork_in(&mut gang, 2).await;
    let served: BTreeSet<_> = identities(connected(address, CLIENTS).await).await.into_keys().collect();
    assert_eq!(served, BTreeSet::from([b'1', b'2', b'4']));
}

async fn connected(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    clients
}

/// How often each worker has said its name.
async fn identities(clients: Vec<TcpStream>) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    for mut client in clients {
        *counts.entry(client.read_u8().await.unwrap()).or_default() += 1;
    }
    counts
}

async fn the_least_busy_gets_the_next(major: &str) {
    let directory = Directory::new();
    let mut gang = gang(&directory, major, "least-conn", WHO).await;
    let address = listening(&mut gang, 1).await;
    let first = connected(address, 10).await;
    gang.until(|primary| primary.snapshot().workers[0].open == 10).await;
    // The newcomer catches up.
    fork_in(&mut gang, 1).await;
    let second = connected(address, 10).await;
    assert_eq!(identities(second).await, BTreeMap::from([(b'2', 10)]));
    // Those have ended; of the first ones four have.
    gang.until(|primary| primary.snapshot().workers[1].open == 0).await;
    let mut first = first;
    first.truncate(6);
    gang.until(|primary| primary.snapshot().workers[0].open == 6).await;
    let third = connected(address, 8).await;
    gang.until(|primary| primary.snapshot().workers.iter().all(|worker| worker.open == 7)).await;
    assert_eq!(identities(third).await, BTreeMap::from([(b'1', 1), (b'2', 7)]));
}

/// Asks with a cookie, its head in two pieces; the worker's name.
async fn who(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n");
    let (one, other) = request.split_at(request.len() / 2);
    stream.write_all(one.as_bytes()).await.unwrap();
    tokio::task::yield_now().await;
    stream.write_all(other.as_bytes()).await.unwrap();
    let answer = read(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}

async fn a_client_stays_with_its_worker(major: &str) {
    let directory = Directory::new();
    let mut gang = gang(&directory, major, "sticky=cookie:sid", HTTP).await;
    let address = listening(&mut gang, 3).await;
    let mut homes = BTreeMap::new();
    for client in 0..20 {
        let home = who(address, &format!("Cookie: a=b; sid=client-{client}")).await;
        for _ in 0..3 {
            assert_eq!(who(address, &format!("Cookie: sid=client-{client}; c=d")).await, home);
        }
        homes.insert(client, home);
    }
    assert_eq!(homes.values().collect::<BTreeSet<_>>().len(), 3, "{homes:?}");
    // A value may name its slot.
    for slot in 0..3 {
        assert_eq!(who(address, &format!("Cookie: sid=x.{slot}")).await, (slot + 1).to_string());
    }
    // Without a cookie, the address counts: always the same, from here.
    let home = who(address, "X: y").await;
    for _ in 0..5 {
        assert_eq!(who(address, "X: y").await, home);
    }
    // A slot's clients go to whoever fills it.
    let mut expected = homes.clone();
    expected.values_mut().filter(|home| *home == "2").for_each(|home| *home = "4".into());
    gang.with(|primary| primary.set_replacements_due(true)).await;
    gang.kill(WorkerId(2)).await;
    gang.exit().await;
    fork_in(&mut gang, 1).await;
    for (client, home) in &expected {
        assert_eq!(who(address, &format!("Cookie: sid=client-{client}")).await, *home);
    }
}

#[test]
fn by_address_a_client_stays_with_its_worker() {
    run(async {
        let directory = Directory::new();
        let mut gang = gang(&directory, NODE, "sticky", WHO).await;
        let address = listening(&mut gang, 4).await;
        let from = |host: u8| async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
            socket.connect(address).await.unwrap().read_u8().await.unwrap()
        };
        let mut homes = BTreeSet::new();
        for host in 1..=16 {
            let home = from(host).await;
            assert_eq!((from(host).await, from(host).await), (home, home));
            homes.insert(home);
        }
        assert_eq!(homes.len(), 4, "{homes:?}");
    });
}

/// Who says nothing, or something else than HTTP, is served too, and by the worker of its address.
#[test]
fn who_is_peeked_at_in_vain_is_served_by_address() {
    run(async {
        let directory = Directory::new();
        let mut gang = gang(&directory, NODE, "sticky=header:x-user", WHO).await;
        let address = listening(&mut gang, 3).await;
        let silent = TcpStream::connect(address).await.unwrap().read_u8().await.unwrap();
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(b"\x16\x03\x01").await.unwrap();
        assert_eq!(other.read_u8().await.unwrap(), silent);
        let mut endless = TcpStream::connect(address).await.unwrap();
        endless.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(17 << 10)).as_bytes()).await.unwrap();
        assert_eq!(endless.read_u8().await.unwrap(), silent);
        // Nothing of what was looked at is missing for the worker: that is seen with HTTP, above. Who has gone meanwhile
        // hurts nobody.
        drop(TcpStream::connect(address).await.unwrap());
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET / HT").await.unwrap();
        half.shutdown().await.unwrap();
        assert_eq!(half.read_u8().await.unwrap(), silent);
    });
}

/// While nothing else runs, see [`STARTING`].
fn run_alone(test: impl Future<Output = ()>) {
    let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    run_here(test);
}

/// Scaling down: nobody new is led to the slot, what waits there goes to the others, and then it is closed.
#[test]
fn a_slot_that_is_given_up_loses_nobody() {
    run_alone(async {
        let directory = Directory::new();
        let mut gang = gang(&directory, NODE, "reuseport", WHO).await;
        let address = listening(&mut gang, 3).await;
        gang.with(|primary| {
            primary.retire_slot(Slot(1));
            primary.disconnect(WorkerId(2));
        })
        .await;
        let served = identities(connected(address, 100).await).await;
        assert_eq!(served.keys().collect::<Vec<_>>(), [&b'1', &b'3']);
        gang.until(|primary| primary.snapshot().listeners[0].sockets.len() == 2).await;
        let served = identities(connected(address, 100).await).await;
        assert_eq!(served.keys().collect::<Vec<_>>(), [&b'1', &b'3']);
        // And up again.
        fork_in(&mut gang, 1).await;
        assert_eq!(identities(connected(address, 100).await).await.len(), 3);
    });
}

/// As long as a worker has not closed its copy of a socket the kernel leads clients there, and counts it among those on the port.
#[test]
fn a_slot_whose_worker_does_not_let_go_of_its_socket_loses_nobody() {
    run_alone(async {
        let directory = Directory::new();
        let mut gang = gang(&directory, NODE, "reuseport", WHO).await;
        let address = listening(&mut gang, 3).await;
        gang.with(|primary| {
            assert!(primary.worker(WorkerId(2)).unwrap().kill(Signal::STOP.as_raw()));
            for slot in [1, 2] {
                primary.retire_slot(Slot(slot));
                primary.disconnect(WorkerId(slot + 1));
            }
        })
        .await;
        gang.until(|primary| !primary.snapshot().listeners[0].sockets.contains(&SocketId(3))).await;
        let clients = connected(address, 100).await;
        gang.with(|primary| primary.worker(WorkerId(2)).unwrap().kill(Signal::KILL.as_raw())).await;
        assert_eq!(identities(clients).await, BTreeMap::from([(b'1', 100)]));
        gang.until(|primary| primary.snapshot().listeners[0].sockets.len() == 1).await;
        assert_eq!(identities(connected(address, 100).await).await, BTreeMap::from([(b'1', 100)]));
    });
}

/// A stranger on the port is told of, also one who would have shared it.
#[test]
fn a_strangers_port_is_not_taken_for_ours() {
    run(async {
        let stranger = tokio::net::TcpSocket::new_v4().unwrap();
        stranger.set_reuseport(true).unwrap();
        stranger.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let stranger = stranger.listen(1).unwrap();
        let port = stranger.local_addr().unwrap().port();
        let directory = Directory::new();
        let script = format!(
            "require('node:net').createServer().on('error', ({{ code }}) => process.send(code))
               .listen({port}, '127.0.0.1');"
        );
        let mut gang = gang(&directory, NODE, "reuseport", &script).await;
        gang.fork().await;
        assert_eq!(gang.message().await.1, "EADDRINUSE");
    });
}

/// What cannot have several sockets is shared: a path.
#[test]
fn with_reuseport_a_path_is_shared() {
    run(async {
        let directory = Directory::new();
        let path = directory.path("socket");
        let script = WHO.replace("0, '127.0.0.1'", &format!("{path:?}"));
        let mut gang = gang(&directory, NODE, "reuseport", &script).await;
        for _ in 0..2 {
            gang.fork().await;
            gang.listening().await;
        }
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        assert!(b"12".contains(&stream.read_u8().await.unwrap()));
    });
}
