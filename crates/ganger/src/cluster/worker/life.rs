//! How far a worker is on its way out.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::SetOnce;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::open::Open;

/// Serving, then stopping, in the end so that it may close what is idle, then disconnected; never back. Cheap to clone; all
/// clones are the same life.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    stopping: CancellationToken,
    closing: CancellationToken,
    /// The primary knows that the worker leaves of its own accord.
    leaving: CancellationToken,
    disconnected: CancellationToken,
    /// The channel closed before anybody had asked for an end.
    lost: Arc<AtomicBool>,
    /// Whether failures are heeded.
    heeding: Arc<AtomicBool>,
    /// What failed in it.
    failure: Arc<OnceLock<String>>,
    failed: CancellationToken,
    /// The primary has been told, as far as that was possible.
    told: CancellationToken,
    open: Open,
    /// Over which time that is to end which would last.
    shed: Arc<SetOnce<Duration>>,
}

impl Life {
    /// The worker takes nothing new and has its clients go; [`stop`](Self::stop) follows.
    pub(super) fn drain(&self) {
        self.stopping.cancel();
    }

    /// The worker is to finish what it has.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
        self.closing.cancel();
    }

    /// The worker leaves of its own accord, and the primary knows.
    pub(super) fn may_close(&self) {
        self.leaving.cancel();
    }

    /// Resolves when such a worker has no connection any more.
    pub(super) async fn left(&self) {
        self.leaving.cancelled().await;
        self.open.none().await;
    }

    /// The channel is closed.
    pub(super) fn disconnect(&self) {
        if !self.disconnected.is_cancelled() {
            self.lost.store(!self.is_stopping(), Ordering::Relaxed);
            self.stop();
            self.disconnected.cancel();
        }
    }

    /// Cancelled when the worker is to leave, or the channel is closed.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// What is still open is to end, over this time.
    pub(super) fn shed(&self, over: Duration) {
        // Only the first word counts.
        let _ = self.shed.set(over);
    }

    /// Ends what is still open, once that is wanted.
    pub(super) async fn shed_when_told(self) {
        let over = *self.shed.wait().await;
        self.open.shed(over).await;
    }

    /// Cancelled when its clients have had their time to go.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Whether failures are heeded from now on, and were not before.
    pub(super) fn heed_failures(&self) -> bool {
        !self.heeding.swap(true, Ordering::Relaxed)
    }

    /// Something failed. Whether it is the first time.
    pub(super) fn fail(&self, message: &str) -> bool {
        let first = self.failure.set(message.to_owned()).is_ok();
        self.failed.cancel();
        first
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// Cancelled when something has failed.
    pub(super) fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    /// To be cancelled when the primary knows of it.
    pub(super) fn told(&self) -> &CancellationToken {
        &self.told
    }

    pub(super) fn open(&self) -> &Open {
        &self.open
    }

    /// Resolves when the channel is closed.
    pub(super) fn disconnected(&self) -> WaitForCancellationFuture<'_> {
        self.disconnected.cancelled()
    }

    pub(super) fn is_disconnected(&self) -> bool {
        self.disconnected.is_cancelled()
    }

    /// Whether the primary has died.
    pub(super) fn is_lost(&self) -> bool {
        self.is_disconnected() && self.lost.load(Ordering::Relaxed)
    }
}
