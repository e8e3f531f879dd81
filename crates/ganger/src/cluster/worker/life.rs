//! How far a worker is on its way out.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Serving, then stopping, then disconnected; never back. Cheap to clone; all clones are the same life.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    stopping: CancellationToken,
    disconnected: CancellationToken,
    /// The channel closed before anybody had asked for an end.
    lost: Arc<AtomicBool>,
}

impl Life {
    /// The worker is to finish what it has.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    /// The channel is closed.
    pub(super) fn disconnect(&self) {
        if !self.disconnected.is_cancelled() {
            self.lost.store(!self.is_stopping(), Ordering::Relaxed);
            self.stop();
            self.disconnected.cancel();
        }
    }

    /// Cancelled when the worker is to finish what it has, or the channel is closed.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
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
