//! A Rust worker in which something fails that nobody caught.

use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    boss::{Boss, Under},
    support::exchange,
    trial, trial_everywhere,
};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    trial_everywhere(trials, "panic in a task", it_finishes_what_it_has);
    trial_everywhere(trials, "panic in a task, several threads", it_finishes_in_several_threads);
    trial_everywhere(trials, "panic in its function", a_panic_of_its_function_ends_it);
    trial_everywhere(trials, "error", an_error_ends_it);
    for under in Under::ganger() {
        trial(trials, "panic and its backtrace", under, it_is_told_with_place_and_backtrace);
        trial(trials, "error is told", under, an_error_is_told);
    }
}

async fn it_finishes_what_it_has(under: Under) {
    finishes(under, "remote").await;
}

async fn it_finishes_in_several_threads(under: Under) {
    finishes(under, "several-threads").await;
}

async fn finishes(under: Under, part: &str) {
    let mut boss = Boss::new(under, &[part]);
    let (worker, address) = boss.fork_serving("127.0.0.1:0").await;
    let mut client = TcpStream::connect(&address).await.unwrap();
    assert_eq!(exchange(&mut client, "before").await, "1 before");
    boss.send(worker, json!(["panic"]));
    assert_eq!(boss.message(worker).await, json!(["stopping"]));
    assert_eq!(exchange(&mut client, "after").await, "1 after");
    drop(client);
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 1", true]));
}

async fn a_panic_of_its_function_ends_it(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, _) = boss.fork_serving("127.0.0.1:0").await;
    boss.send(worker, json!(["panic at once"]));
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 101", true]));
}

async fn an_error_ends_it(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let (worker, _) = boss.fork_serving("127.0.0.1:0").await;
    boss.send(worker, json!(["no such order"]));
    assert_eq!(boss.event(worker, "exit").await, json!(["exit code 1", true]));
}

async fn it_is_told_with_place_and_backtrace(under: Under) {
    for order in ["panic", "panic at once"] {
        let mut boss = Boss::new(under, &["remote"]);
        let worker = boss.fork();
        boss.event(worker, "online").await;
        boss.send(worker, json!([order]));
        let first = boss.event(worker, "panicked").await;
        assert_eq!((&first["message"], &first["backtrace"]), (&json!("as ordered"), &json!(null)));
        let place = first["place"].as_str().unwrap();
        assert!(place.contains("tests/worker/role.rs:"), "{place}");
        let again = boss.event(worker, "panicked").await;
        assert_eq!((&again["message"], &again["place"]), (&first["message"], &first["place"]));
        let backtrace = again["backtrace"].as_str().unwrap();
        let innermost = backtrace.lines().next().unwrap();
        assert!(innermost.contains("worker::role::"), "{backtrace}");
        boss.event(worker, "exit").await;
    }
}

async fn an_error_is_told(under: Under) {
    let mut boss = Boss::new(under, &["remote"]);
    let worker = boss.fork();
    boss.event(worker, "online").await;
    boss.send(worker, json!(["nonsense"]));
    let told = boss.event(worker, "panicked").await;
    assert_eq!(told, json!({ "message": "no such order: nonsense", "place": null, "backtrace": null }));
    boss.event(worker, "exit").await;
    assert_eq!(boss.count(worker, "panicked"), 1);
}
