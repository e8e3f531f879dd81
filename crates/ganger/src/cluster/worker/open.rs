//! The connections that the program has accepted and not closed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

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
    lasting: Mutex<Lasting>,
}

/// Those that were not told to end, oldest first.
#[derive(Debug, Default)]
struct Lasting {
    last: u64,
    connections: BTreeMap<u64, Arc<Mutex<End>>>,
}

/// Whether a connection was told to end, and who is to know that: whoever reads from it.
#[derive(Debug, Default)]
struct End {
    told: bool,
    reader: Option<Waker>,
}

/// A connection that the program has; dropped, it is closed.
#[derive(Debug)]
pub(in crate::cluster) struct Serving {
    counts: Arc<Counts>,
    fresh: bool,
    number: u64,
    end: Arc<Mutex<End>>,
}

impl Open {
    /// One more.
    pub(in crate::cluster) fn one(&self) -> Serving {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.fresh.fetch_add(1, Ordering::Relaxed);
        let end = Arc::<Mutex<End>>::default();
        let mut lasting = lock(&self.0.lasting);
        lasting.last += 1;
        let number = lasting.last;
        lasting.connections.insert(number, end.clone());
        drop(lasting);
        Serving { counts: self.0.clone(), fresh: true, number, end }
    }

    /// Resolves when there is none.
    pub(super) async fn none(&self) {
        self.0.is_zero(&self.0.open).await;
    }

    /// Resolves when something was read from each of them.
    pub(super) async fn none_fresh(&self) {
        self.0.is_zero(&self.0.fresh).await;
    }

    /// Has them end, the oldest first, one after another over this time.
    pub(super) async fn shed(&self, over: Duration) {
        let began = Instant::now();
        let all = u32::try_from(lock(&self.0.lasting).connections.len()).unwrap_or(u32::MAX);
        for gone in 1..=all {
            tokio::time::sleep_until(began + over * gone / all).await;
            let may_be_left = (all - gone) as usize;
            let mut lasting = lock(&self.0.lasting);
            while lasting.connections.len() > may_be_left
                && let Some((_, end)) = lasting.connections.pop_first()
            {
                tell(&end);
            }
        }
    }
}

fn tell(end: &Mutex<End>) {
    let mut end = lock(end);
    end.told = true;
    if let Some(reader) = end.reader.take() {
        reader.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Ready when the connection is to end.
    pub(in crate::cluster) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut end = lock(&self.end);
        if end.told {
            return Poll::Ready(());
        }
        if !end.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            end.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.was_read();
        lock(&self.counts.lasting).connections.remove(&self.number);
        self.counts.one_less(&self.counts.open);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
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

    #[tokio::test]
    async fn they_end_one_after_another_the_oldest_first() {
        let open = Open::default();
        let mut connections: Vec<Serving> = (0..1000).map(|_| open.one()).collect();
        let end = |connection: &Serving| connection.poll_end(&mut Context::from_waker(Waker::noop()));
        tokio::select! {
            () = open.shed(Duration::from_secs(100)) => unreachable!(),
            () = poll_fn(|cx| connections[0].poll_end(cx)) => {}
        }
        assert!(end(&connections[999]).is_pending());
        // Those that go by themselves count.
        connections.truncate(500);
        open.shed(Duration::ZERO).await;
        assert!(connections.iter().all(|connection| end(connection).is_ready()));
        assert!(end(&open.one()).is_pending());
    }
}
