//! A worker: asks the primary for sockets and takes connections, as Node's `lib/internal/cluster/child.js`.
//!
//! ```text
//!   listen ──► Asking ──► Open (the primary accepts: connections come one by one)
//!                │   └──► Open (shared: the socket itself came)
//!                └──────► failed, or closed before the answer: closed as soon as the answer is here, or at once where
//!                         the worker leaves
//! ```
//!
//! One thing is kept more strictly than Node does: a connection is answered for when the program takes it,
//! not when it arrives. So a worker that is busy gets no more than it can take, and what waits in a worker
//! that dies goes to another one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::{
    ListenerKey, Seq,
    node::{Act, ClusterMessage, Query, Sockname, Target},
};

/// The version of ganger's own extensions that this worker speaks.
const VERSION: u32 = 1;

/// A request to listen, in this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenId(u32);

/// The worker's machine. `H` is a descriptor.
#[derive(Debug)]
pub struct Worker<H> {
    listens: BTreeMap<ListenId, Listen>,
    last_listen: u32,
    /// The last request for each address that one is open for.
    last_asked: Vec<Query>,
    next_seq: u64,
    /// Nothing new is taken any more.
    closed: bool,
    stopping: bool,
    /// The announcement that we leave, while it is not answered.
    leaving: Option<Seq>,
    tells_closes: bool,
    effects: VecDeque<Effect<H>>,
}

#[derive(Debug)]
struct Listen {
    query: Query,
    state: State,
}

#[derive(Debug)]
enum State {
    Asking { seq: Seq, wanted: bool },
    Open { key: ListenerKey },
}

/// What a worker wants done.
#[derive(Debug, PartialEq)]
pub enum Effect<H> {
    /// Send a message.
    Send(ClusterMessage),
    /// The primary has the socket open. With a descriptor, accept from it; without, connections come as
    /// [`Effect::Connection`].
    Opened {
        /// Which request.
        listen: ListenId,
        /// The socket itself, if it is shared.
        socket: Option<H>,
        /// Its address, unless it is a path or shared.
        sockname: Option<Sockname>,
    },
    /// The socket could not be had: a positive errno.
    Failed {
        /// Which request.
        listen: ListenId,
        /// Why.
        errno: i32,
    },
    /// A connection; to be answered with [`Worker::accepted`] when the program takes it.
    Connection {
        /// For which request.
        listen: ListenId,
        /// What to answer with.
        seq: Seq,
        /// The connection.
        connection: H,
    },
    /// Nobody wants this descriptor: close it.
    Drop(H),
    /// The listener is closed: nothing more comes.
    Closed(ListenId),
    /// Nothing new comes any more, and clients should be led away; [`Effect::Stopping`] follows.
    Draining,
    /// The connections that there still are should be ended, one after another over this time.
    Shed(Duration),
    /// The primary asks us to finish and leave, or we leave of our own accord.
    Stopping,
    /// The primary knows that we leave: the channel can be closed as soon as nothing is left to be finished.
    MayCloseChannel,
}

impl<H> Worker<H> {
    /// A worker that has just started; its first word is `online`.
    pub fn new() -> Self {
        let mut worker = Self {
            listens: BTreeMap::new(),
            last_listen: 0,
            last_asked: Vec::new(),
            next_seq: 0,
            closed: false,
            stopping: false,
            leaving: None,
            tells_closes: false,
            effects: VecDeque::new(),
        };
        worker.send(Act::Online { ganger: Some(VERSION) });
        worker
    }

    /// Whether the primary has asked us to leave, or we it.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether the primary has told us to take nothing new, and not yet to leave.
    pub fn is_draining(&self) -> bool {
        self.closed && !self.stopping
    }

    /// Whether the primary has yet to answer that we leave of our own accord: until then it must find the channel open.
    /// A Node would die of the answer that it cannot write.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Asks for a socket. The outcome is [`Effect::Opened`] or [`Effect::Failed`]; where the worker is to leave, [`Effect::Closed`].
    pub fn listen(&mut self, target: &Target, backlog: Option<u32>) -> ListenId {
        self.last_listen += 1;
        let id = ListenId(self.last_listen);
        if self.closed {
            self.effects.push_back(Effect::Closed(id));
            return id;
        }
        let mut query = Query::new(target, backlog);
        query.index = self.next_index(&query);
        let seq = self.send(Act::QueryServer(query.clone()));
        self.listens.insert(id, Listen { query, state: State::Asking { seq, wanted: true } });
        id
    }

    /// What tells this request from others for the same port 0, in Node's way (`lib/internal/cluster/child.js`,
    /// `_getServer`): they are counted, from 0 again once none of them is open.
    fn next_index(&mut self, query: &Query) -> u32 {
        let address = |query: &Query| (query.address.clone(), query.port, query.address_type, query.fd);
        let wanted = address(query);
        let open =
            |other: &Query| self.listens.values().any(|listen| address(&listen.query) == address(other));
        self.last_asked.retain(open);
        let last = self.last_asked.iter_mut().find(|last| address(last) == wanted);
        match last {
            Some(last) => {
                last.index += 1;
                last.index
            }
            None => {
                self.last_asked.push(query.clone());
                0
            }
        }
    }

    /// The socket of this request is bound, at this port: tells the primary that we listen.
    pub fn listening(&mut self, id: ListenId, port: Option<u16>) {
        let Some(listen) = self.listens.get(&id) else { return };
        let mut query = listen.query.clone();
        if let Some(port) = port {
            query.port = Some(port.into());
        }
        self.send(Act::Listening(query));
    }

    /// Closes a listener.
    pub fn close(&mut self, id: ListenId) {
        match self.listens.get_mut(&id).map(|listen| &mut listen.state) {
            // Before the answer a primary of Node's does not survive a `close`.
            Some(State::Asking { wanted, .. }) => *wanted = false,
            Some(State::Open { key }) => {
                let key = key.clone();
                self.listens.remove(&id);
                self.send(Act::Close { key });
                self.effects.push_back(Effect::Closed(id));
            }
            None => {}
        }
    }

    /// The program has taken the connection.
    pub fn accepted(&mut self, seq: Seq) {
        self.send(Act::Accepted { ack: seq, accepted: true });
    }

    /// The program cannot take the connection; the primary gives it to another worker.
    pub fn rejected(&mut self, seq: Seq) {
        self.send(Act::Accepted { ack: seq, accepted: false });
    }

    /// Whether the primary wants to know how many connections are closed.
    pub fn tells_closes(&self) -> bool {
        self.tells_closes
    }

    /// The program has closed so many connections that it had taken.
    pub fn closed(&mut self, count: u32) {
        self.send(Act::Closes { count });
    }

    /// Leaves of our own accord: closes every listener and tells the primary, which answers before the
    /// channel may be closed.
    pub fn disconnect(&mut self) {
        if !self.stopping {
            self.stop();
            self.leaving = Some(self.send(Act::ExitedAfterDisconnect));
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect<H>> {
        self.effects.pop_front()
    }

    /// The primary said something.
    pub fn handle(&mut self, message: ClusterMessage, handle: Option<H>) {
        match (message.act, message.seq) {
            (Act::QueryReply { ack, key, errno, sockname, tell_closes, .. }, _) => {
                self.tells_closes |= tell_closes;
                self.handle_reply(ack, key, errno, sockname, handle);
            }
            (Act::NewConn { key }, Some(seq)) => match handle {
                Some(connection) => self.handle_connection(&key, seq, connection),
                None => self.rejected(seq),
            },
            (Act::Drain, _) => {
                self.drop_handle(handle);
                if !self.closed {
                    self.close_all();
                    self.effects.push_back(Effect::Draining);
                }
            }
            (Act::Shed { over }, _) => {
                self.drop_handle(handle);
                self.effects.push_back(Effect::Shed(over));
            }
            (Act::Disconnect, _) => {
                self.drop_handle(handle);
                if !self.stopping {
                    self.stop();
                }
            }
            (Act::Ack { ack }, _) => {
                self.drop_handle(handle);
                if self.leaving.take_if(|leaving| *leaving == ack).is_some() {
                    self.effects.push_back(Effect::MayCloseChannel);
                }
            }
            _ => self.drop_handle(handle),
        }
    }

    fn handle_reply(
        &mut self,
        ack: Seq,
        key: ListenerKey,
        errno: Option<i32>,
        sockname: Option<Sockname>,
        socket: Option<H>,
    ) {
        let asked = |listen: &Listen| matches!(listen.state, State::Asking { seq, .. } if seq == ack);
        let Some((id, listen)) = self.listens.iter_mut().find(|(_, listen)| asked(listen)) else {
            return self.drop_handle(socket);
        };
        let id = *id;
        let errno = errno.filter(|errno| *errno != 0 && socket.is_none());
        let wanted = matches!(listen.state, State::Asking { wanted: true, .. });
        match errno {
            Some(errno) => {
                self.listens.remove(&id);
                self.effects.push_back(Effect::Failed { listen: id, errno: errno.saturating_abs() });
            }
            None => {
                listen.state = State::Open { key };
                if wanted {
                    self.effects.push_back(Effect::Opened { listen: id, socket, sockname });
                } else {
                    self.drop_handle(socket);
                    self.close(id);
                }
            }
        }
    }

    fn handle_connection(&mut self, key: &ListenerKey, seq: Seq, connection: H) {
        let open = |listen: &Listen| matches!(&listen.state, State::Open { key: open } if open == key);
        match self.listens.iter().find(|(_, listen)| open(listen)) {
            Some((id, _)) => self.effects.push_back(Effect::Connection { listen: *id, seq, connection }),
            None => {
                self.effects.push_back(Effect::Drop(connection));
                self.rejected(seq);
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.close_all();
        self.effects.push_back(Effect::Stopping);
    }

    /// Closes what is open. Whoever else holds a socket goes on with it, and the primary gives to others what comes all the same.
    fn close_all(&mut self) {
        self.closed = true;
        let ids: Vec<ListenId> = self.listens.keys().copied().collect();
        for id in ids {
            match self.listens.get(&id).map(|listen| &listen.state) {
                // A primary does not answer who is to leave.
                Some(State::Asking { .. }) => {
                    self.listens.remove(&id);
                    self.effects.push_back(Effect::Closed(id));
                }
                _ => self.close(id),
            }
        }
    }

    fn drop_handle(&mut self, handle: Option<H>) {
        self.effects.extend(handle.map(Effect::Drop));
    }

    fn send(&mut self, act: Act) -> Seq {
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        self.effects.push_back(Effect::Send(ClusterMessage { seq: Some(seq), act }));
        seq
    }
}

impl<H> Default for Worker<H> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
