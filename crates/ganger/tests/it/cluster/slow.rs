//! A worker that does not read what it is sent: whoever sends is told, and nobody is blamed.

use ganger::{
    Handle,
    channel::{SendError, SendErrorReason},
    cluster::{Cluster, Event, Events, Policy, Primary, WorkerHandle},
};

use crate::support::{Directory, NODE, run};

/// From so much on that waits a worker is slow, and so much may wait.
const SLOW: usize = 128 << 10;
const LIMIT: usize = 8 << 20;

/// Says how many messages it has read.
const PROGRAM: &str = "let read = 0; process.on('message', () => process.send(++read)); process.send(0);";

/// The next message; a fault is none of the worker's.
async fn said(events: &mut Events) -> usize {
    loop {
        match events.next().await.unwrap() {
            Event::Message { message, .. } => return message.parse().unwrap(),
            Event::Fault { fault, .. } => panic!("it is blamed: {fault}"),
            _ => {}
        }
    }
}

fn signal(worker: &WorkerHandle, signal: rustix::process::Signal) {
    assert!(worker.kill(signal.as_raw()));
}

/// Sends it something, and lets the primary take it to the worker's channel.
async fn send(cluster: &Cluster, worker: &WorkerHandle, size: usize) -> Result<bool, SendError> {
    let sent = worker.send(&"x".repeat(size))?;
    cluster.with(|_| ()).await;
    Ok(sent)
}

#[test]
fn a_worker_that_does_not_read_is_slow_and_then_full_and_never_blamed() {
    run(async {
        let directory = Directory::new();
        let settings = directory.workers(NODE, Policy::RoundRobin, PROGRAM);
        let (cluster, mut events) = Primary::new(settings).unwrap().spawn();
        let worker = cluster.fork().await.unwrap();
        assert_eq!(said(&mut events).await, 0);
        assert!(send(&cluster, &worker, 1).await.unwrap());
        assert_eq!(said(&mut events).await, 1);

        signal(&worker, rustix::process::Signal::STOP);
        let (mut sent, mut bytes, mut size) = (1, 0, 60_000);
        let mut slow_from = None;
        // To the last byte.
        while size > 0 {
            match send(&cluster, &worker, size).await {
                Ok(ready) => {
                    sent += 1;
                    bytes += size;
                    assert!(bytes < 2 * LIMIT, "it is kept for ever");
                    match slow_from {
                        None if !ready => slow_from = Some(bytes),
                        _ => assert_eq!(ready, slow_from.is_none(), "after {bytes} bytes"),
                    }
                }
                Err(error) => {
                    assert!(matches!(error, SendError::Refused { reason: SendErrorReason::QueueFull, .. }));
                    size /= 2;
                }
            }
        }
        let slow_from = slow_from.expect("it was never slow");
        // What lies in the socket is the kernel's.
        assert!((SLOW..LIMIT / 2).contains(&slow_from), "{slow_from}");
        assert!((LIMIT..LIMIT + LIMIT / 2).contains(&bytes), "{bytes}");

        // What travels with a message comes back, from both ways to send; what the primary itself has to say finds room.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = worker.send_with("full", Some(Handle::from(ours))).unwrap_err();
        assert!(error.into_handle().is_some());
        let id = worker.id();
        let error = cluster.with(move |primary| primary.send_with(id, "full", Some(theirs.into()))).await;
        assert!(error.unwrap_err().into_handle().is_some());
        cluster.with(move |primary| primary.probe(id)).await.unwrap();

        signal(&worker, rustix::process::Signal::CONT);
        while said(&mut events).await < sent {}
        assert!(send(&cluster, &worker, 1).await.unwrap());
        assert_eq!(said(&mut events).await, sent + 1);
    });
}
