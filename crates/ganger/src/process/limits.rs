//! What ends a child before its time: a time limit, or a token that is cancelled.

use std::{
    future::pending,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Command,
    running::{Process, refused},
};

/// What has been done to a child, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Interventions {
    done: Mutex<Done>,
    /// There is one more.
    happened: Notify,
}

#[derive(Debug, Default)]
struct Done {
    /// The time limit has passed …
    expired: bool,
    /// … and found the child alive.
    timed_out: bool,
    /// The token was cancelled while the child lived, and nobody was told yet.
    aborted: bool,
    /// The signal was refused, and nobody was told yet.
    refused: Option<io::Error>,
}

impl Interventions {
    /// Whether the time limit has passed: the child may have ended before, and others may hold its pipes.
    pub(super) fn expired(&self) -> bool {
        self.done().expired
    }

    /// Whether the time limit ended the child.
    pub(super) fn timed_out(&self) -> bool {
        self.done().timed_out
    }

    /// Whether the token was cancelled while the child lived; said once.
    pub(super) fn take_aborted(&self) -> bool {
        std::mem::take(&mut self.done().aborted)
    }

    /// Why the child could not be signalled; said once.
    pub(super) fn take_refused(&self) -> Option<io::Error> {
        self.done().refused.take()
    }

    /// Resolves when something has been done since the last call.
    pub(super) async fn happened(&self) {
        self.happened.notified().await;
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, process: &Process, signal: i32, aborted: bool) {
        {
            // Held until the signal is sent: whoever sees the end knows its reason.
            let mut done = self.done();
            let alive = matches!(process.peek(), Ok(None));
            done.expired |= !aborted;
            // Of a group others may be left, though its leader has ended.
            done.refused = refused(process.kill_all(signal));
            if alive && done.refused.is_none() {
                *(if aborted { &mut done.aborted } else { &mut done.timed_out }) = true;
            }
        }
        self.happened.notify_one();
    }
}

/// What a command has for limits, before there is a process.
#[derive(Debug)]
pub(super) struct Terms {
    timeout: Option<Sleep>,
    token: Option<CancellationToken>,
    signal: i32,
}

impl Terms {
    /// # Panics
    /// Outside of a tokio runtime, and with a time limit in one without a clock.
    pub(super) fn of(command: &Command) -> Self {
        let _inside = tokio::runtime::Handle::current();
        Self {
            timeout: command.timeout.map(sleep),
            token: command.cancellation.clone(),
            signal: command.kill_signal,
        }
    }
}

/// A task that does not depend on anybody looking at the child. It ends with this value.
#[derive(Debug)]
pub(super) struct Limits(Option<JoinHandle<()>>);

impl Limits {
    /// Watches over `process`, if there is anything to watch for.
    pub(super) fn start(
        terms: Terms,
        process: &Arc<Process>,
        interventions: &Arc<Interventions>,
    ) -> Option<Self> {
        let Terms { timeout, token, signal } = terms;
        if timeout.is_none() && token.is_none() {
            return None;
        }
        let (process, interventions) = (process.clone(), interventions.clone());
        Some(Self(Some(tokio::spawn(async move {
            let mut timeout: Pin<&mut Option<Sleep>> = pin!(timeout);
            loop {
                let over = async {
                    match timeout.as_mut().as_pin_mut() {
                        Some(timeout) => timeout.await,
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
                interventions.end(&process, signal, aborted);
                if aborted || token.is_none() {
                    return;
                }
                timeout.set(None);
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
