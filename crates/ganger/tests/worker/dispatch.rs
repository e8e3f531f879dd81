//! Connections find a Rust worker that serves them, also when their first one does not.

use ganger::cluster::Policy;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    boss::{Boss, Under},
    support::exchange,
    trial, trial_everywhere,
};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trial_everywhere(trials, "sharing", connections_are_shared);
    trial_everywhere(trials, "dropped listener", what_a_dropped_listener_had_goes_to_another);
    for under in Under::ganger() {
        trial(trials, "killed worker", under, what_a_killed_worker_had_goes_to_another);
    }
}

async fn connections_are_shared(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (_, address) = boss.fork_serving("127.0.0.1:0").await;
    boss.fork_serving("127.0.0.1:0").await;
    let mut served = [0; 2];
    for _ in 0..20 {
        let who = exchange(&mut TcpStream::connect(&address).await.unwrap(), "x").await;
        served[if who == "1 x" { 0 } else { 1 }] += 1;
        assert!(who == "1 x" || who == "2 x", "{who}");
    }
    if *under.policy() == Policy::RoundRobin {
        // A worker's answer and the next connection may cross, and then turns are swapped once. How often that happens
        // to a Node is its own affair.
        let least = if under.node().is_some() { 1 } else { 8 };
        assert!(served.iter().all(|count| *count >= least), "{served:?}");
    }
}

/// Two workers that listen and do not accept, and so many connections waiting.
async fn waiting(boss: &mut Boss) -> (Vec<TcpStream>, String) {
    let (one, other) = (boss.fork(), boss.fork());
    let address = boss.listen(one, "127.0.0.1:0").await;
    assert_eq!(boss.listen(other, "127.0.0.1:0").await, address);
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(TcpStream::connect(&address).await.unwrap());
    }
    (clients, address)
}

async fn all_served_by(worker: u32, clients: Vec<TcpStream>) {
    for mut client in clients {
        assert_eq!(exchange(&mut client, "x").await, format!("{worker} x"));
    }
}

async fn what_a_dropped_listener_had_goes_to_another(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (clients, _) = waiting(&mut boss).await;
    // Its answer comes behind the connections that were sent before.
    boss.ask(1, json!(["echo", 1])).await;
    assert_eq!(boss.ask(1, json!(["drop", 0])).await, json!(["dropped"]));
    boss.ask(2, json!(["serve", 0])).await;
    all_served_by(2, clients).await;
}

async fn what_a_killed_worker_had_goes_to_another(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (clients, _) = waiting(&mut boss).await;
    boss.ask(1, json!(["echo", 1])).await;
    boss.kill(1);
    assert_eq!(boss.event(1, "exit").await, json!(["signal SIGKILL", false]));
    boss.ask(2, json!(["serve", 0])).await;
    all_served_by(2, clients).await;
}
