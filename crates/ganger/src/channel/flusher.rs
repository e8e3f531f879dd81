//! Who writes what waits, once whoever queued it has had its turn.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use tokio::{runtime, task::AbortHandle};

use super::{Flushed, Shared, State};

/// A task that stays: a new one each time would cost as much as a message.
#[derive(Debug)]
pub(super) struct Flusher {
    task: AbortHandle,
    /// What wakes it, once it has slept.
    waker: Option<Waker>,
    /// It has been woken and is not done yet.
    awake: bool,
}

impl Flusher {
    /// One that is awake.
    pub(super) fn start(runtime: &runtime::Handle, shared: Weak<Shared>) -> Self {
        let task = runtime.spawn(flush_when_woken(shared)).abort_handle();
        Self { task, waker: None, awake: true }
    }

    /// Whether there is somebody to wake: its runtime may be gone.
    pub(super) fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    pub(super) fn wake(&mut self) {
        if let (false, Some(waker)) = (std::mem::replace(&mut self.awake, true), &self.waker) {
            waker.wake_by_ref();
        }
    }

    pub(super) fn abort(self) {
        self.task.abort();
    }

    fn remember(&mut self, context: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
    }
}

/// Writes, whenever it is woken, until nothing waits. Whoever drops the channel has written what could be written.
async fn flush_when_woken(shared: Weak<Shared>) {
    loop {
        let Some(shared) = poll_fn(|context| flush(&shared, context)).await else { return };
        if shared.writable().await.is_none() {
            return;
        }
    }
}

/// Writes what waits, and sleeps. `Ready` is a socket that is full, or none if there is no channel any more.
fn flush(shared: &Weak<Shared>, context: &Context<'_>) -> Poll<Option<Arc<Shared>>> {
    let Some(shared) = shared.upgrade() else { return Poll::Ready(None) };
    let mut state = shared.state();
    let State { link, flusher: Some(flusher), .. } = &mut *state else { return Poll::Pending };
    if flusher.awake && link.flush() == Flushed::Blocked {
        drop(state);
        return Poll::Ready(Some(shared));
    }
    flusher.awake = false;
    flusher.remember(context);
    Poll::Pending
}
