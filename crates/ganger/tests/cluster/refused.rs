//! Places where nobody may listen: the worker hears Node's code, and the primary is told once.

use std::net::TcpListener;

use ganger::cluster::Event;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    part::{OBEY, fork},
    rows::{Kid, rows},
    support::{Directory, Gang, POLICIES},
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = rows("an address in use is told once", |kid| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = taken.local_addr().unwrap().to_string();
        async move {
            told_once(kid, &place, "EADDRINUSE").await;
            drop(taken);
        }
    });
    // Of TEST-NET-1, which no host has.
    let nowhere = |kid| told_once(kid, "192.0.2.1:0", "EADDRNOTAVAIL");
    trials.extend(rows("an address that is not here is told once", nowhere));
    trials
}

async fn told_once(kid: Kid, place: &str, code: &str) {
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(kid.settings(&directory, policy.clone(), &OBEY));
        let mut told = Vec::new();
        for _ in 0..2 {
            let worker = fork(&gang).await;
            worker.send(&("listen", place)).unwrap();
            let answer = gang
                .find(|event| match event {
                    Event::BindFailed { worker, address, error } => {
                        told.push((worker.id.0, address.to_string(), error.to_string()));
                        None
                    }
                    Event::Message { message, .. } => Some(message.parse::<Value>().unwrap()),
                    _ => None,
                })
                .await;
            assert_eq!(answer, json!(["error", code]), "{policy:?}");
        }
        assert!(matches!(&told[..], [(1, address, _)] if address == place), "{told:?}");
    }
}
