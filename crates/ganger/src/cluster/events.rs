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

/// What happens in a [`Cluster`](super::Cluster), for one reader.
///
/// The primary does not wait for the reader. At most [`HELD`] events wait for it; when there are more, the oldest of the
/// worker that has most to say is dropped, with the sockets in it, and [`Event::Lagged`] says how many are gone. What
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
            state.backlog.push(event.talker(), event);
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

/// A queue of at most [`HELD`] events, where the loudest loses first.
#[derive(Debug)]
struct Backlog<E> {
    queue: VecDeque<(Option<Party>, E)>,
    /// How many of them are whose.
    talk: BTreeMap<Party, usize>,
    missed: u64,
}

impl<E> Default for Backlog<E> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), talk: BTreeMap::new(), missed: 0 }
    }
}

impl<E> Backlog<E> {
    /// `talker` is who can say such a thing without end.
    fn push(&mut self, talker: Option<Party>, event: E) {
        if self.queue.len() == HELD {
            self.make_room();
        }
        self.queue.push_back((talker, event));
        if let Some(talker) = talker {
            *self.talk.entry(talker).or_default() += 1;
        }
    }

    fn make_room(&mut self) {
        let loudest = self.talk.iter().max_by_key(|(_, count)| **count).map(|(talker, _)| *talker);
        let at = loudest.and_then(|_| self.queue.iter().position(|(talker, _)| *talker == loudest));
        // Without any talk: the oldest of all.
        self.remove(at.unwrap_or(0));
        self.missed += 1;
    }

    fn pop(&mut self) -> Option<E> {
        self.remove(0)
    }

    fn remove(&mut self, at: usize) -> Option<E> {
        let (talker, event) = self.queue.remove(at)?;
        if let Some(talker) = talker
            && let Some(count) = self.talk.get_mut(&talker)
        {
            *count -= 1;
            if *count == 0 {
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
        backlog.push(QUIET, (2, 0));
        backlog.push(None, (0, 0));
        for number in 0..5000 {
            backlog.push(LOUD, (1, number));
        }
        backlog.push(QUIET, (2, 1));
        backlog.push(None, (0, 1));
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
            backlog.push(None, number);
        }
        assert_eq!(backlog.take_missed(), Some(3));
        assert_eq!(all(backlog), (3..HELD + 3).collect::<Vec<_>>());
    }
}
