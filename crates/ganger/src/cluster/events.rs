//! A stream of events that a slow reader cannot make grow.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ganger_proto::messenger::Party;
use tokio::sync::Notify;

use super::Event;

/// So many events wait for the reader of [`Events`].
pub const HELD: usize = 1024;
/// And so many bytes of messages, letters and panics before the newest one: 64 MiB, which is as long as one message may be.
pub const HELD_BYTES: usize = 64 << 20;

/// What happens in a [`Cluster`](super::Cluster), for one reader.
///
/// The primary does not wait for the reader. At most [`HELD`] events wait for it, and at most [`HELD_BYTES`] of what workers
/// and agent say in them, to which the newest one may add its own. When there are more, the oldest of the worker that has most
/// to say is dropped, with the sockets in it, and [`Event::Lagged`] says how many are gone. What
/// happens to a worker once (fork, online, disconnect, exit) and `setup` is dropped only when nothing else waits, so nobody's
/// chatter pushes out another's exit. What is so at this moment is known by
/// [`Cluster::snapshot`](super::Cluster::snapshot) in any case.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

/// The other end of [`Events`].
#[derive(Debug)]
pub(super) struct Teller {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    backlog: Backlog<Event>,
    /// Nothing more is said, or nobody listens.
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }
}

pub(super) fn channel() -> (Teller, Events) {
    let shared = Arc::<Shared>::default();
    (Teller { shared: shared.clone() }, Events { shared })
}

impl Teller {
    pub(super) fn tell(&self, event: Event) {
        let mut state = self.shared.lock();
        if !state.ended {
            state.backlog.push(event.talker(), event.length(), event);
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Events {
    /// The next event; none when the primary has gone and nothing is left to tell. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.shared.changed.notified().await;
        }
    }

    /// What is there: an event, or that there will be none.
    fn take(&mut self) -> Option<Option<Event>> {
        let mut state = self.shared.lock();
        if let Some(missed) = state.backlog.take_missed() {
            return Some(Some(Event::Lagged { missed }));
        }
        let event = state.backlog.pop();
        (event.is_some() || state.ended).then_some(event)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.end();
        self.shared.lock().backlog = Backlog::default();
    }
}

/// A queue of at most [`HELD`] events and [`HELD_BYTES`], where the loudest loses first.
#[derive(Debug)]
struct Backlog<E> {
    queue: VecDeque<Entry<E>>,
    /// How much of them is whose.
    talk: BTreeMap<Party, Talk>,
    /// How many bytes they all have.
    bytes: usize,
    missed: u64,
}

#[derive(Debug)]
struct Entry<E> {
    talker: Option<Party>,
    bytes: usize,
    event: E,
}

/// What waits of one talker.
#[derive(Clone, Copy, Debug, Default)]
struct Talk {
    events: usize,
    bytes: usize,
}

impl<E> Default for Backlog<E> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), talk: BTreeMap::new(), bytes: 0, missed: 0 }
    }
}

impl<E> Backlog<E> {
    /// `talker` is who can say such a thing without end, `bytes` how long it is.
    fn push(&mut self, talker: Option<Party>, bytes: usize, event: E) {
        if self.queue.len() == HELD {
            self.drop_oldest_of(self.loudest(|talk| talk.events));
        }
        while self.bytes > HELD_BYTES {
            self.drop_oldest_of(self.loudest(|talk| talk.bytes));
        }
        self.queue.push_back(Entry { talker, bytes, event });
        self.bytes += bytes;
        if let Some(talker) = talker {
            let talk = self.talk.entry(talker).or_default();
            talk.events += 1;
            talk.bytes += bytes;
        }
    }

    fn loudest(&self, measure: impl Fn(&Talk) -> usize) -> Option<Party> {
        self.talk.iter().max_by_key(|(_, talk)| measure(talk)).map(|(talker, _)| *talker)
    }

    /// Of a talker's, or the oldest of all where nobody talks.
    fn drop_oldest_of(&mut self, talker: Option<Party>) {
        let at = self.queue.iter().position(|entry| talker.is_none() || entry.talker == talker);
        self.remove(at.unwrap_or(0));
        self.missed += 1;
    }

    fn pop(&mut self) -> Option<E> {
        self.remove(0)
    }

    fn remove(&mut self, at: usize) -> Option<E> {
        let Entry { talker, bytes, event } = self.queue.remove(at)?;
        self.bytes -= bytes;
        if let Some(talker) = talker
            && let Some(talk) = self.talk.get_mut(&talker)
        {
            talk.events -= 1;
            talk.bytes -= bytes;
            if talk.events == 0 {
                self.talk.remove(&talker);
            }
        }
        Some(event)
    }

    /// How many were dropped since the last call, if any.
    fn take_missed(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.missed)).filter(|missed| *missed > 0)
    }
}

#[cfg(test)]
mod tests {
    use ganger_proto::WorkerId;

    use super::*;

    const LOUD: Option<Party> = Some(Party::Worker(WorkerId(1)));
    const QUIET: Option<Party> = Some(Party::Worker(WorkerId(2)));

    fn all<E>(mut backlog: Backlog<E>) -> Vec<E> {
        std::iter::from_fn(|| backlog.pop()).collect()
    }

    #[test]
    fn the_loudest_loses_its_oldest() {
        let mut backlog = Backlog::default();
        backlog.push(QUIET, 1, (2, 0));
        backlog.push(None, 0, (0, 0));
        for number in 0..5000 {
            backlog.push(LOUD, 1, (1, number));
        }
        backlog.push(QUIET, 1, (2, 1));
        backlog.push(None, 0, (0, 1));
        assert_eq!(backlog.take_missed(), Some(5004 - HELD as u64));
        assert_eq!(backlog.take_missed(), None, "it is told once");
        let kept = all(backlog);
        assert_eq!(kept.len(), HELD);
        assert_eq!(kept[..3], [(2, 0), (0, 0), (1, 5000 - (HELD as i32 - 4))]);
        assert_eq!(kept[HELD - 3..], [(1, 4999), (2, 1), (0, 1)]);
    }

    #[test]
    fn lives_without_talk_are_bounded_too() {
        let mut backlog = Backlog::default();
        for number in 0..HELD + 3 {
            backlog.push(None, 0, number);
        }
        assert_eq!(backlog.take_missed(), Some(3));
        assert_eq!(all(backlog), (3..HELD + 3).collect::<Vec<_>>());
    }

    /// Whatever is said, no more bytes wait than are allowed and the newest event has.
    #[test]
    fn so_many_bytes_wait_and_the_newest() {
        let mut backlog = Backlog::default();
        backlog.push(None, 0, "exit");
        for _ in 0..100 {
            backlog.push(QUIET, 10, "quiet");
        }
        for _ in 0..5 {
            backlog.push(LOUD, HELD_BYTES, "loud");
            assert_eq!(backlog.bytes, HELD_BYTES + 1000);
        }
        assert_eq!(backlog.take_missed(), Some(4), "of what is loud in bytes, though there is little of it");
        backlog.push(QUIET, 10, "quiet");
        assert_eq!((backlog.take_missed(), backlog.bytes), (Some(1), 1010));
        assert_eq!(all(backlog).len(), 102);
    }

    #[test]
    fn who_reads_in_time_misses_nothing_however_long_it_is() {
        let mut backlog = Backlog::default();
        for number in 0..3 {
            backlog.push(LOUD, HELD_BYTES, number);
            backlog.push(QUIET, 0, number);
            assert_eq!((backlog.pop(), backlog.pop()), (Some(number), Some(number)));
            assert_eq!(backlog.take_missed(), None);
        }
        assert!(backlog.talk.is_empty());
    }
}
