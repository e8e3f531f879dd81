//! Unmodified Node programs on shared ports.

use std::collections::BTreeMap;

use super::harness::{Setup, client::get, example, modules, on_every_node};

const SCHEDULES: [&str; 2] = ["rr", "shared"];

#[test]
fn hello_js_is_served() {
    for schedule in SCHEDULES {
        on_every_node(&format!("cluster script ({schedule})"), |major| {
            let hello = example("hello.js");
            let mut gang = Setup::new(major).start(&format!("run -n 2 --schedule {schedule} {hello}"));
            let (workers, port) = (gang.ready(), gang.port());
            for _ in 0..10 {
                assert_eq!(get(port, "/").unwrap(), "hello world\n", "{}", gang.lines());
            }
            for pid in workers {
                gang.prints(&format!("Worker {pid} started"));
            }
            assert!(!gang.lines().of(true).iter().any(|line| line.contains("Primary")), "{}", gang.lines());
            gang.stop();
        });
    }
}

#[test]
fn plain_js_is_served() {
    for schedule in SCHEDULES {
        on_every_node(&format!("plain server ({schedule})"), |major| {
            let plain = example("plain.js");
            let mut gang = Setup::new(major).start(&format!("run -n 2 --schedule {schedule} node {plain}"));
            let (workers, port) = (gang.ready(), gang.port());
            for _ in 0..10 {
                let pid = pid(&get(port, "/").unwrap());
                assert!(workers.contains(&pid), "{pid} is none of the workers: {}", gang.lines());
            }
            gang.stop();
        });
    }
}

#[test]
fn express_is_served() {
    for schedule in SCHEDULES {
        on_every_node(&format!("express ({schedule})"), |major| {
            let express = example("express");
            let setup = Setup::new(major).env("NODE_PATH", modules());
            let mut gang = setup.start(&format!("run -n 2 --schedule {schedule} {express}"));
            gang.says("is `node app.js`");
            gang.ready();
            let port = gang.port();
            for _ in 0..10 {
                assert_eq!(get(port, "/").unwrap(), "Hello World!", "{}", gang.lines());
            }
            gang.stop();
        });
    }
}

#[test]
fn a_hundred_connections_are_shared_out_evenly() {
    on_every_node("even shares", |major| {
        let mut gang = Setup::new(major).start(&format!("run -n 2 --schedule rr {}", example("plain.js")));
        let (workers, port) = (gang.ready(), gang.port());
        let mut shares: BTreeMap<i32, u32> = workers.iter().map(|pid| (*pid, 0)).collect();
        for _ in 0..100 {
            *shares.get_mut(&pid(&get(port, "/").unwrap())).expect("an answer of a worker") += 1;
        }
        assert!(shares.values().all(|share| (48..=52).contains(share)), "{shares:?}");
        gang.stop();
    });
}

#[test]
fn nodes_variable_decides_where_no_schedule_is_given() {
    let plain = example("plain.js");
    let start = |policy: &str, options: &str| {
        let setup = Setup::new("24").env("NODE_CLUSTER_SCHED_POLICY", policy);
        setup.start(&format!("run -n 1 {options} {plain}"))
    };
    start("none", "").says("plain.js (shared)");
    start("rr", "").says("plain.js (rr)");
    start("none", "--schedule rr").says("plain.js (rr)");
    let gang = start("x", "");
    gang.says("NODE_CLUSTER_SCHED_POLICY is neither rr nor none");
    gang.says("plain.js (rr)");
}

/// `hello from process 42`
fn pid(answer: &str) -> i32 {
    answer.trim().rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("no pid: {answer:?}"))
}
