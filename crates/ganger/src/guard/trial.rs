//! The request that a new worker has to answer before it is ready: asked, and what came of it.

use std::{io, time::Duration};

use ganger_proto::{
    WorkerId,
    guard::{Answer, Input},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::Guard;
use crate::{clock, cluster::Connection};

/// A head that is longer is none.
const LONGEST: usize = 64 << 10;
/// The rest of an answer has so long to come, and so many bytes: a client that hangs up at once is an error to many servers.
const REST: Duration = Duration::from_secs(5);
const REST_BYTES: u64 = 1 << 20;

/// The way of the answers from the tasks that wait for them.
#[derive(Debug)]
pub(super) struct Answers {
    sender: mpsc::UnboundedSender<(WorkerId, Answer)>,
    receiver: mpsc::UnboundedReceiver<(WorkerId, Answer)>,
}

impl Default for Answers {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, receiver }
    }
}

impl Answers {
    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> (WorkerId, Answer) {
        match self.receiver.recv().await {
            Some(answer) => answer,
            // We have a sender ourselves.
            None => std::future::pending().await,
        }
    }
}

impl Guard {
    /// Asks the worker. A task waits for so long for what comes of it, if somebody wants to know.
    pub(super) fn try_out(&mut self, worker: WorkerId, within: Duration) {
        let (Some(path), Some(connection)) = (&self.probe, self.primary.connect_to(worker)) else {
            return self.machine.handle(clock::now(), Input::Tried(worker, Answer::Nowhere));
        };
        let (request, answers) = (request(path), self.answers.sender.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = ask(connection, request, within, |answer| drop(answers.send((worker, answer)))) => {}
                () = answers.closed() => {}
            }
        });
    }
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ganger\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
}

async fn ask(
    connection: impl Future<Output = io::Result<Connection>>,
    request: String,
    within: Duration,
    tell: impl FnOnce(Answer),
) {
    let asked = async {
        let mut connection = connection.await?;
        // One that closes early may have answered all the same.
        let _ = connection.write_all(request.as_bytes()).await;
        Ok::<_, io::Error>((answer(&mut connection).await, connection))
    };
    let asked = tokio::select! {
        asked = asked => asked,
        () = clock::at(Some(clock::now() + within)) => return tell(Answer::Unanswered),
    };
    let (answer, connection) = match asked {
        Ok(asked) => asked,
        Err(error) => return tell(Answer::NotAsked(error.to_string())),
    };
    tell(answer);
    let (mut rest, mut sink) = (connection.take(REST_BYTES), tokio::io::sink());
    tokio::select! {
        _ = tokio::io::copy(&mut rest, &mut sink) => {}
        () = clock::at(Some(clock::now() + REST)) => {}
    }
}

async fn answer(connection: &mut Connection) -> Answer {
    let mut head = Vec::new();
    loop {
        let read = connection.read_buf(&mut head).await;
        if let Some(answer) = Answer::read(&head) {
            return answer;
        }
        match read {
            Ok(1..) if head.len() <= LONGEST => {}
            _ if head.is_empty() => return Answer::Closed,
            _ => return Answer::Garbage,
        }
    }
}
