//! The ways in which a Rust worker listens, under every primary.

use std::{
    collections::BTreeSet,
    os::unix::{fs::PermissionsExt, net::UnixListener},
};

use ganger::cluster::Policy;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use crate::{
    boss::{Boss, Under},
    interfaces::addresses_on_interfaces,
    support::{Directory, exchange, until},
    trial, trial_everywhere,
};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trial_everywhere(trials, "test-net-listen-exclusive-random-ports", what_is_exclusive_is_not_the_primarys);
    trial_everywhere(trials, "test-cluster-net-reuseport", who_agrees_shares_a_port_without_the_primary);
    trial_everywhere(trials, "ipv6Only", ipv4_is_left_alone_if_it_is_to_be);
    trial_everywhere(trials, "test-cluster-listen-pipe-readable-writable", everybody_may_connect_if_told_so);
    trial_everywhere(trials, "an address on an interface", an_address_may_be_on_an_interface);
    trial_everywhere(trials, "UDP", datagrams_are_shared);
    trial_everywhere(trials, "UDP in a stop", who_is_to_leave_receives_nothing_more);
    trial_everywhere(trials, "test-cluster-child-index-dgram", a_datagram_socket_closes_and_is_bound_again);
    for under in Under::ganger() {
        trial(trials, "stale path", under, a_dead_socket_is_replaced_and_a_living_one_is_not);
        trial(trials, "abstract name", under, a_name_without_a_file_is_shared);
        trial(trials, "several threads", under, a_runtime_of_its_own_will_do);
    }
    for under in Under::nodes() {
        trial(trials, "several threads", under, a_runtime_of_its_own_will_do);
    }
}

fn address_of(answer: &Value) -> String {
    assert!(answer[0] == "listening" || answer[0] == "bound", "{answer}");
    answer[1].as_str().unwrap().to_owned()
}

fn in_use() -> Value {
    json!(["error", "address in use", 98])
}

async fn what_is_exclusive_is_not_the_primarys(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (one, other) = (boss.fork(), boss.fork());
    let exclusive = |place: &str| json!(["listen", place, { "exclusive": true }]);
    let first = address_of(&boss.ask(one, exclusive("127.0.0.1:0")).await);
    assert_ne!(address_of(&boss.ask(other, exclusive("127.0.0.1:0")).await), first);
    assert_eq!(boss.ask(other, exclusive(&first)).await, in_use());
    assert_eq!(boss.ask(other, json!(["listen", first])).await, in_use());
    boss.ask(one, json!(["serve", 0])).await;
    assert_eq!(exchange(&mut TcpStream::connect(&first).await.unwrap(), "x").await, "1 x");
    assert_eq!(boss.count(one, "listening") + boss.count(other, "listening"), 0);
    // It ends with the worker's stop like any other.
    boss.disconnect(one);
    assert_eq!(boss.event(one, "exit").await, json!(["exit code 0", true]));
}

async fn who_agrees_shares_a_port_without_the_primary(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    let shared = |place: &str| json!(["listen", place, { "reusePort": true }]);
    let address = address_of(&boss.ask(worker, shared("127.0.0.1:0")).await);
    assert_eq!(address_of(&boss.ask(worker, shared(&address)).await), address);
    assert_eq!(boss.ask(worker, json!(["listen", address, { "exclusive": true }])).await, in_use());
    assert_eq!(boss.count(worker, "listening"), 0);
}

async fn ipv4_is_left_alone_if_it_is_to_be(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    let listen = |only: bool| json!(["listen", "[::]:0", { "ipv6Only": only }]);
    let port_of = |answer: &Value| address_of(answer).rsplit(':').next().unwrap().to_owned();
    let both = port_of(&boss.ask(worker, listen(false)).await);
    assert!(std::net::TcpListener::bind(format!("0.0.0.0:{both}")).is_err());
    TcpStream::connect(format!("127.0.0.1:{both}")).await.unwrap();
    // By chance the port may be somebody else's in IPv4; that it always is would be no chance.
    for _ in 0..10 {
        let port = port_of(&boss.ask(worker, listen(true)).await);
        TcpStream::connect(format!("[::1]:{port}")).await.unwrap();
        if std::net::TcpListener::bind(format!("0.0.0.0:{port}")).is_ok() {
            return;
        }
    }
    panic!("IPv4 never has the port free");
}

async fn an_address_may_be_on_an_interface(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (one, other) = (boss.fork(), boss.fork());
    for (index, host) in addresses_on_interfaces().into_iter().enumerate() {
        let place = format!("[{host}]:0");
        let address = address_of(&boss.ask(one, json!(["listen", place])).await);
        boss.ask(one, json!(["serve", index])).await;
        assert_eq!(exchange(&mut TcpStream::connect(&address).await.unwrap(), "x").await, "1 x");
        assert_eq!(address_of(&boss.ask(other, json!(["listen", place])).await), address);
        let exclusive = json!({ "exclusive": true });
        assert_ne!(address_of(&boss.ask(other, json!(["listen", place, exclusive])).await), address);

        let address = address_of(&boss.ask(one, json!(["bind only", place])).await);
        assert_eq!(address_of(&boss.ask(other, json!(["bind only", place])).await), address);
    }
    let nowhere = format!("[fe80::1%{}]:0", u32::MAX);
    for what in ["listen", "bind only"] {
        assert_eq!(
            boss.ask(one, json!([what, nowhere])).await,
            json!(["error", "invalid input parameter", 22])
        );
    }
}

async fn everybody_may_connect_if_told_so(under: Under) {
    let directory = Directory::new();
    let path = directory.path("app.sock");
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    let options = json!({ "readableAll": true, "writableAll": true });
    boss.ask(worker, json!(["listen", path, options])).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o666;
    // Node forgets it where workers share the socket.
    if under.node().is_none() || *under.policy() == Policy::RoundRobin {
        assert_eq!(mode, 0o666);
    }
    boss.ask(worker, json!(["serve", 0])).await;
    assert_eq!(exchange(&mut UnixStream::connect(&path).await.unwrap(), "x").await, "1 x");
}

async fn client_of(address: &str) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    client
}

async fn ping(client: &UdpSocket) -> String {
    client.send(b"ping").await.unwrap();
    let mut buffer = [0; 16];
    let count = client.recv(&mut buffer).await.unwrap();
    String::from_utf8(buffer[..count].to_vec()).unwrap()
}

async fn datagrams_are_shared(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (one, other) = (boss.fork(), boss.fork());
    let bind = json!(["bind only", "127.0.0.1:0"]);
    let address = address_of(&boss.ask(one, bind.clone()).await);
    assert_eq!(address_of(&boss.ask(other, bind).await), address);
    let client = client_of(&address).await;
    boss.ask(other, json!(["echo datagrams"])).await;
    if *under.policy() == Policy::ReusePort {
        // Each has its own share of the clients.
        boss.ask(one, json!(["echo datagrams"])).await;
        let mut answered = BTreeSet::new();
        while answered.len() < 2 {
            answered.insert(ping(&client_of(&address).await).await);
        }
        assert_eq!(answered, ["1 ping", "2 ping"].map(String::from).into());
    } else {
        assert_eq!(ping(&client).await, "2 ping");
    }
    // Who has closed it gets nothing, and the other one all.
    boss.disconnect(other);
    assert_eq!(boss.event(other, "exit").await, json!(["exit code 0", true]));
    if *under.policy() != Policy::ReusePort {
        boss.ask(one, json!(["echo datagrams"])).await;
    }
    for _ in 0..10 {
        assert_eq!(ping(&client_of(&address).await).await, "1 ping");
    }
    assert_eq!(boss.ask(one, json!(["bind only", address, { "exclusive": true }])).await, in_use());
}

async fn who_is_to_leave_receives_nothing_more(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    let address = address_of(&boss.ask(worker, json!(["bind only", "127.0.0.1:0"])).await);
    boss.ask(worker, json!(["echo datagrams"])).await;
    assert_eq!(ping(&client_of(&address).await).await, "1 ping");
    boss.disconnect(worker);
    assert_eq!(boss.message(worker).await, json!(["stopping"]));
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

async fn a_datagram_socket_closes_and_is_bound_again(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    for _ in 0..3 {
        address_of(&boss.ask(worker, json!(["bind only", "127.0.0.1:0"])).await);
        boss.ask(worker, json!(["close datagrams"])).await;
    }
    // Another address, since a socket that was just closed may still be there.
    let (reuse, address) = (json!({ "reuseAddr": true }), "127.0.0.2:0");
    let address = address_of(&boss.ask(worker, json!(["bind only", address, reuse])).await);
    assert_eq!(address_of(&boss.ask(worker, json!(["bind only", address, reuse])).await), address);
}

async fn a_dead_socket_is_replaced_and_a_living_one_is_not(under: Under) {
    let directory = Directory::new();
    let path = directory.path("app.sock");
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    let listen = json!(["listen", path]);

    let living = UnixListener::bind(&path).unwrap();
    assert_eq!(boss.ask(worker, listen.clone()).await, in_use());
    UnixStream::connect(&path).await.unwrap();
    drop(living);
    // Processes that are being started have a copy of it for a moment.
    while boss.ask(worker, listen.clone()).await == in_use() {}
    boss.ask(worker, json!(["serve", 0])).await;
    assert_eq!(exchange(&mut UnixStream::connect(&path).await.unwrap(), "x").await, "1 x");

    // Somebody else's file in our place is not ours to remove.
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    let marker = directory.path("marker.sock");
    boss.ask(worker, json!(["listen", marker])).await;
    for index in [0, 1] {
        assert_eq!(boss.ask(worker, json!(["drop", index])).await, json!(["dropped"]));
    }
    until(|| !marker.exists()).await;
    UnixStream::connect(&path).await.unwrap();

    let precious = directory.write("precious", "data");
    assert_eq!(boss.ask(worker, json!(["listen", precious])).await, in_use());
    assert_eq!(std::fs::read(&precious).unwrap(), b"data");
}

async fn a_name_without_a_file_is_shared(under: Under) {
    use std::os::linux::net::SocketAddrExt;
    let directory = Directory::new();
    let name = directory.path("name").display().to_string();
    let mut boss = Boss::new(under, &["remote"]);
    let place = format!("unix:@{name}");
    boss.fork_serving(&place).await;
    boss.fork_serving(&place).await;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let client = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    client.set_nonblocking(true).unwrap();
    let answer = exchange(&mut UnixStream::from_std(client).unwrap(), "x").await;
    assert!(answer == "1 x" || answer == "2 x", "{answer}");
}

async fn a_runtime_of_its_own_will_do(under: Under) {
    let mut boss = Boss::new(under, &["several-threads"]);
    let (worker, address) = boss.fork_serving("127.0.0.1:0").await;
    assert_eq!(exchange(&mut TcpStream::connect(address).await.unwrap(), "x").await, "1 x");
    boss.disconnect(worker);
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}
