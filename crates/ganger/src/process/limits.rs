//! What ends a child before its time: a time limit, or a token that is cancelled.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::running::Process;

/// What has been done to a child, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Interventions {
    /// The time limit has passed …
    expired: AtomicBool,
    /// … and found the child alive.
    timed_out: AtomicBool,
    aborted: AtomicBool,
    /// There is one more.
    happened: Notify,
}

impl Interventions {
    /// Whether the time limit has passed: the child may have ended before, and others may hold its pipes.
    pub(super) fn expired(&self) -> bool {
        self.expired.load(Ordering::Acquire)
    }

    /// Whether the time limit ended the child.
    pub(super) fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    /// Whether the token was cancelled while the child lived; said once.
    pub(super) fn take_aborted(&self) -> bool {
        self.aborted.swap(false, Ordering::AcqRel)
    }

    /// Resolves when something has been done since the last call.
    pub(super) async fn happened(&self) {
        self.happened.notified().await;
    }
}

/// A task that does not depend on anybody looking at the child. It ends with this value.
#[derive(Debug)]
pub(super) struct Limits(Option<JoinHandle<()>>);

impl Limits {
    /// Watches over `process`, if there is anything to watch for.
    pub(super) fn start(
        process: &Arc<Process>,
        interventions: &Arc<Interventions>,
        timeout: Option<Duration>,
        token: Option<CancellationToken>,
        signal: i32,
    ) -> Option<Self> {
        if timeout.is_none() && token.is_none() {
            return None;
        }
        let (process, interventions) = (process.clone(), interventions.clone());
        Some(Self(Some(tokio::spawn(async move {
            let mut timeout = timeout;
            loop {
                let over = async {
                    match timeout {
                        Some(timeout) => sleep(timeout).await,
                        None => pending().await,
                    }
                };
                let cancelled = async {
                    match &token {
                        Some(token) => token.cancelled().await,
                        None => pending().await,
                    }
                };
                let aborted = tokio::select! {
                    biased;
                    () = cancelled => true,
                    () = over => false,
                };
                let alive = matches!(process.peek(), Ok(None));
                // Before the signal: whoever sees the end knows its reason.
                if aborted {
                    interventions.aborted.store(alive, Ordering::Release);
                } else {
                    interventions.timed_out.store(alive, Ordering::Release);
                    interventions.expired.store(true, Ordering::Release);
                }
                // Of a group others may be left. Who ended in this moment needs no signal.
                let _ = process.kill_all(signal);
                interventions.happened.notify_one();
                if aborted || token.is_none() {
                    return;
                }
                timeout = None;
            }
        }))))
    }

    /// Goes on without anybody: the child's owner has gone, and the limits stand.
    pub(super) fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
