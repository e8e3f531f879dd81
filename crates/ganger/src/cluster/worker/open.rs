//! The connections that the program has accepted and not closed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// How many there are. Cheap to clone; all clones are the same count.
#[derive(Clone, Debug, Default)]
pub(in crate::cluster) struct Open(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// All of them.
    open: AtomicUsize,
    /// Those that nothing was read from yet.
    fresh: AtomicUsize,
    changed: Notify,
}

/// A connection that the program has; dropped, it is closed.
#[derive(Debug)]
pub(in crate::cluster) struct Serving {
    counts: Arc<Counts>,
    fresh: bool,
}

impl Open {
    /// One more.
    pub(in crate::cluster) fn one(&self) -> Serving {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.fresh.fetch_add(1, Ordering::Relaxed);
        Serving { counts: self.0.clone(), fresh: true }
    }

    /// Resolves when there is none.
    pub(super) async fn none(&self) {
        self.0.is_zero(&self.0.open).await;
    }

    /// Resolves when something was read from each of them.
    pub(super) async fn none_fresh(&self) {
        self.0.is_zero(&self.0.fresh).await;
    }
}

impl Counts {
    async fn is_zero(&self, count: &AtomicUsize) {
        let mut changed = std::pin::pin!(self.changed.notified());
        loop {
            changed.as_mut().enable();
            if count.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }

    fn one_less(&self, count: &AtomicUsize) {
        if count.fetch_sub(1, Ordering::Release) == 1 {
            self.changed.notify_waiters();
        }
    }
}

impl Serving {
    /// Something was read from it, or can be no more.
    pub(in crate::cluster) fn was_read(&mut self) {
        if std::mem::take(&mut self.fresh) {
            self.counts.one_less(&self.counts.fresh);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.was_read();
        self.counts.one_less(&self.counts.open);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn they_are_waited_for_until_read_and_until_closed() {
        let open = Open::default();
        let (mut one, other) = (open.one(), open.one());
        let (mut fresh, mut any) = (pin!(open.none_fresh()), pin!(open.none()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(fresh.as_mut().poll(&mut cx).is_pending());
        one.was_read();
        one.was_read();
        assert!(fresh.as_mut().poll(&mut cx).is_pending());
        drop(other);
        assert!(fresh.as_mut().poll(&mut cx).is_ready());
        assert!(any.as_mut().poll(&mut cx).is_pending());
        drop(one);
        assert!(any.as_mut().poll(&mut cx).is_ready());
        assert!(pin!(open.none()).poll(&mut cx).is_ready());
    }
}
