//! Who writes what waits, once whoever queued it has had its turn.

use std::{
    future::poll_fn,
    sync::Weak,
    task::{Context, Poll, Waker},
};

use tokio::{runtime, task::AbortHandle};

use super::{Flushed, Shared};

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

    /// Until it is woken.
    fn sleep(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.awake {
            return Poll::Ready(());
        }
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// Writes, whenever it is woken, until nothing waits. Whoever drops the channel has written what could be written.
async fn flush_when_woken(shared: Weak<Shared>) {
    let woken = |context: &mut Context<'_>| match shared.upgrade() {
        Some(shared) => {
            shared.state().flusher.as_mut().map_or(Poll::Pending, |flusher| flusher.sleep(context))
        }
        None => Poll::Ready(()),
    };
    loop {
        poll_fn(woken).await;
        loop {
            let Some(shared) = shared.upgrade() else { return };
            {
                let mut state = shared.state();
                if state.link.flush() != Flushed::Blocked {
                    if let Some(flusher) = &mut state.flusher {
                        flusher.awake = false;
                    }
                    break;
                }
            }
            if shared.writable().await.is_none() {
                return;
            }
        }
    }
}
