//! Sockets that are counted across processes.

use std::time::Duration;

use ganger::{Handle, handle::Lent};
use tokio::net::TcpStream;

use super::{Line, once, sockets::pair};

/// Any text will do.
const LABEL: &str = "4:127.0.0.1:0";
/// Who answers, does so at once.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) async fn own(line: &mut Line) {
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (client, accepted) = pair().await;
        clients.push(client);
        line.give("socket", Handle::try_from(accepted).unwrap().with_server(LABEL));
        line.hear("got").await;
    }
    assert_eq!(count(line).await, 2);
    line.say("close one");
    line.hear("closed").await;
    assert_eq!(count(line).await, 1);
    assert_eq!(once(line.0.lent_sockets_closed(LABEL)).await, None);
    line.say("ping");
    line.hear("pong").await;
    let early = once(line.0.lent_sockets_closed(LABEL)).await;
    assert_eq!(early, None, "said to be closed before the last is");
    line.say("close one");
    line.hear("closed").await;
    tokio::time::timeout(ANSWER, line.0.lent_sockets_closed(LABEL)).await.expect("an answer").unwrap();
    line.say("done");
}

async fn count(line: &mut Line) -> u64 {
    tokio::time::timeout(ANSWER, line.0.lent_sockets(LABEL))
        .await
        .expect("the sockets to be counted")
        .unwrap()
}

pub(super) async fn hold(line: &mut Line) {
    let mut held: Vec<Lent<TcpStream>> = Vec::new();
    loop {
        let (message, handle) = line.take().await.expect("not the end yet");
        match message.as_str().unwrap() {
            "socket" => {
                held.push(handle.unwrap().into_lent().unwrap());
                line.say("got");
            }
            "ping" => line.say("pong"),
            "close one" => {
                drop(held.pop().unwrap());
                line.say("closed");
            }
            other => {
                assert_eq!(other, "done");
                return;
            }
        }
    }
}
