//! `queryServer`: a worker asks for a socket (`queryServer` in Node's `lib/internal/cluster/primary.js`).

use super::{MAX_FAILURES, MAX_SOCKETS, Primary};
use crate::{
    ListenerKey, Seq, SocketId, Time, WorkerId,
    cluster::{
        Effect, Event, Misbehaviour, Policy, Share,
        listener::{Listener, Socket, Sockets, State},
        schedule::{Load, Schedule},
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
    pub(super) fn handle_query(&mut self, now: Time, id: WorkerId, seq: Option<Seq>, mut query: Query) {
        // Without a number there is no answer; who was asked to leave gets none, as in Node.
        let (Some(seq), Some(worker)) = (seq, self.workers.get(&id)) else { return };
        if worker.draining || worker.exited_after_disconnect == Some(true) {
            return;
        }
        let key = query.key();
        let too_much = query.data.take_if(|data| data.len() > LONGEST_DATA).is_some();
        let too_long = query.address.as_ref().is_some_and(|address| address.len() > LONGEST_ADDRESS);
        let Some(target) = query.target().filter(|_| !too_much && !too_long) else {
            return self.reply_error(id, seq, key, query.data, EINVAL);
        };
        // What it closed a moment ago counts as well: it is still open.
        let its_own = |listener: &&Listener<C>| listener.knows(id) || listener.was_closed_by(id);
        if self.listeners.values().filter(its_own).count() >= MAX_SOCKETS {
            self.event(Event::Misbehaved { worker: id, what: Misbehaviour::TooManySockets });
            return self.reply_error(id, seq, key, query.data, EMFILE);
        }
        let live = |listener: &Listener<C>| listener.key == key && !listener.is_closing();
        let Some((socket, listener)) = self.listeners.iter_mut().find(|(_, listener)| live(listener)) else {
            self.make_way(now, &target);
            return self.open(id, seq, query, target);
        };
        // Whoever has some is the first, though others without may have been before it.
        if listener.data.is_none() {
            listener.data = query.data;
        }
        if listener.knows(id) {
            let data = listener.data.clone();
            return self.reply_error(id, seq, key, data, EADDRINUSE);
        }
        let socket = *socket;
        let backlog = query.backlog.unwrap_or(node::DEFAULT_BACKLOG);
        if listener.may_be_reopened() && (&listener.target, listener.backlog) != (&target, backlog) {
            return self.reopen(socket, id, seq, target, backlog);
        }
        self.seat(now, socket, id, seq);
    }

    /// What a worker has closed stays open for a moment, but not where it has the port that somebody now asks for by another
    /// name: the one that was drawn at first, or the same on another address. In Node it would be closed by now.
    fn make_way(&mut self, now: Time, target: &Target) {
        let in_the_way = self.listeners.iter().filter(|(_, listener)| listener.is_in_the_way_of(target));
        let ids: Vec<SocketId> = in_the_way.map(|(id, _)| *id).collect();
        for id in ids {
            self.close_listener(id);
            // Nobody comes for what waits there.
            self.dispatch(now, id);
        }
    }

    /// Makes a listener for what nobody asked for before.
    fn open(&mut self, id: WorkerId, seq: Seq, query: Query, target: Target) {
        let Some(slot) = self.workers.get(&id).map(|worker| worker.slot) else { return };
        // A path and an inherited descriptor are one socket.
        let per_slot =
            self.policy == Policy::ReusePort && matches!(target, Target::Tcp { .. } | Target::Udp { .. });
        let socket = self.take_socket();
        let entry = Listener {
            key: query.key(),
            hands_over: self.policy.hands_over() && !target.is_datagram(),
            per_slot,
            backlog: query.backlog.unwrap_or(node::DEFAULT_BACKLOG),
            sockets: Sockets::new(Socket::new(socket, per_slot.then_some(slot), (id, seq))),
            data: query.data,
            holders: Default::default(),
            filled: Default::default(),
            schedule: self.policy.schedule(),
            pending: Default::default(),
            parked: Default::default(),
            watch: None,
            peeking: 0,
            idle: None,
            target: target.clone(),
        };
        let (backlog, share) = (entry.backlog, per_slot.then_some(Share::First));
        self.listeners.insert(socket, entry);
        self.effects.push_back(Effect::Bind { socket, target, backlog, share });
    }

    /// Closes its sockets and binds one with other options, as Node does when a server is closed and listens again. Whoever
    /// waits in the old ones is taken, and waits for the new holder.
    fn reopen(&mut self, id: SocketId, worker: WorkerId, seq: Seq, target: Target, backlog: u32) {
        let Some(slot) = self.workers.get(&worker).map(|worker| worker.slot) else { return };
        self.close_listener(id);
        let socket = self.take_socket();
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let per_slot = listener.per_slot;
        listener.idle = None;
        listener.sockets.insert(Socket::new(socket, per_slot.then_some(slot), (worker, seq)));
        (listener.target, listener.backlog) = (target.clone(), backlog);
        let share = per_slot.then_some(Share::First);
        self.effects.push_back(Effect::Bind { socket, target, backlog, share });
    }

    /// Gives the worker the socket of its slot, now or when it is bound.
    fn seat(&mut self, now: Time, id: SocketId, worker_id: WorkerId, seq: Seq) {
        let (Some(listener), Some(worker)) = (self.listeners.get_mut(&id), self.workers.get(&worker_id))
        else {
            return;
        };
        let slot = worker.slot;
        let asks = |socket: &mut Socket| match &mut socket.state {
            State::Binding { asked } => asked.push((worker_id, seq)),
            State::Bound { .. } | State::Closing | State::Closed => {}
        };
        match listener.sockets.of(slot).map(Socket::is_bound) {
            Some(true) => return self.join(now, id, worker_id, seq),
            Some(false) => {
                listener.sockets.change_of(slot, asks);
                return;
            }
            None => {}
        }
        // The slot's own is still to be bound, beside one that is.
        let Some(sibling) = listener.sockets.iter().find(|socket| socket.is_bound()).map(|socket| socket.id)
        else {
            let binding =
                listener.sockets.iter().find(|socket| matches!(socket.state, State::Binding { .. }));
            if let Some(first) = binding.map(|socket| socket.id) {
                listener.sockets.change(first, asks);
            }
            return;
        };
        let (target, backlog) = (listener.target.clone(), listener.backlog);
        self.last_socket += 1;
        let socket = SocketId(self.last_socket);
        listener.sockets.insert(Socket::new(socket, Some(slot), (worker_id, seq)));
        self.effects.push_back(Effect::Bind { socket, target, backlog, share: Some(Share::With(sibling)) });
    }

    fn take_socket(&mut self) -> SocketId {
        self.last_socket += 1;
        SocketId(self.last_socket)
    }

    pub(super) fn handle_bound(
        &mut self,
        now: Time,
        socket_id: SocketId,
        outcome: Result<Option<Sockname>, i32>,
    ) {
        let Some(id) = self.listener_of(socket_id) else { return };
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let Some(socket) = listener.sockets.get(socket_id) else { return };
        let State::Binding { asked } = &socket.state else { return };
        let (asked, slot) = (asked.clone(), socket.slot);
        match outcome {
            Ok(sockname) => {
                listener.sockets.change(socket_id, |socket| socket.state = State::Bound { sockname });
                self.unbound.remove(&listener.key);
                // Whoever asked may have died meanwhile: then it is idle from the start.
                if listener.holders.is_empty() {
                    listener.idle = Some((now, None));
                }
                if let Some(slot) = slot {
                    listener.vacate(now, slot);
                }
                for (worker, seq) in asked {
                    self.seat(now, id, worker, seq);
                }
            }
            Err(errno) => {
                let (key, target) = (listener.key.clone(), listener.target.clone());
                let data = listener.data.clone();
                listener.sockets.remove(socket_id);
                if listener.sockets.is_empty() {
                    self.listeners.remove(&id);
                }
                if self.unbound.len() >= MAX_SOCKETS {
                    self.unbound.clear();
                }
                let newly = key.as_str().len() > LONGEST_KEY || self.unbound.insert(key.clone());
                if let Some((worker, _)) = asked.first().filter(|_| newly) {
                    self.tell_failure(*worker, target, errno);
                }
                for (worker, ack) in asked {
                    self.reply_error(worker, ack, key.clone(), data.clone(), errno);
                }
                // If it was to be open again, nobody will come for what waits.
                self.dispatch(now, id);
            }
        }
    }

    /// Who asks for one socket after another that cannot be had is not told of each without end.
    fn tell_failure(&mut self, id: WorkerId, target: Target, errno: i32) {
        let failures = self.workers.get_mut(&id).map_or(0, |worker| {
            worker.failures = worker.failures.saturating_add(1);
            worker.failures
        });
        self.event(if failures > MAX_FAILURES {
            Event::Misbehaved { worker: id, what: Misbehaviour::TooManyFailures }
        } else {
            Event::BindFailed { worker: id, target, errno }
        });
    }

    /// Makes the worker a holder of the bound socket and tells it so.
    fn join(&mut self, now: Time, id: SocketId, worker_id: WorkerId, ack: Seq) {
        let seq = self.take_seq();
        let (Some(listener), Some(worker)) = (self.listeners.get_mut(&id), self.workers.get(&worker_id))
        else {
            return;
        };
        let under_way = worker.under_way.iter().filter(|hand_off| hand_off.listener == id).count();
        let load = Load {
            slot: worker.slot,
            window: worker.capabilities.window,
            under_way: u32::try_from(under_way).unwrap_or(u32::MAX),
            open: worker.open.count(),
        };
        let tell_closes = self.policy == Policy::LeastConn && worker.capabilities.tells_closes;
        listener.join(worker_id, load);
        if worker.held_back {
            listener.schedule.removed(worker_id);
        }
        if self.paused.contains(&load.slot) {
            listener.pause(load.slot, true, |_| true);
        }
        // What it refused before it closed the socket it may get now.
        if worker.has_refused {
            let under_way = self.workers.values_mut().flat_map(|worker| &mut worker.under_way);
            for hand_off in under_way.filter(|hand_off| hand_off.listener == id) {
                hand_off.refused_by.retain(|by| *by != worker_id);
            }
        }
        let act = Act::QueryReply {
            ack,
            key: listener.key.clone(),
            errno: (!listener.hands_over).then_some(0),
            data: listener.data.clone(),
            sockname: if listener.hands_over { listener.sockname().cloned() } else { None },
            tell_closes,
        };
        let message = ClusterMessage { seq: Some(seq), act };
        let socket = listener.sockets.of(load.slot).filter(|socket| socket.is_bound());
        self.effects.push_back(match socket {
            Some(socket) if !listener.hands_over => {
                let datagram = listener.is_datagram();
                Effect::SendSocket { worker: worker_id, socket: socket.id, datagram, message }
            }
            _ => Effect::Send { worker: worker_id, message },
        });
        self.dispatch(now, id);
    }

    /// A TLS server reads `data` from these replies too, and dies of none.
    fn reply_error(
        &mut self,
        worker: WorkerId,
        ack: Seq,
        key: ListenerKey,
        data: Option<Box<str>>,
        errno: i32,
    ) {
        let errno = Some(-errno);
        self.send(worker, Act::QueryReply { ack, key, errno, data, sockname: None, tell_closes: false });
    }
}
