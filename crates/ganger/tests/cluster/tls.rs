//! Node's TLS servers: a worker needs ticket keys in the reply to its query, whatever the reply says, and dies without.

use std::net::{SocketAddr, TcpListener};

use ganger::{
    Generation, Slot,
    cluster::{Event, Group, Policy},
};
use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    apps::{client, each_policy, trial, two},
    part::{self, OBEY},
    rows::Kid,
    support::{Directory, Gang, node},
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        trial("HTTPS", |major| each_policy(major, https)),
        trial("HTTPS on a port that is taken", |major| each_policy(major, taken)),
        trial("HTTPS on the port of net", |major| {
            each_policy(major, |major, policy| second(Kid::Node(major), major, policy))
        }),
        trial("HTTPS on the port of a Rust worker", |major| {
            each_policy(major, |major, policy| second(Kid::Rust, major, policy))
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A script with an HTTPS server that listens on a port and says an error's code.
fn server(directory: &Directory, port: u16) -> String {
    directory.write("key.pem", include_str!("tls/key.pem"));
    directory.write("cert.pem", include_str!("tls/cert.pem"));
    format!(
        "const {{ readFileSync }} = require('fs'), {{ join }} = require('path');
         const [key, cert] = ['key.pem', 'cert.pem'].map((name) => readFileSync(join(__dirname, name)));
         require('https').createServer({{ key, cert }}, (request, response) => response.end('secret'))
           .on('error', ({{ code }}) => process.send(code)).listen({port}, '127.0.0.1');"
    )
}

/// Three clients one after another are served.
async fn is_served(directory: &Directory, major: &str, address: SocketAddr) {
    let script = "
        const get = (left) => require('https').get({ port, host: '127.0.0.1', agent: false, rejectUnauthorized: false }, (response) => {
          response.on('data', (data) => console.log(data.toString())).on('end', () => left && get(left - 1));
        });
        get(2);";
    assert_eq!(client(directory, major, address, script).await, "secret\nsecret\nsecret");
}

async fn https(major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let script = server(&directory, 0);
    let (_gang, address) = two(&directory, major, policy, &script).await;
    is_served(&directory, major, address).await;
}

async fn taken(major: &'static str, policy: Policy) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::new();
    let script = server(&directory, taken.local_addr().unwrap().port());
    let mut gang = Gang::new(directory.workers(major, policy, &script));
    for _ in 0..2 {
        let worker = gang.fork().await;
        let said = gang
            .find(|event| match event {
                Event::Message { worker, message } => Some((worker.id, message.parse().unwrap())),
                Event::Exit { worker, exit, .. } => Some((worker.id, json!(exit.to_string()))),
                _ => None,
            })
            .await;
        assert_eq!(said, (worker.id, json!("EADDRINUSE")));
    }
}

/// Whoever listened there first has no keys; when it has left, the second serves on.
async fn second(first: Kid, major: &'static str, policy: Policy) {
    let directory = Directory::new();
    let mut settings = first.settings(&directory, policy, &OBEY);
    let mut plain = Group::new(settings.program.clone());
    plain.args = std::mem::take(&mut settings.args);
    let mut tls = Group::new(node(major));
    tls.args = vec![directory.write("https.js", &server(&directory, 0)).into()];
    settings.groups = vec![plain, tls];
    let mut gang = Gang::new(settings);
    let plain = part::fork(&gang).await;
    let answer = part::ask(&mut gang, &plain, json!(["listen", "127.0.0.1:0"])).await;
    assert_eq!(answer[0], "listening");
    let worker = gang.with(|primary| primary.fork_in(Slot(1), Generation::default()).unwrap()).await;
    let ended = |event| match event {
        Event::Listening { worker, address } => Some((worker.id, address.to_string())),
        Event::Exit { worker, exit, .. } => Some((worker.id, exit.to_string())),
        _ => None,
    };
    let address = format!("127.0.0.1:{}", answer[1]);
    assert_eq!(gang.find(ended).await, (worker.id, address.clone()));
    gang.disconnect(plain.id()).await;
    assert_eq!(gang.exit().await.0, plain.id());
    is_served(&directory, major, address.parse().unwrap()).await;
}
