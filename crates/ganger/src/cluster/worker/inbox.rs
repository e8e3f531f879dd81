//! The primary's messages, as long as nobody takes them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, mpsc};

use crate::channel::Message;

/// So many messages wait; what comes then is lost.
const MESSAGES: usize = 4096;
/// And none is added to more bytes than this, which is how long one message may be.
const BYTES: usize = 64 << 20;

/// A program that does not read its messages does not grow by them.
#[derive(Debug)]
pub(super) struct Inbox {
    sender: mpsc::Sender<Message>,
    receiver: Mutex<mpsc::Receiver<Message>>,
    /// How many bytes wait.
    bytes: AtomicUsize,
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MESSAGES);
        Self { sender, receiver: Mutex::new(receiver), bytes: AtomicUsize::new(0) }
    }
}

impl Inbox {
    /// A message has come; `false` if it is lost.
    pub(super) fn push(&self, message: Message) -> bool {
        let length = message.payload().as_bytes().len();
        let waiting = self.bytes.fetch_add(length, Ordering::Relaxed);
        let kept = waiting <= BYTES && self.sender.try_send(message).is_ok();
        if !kept {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
        }
        kept
    }

    /// The next message; none when there is none and `closed` resolves.
    pub(super) async fn next(&self, closed: impl Future<Output = ()>) -> Option<Message> {
        let mut receiver = self.receiver.lock().await;
        let message = tokio::select! {
            biased;
            message = receiver.recv() => message,
            () = closed => receiver.try_recv().ok(),
        }?;
        self.bytes.fetch_sub(message.payload().as_bytes().len(), Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use ganger_proto::Payload;

    use super::*;

    fn message(length: usize) -> Message {
        Message::new(Payload::json("x".repeat(length)), None)
    }

    #[tokio::test]
    async fn so_many_wait_and_so_much_of_them() {
        let inbox = Inbox::default();
        assert!((0..MESSAGES).all(|_| inbox.push(message(1))));
        assert!(!inbox.push(message(1)));
        for _ in 0..MESSAGES {
            assert!(inbox.next(pending()).await.is_some());
        }
        assert!(inbox.push(message(BYTES)) && inbox.push(message(1)));
        assert!(!inbox.push(message(1)), "too much waits");
        assert!(inbox.next(pending()).await.is_some());
        assert!(inbox.push(message(BYTES)), "now there is room again");
        assert!(inbox.next(ready(())).await.is_some() && inbox.next(ready(())).await.is_some());
        assert!(inbox.next(ready(())).await.is_none());
        assert_eq!(inbox.bytes.load(Ordering::Relaxed), 0);
    }
}
