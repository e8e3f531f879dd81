//! A Rust worker's life: listening, talking, leaving.

use std::env;

use ganger::{
    Serialization,
    cluster::Policy,
    process::{Command, Stdio},
};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, UnixStream},
};

use crate::{
    boss::{Boss, Under},
    support::{Directory, NODE, exchange, gone, node},
    trial, trial_everywhere,
};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trial_everywhere(trials, "messages", messages_go_both_ways);
    trial_everywhere(trials, "test-cluster-advanced-serialization", all_that_is_said_is_advanced);
    trial_everywhere(trials, "listening", it_listens_where_it_says);
    trial_everywhere(trials, "address in use", an_address_in_use_is_an_error);
    trial_everywhere(trials, "path", a_path_is_served);
    trial_everywhere(trials, "stopping", it_finishes_what_it_has);
    trial_everywhere(trials, "listening in a stop", who_is_to_leave_does_not_listen);
    trial_everywhere(trials, "stopping before it listens", who_has_not_listened_leaves_as_well);
    let by_hand = Under::Ganger(&Policy::RoundRobin);
    trial(trials, "stop while it asks to listen", by_hand, an_unanswered_listen_ends_with_the_stop);
    trial_everywhere(trials, "leaving", it_may_leave_of_its_own_accord);
    trial_everywhere(
        trials,
        "leaving without a connection",
        who_leaves_with_nothing_to_finish_is_disconnected,
    );
    trial_everywhere(trials, "listeners", each_listener_has_its_own_life);
    trial_everywhere(trials, "environment", its_children_are_no_workers);
    trial_everywhere(trials, "pitfall_41_its_arguments", its_arguments_are_those_of_a_script);
    for under in Under::nodes() {
        trial(trials, "pitfall_37_an_orphan_ends", under, it_ends_with_its_primary);
        trial(trials, "pitfall_37_a_deaf_orphan_ends", under, it_ends_with_its_primary_whatever_it_does);
    }
    for under in Under::ganger() {
        trial(trials, "draining", under, it_drains_before_it_leaves);
        trial(trials, "draining without a connection", under, who_has_nobody_to_lead_away_leaves);
        trial(trials, "too late", under, the_role_is_asked_for_first);
    }
}

async fn messages_go_both_ways(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    // Long before it has started.
    let text = "é 日本 \u{1f600} \u{2028} \" \\ \n";
    assert_eq!(boss.ask(worker, json!(["echo", { "text": text, "n": [1.5, true] }])).await["text"], text);
    let big = "é".repeat(400_000);
    assert!(boss.ask(worker, json!(["echo", big])).await == big.as_str());
}

/// The cluster's own messages among it.
async fn all_that_is_said_is_advanced(under: Under) {
    let mut boss = Boss::with_serialization(under, Serialization::Advanced, &["remote"]);
    let (worker, address) = boss.fork_serving("127.0.0.1:0").await;
    let message = json!({ "text": "é 日本 \u{1f600}", "n": [1.5, true, null] });
    assert_eq!(boss.ask(worker, json!(["echo", message])).await, message);
    let mut client = TcpStream::connect(address).await.unwrap();
    assert_eq!(exchange(&mut client, "x").await, "1 x");
    drop(client);
    boss.disconnect(worker);
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

async fn it_listens_where_it_says(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    boss.event(worker, "online").await;
    boss.send(worker, json!(["listen", "127.0.0.1:0"]));
    let listening = boss.event(worker, "listening").await;
    assert_eq!(boss.message(worker).await, json!(["listening", listening]));
    assert!(!listening.as_str().unwrap().ends_with(":0"), "{listening}");

    // Port 0 is the same port for all, and another one for each listener of a worker.
    let other = boss.fork();
    assert_eq!(boss.listen(other, "127.0.0.1:0").await, listening);
    assert_ne!(boss.listen(other, "127.0.0.1:0").await, listening);

    // On all addresses.
    assert!(boss.listen(worker, "0").await.contains(':'));
}

async fn an_address_in_use_is_an_error(under: Under) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    let error = boss.ask(worker, json!(["listen", address])).await;
    assert_eq!(error, json!(["error", "address in use", 98]));
    // It can go on.
    drop(taken);
    listen_again(&mut boss, worker, &address).await;
}

/// Listens where somebody did before. Processes that are being started have a copy of all sockets for a moment.
async fn listen_again(boss: &mut Boss, worker: u32, address: &str) {
    loop {
        let answer = boss.ask(worker, json!(["listen", address])).await;
        if answer[0] == "listening" {
            assert_eq!(answer[1], address);
            return;
        }
        assert_eq!(answer, json!(["error", "address in use", 98]));
    }
}

async fn a_path_is_served(under: Under) {
    let directory = Directory::new();
    let path = directory.path("app.sock");
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, address) = boss.fork_serving(path.to_str().unwrap()).await;
    assert_eq!(address, path.display().to_string());
    let mut connection = UnixStream::connect(&path).await.unwrap();
    assert_eq!(exchange(&mut connection, "hello").await, format!("{worker} hello"));
}

async fn it_finishes_what_it_has(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, address) = boss.fork_serving("127.0.0.1:0").await;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    assert_eq!(exchange(&mut connection, "before").await, "1 before");
    boss.disconnect(worker);
    assert_eq!(boss.message(worker).await, json!(["stopping"]));
    assert_eq!(exchange(&mut connection, "after").await, "1 after");
    drop(connection);
    boss.event(worker, "disconnect").await;
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

async fn it_drains_before_it_leaves(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, address) = boss.fork_serving("127.0.0.1:0").await;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    assert_eq!(exchange(&mut connection, "before").await, "1 before");
    boss.drain(worker);
    assert_eq!(boss.message(worker).await, json!(["stopping"]));
    assert_eq!(exchange(&mut connection, "while").await, "1 while");
    boss.disconnect(worker);
    assert_eq!(exchange(&mut connection, "after").await, "1 after");
    drop(connection);
    boss.event(worker, "disconnect").await;
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

async fn who_has_nobody_to_lead_away_leaves(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, _) = boss.fork_serving("127.0.0.1:0").await;
    boss.drain(worker);
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

async fn who_is_to_leave_does_not_listen(under: Under) {
    let mut boss = Boss::new(under, &["listen-in-stop"]);
    let worker = boss.fork();
    boss.event(worker, "online").await;
    boss.disconnect(worker);
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

async fn who_has_not_listened_leaves_as_well(under: Under) {
    let mut boss = Boss::new(under, &["listen"]);
    let worker = boss.fork();
    boss.disconnect(worker);
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

/// The primary is this test, which asks the worker to leave where it should have answered.
async fn an_unanswered_listen_ends_with_the_stop(_: Under) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg("listen").env("NODE_UNIQUE_ID", "1").env("NODE_CHANNEL_FD", "3").guarded(true);
    command.descriptor(3, Stdio::Pipe);
    let mut child = command.spawn().unwrap();
    let mut channel = BufReader::new(child.take_pipe(3).unwrap());
    let mut line = String::new();
    while !line.contains("queryServer") {
        line.clear();
        assert_ne!(channel.read_line(&mut line).await.unwrap(), 0, "the worker did not ask");
    }
    let disconnect = json!({ "act": "disconnect", "seq": 0, "cmd": "NODE_CLUSTER" });
    channel.write_all(format!("{disconnect}\n").as_bytes()).await.unwrap();
    assert_eq!(child.wait().await.unwrap().to_string(), "exit code 0");
}

async fn it_may_leave_of_its_own_accord(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, address) = boss.fork_serving("127.0.0.1:0").await;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    assert_eq!(exchange(&mut connection, "before").await, "1 before");
    boss.send(worker, json!(["disconnect"]));
    assert_eq!(boss.message(worker).await, json!(["stopping"]));
    assert_eq!(exchange(&mut connection, "after").await, "1 after");
    assert_eq!(boss.count(worker, "disconnect"), 0, "its channel is open as long as the connection");
    drop(connection);
    boss.event(worker, "disconnect").await;
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

/// Its function waits for the end of the channel.
async fn who_leaves_with_nothing_to_finish_is_disconnected(under: Under) {
    let mut boss = Boss::new(under, &["leave"]);
    let worker = boss.fork();
    boss.event(worker, "disconnect").await;
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 0", true]));
}

async fn each_listener_has_its_own_life(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, first) = boss.fork_serving("127.0.0.1:0").await;
    let second = boss.listen(worker, "127.0.0.1:0").await;
    assert_ne!(first, second);
    boss.ask(worker, json!(["serve", 1])).await;
    for address in [&first, &second] {
        assert_eq!(exchange(&mut TcpStream::connect(address).await.unwrap(), "x").await, "1 x");
    }
    assert_eq!(boss.ask(worker, json!(["drop", 0])).await, json!(["dropped"]));
    // Closed by the primary, when nobody else wants it.
    while TcpStream::connect(&first).await.is_ok() {}
    assert_eq!(exchange(&mut TcpStream::connect(&second).await.unwrap(), "x").await, "1 x");
    // And the same again.
    listen_again(&mut boss, worker, &first).await;
    boss.ask(worker, json!(["serve", 2])).await;
    assert_eq!(exchange(&mut TcpStream::connect(&first).await.unwrap(), "x").await, "1 x");
}

async fn its_children_are_no_workers(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    assert_eq!(boss.ask(worker, json!(["env"])).await, json!([]));
    let node = node(under.node().unwrap_or(NODE));
    let script = "[require('cluster').isWorker, process.connected ?? false, require('fs').existsSync('/proc/self/fd/3') && require('fs').readlinkSync('/proc/self/fd/3').startsWith('socket')].join()";
    let child = boss.ask(worker, json!(["run", [node, "-p", script]])).await;
    assert_eq!(child, "false,false,false");
    let open = boss.ask(worker, json!(["run", ["ls", "/proc/self/fd"]])).await;
    assert_eq!(open, "0\n1\n2\n3", "the directory is the last");
}

/// A Node starts it as it would start itself: first comes what it takes for the script.
async fn its_arguments_are_those_of_a_script(under: Under) {
    let mut boss = Boss::new(under, &["remote", "--more", "of them"]);
    let worker = boss.fork();
    assert_eq!(boss.ask(worker, json!(["args"])).await, json!(["remote", "--more", "of them"]));
}

async fn it_ends_with_its_primary(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, _) = boss.fork_serving("127.0.0.1:0").await;
    let pid = boss.ask(worker, json!(["id"])).await[2].as_i64().unwrap() as i32;
    boss.process.as_mut().unwrap().kill(9).unwrap();
    gone(pid).await;
}

async fn it_ends_with_its_primary_whatever_it_does(under: Under) {
    let mut boss = Boss::new(under, &["deaf"]);
    let worker = boss.fork();
    let pid = boss.message(worker).await.as_i64().unwrap() as i32;
    boss.process.as_mut().unwrap().kill(9).unwrap();
    gone(pid).await;
}

async fn the_role_is_asked_for_first(under: Under) {
    let mut boss = Boss::new(under, &["late"]);
    let worker = boss.fork();
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 7", false]));
}
