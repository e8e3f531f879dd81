//! The primary: owns every socket, hands out connections, restarts nothing.
//!
//! The way of one connection, each arrow a value that moves:
//!
//! ```text
//!   Accepted ──► pending ──► SendConnection ──► (session) ──► Delivered ──► under_way ──► Drop(Accepted)
//!                  ▲ ▲                              │                          │ │
//!                  │ └──── ChannelClosed ◄──────────┘      accepted: false ────┘ │
//!                  └────── Examined(untouched) ◄── Examine ◄── worker dead ──────┘
//! ```
//!
//! Invariants: a connection is in exactly one place. A worker that is draining or dead is in no schedule.
//! A worker's connections are taken back only when it is reaped *and* its channel is read to its end. Each
//! query is answered once. What a worker says about a socket that it does not hold changes nothing.

mod answer;
mod dispatch;
mod leave;
mod open;
mod private;
mod probe;
mod query;
mod slots;
mod transfer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Capabilities, Counters, Effect, Event, Fate, Input, ListenerSnapshot, Misbehaviour, Peer, Policy,
    Snapshot, WorkerSnapshot, WorkerState,
    listener::{IDLE_FOR, Listener, Parked, Waiting},
    schedule::Load,
};
use crate::{
    Generation, ListenerKey, Seq, Slot, SocketId, Time, WorkerId,
    node::{Act, ClusterMessage, hints::Report},
};
use open::Open;

/// The most sockets that one worker may hold.
pub const MAX_SOCKETS: usize = 256;
/// Of so many sockets that one worker asked for and nobody can have it is told.
pub const MAX_FAILURES: u32 = 16;
/// A worker whose oldest hand-off is older than this gets no more.
const STALLED_AFTER: Duration = Duration::from_millis(250);
/// And for one whose oldest is older than this nobody waits: half of the time after which its silence is reported, since who is
/// only busy has answered by then.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// The primary's machine. `C` is an accepted connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Primary<C> {
    policy: Policy,
    workers: BTreeMap<WorkerId, Worker<C>>,
    /// By the number of their first socket.
    listeners: BTreeMap<SocketId, Listener<C>>,
    /// Whether somebody is about to fill a vacant slot: idle sockets stay open for the newcomer.
    replacements_due: bool,
    /// What could not be bound, and was told: whoever asks next meets the same and need not be told of again.
    unbound: BTreeSet<ListenerKey>,
    /// Slots that get no connections for now.
    paused: BTreeSet<Slot>,
    /// Private connections that were not answered for, and whose they are.
    private: BTreeMap<Seq, WorkerId>,
    /// Questions that were asked and not answered: of whom, and when.
    probes: BTreeMap<Seq, (WorkerId, Time)>,
    /// Workers with connections whose end only a survey would show.
    surveyed: BTreeSet<WorkerId>,
    /// There are no surveys.
    survey_refused: bool,
    counters: Counters,
    /// See [`Primary::is_ahead`].
    ahead: bool,
    last_worker: u32,
    last_socket: u32,
    next_seq: u64,
    effects: VecDeque<Effect<C>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Worker<C> {
    slot: Slot,
    generation: Generation,
    state: WorkerState,
    capabilities: Capabilities,
    /// Out of dispatch for good.
    draining: bool,
    /// Not in dispatch yet.
    held_back: bool,
    /// The first address for connections that it opened.
    first: Option<ListenerKey>,
    /// `None` until it is known whether it goes of its own accord or is asked to.
    exited_after_disconnect: Option<bool>,
    channel_open: bool,
    reaped: bool,
    /// Whether it ever refused a connection.
    has_refused: bool,
    /// How many sockets it was the first to ask for that could not be had.
    failures: u32,
    /// Connections handed over and not answered for, oldest first.
    under_way: VecDeque<HandOff<C>>,
    /// Connections that it has taken and not closed, where the policy asks.
    open: Open,
    /// What it said last of how it is.
    report: Option<Report>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HandOff<C> {
    seq: Seq,
    /// The listener that it came by.
    listener: SocketId,
    peer: Peer,
    since: Time,
    refused_by: Vec<WorkerId>,
    /// Our copy, while it is not with the session.
    connection: Option<C>,
    acknowledged: bool,
    /// Whether somebody wants to know when the worker answers for it.
    is_question: bool,
}

impl<C> Primary<C> {
    /// A primary without workers.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            workers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            replacements_due: false,
            unbound: BTreeSet::new(),
            paused: BTreeSet::new(),
            private: BTreeMap::new(),
            probes: BTreeMap::new(),
            surveyed: BTreeSet::new(),
            survey_refused: false,
            counters: Counters::default(),
            ahead: false,
            last_worker: 0,
            last_socket: 0,
            next_seq: 0,
            effects: VecDeque::new(),
        }
    }

    /// The workers, the sockets and the counters as they are now.
    pub fn snapshot(&self) -> Snapshot {
        let workers = self.workers.iter().map(|(id, worker)| WorkerSnapshot {
            id: *id,
            slot: worker.slot,
            generation: worker.generation,
            state: worker.state,
            draining: worker.draining,
            held_back: worker.held_back,
            exited_after_disconnect: worker.exited_after_disconnect,
            under_way: worker.under_way.len(),
            open: worker.open.count(),
            report: worker.report,
        });
        let listeners = self.listeners.iter().map(|(id, listener)| ListenerSnapshot {
            id: *id,
            sockets: listener
                .sockets
                .iter()
                .filter(|socket| socket.is_bound())
                .map(|socket| socket.id)
                .collect(),
            key: listener.key.clone(),
            sockname: listener.sockname().cloned(),
            holders: listener.holders.keys().copied().collect(),
            waiting: listener.pending.len() + listener.parked.len() + listener.peeking,
        });
        Snapshot {
            workers: workers.collect(),
            listeners: listeners.collect(),
            counters: self.counters,
            least_conn_by: self.least_conn_by(),
        }
    }

    /// How connections are shared out.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Sets how connections are shared out; before the first worker is forked.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// A new worker of `generation` in `slot`. The driver starts its process; should that fail, it says so with
    /// [`Primary::fork_failed`]. Without a channel the worker can be told nothing.
    pub fn fork(&mut self, slot: Slot, generation: Generation, channel: bool) -> WorkerId {
        self.last_worker += 1;
        let id = WorkerId(self.last_worker);
        let worker = Worker {
            slot,
            generation,
            state: WorkerState::None,
            capabilities: Capabilities::PLAIN,
            draining: false,
            held_back: false,
            first: None,
            exited_after_disconnect: None,
            channel_open: channel,
            reaped: false,
            has_refused: false,
            failures: 0,
            under_way: VecDeque::new(),
            open: Open::default(),
            report: None,
        };
        self.workers.insert(id, worker);
        id
    }

    /// The worker's process could not be started.
    pub fn fork_failed(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    /// What the worker's program can do has become known.
    pub fn set_capabilities(&mut self, now: Time, id: WorkerId, capabilities: Capabilities) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.capabilities = capabilities;
        self.change_load(id, |load| load.window = capabilities.window);
        self.dispatch_all(now);
    }

    fn narrow(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.capabilities.window = 1;
            self.change_load(id, |load| load.window = 1);
        }
    }

    /// Changes what a worker is known to have to do, wherever it listens.
    fn change_load(&mut self, id: WorkerId, change: impl Fn(&mut Load)) {
        self.listeners.values_mut().for_each(|listener| listener.change(id, &change));
    }

    /// Somebody is about to fill a vacant slot, or nobody is any more.
    pub fn set_replacements_due(&mut self, now: Time, due: bool) {
        if self.replacements_due && !due {
            // Who has come had its chance to ask; from now on the usual grace counts.
            for listener in self.listeners.values_mut().filter(|listener| listener.idle.is_some()) {
                listener.idle = Some((now, None));
            }
        }
        self.replacements_due = due;
    }

    /// Stops listening everywhere: what the kernel has completed is taken and shared out, the rest of the
    /// world is refused.
    pub fn close_sockets(&mut self) {
        let ids: Vec<SocketId> = self.listeners.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close_listener(id));
    }

    fn close_listener(&mut self, id: SocketId) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let dispatched = !listener.is_datagram();
        let closed = listener.close().into_iter();
        self.effects.extend(closed.map(|socket| Effect::Close { socket, dispatched }));
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect<C>> {
        self.effects.pop_front()
    }

    /// When [`Primary::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.listeners.values().filter_map(|listener| listener.timeout(self.replacements_due)).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        let mut forsaken = Vec::new();
        for (id, listener) in &mut self.listeners {
            while listener.parked.front().is_some_and(|parked| parked.until <= now) {
                if let Some(Parked { waiting, .. }) = listener.parked.pop_front() {
                    self.counters.refused += 1;
                    self.effects
                        .push_back(Effect::Drop { connection: waiting.connection, fate: Fate::Refused });
                }
            }
            let (retired, dispatched) = (listener.close_retired(now).into_iter(), !listener.is_datagram());
            self.effects.extend(retired.map(|socket| Effect::Close { socket, dispatched }));
            let Some((since, closer)) = listener.idle else { continue };
            let closer_lives = closer.is_none_or(|closer| {
                self.workers.get(&closer).is_some_and(|worker| worker.channel_open && !worker.reaped)
            });
            let expired = now - since >= IDLE_FOR && !self.replacements_due;
            if expired && closer_lives && listener.is_bound() {
                forsaken.push(*id);
            } else if expired && !closer_lives {
                // The one who closed it has gone since; a replacement would have been due by now.
                listener.idle = Some((now, None));
            }
        }
        forsaken.into_iter().for_each(|id| self.close_listener(id));
        self.dispatch_all(now);
    }

    /// Something happened.
    pub fn handle(&mut self, now: Time, input: Input<C>) {
        match input {
            Input::Message { worker, message } => self.handle_message(now, worker, message),
            Input::Delivered { worker, seq, connection } if self.is_probe(worker, seq) => {
                self.drop_connection(connection, Fate::Probe);
            }
            Input::Delivered { worker, seq, connection } if self.is_private(worker, seq) => {
                self.drop_connection(connection, Fate::Private);
            }
            Input::Delivered { worker, seq, connection } => self.handle_delivered(worker, seq, connection),
            Input::Returned { worker, seq, connection } if self.is_probe(worker, seq) => {
                self.drop_connection(connection, Fate::Probe);
                // It has no descriptor left, but its event loop runs.
                self.handle_probed(now, worker, seq);
            }
            Input::Returned { worker, seq, connection } if self.is_private(worker, seq) => {
                self.drop_connection(connection, Fate::Private);
                self.answered_private(now, worker, seq, false);
            }
            Input::Returned { worker, seq, connection } => {
                // It is short of descriptors: several at once could be mixed up at its end.
                self.narrow(worker);
                match self.take_hand_off(now, worker, seq) {
                    Some(hand_off) => self.refused(now, worker, hand_off, connection),
                    None => self.orphan(connection),
                };
            }
            Input::ChannelClosed { worker, undelivered } => {
                self.handle_channel_closed(now, worker, undelivered);
            }
            Input::Exited { worker } => self.handle_exited(now, worker),
            Input::Bound { socket, outcome } => self.handle_bound(now, socket, outcome),
            Input::Closed { socket } => self.handle_closed(now, socket),
            Input::Accepted { socket, connection, peer } => {
                self.counters.accepted += 1;
                self.handle_accepted(now, socket, connection, peer);
            }
            Input::Peeked { listener, connection, peer } => {
                if let Some(entry) = self.listeners.get_mut(&listener) {
                    entry.peeking -= 1;
                }
                self.enqueue(now, listener, connection, peer, false);
            }
            Input::Surveyed { since, open } => self.handle_surveyed(since, &open),
            Input::SurveyRefused => self.handle_survey_refused(now),
            Input::Examined { listener, connection, peer, untouched } => {
                if untouched {
                    self.counters.rescued += 1;
                    self.enqueue(now, listener, connection, peer, true);
                } else {
                    self.counters.broken += 1;
                    self.drop_connection(connection, Fate::Touched);
                }
            }
        }
    }

    fn handle_message(&mut self, now: Time, id: WorkerId, message: ClusterMessage) {
        let is_online = matches!(message.act, Act::Online { .. });
        if !is_online && self.workers.get(&id).is_some_and(|worker| worker.state == WorkerState::None) {
            self.event(Event::Misbehaved { worker: id, what: Misbehaviour::BeforeOnline });
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match message.act {
            Act::Online { ganger } => {
                if worker.state == WorkerState::None {
                    worker.state = WorkerState::Online;
                    self.event(Event::Online { worker: id });
                    if ganger.is_some() {
                        self.event(Event::TakesHints { worker: id });
                    }
                }
                if ganger.is_some() {
                    self.set_capabilities(now, id, Capabilities::GANGER);
                }
            }
            Act::QueryServer(query) => self.handle_query(now, id, message.seq, query),
            Act::Listening(query) => {
                let mut held = self.listeners.values().filter(|listener| listener.holders.contains_key(&id));
                // What it does not hold it cannot listen on; it may have been asked to leave meanwhile.
                let Some(listener) = held.find(|listener| listener.is_listened_on(&query)) else { return };
                if !listener.is_datagram() {
                    worker.first.get_or_insert_with(|| listener.key.clone());
                }
                if matches!(worker.state, WorkerState::None | WorkerState::Online) {
                    worker.state = WorkerState::Listening;
                }
                self.event(Event::Listening { worker: id, query });
            }
            Act::Close { key } => self.handle_close(now, id, &key),
            Act::ExitedAfterDisconnect => {
                worker.exited_after_disconnect = Some(true);
                if let Some(ack) = message.seq {
                    self.send(id, Act::Ack { ack });
                }
                self.event(Event::Leaving { worker: id });
            }
            Act::Accepted { ack, .. } if self.is_probe(id, ack) => self.handle_probed(now, id, ack),
            Act::Accepted { ack, accepted } if self.is_private(id, ack) => {
                self.answered_private(now, id, ack, accepted);
            }
            Act::Accepted { ack, accepted } => self.handle_answer(now, id, ack, accepted),
            Act::Closes { count } => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.open.closed(count);
                }
                self.show_open(id);
            }
            Act::Report(report) => self.reported(id, report),
            // The rest is for workers, or nobody's.
            Act::QueryReply { .. }
            | Act::NewConn { .. }
            | Act::Disconnect
            | Act::Drain
            | Act::Shed { .. }
            | Act::Ack { .. }
            | Act::Unknown => {}
        }
    }

    fn handle_close(&mut self, now: Time, id: WorkerId, key: &ListenerKey) {
        if let Some(slot) = self.workers.get(&id).map(|worker| worker.slot) {
            let named = self.listeners.values_mut().filter(|listener| listener.key == *key);
            named.for_each(|listener| listener.release(now, slot, id));
        }
        let holds = |listener: &&mut Listener<C>| listener.key == *key && listener.holders.contains_key(&id);
        match self.listeners.values_mut().find(holds) {
            Some(listener) => {
                listener.leave(now, id, true);
                self.dispatch_all(now);
            }
            // A worker that was asked to leave closes what we took from it already.
            None if self.workers.get(&id).is_some_and(|worker| worker.draining) => {}
            None => self.event(Event::Misbehaved { worker: id, what: Misbehaviour::UnknownKey }),
        }
    }

    fn orphan(&mut self, connection: C) {
        self.counters.orphaned += 1;
        self.drop_connection(connection, Fate::Orphaned);
    }

    fn drop_connection(&mut self, connection: C, fate: Fate) {
        self.effects.push_back(Effect::Drop { connection, fate });
    }

    fn take_seq(&mut self) -> Seq {
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        seq
    }

    fn send(&mut self, worker: WorkerId, act: Act) {
        let message = ClusterMessage { seq: Some(self.take_seq()), act };
        self.effects.push_back(Effect::Send { worker, message });
    }

    fn event(&mut self, event: Event) {
        self.effects.push_back(Effect::Event(event));
    }
}
