//! Questions to a worker: is it there?
//!
//! Who is known to answer gets a `newconn` for a key that nobody has. A Node answers it with `accepted: false` (`onconnection` in
//! `lib/internal/cluster/child.js`), from its event loop and at no cost, and so does a worker of this project. For all others the
//! oldest connection that they were handed and have not answered for is the question.

use std::time::Duration;

use super::Primary;
use crate::{
    Seq, Time, WorkerId,
    cluster::{Effect, Event, Fate},
    node::{Act, ClusterMessage},
};

/// No address has this key.
const KEY: &str = "ganger:probe";

impl<C> Primary<C> {
    /// Whether there is a channel on which the worker could answer.
    pub fn can_probe(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.channel_open)
    }

    /// Asks the worker whether it is there. A Node dies of a `newconn` without a connection, so one goes with it: any will
    /// do. The answer is [`Event::Probed`], from who is not known to answer questions and has nothing to answer for at once; there
    /// is none from who cannot be asked.
    pub fn probe(&mut self, now: Time, id: WorkerId, connection: C) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.channel_open) else {
            return self.drop_connection(connection, Fate::Probe);
        };
        if !worker.capabilities.probe {
            match worker.under_way.front_mut() {
                Some(oldest) => oldest.is_question = true,
                None => self.event(Event::Probed { worker: id, lag: Duration::ZERO }),
            }
            return self.drop_connection(connection, Fate::Probe);
        }
        let seq = self.take_seq();
        self.probes.insert(seq, (id, now));
        let message = ClusterMessage { seq: Some(seq), act: Act::NewConn { key: KEY.into() } };
        self.effects.push_back(Effect::SendConnection {
            worker: id,
            seq,
            message,
            connection,
            pipelined: true,
        });
    }

    /// Whether this is the number of a question to the worker.
    pub(super) fn is_probe(&self, id: WorkerId, seq: Seq) -> bool {
        self.probes.get(&seq).is_some_and(|(worker, _)| *worker == id)
    }

    pub(super) fn handle_probed(&mut self, now: Time, id: WorkerId, seq: Seq) {
        if let Some((_, asked)) = self.probes.remove(&seq) {
            self.event(Event::Probed { worker: id, lag: now - asked });
        }
    }

    /// The worker has gone.
    pub(super) fn forget_probes(&mut self, id: WorkerId) {
        self.probes.retain(|_, (worker, _)| *worker != id);
    }
}
