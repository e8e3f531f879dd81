//! Writes lines to stderr in a thread of its own: a stopped terminal or a log collector that does not read
//! must never hold up the primary.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

/// So many lines may wait; what comes then is lost.
const WAITING: usize = 256;
/// How long the end waits for what is still to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    lines: SyncSender<String>,
    /// Closed when the thread has written everything.
    written: Receiver<()>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub(super) fn new() -> io::Result<Self> {
        let (lines, incoming) = mpsc::sync_channel::<String>(WAITING);
        let (done, written) = mpsc::channel();
        thread::Builder::new().name("report".into()).spawn(move || {
            // Dropped at the end: that is the sign.
            let _done: mpsc::Sender<()> = done;
            incoming.iter().for_each(|lines| super::say(&lines));
        })?;
        Ok(Self { lines, written })
    }

    /// Whether the lines could be taken.
    pub(super) fn write(&self, lines: String) -> bool {
        match self.lines.try_send(lines) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Waits until everything is written, if anybody reads it.
    pub(super) fn finish(self) {
        drop(self.lines);
        match self.written.recv_timeout(FLUSH) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}
