//! A gang of two programs: an unmodified Node and a Rust worker ask for the same address, and get the same socket.

use std::{
    collections::BTreeSet,
    env,
    net::{Ipv4Addr, SocketAddr},
};

use ganger::{
    Generation, Slot,
    cluster::{Group, Policy, Primary, Settings},
};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream, UdpSocket, UnixStream};

use crate::{
    boss::{Boss, OURS, Under},
    support::{self, Directory, POLICIES, exchange, node, until},
};

const MAJORS: [&str; 5] = ["18", "20", "22", "24", "26"];

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    for major in MAJORS {
        let name = format!("mixed gang: one socket with Node {major}");
        trials.push(Trial::test(name, move || {
            for policy in &OURS {
                both(Under::Ganger(policy), major);
            }
            support::passed("mixed gang", major);
            Ok(())
        }));
        let name = format!("mixed gang: one socket under Node {major}");
        trials.push(Trial::test(name, move || {
            for policy in &POLICIES {
                both(Under::Node(major, policy), major);
            }
            support::passed("mixed gang under Node", major);
            Ok(())
        }));
    }
    trials.push(Trial::test("mixed gang: a slot is filled by its group's program", || {
        support::run(a_slot_is_filled_by_its_groups_program());
        Ok(())
    }));
}

fn both(under: Under, major: &str) {
    for victim in [NODE, RUST] {
        support::run(they_share_what_both_ask_for(under, major, victim));
    }
    support::run(any_ports_are_told_apart_by_their_order(under, major));
}

/// Node's half of the gang; the other is [`crate::role`].
const NODE_WORKER: &str = "
    const net = require('node:net');
    const { id } = require('node:cluster').worker;
    const shown = (at) => typeof at === 'string' ? require('node:path').resolve(at) : address(at);
    const address = ({ address, port }) => `${address.includes(':') ? `[${address}]` : address}:${port}`;
    const dgram = require('node:dgram');
    const servers = [];
    process.on('message', ([what, argument]) => {
      if (what === 'id') process.send([id, Number(process.env.GANGER_SLOT), process.pid]);
      if (what === 'env') process.send([process.env.SHARED, process.env.OWN, process.cwd()]);
      if (what === 'serve') process.send(['serving']);
      if (what === 'drop') servers[argument].close(() => process.send(['dropped']));
      if (what === 'bind') {
        const [host, port] = argument.split(':');
        const socket = dgram.createSocket('udp4');
        socket.on('message', (data, { address, port }) => socket.send(`${id} ${data}`, port, address));
        socket.bind(Number(port), host || undefined, () => process.send(['listening', shown(socket.address())]));
      }
      if (what !== 'listen') return;
      const [, host, port] = /^(?:\\[?(.*?)\\]?:)?(\\d+)$/.exec(argument) ?? [];
      const where = port === undefined ? [argument] : host === undefined ? [Number(port)] : [Number(port), host];
      const server = net.createServer((socket) => {
        socket.on('error', () => {}).on('data', (data) => socket.write(`${id} ${data}`));
      });
      servers.push(server);
      server.on('error', ({ code, errno }) => process.send(['error', code, -errno]));
      server.listen(...where, () => process.send(['listening', shown(server.address())]));
    });";

/// One Node, one Rust worker.
fn settings(directory: &Directory, major: &str, policy: &Policy) -> Settings {
    let script = directory.write("worker.js", NODE_WORKER);
    let mut settings = Settings::new("mixed");
    settings.policy = policy.clone();
    let mut node = Group::new(node(major));
    node.args = vec![script.into()];
    let mut rust = Group::new(env::current_exe().unwrap());
    rust.args = vec!["remote".into()];
    settings.groups = vec![node, rust];
    settings
}

/// A gang of worker 1, which is a Node, and worker 2, which is of this library.
struct Mixed {
    boss: Boss,
    directory: Directory,
    /// How many listeners the Rust worker serves.
    served: usize,
}

const NODE: u32 = 1;
const RUST: u32 = 2;

impl Mixed {
    /// With a Node of the primary's release line, or of `major` under ours.
    fn new(under: Under, major: &str) -> Self {
        let directory = Directory::new();
        let mut boss = match under {
            Under::Node(major, _) => {
                let script = directory.write("worker.js", NODE_WORKER);
                let boss = Boss::new(under, &[]);
                boss.set_program(&node(major), &[script.to_str().unwrap()]);
                boss
            }
            Under::Ganger(_) | Under::WithoutLane => Boss::of(settings(&directory, major, under.policy())),
        };
        assert_eq!(boss.fork(), NODE);
        if let Under::Node(..) = under {
            boss.set_program(&env::current_exe().unwrap(), &["remote"]);
        }
        assert_eq!(boss.fork(), RUST);
        Self { boss, directory, served: 0 }
    }

    /// Both listen; at one and the same address.
    async fn listen(&mut self, address: &str) -> String {
        let node = self.boss.listen(NODE, address).await;
        let rust = self.boss.listen(RUST, address).await;
        assert_eq!(node, rust, "{address}");
        node
    }

    /// Both bind a UDP socket; at one and the same address.
    async fn bind(&mut self, address: &str) -> SocketAddr {
        let node = self.boss.ask(NODE, json!(["bind", address])).await;
        let rust = self.boss.ask(RUST, json!(["bind", address.trim_start_matches(':')])).await;
        assert_eq!(node, rust, "{address}");
        node[1].as_str().unwrap().parse().unwrap()
    }

    /// Both listen and serve.
    async fn serve(&mut self, address: &str) -> String {
        let address = self.listen(address).await;
        self.rust_serves().await;
        address
    }

    async fn rust_serves(&mut self) {
        assert_eq!(self.boss.ask(RUST, json!(["serve", self.served])).await, json!(["serving"]));
        self.served += 1;
    }
}

async fn they_share_what_both_ask_for(under: Under, major: &str, victim: u32) {
    let mut gang = Mixed::new(under, major);
    let mut addresses = Vec::new();
    for address in ["0", "127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
        let port = gang.serve(address).await.parse::<SocketAddr>().unwrap().port();
        let hosts: &[&str] = match address {
            // Both families, as in Node.
            "0" => &["127.0.0.1", "[::1]"],
            "127.0.0.1:0" | "0.0.0.0:0" => &["127.0.0.1"],
            _ => &["[::1]"],
        };
        match under.policy() {
            Policy::Shared => each_serves_what_the_other_leaves(&mut gang, hosts, port).await,
            policy => both_get_their_share(policy, hosts, port).await,
        }
        addresses.extend(hosts.iter().map(|host| format!("{host}:{port}")));
    }
    addresses.push(format!("127.0.0.1:{}", a_port_is_shared(&mut gang).await));
    let path = gang.directory.path("app.sock");
    // It is the absolute path that they share.
    gang.serve(gang.directory.path("over/../app.sock").to_str().unwrap()).await;

    let datagrams = [gang.bind(":0").await, gang.bind("127.0.0.1:0").await];

    // Whatever the two had between them, the one that is left serves.
    gang.boss.kill(victim);
    gang.boss.event(victim, "exit").await;
    let answer = format!("{} x", if victim == NODE { RUST } else { NODE });
    for address in addresses {
        assert_eq!(
            exchange(&mut TcpStream::connect(&address).await.unwrap(), "x").await,
            answer,
            "{address}"
        );
    }
    assert_eq!(exchange(&mut UnixStream::connect(&path).await.unwrap(), "x").await, answer);
    for address in datagrams {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"x", ("127.0.0.1", address.port())).await.unwrap();
        let mut buffer = [0; 16];
        let count = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], answer.as_bytes(), "{address}");
    }
}

/// Whom the kernel likes better is its own affair; who does not run gets nothing.
async fn each_serves_what_the_other_leaves(gang: &mut Mixed, hosts: &[&str], port: u16) {
    for (stopped, answer) in [(NODE, "2 x"), (RUST, "1 x")] {
        let pid = gang.boss.ask(stopped, json!(["id"])).await[2].as_i64().unwrap() as i32;
        let signal = |signal| kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        signal(Signal::STOP);
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        until(|| state().contains(") T ")).await;
        for host in hosts {
            let mut client = TcpStream::connect(format!("{host}:{port}")).await.unwrap();
            assert_eq!(exchange(&mut client, "x").await, answer, "{host}:{port}");
        }
        signal(Signal::CONT);
    }
}

/// Until both have served, of clients that come from many places and stay: in turn, to the one that has fewer, by the client's
/// address or by the kernel's choice.
async fn both_get_their_share(policy: &Policy, hosts: &[&str], port: u16) {
    let (mut served, mut open) = (BTreeSet::new(), Vec::new());
    for (host, from) in hosts.iter().cycle().zip((2..=250).cycle()) {
        let mut client = match host.parse::<Ipv4Addr>() {
            Ok(host) => {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
                socket.connect((host, port).into()).await.unwrap()
            }
            Err(_) => TcpStream::connect(format!("{host}:{port}")).await.unwrap(),
        };
        served.insert(exchange(&mut client, "x").await);
        open.push(client);
        // In IPv6 a machine is one client.
        if served.len() == 2 || (matches!(policy, Policy::Sticky(_)) && hosts == ["[::1]"]) {
            break;
        }
    }
    assert!(served.iter().all(|answer| ["1 x", "2 x"].contains(&answer.as_str())), "{served:?}");
}

/// A port that is not 0, by itself: Node ≥ 22 has another key for it than for 0.
async fn a_port_is_shared(gang: &mut Mixed) -> u16 {
    let port = loop {
        let free = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let answer = gang.boss.ask(NODE, json!(["listen", free.to_string()])).await;
        if answer[0] == "listening" {
            break free;
        }
        // Somebody else was faster.
        assert_eq!(answer[1], "EADDRINUSE");
    };
    gang.boss.listen(RUST, &port.to_string()).await;
    gang.rust_serves().await;
    port
}

async fn any_ports_are_told_apart_by_their_order(under: Under, major: &str) {
    let mut gang = Mixed::new(under, major);
    let mut addresses = vec![gang.listen("127.0.0.1:0").await, gang.listen("127.0.0.1:0").await];
    for worker in [NODE, RUST] {
        assert_eq!(gang.boss.ask(worker, json!(["drop", 0])).await, json!(["dropped"]));
    }
    addresses.extend([gang.listen("127.0.0.1:0").await, gang.listen("127.0.0.1:0").await]);
    let different: BTreeSet<_> = addresses[1..].iter().collect();
    assert_eq!(different.len(), 3, "{addresses:?}");
}

async fn a_slot_is_filled_by_its_groups_program() {
    let directory = Directory::new();
    let mut settings = settings(&directory, support::NODE, &Policy::RoundRobin);
    settings.env = vec![("SHARED".into(), "all".into()), ("OWN".into(), "overridden".into())];
    settings.groups[0].env = vec![("OWN".into(), "node's".into())];
    settings.groups[0].workers = 2;
    settings.groups[0].cwd = Some("/".into());
    assert_eq!(settings.slots(), 3);
    let mut primary = Primary::new(settings).unwrap();
    let mut fork = |slot| primary.fork_in(Slot(slot), Generation::default()).unwrap();
    let groups = [fork(2), fork(1), fork(0)].map(|worker| worker.group);
    assert_eq!(groups, [1, 0, 0]);
    for (worker, slot) in [(1, 2), (2, 1), (3, 0)] {
        let id = primary.worker(ganger::WorkerId(worker)).unwrap().info();
        assert_eq!((id.slot, id.group), (Slot(slot), usize::from(slot == 2)));
        let answer: Value = answer(&mut primary, worker, json!(["id"])).await;
        assert_eq!(answer, json!([worker, slot, id.pid]));
    }
    assert_eq!(answer(&mut primary, 2, json!(["env"])).await, json!(["all", "node's", "/"]));
}

/// What a worker says to an order.
async fn answer(primary: &mut Primary, worker: u32, order: Value) -> Value {
    primary.send(ganger::WorkerId(worker), &order).unwrap();
    loop {
        if let ganger::cluster::Event::Message { worker: from, message } = primary.event().await
            && from.id.0 == worker
        {
            return message.parse().unwrap();
        }
    }
}
