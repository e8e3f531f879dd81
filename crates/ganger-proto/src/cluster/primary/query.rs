//! `queryServer`: a worker asks for a socket (`queryServer` in Node's `lib/internal/cluster/primary.js`).

use super::{MAX_SOCKETS, Primary};
use crate::{
    Seq, SocketId, Time, WorkerId,
    cluster::{
        Effect, Event, Misbehaviour, Policy,
        socket::{Socket, State},
    },
    node::{self, Act, ClusterMessage, Query, Sockname, Target},
};

/// Linux's numbers for the errors that the primary itself finds; a worker gets them negated.
const EINVAL: i32 = 22;
const EMFILE: i32 = 24;
const EADDRINUSE: i32 = 98;
/// No address that makes sense has a longer key; a worker's nonsense is not remembered.
const LONGEST_KEY: usize = 512;
/// The longest address and the longest `data` that are taken, in bytes: a path has 108, ticket keys have 96.
const LONGEST_ADDRESS: usize = 512;
const LONGEST_DATA: usize = 64 << 10;

impl<C> Primary<C> {
    pub(super) fn handle_query(&mut self, now: Time, id: WorkerId, seq: Option<Seq>, query: Query) {
        // Without a number there is no answer; who was asked to leave gets none, as in Node.
        let (Some(seq), Some(worker)) = (seq, self.workers.get(&id)) else { return };
        if worker.draining || worker.exited_after_disconnect == Some(true) {
            return;
        }
        let key = query.key();
        let too_long = query.address.as_ref().is_some_and(|address| address.len() > LONGEST_ADDRESS)
            || query.data.as_ref().is_some_and(|data| data.len() > LONGEST_DATA);
        let Some(target) = query.target().filter(|_| !too_long) else {
            return self.reply_error(id, seq, &query, EINVAL);
        };
        // What it closed a moment ago counts as well: it is still open.
        let its_own = |socket: &&Socket<C>| socket.knows(id) || socket.was_closed_by(id);
        if self.sockets.values().filter(its_own).count() >= MAX_SOCKETS {
            self.event(Event::Misbehaved { worker: id, what: Misbehaviour::TooManySockets });
            return self.reply_error(id, seq, &query, EMFILE);
        }
        let slot = worker.slot;
        let theirs = |socket: &Socket<C>| socket.slot.is_none_or(|owner| owner == slot);
        let live = |socket: &Socket<C>| socket.key == key && theirs(socket) && !socket.is_closing();
        let found = self.sockets.iter_mut().find(|(_, socket)| live(socket));
        match found {
            Some((_, socket)) if socket.knows(id) => self.reply_error(id, seq, &query, EADDRINUSE),
            Some((_, Socket { state: State::Binding { asked }, .. })) => asked.push((id, seq)),
            Some((socket, _)) => {
                let socket = *socket;
                self.join(now, socket, id, seq);
            }
            None => self.bind(id, seq, query, target),
        }
    }

    fn bind(&mut self, id: WorkerId, seq: Seq, query: Query, target: Target) {
        self.last_socket += 1;
        let socket = SocketId(self.last_socket);
        let backlog = query.backlog.unwrap_or(node::DEFAULT_BACKLOG);
        self.effects.push_back(Effect::Bind { socket, target: target.clone(), backlog });
        let entry = Socket {
            key: query.key(),
            slot: None,
            dispatched: self.policy == Policy::RoundRobin && !target.is_datagram(),
            target,
            data: query.data,
            state: State::Binding { asked: vec![(id, seq)] },
            holders: Default::default(),
            schedule: Default::default(),
            pending: Default::default(),
            parked: Default::default(),
            accepting: false,
            idle: None,
        };
        self.sockets.insert(socket, entry);
    }

    pub(super) fn handle_bound(&mut self, now: Time, id: SocketId, outcome: Result<Option<Sockname>, i32>) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let asked = match &mut socket.state {
            State::Binding { asked } => std::mem::take(asked),
            State::Bound { .. } | State::Closing | State::Closed => return,
        };
        match outcome {
            Ok(sockname) => {
                self.unbound.remove(&socket.key);
                socket.state = State::Bound { sockname };
                // Whoever asked may have died meanwhile: then the socket is idle from the start.
                socket.idle = Some((now, None));
                for (worker, seq) in asked {
                    self.join(now, id, worker, seq);
                }
            }
            Err(errno) => {
                let (key, target) = (socket.key.clone(), socket.target.clone());
                self.sockets.remove(&id);
                if self.unbound.len() >= MAX_SOCKETS {
                    self.unbound.clear();
                }
                let newly = key.as_str().len() > LONGEST_KEY || self.unbound.insert(key.clone());
                if let Some((worker, _)) = asked.first().filter(|_| newly) {
                    self.event(Event::BindFailed { worker: *worker, target, errno });
                }
                for (worker, ack) in asked {
                    let (data, sockname) = (None, None);
                    let key = key.clone();
                    self.send(worker, Act::QueryReply { ack, key, errno: Some(-errno), data, sockname });
                }
            }
        }
    }

    /// Makes the worker a holder of the bound socket and tells it so.
    fn join(&mut self, now: Time, id: SocketId, worker_id: WorkerId, ack: Seq) {
        let seq = self.take_seq();
        let (Some(socket), Some(worker)) = (self.sockets.get_mut(&id), self.workers.get(&worker_id)) else {
            return;
        };
        let depth = worker.under_way.iter().filter(|hand_off| hand_off.socket == id).count();
        socket.join(worker_id, worker.capabilities.window, u32::try_from(depth).unwrap_or(u32::MAX));
        // What it refused before it closed the socket it may get now.
        let under_way = self.workers.values_mut().flat_map(|worker| &mut worker.under_way);
        for hand_off in under_way.filter(|hand_off| hand_off.socket == id) {
            hand_off.refused_by.retain(|by| *by != worker_id);
        }
        let act = Act::QueryReply {
            ack,
            key: socket.key.clone(),
            errno: (!socket.dispatched).then_some(0),
            data: socket.data.clone(),
            sockname: if socket.dispatched { socket.sockname().cloned() } else { None },
        };
        let message = ClusterMessage { seq: Some(seq), act };
        self.effects.push_back(if socket.dispatched {
            Effect::Send { worker: worker_id, message }
        } else {
            let datagram = socket.target.is_datagram();
            Effect::SendSocket { worker: worker_id, socket: id, datagram, message }
        });
        self.dispatch(now, id);
    }

    fn reply_error(&mut self, worker: WorkerId, ack: Seq, query: &Query, errno: i32) {
        let (key, data, sockname) = (query.key(), None, None);
        self.send(worker, Act::QueryReply { ack, key, errno: Some(-errno), data, sockname });
    }
}
