//! What has to hold whenever one looks, and at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use ganger_proto::{
    SocketId,
    cluster::{Fate, ListenerSnapshot},
};

use super::world::World;
use crate::clients::Place;

impl World {
    /// Everything is where the book says that it is.
    pub(crate) fn check(&self) {
        let snapshot = self.primary.snapshot();
        let under_way: usize = snapshot.workers.iter().map(|worker| worker.under_way).sum();
        let waiting: usize = snapshot.listeners.iter().map(|listener| listener.waiting).sum();
        let clients = &self.around.clients;
        let ours = clients.count(|place| matches!(place, Place::Primary | Place::Session(_)));
        // Those whose first bytes are waited for it counts as waiting.
        assert_eq!(
            under_way + waiting,
            ours + self.peeking.len(),
            "the primary does not have what it was given"
        );
        let with_driver = self.examining.len() + self.peeking.len();
        assert_eq!(clients.count(|place| place == Place::Driver), with_driver);

        let queues = self.around.kernel.values().map(|listening| listening.queue.len());
        assert_eq!(clients.count(|place| matches!(place, Place::Kernel(_))), queues.sum::<usize>());

        let counters = snapshot.counters;
        let gone = counters.served + counters.refused + counters.broken + counters.orphaned;
        assert_eq!(counters.accepted, gone + (ours + with_driver) as u64, "{counters:?}");

        let mut copies: BTreeMap<u32, _> = clients.copies().collect();
        for worker in self.processes.iter().map(|process| &process.worker) {
            for number in worker.copies() {
                assert_eq!(copies.remove(&number), Some(worker.id), "connection {number} is copied");
            }
        }
        assert!(copies.is_empty(), "copies that nobody has: {copies:?}");
    }

    /// Lets everything come to an end that can, with healthy workers.
    pub(crate) fn settle(&mut self) {
        // More than any delay of the core or of the gang.
        let mut idle = Duration::ZERO;
        for _ in 0..1_000_000 {
            let before = self.around.now;
            self.step();
            let passed = self.around.now - before;
            idle = if passed.is_zero() { Duration::ZERO } else { idle + passed };
            if idle > Duration::from_secs(8) && self.gang.is_full() {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.gang);
    }

    /// After [`World::settle`] nobody waits where somebody would serve.
    pub(crate) fn check_rest(&self) {
        self.check();
        let snapshot = self.primary.snapshot();
        for socket in &snapshot.listeners {
            assert_eq!(socket.waiting, 0, "connections wait: {socket:?}");
        }
        for worker in &snapshot.workers {
            assert_eq!(worker.under_way, 0, "connections are under way: {worker:?}");
        }
        self.around.clients.check_ends();
        if self.around.trouble == 0 {
            // Whatever was forked, scaled and replaced: without a fault nobody is turned away.
            self.around.clients.check_all_served(0);
        }
    }

    /// After everybody has gone nothing is left.
    pub(crate) fn check_empty(&self) {
        self.check_rest();
        let snapshot = self.primary.snapshot();
        assert!(snapshot.workers.is_empty() && snapshot.listeners.is_empty(), "{snapshot:?}");
        assert!(self.around.kernel.is_empty() && self.processes.is_empty());
    }

    /// Whether some worker has this socket, as far as the primary knows.
    pub(crate) fn is_held(&self, socket: SocketId) -> bool {
        self.snapshot_of(socket).is_some_and(|socket| !socket.holders.is_empty())
    }

    /// Whether nobody is led to this socket any more.
    pub(crate) fn is_steered(&self, socket: SocketId) -> bool {
        self.around.steered.contains(&socket)
    }

    fn snapshot_of(&self, socket: SocketId) -> Option<ListenerSnapshot> {
        let mut listeners = self.primary.snapshot().listeners.into_iter();
        listeners.find(|listener| listener.id == socket || listener.sockets.contains(&socket))
    }

    /// The primary gives up a connection: it may.
    pub(crate) fn check_given_up(&self, number: u32, fate: Fate) {
        if matches!(fate, Fate::Refused | Fate::Orphaned) {
            self.around.clients.check_given_up(
                number,
                fate,
                &self.primary.snapshot().listeners,
                |worker, listener| {
                    Some(self.joined.get(&(worker, listener.key.clone())).copied().unwrap_or(0))
                },
            );
        }
    }
}
