//! Events that nobody reads, sockets that do not arrive, sockets that are lent.

use std::net::TcpListener;

use ganger::{
    Handle,
    cluster::{Event, HELD, HELD_BYTES, Policy, Primary},
    process::Exit,
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    part::{OBEY, ask, fork},
    row,
    rows::{Kid, rows},
    support::{Directory, Gang, NODE, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    let own = [
        row("a flood pushes out nobody's exit", flood),
        row("a flood of long messages is held by the byte", long_flood),
        row("a lost message closes its socket", lost_socket),
    ];
    let lent = Kid::all().filter(|kid| *kid != Kid::Rust).map(|kid| {
        row(&format!("a worker's server waits for the sockets that it lent, with {kid}"), move || lent(kid))
    });
    own.into_iter().chain(lent).chain(rows("a socket that did not arrive comes back", undelivered)).collect()
}

async fn flood() {
    const MESSAGES: u64 = 5000;
    let directory = Directory::new();
    let script = "
        if (require('cluster').worker.id === 1) {
          for (let i = 1; i < 5000; i++) process.send(i);
          process.send('last', () => process.exit(7));
        } else {
          process.send('quiet', () => process.on('message', () => process.exit(8)));
        }";
    let mut settings = directory.workers(NODE, Policy::RoundRobin, script);
    // All that comes is counted.
    settings.hints = false;
    let (cluster, mut events) = Primary::new(settings).unwrap().spawn();
    let [loud, quiet] = [cluster.fork().await.unwrap(), cluster.fork().await.unwrap()];
    // Nobody reads a word of it. What is so is known all the same.
    while !loud.is_dead() {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.workers().await.len(), 1);
    quiet.send("go").unwrap();
    while !quiet.is_dead() {
        tokio::task::yield_now().await;
    }
    assert!(cluster.snapshot().await.workers.is_empty());
    drop(cluster);

    let Some(Event::Lagged { missed }) = events.next().await else { panic!("nothing is missed") };
    let (mut held, mut story, mut last) = (0, Vec::new(), 0);
    while let Some(event) = events.next().await {
        held += 1;
        story.push(match event {
            Event::Setup { .. } => "setup".to_owned(),
            Event::Fork { worker } => format!("fork {}", worker.id),
            Event::Online { worker } => format!("online {}", worker.id),
            Event::Disconnect { worker } => format!("disconnect {}", worker.id),
            Event::Exit { worker, exit, .. } => format!("exit {} {exit}", worker.id),
            Event::Message { worker, message } if worker.id == quiet.id() => message.as_json().into_owned(),
            Event::Message { message, .. } => {
                let number = message.parse::<u64>().unwrap_or(MESSAGES);
                assert!(number > last, "the latest are there, in their order");
                last = number;
                continue;
            }
            event => panic!("{event:?}"),
        });
    }
    assert_eq!((held, last), (HELD, MESSAGES));
    story.sort_unstable();
    let mut expected = [
        "setup",
        "fork 1",
        "fork 2",
        "online 1",
        "online 2",
        "disconnect 1",
        "disconnect 2",
        "exit 1 exit code 7",
        "exit 2 exit code 8",
        "\"quiet\"",
    ];
    expected.sort_unstable();
    assert_eq!(story, expected);
    assert_eq!(missed, MESSAGES + expected.len() as u64 - HELD as u64);
}

/// More than what is held, in messages of 8 MiB.
async fn long_flood() {
    const LENGTH: usize = 8 << 20;
    const MESSAGES: usize = 12;
    let directory = Directory::new();
    let script = "
        const long = 'x'.repeat((8 << 20) - 2);
        for (let i = 0; i < 12; i++) process.send(long);
        process.send('last', () => process.exit(7));";
    let mut settings = directory.workers(NODE, Policy::RoundRobin, script);
    settings.hints = false;
    let (cluster, mut events) = Primary::new(settings).unwrap().spawn();
    let loud = cluster.fork().await.unwrap();
    while !loud.is_dead() {
        tokio::task::yield_now().await;
    }
    let Some(Event::Lagged { missed }) = events.next().await else { panic!("nothing is missed") };
    let (mut bytes, mut long) = (0, 0);
    let exit = loop {
        match events.next().await.unwrap() {
            Event::Message { message, .. } => {
                bytes += message.payload().as_bytes().len();
                long += usize::from(message.payload().as_bytes().len() == LENGTH);
            }
            Event::Exit { exit, .. } => break exit,
            _ => {}
        }
    };
    assert_eq!((missed as usize, exit), (MESSAGES - long, Exit::Code(7)));
    // Whether the last word was told as the newest or had others behind it.
    let last = "\"last\"".len();
    assert_eq!(bytes, long * LENGTH + last);
    assert!(long * LENGTH <= HELD_BYTES && (long + 1) * LENGTH + last > HELD_BYTES, "{long}");
}

async fn lost_socket() {
    let directory = Directory::new();
    let script = "
        require('net').createServer((socket) => {
          process.send('socket', socket);
          for (let i = 0; i < 2000; i++) process.send(i);
        }).listen(0, '127.0.0.1', () => process.send('ready'));";
    let settings = directory.workers(NODE, Policy::RoundRobin, script);
    let (cluster, mut events) = Primary::new(settings).unwrap().spawn();
    cluster.fork().await.unwrap();
    let address = loop {
        if let Some(Event::Listening { address, .. }) = events.next().await {
            break address.to_string();
        }
    };
    // The end comes when the copy in the event that nobody has read is closed.
    assert_eq!(read(TcpStream::connect(address).await.unwrap()).await, "");
    assert!(matches!(events.next().await, Some(Event::Lagged { .. })));
}

fn a_socket() -> Handle {
    TcpListener::bind("127.0.0.1:0").unwrap().into()
}

async fn undelivered(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    assert_eq!(ask(&mut gang, &worker, json!(["echo", "here"])).await, "here");
    // It will not take it.
    worker.send(&("spin",)).unwrap();
    worker.send_with("a socket", Some(a_socket())).unwrap();
    assert!(worker.kill(9));
    let mut story = Vec::new();
    while story.last() != Some(&"exit") {
        story.push(match gang.event().await {
            Event::Undelivered { handle, .. } => {
                assert_eq!(handle.kind(), ganger::handle::Kind::TcpListener);
                "undelivered"
            }
            Event::Disconnect { .. } => "disconnect",
            Event::Exit { exit, .. } => {
                assert_eq!(exit, Exit::Signal { signal: 9, core_dumped: false });
                "exit"
            }
            event => panic!("{event:?}"),
        });
    }
    assert_eq!(story, ["undelivered", "disconnect", "exit"]);
    let error = worker.send_with("a socket", Some(a_socket())).unwrap_err();
    assert!(error.into_handle().is_some(), "what cannot be sent comes back at once");
}

async fn lent(kid: Kid) {
    let directory = Directory::new();
    let Kid::Node(major) = kid else { panic!("Rust lends nothing") };
    let script = "
        const server = require('net').createServer((socket) => {
          process.send('socket', socket);
          server.close(() => process.send('closed'));
        }).listen(0, '127.0.0.1');
        process.on('message', (message) => process.send(message));";
    let mut gang = Gang::new(directory.workers(major, Policy::RoundRobin, script));
    let (worker, address) = gang.fork_listening().await;
    let client = TcpStream::connect(address).await.unwrap();
    let socket = gang
        .find(|event| match event {
            Event::Message { mut message, .. } => message.handle.take(),
            _ => None,
        })
        .await;
    gang.send(worker.id, "still open").await;
    assert_eq!(gang.message().await.1, "still open");
    drop(socket);
    assert_eq!(gang.message().await.1, Value::from("closed"));
    assert_eq!(read(client).await, "");
}
