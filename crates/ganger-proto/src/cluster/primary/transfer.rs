//! Moving a primary into another program: the same state with other handles.

use super::{HandOff, Primary, Worker};
use crate::cluster::{
    Effect,
    listener::{Listener, Parked, Waiting},
};

impl<C> Primary<C> {
    /// The same primary with other handles: for moving it into another program.
    pub fn map_handles<D>(self, mut map: impl FnMut(C) -> D) -> Primary<D> {
        let waiting = |old: Waiting<C>, map: &mut dyn FnMut(C) -> D| Waiting {
            connection: map(old.connection),
            peer: old.peer,
            refused_by: old.refused_by,
        };
        let workers = self.workers.into_iter().map(|(id, old)| {
            let under_way = old.under_way.into_iter().map(|hand_off| HandOff {
                seq: hand_off.seq,
                listener: hand_off.listener,
                peer: hand_off.peer,
                since: hand_off.since,
                refused_by: hand_off.refused_by,
                connection: hand_off.connection.map(&mut map),
                acknowledged: hand_off.acknowledged,
                is_question: hand_off.is_question,
            });
            let under_way = under_way.collect();
            let Worker {
                slot, generation, state, capabilities, draining, exited_after_disconnect, open, ..
            } = old;
            let (channel_open, reaped, has_refused) = (old.channel_open, old.reaped, old.has_refused);
            let (failures, report) = (old.failures, old.report);
            let (held_back, first) = (old.held_back, old.first);
            (
                id,
                Worker {
                    slot,
                    generation,
                    state,
                    capabilities,
                    draining,
                    held_back,
                    first,
                    exited_after_disconnect,
                    channel_open,
                    reaped,
                    has_refused,
                    failures,
                    under_way,
                    open,
                    report,
                },
            )
        });
        let workers = workers.collect();
        let listeners = self.listeners.into_iter().map(|(id, old)| {
            let pending = old.pending.into_iter().map(|old| waiting(old, &mut map)).collect();
            let parked = old.parked.into_iter();
            let parked =
                parked.map(|old| Parked { until: old.until, waiting: waiting(old.waiting, &mut map) });
            let parked = parked.collect();
            let Listener { key, target, backlog, data, hands_over, per_slot, sockets, .. } = old;
            let Listener { holders, filled, schedule, watch, peeking, idle, .. } = old;
            (
                id,
                Listener {
                    key,
                    target,
                    backlog,
                    data,
                    hands_over,
                    per_slot,
                    sockets,
                    holders,
                    filled,
                    schedule,
                    pending,
                    parked,
                    watch,
                    peeking,
                    idle,
                },
            )
        });
        let listeners = listeners.collect();
        let effects = self.effects.into_iter().map(|effect| effect.map_handle(&mut map)).collect();
        Primary {
            policy: self.policy,
            workers,
            listeners,
            replacements_due: self.replacements_due,
            unbound: self.unbound,
            paused: self.paused,
            private: self.private,
            probes: self.probes,
            surveyed: self.surveyed,
            survey_refused: self.survey_refused,
            counters: self.counters,
            ahead: self.ahead,
            last_worker: self.last_worker,
            last_socket: self.last_socket,
            next_seq: self.next_seq,
            effects,
        }
    }
}

impl<C> Effect<C> {
    fn map_handle<D>(self, map: &mut impl FnMut(C) -> D) -> Effect<D> {
        match self {
            Self::Send { worker, message } => Effect::Send { worker, message },
            Self::SendSocket { worker, socket, datagram, message } => {
                Effect::SendSocket { worker, socket, datagram, message }
            }
            Self::SendConnection { worker, seq, message, connection, pipelined } => {
                Effect::SendConnection { worker, seq, message, connection: map(connection), pipelined }
            }
            Self::Bind { socket, target, backlog, share } => Effect::Bind { socket, target, backlog, share },
            Self::Accept { socket, on } => Effect::Accept { socket, on },
            Self::Close { socket, dispatched } => Effect::Close { socket, dispatched },
            Self::Steer { socket, away } => Effect::Steer { socket, away },
            Self::Peek { listener, connection, peer } => {
                Effect::Peek { listener, connection: map(connection), peer }
            }
            Self::Examine { listener, connection, peer } => {
                Effect::Examine { listener, connection: map(connection), peer }
            }
            Self::Drop { connection, fate } => Effect::Drop { connection: map(connection), fate },
            Self::Event(event) => Effect::Event(event),
        }
    }
}
