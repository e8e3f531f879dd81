//! The primary as PID 1 or subreaper: descendants of its workers that lost their parent end up as its
//! children, and somebody has to reap them.

use std::{io, time::Duration};

use ganger_proto::Time;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    clock,
    sys::reap::{self, Strangers},
};

/// A dead child is nobody's if it is still there after this time.
const GRACE: Duration = Duration::from_secs(1);

/// Watches for dead strangers, where they come to us.
#[derive(Debug)]
pub(super) struct Orphans {
    /// Tells when a child has ended; none where orphans go to somebody else.
    ended: Option<Signal>,
    strangers: Strangers,
    look_at: Option<Time>,
}

impl Orphans {
    pub(super) fn new() -> io::Result<Self> {
        let ended = if reap::is_reaper() { Some(signal(SignalKind::child())?) } else { None };
        Ok(Self { ended, strangers: Strangers::default(), look_at: None })
    }

    /// Resolves when it is time to [look](Self::look).
    pub(super) async fn due(&mut self) {
        match (&mut self.ended, self.look_at) {
            (None, _) => std::future::pending().await,
            (Some(_), Some(moment)) => clock::at(Some(moment)).await,
            (Some(ended), None) => drop(ended.recv().await),
        }
    }

    pub(super) fn look(&mut self) {
        self.look_at = self.strangers.look().then(|| clock::now() + GRACE);
    }
}
