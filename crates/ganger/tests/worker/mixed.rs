//! A gang of two programs: an unmodified Node and a Rust worker ask for the same address, and get the same socket.

use std::{collections::BTreeSet, env, net::SocketAddr};

use ganger::{
    Generation, Slot,
    cluster::{Group, Policy, Primary, Settings},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

use crate::{
    boss::Boss,
    support::{self, Directory, POLICIES, exchange, node},
};

const MAJORS: [&str; 5] = ["18", "20", "22", "24", "26"];

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    for major in MAJORS {
        let name = format!("mixed gang: one socket with Node {major}");
        trials.push(Trial::test(name, move || {
            for policy in POLICIES {
                support::run(they_share_what_both_ask_for(major, policy));
            }
            support::passed("mixed gang", major);
            Ok(())
        }));
    }
    trials.push(Trial::test("mixed gang: a slot is filled by its group's program", || {
        support::run(a_slot_is_filled_by_its_groups_program());
        Ok(())
    }));
}

/// Node's half of the gang; the other is [`crate::role`].
const NODE_WORKER: &str = "
    const net = require('node:net');
    const { id } = require('node:cluster').worker;
    const shown = ({ address, port }) => `${address.includes(':') ? `[${address}]` : address}:${port}`;
    process.on('message', ([what, argument]) => {
      if (what === 'id') process.send([id, Number(process.env.GANGER_SLOT), process.pid]);
      if (what === 'env') process.send([process.env.SHARED, process.env.OWN, process.cwd()]);
      if (what === 'serve') process.send(['serving']);
      if (what !== 'listen') return;
      const [, host, port] = /^(?:\\[?(.*?)\\]?:)?(\\d+)$/.exec(argument) ?? [];
      const where = port === undefined ? [argument] : host === undefined ? [Number(port)] : [Number(port), host];
      const server = net.createServer((socket) => {
        socket.on('error', () => {}).on('data', (data) => socket.write(`${id} ${data}`));
      });
      server.on('error', ({ code, errno }) => process.send(['error', code, -errno]));
      server.listen(...where, () => process.send(['listening', port === undefined ? '' : shown(server.address())]));
    });";

/// One Node, one Rust worker.
fn settings(directory: &Directory, major: &str, policy: Policy) -> Settings {
    let script = directory.write("worker.js", NODE_WORKER);
    let mut settings = Settings::new("mixed");
    settings.policy = policy;
    let mut node = Group::new(node(major));
    node.args = vec![script.into()];
    let mut rust = Group::new(env::current_exe().unwrap());
    rust.args = vec!["remote".into()];
    settings.groups = vec![node, rust];
    settings
}

async fn they_share_what_both_ask_for(major: &str, policy: Policy) {
    for address in ["0", "127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
        let directory = Directory::new();
        let mut boss = Boss::of(settings(&directory, major, policy), directory);
        let (_, node) = boss.fork_serving(address).await;
        let (_, rust) = boss.fork_serving(address).await;
        assert_eq!(node, rust, "{address}");
        let port = node.parse::<SocketAddr>().unwrap().port();
        let hosts: &[&str] = match address {
            // Both families, as in Node.
            "0" => &["127.0.0.1", "[::1]"],
            "127.0.0.1:0" | "0.0.0.0:0" => &["127.0.0.1"],
            _ => &["[::1]"],
        };
        let mut served = BTreeSet::new();
        for turn in 0..20 {
            let to = format!("{}:{port}", hosts[turn % hosts.len()]);
            served.insert(exchange(&mut TcpStream::connect(&to).await.unwrap(), "x").await);
        }
        if policy == Policy::RoundRobin {
            assert_eq!(served, ["1 x".to_owned(), "2 x".to_owned()].into(), "{address}");
        }
        // Whom the kernel likes better is its own affair: the one that is left serves.
        boss.kill(1);
        boss.event(1, "exit").await;
        let to = format!("{}:{port}", hosts[0]);
        assert_eq!(exchange(&mut TcpStream::connect(&to).await.unwrap(), "x").await, "2 x", "{address}");
    }
    a_port_is_shared(major, policy).await;
    a_path_is_shared(major, policy).await;
}

/// A port that is not 0, by itself: Node ≥ 22 has another key for it than for 0.
async fn a_port_is_shared(major: &str, policy: Policy) {
    let directory = Directory::new();
    let mut boss = Boss::of(settings(&directory, major, policy), directory);
    let node = boss.fork();
    let port = loop {
        let free = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let answer = boss.ask(node, json!(["listen", free.to_string()])).await;
        if answer[0] == "listening" {
            break free;
        }
        // Somebody else was faster.
        assert_eq!(answer[1], "EADDRINUSE");
    };
    boss.fork_serving(&port.to_string()).await;
    boss.kill(node);
    boss.event(node, "exit").await;
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(exchange(&mut client, "x").await, "2 x");
}

async fn a_path_is_shared(major: &str, policy: Policy) {
    let directory = Directory::new();
    let path = directory.path("app.sock");
    // Each to its own directory: it is the absolute path that they share.
    let mut settings = settings(&directory, major, policy);
    settings.groups[0].cwd = Some(path.parent().unwrap().into());
    let mut boss = Boss::of(settings, directory);
    boss.fork_serving("./over/../app.sock").await;
    boss.fork_serving(path.parent().unwrap().join("over/../app.sock").to_str().unwrap()).await;
    boss.kill(1);
    boss.event(1, "exit").await;
    assert_eq!(exchange(&mut UnixStream::connect(&path).await.unwrap(), "x").await, "2 x");
}

async fn a_slot_is_filled_by_its_groups_program() {
    let directory = Directory::new();
    let mut settings = settings(&directory, support::NODE, Policy::RoundRobin);
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
        let id = primary.worker(ganger::WorkerId(worker)).unwrap();
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
