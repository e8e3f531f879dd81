//! The book about every client's connection: where our copy is, who else has one, who has touched it.
//!
//! Every move is written down with where it comes from, so a connection that is in two places, or served
//! twice, is found at the step in which it happens.

use ganger_proto::{
    SocketId, WorkerId,
    cluster::{Fate, ListenerSnapshot},
};
use serde::{Deserialize, Serialize};

/// Our copy of a connection. Not `Clone`: the compiler sees to it that there is one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connection(pub(crate) u32);

/// A descriptor in a channel.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Handle {
    Connection(Connection),
    Socket(SocketId),
}

impl Handle {
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self, Handle::Connection(_))
    }

    /// What the kernel does with a descriptor that is sent.
    pub(crate) fn duplicate(&self) -> Handle {
        match self {
            Handle::Connection(Connection(number)) => Handle::Connection(Connection(*number)),
            Handle::Socket(socket) => Handle::Socket(*socket),
        }
    }
}

/// Where our copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the queue of this listening socket.
    Kernel(SocketId),
    /// Being examined.
    Driver,
    /// In the primary's machine.
    Primary,
    /// In the session with this worker.
    Session(WorkerId),
    /// We have closed it, or never had it.
    Closed,
}

#[derive(Debug)]
struct Client {
    socket: SocketId,
    place: Place,
    /// The worker that has a copy, or the one on whose channel a copy travels.
    copy: Option<WorkerId>,
    touched_by: Option<WorkerId>,
    /// Who has said that it keeps the connection.
    kept_by: Option<WorkerId>,
    /// Who refused it, in which step.
    refusals: Vec<(WorkerId, u64)>,
    served: bool,
    /// How it ended for us, if it was not just given away.
    fate: Option<Fate>,
}

#[derive(Debug, Default)]
pub(crate) struct Clients {
    all: Vec<Client>,
}

impl Clients {
    pub(crate) fn connect(&mut self, socket: SocketId) -> u32 {
        let place = Place::Kernel(socket);
        self.all.push(Client {
            socket,
            place,
            copy: None,
            touched_by: None,
            kept_by: None,
            refusals: Vec::new(),
            served: false,
            fate: None,
        });
        self.all.len() as u32 - 1
    }

    fn get(&mut self, number: u32) -> &mut Client {
        &mut self.all[number as usize]
    }

    pub(crate) fn socket(&self, number: u32) -> SocketId {
        self.all[number as usize].socket
    }

    /// Our copy moves.
    pub(crate) fn moved(&mut self, number: u32, from: Place, to: Place) {
        let client = self.get(number);
        assert_eq!(client.place, from, "connection {number} goes to {to:?} from where it is not");
        client.place = to;
    }

    /// A copy leaves for a worker.
    pub(crate) fn sent(&mut self, number: u32, worker: WorkerId) {
        let client = self.get(number);
        assert_eq!(client.copy, None, "connection {number} goes to worker {worker} while another one has it");
        assert_eq!(client.touched_by, None, "connection {number} goes to worker {worker} half served");
        client.copy = Some(worker);
    }

    /// The worker's copy is closed, wherever it was.
    pub(crate) fn copy_closed(&mut self, number: u32, worker: WorkerId) {
        let client = self.get(number);
        assert_eq!(client.copy, Some(worker), "connection {number} is not where it is closed");
        client.copy = None;
    }

    pub(crate) fn has_copy(&self, number: u32) -> Option<WorkerId> {
        self.all[number as usize].copy
    }

    /// The worker says that it keeps the connection.
    pub(crate) fn kept(&mut self, number: u32, worker: WorkerId) {
        self.get(number).kept_by = Some(worker);
    }

    /// The worker refuses.
    pub(crate) fn refused(&mut self, number: u32, worker: WorkerId, step: u64) {
        self.get(number).refusals.push((worker, step));
    }

    /// Nobody is turned away whom somebody would serve: orphaned is only who came by a socket that no worker has any more, and
    /// refused who was refused by each that has it, since the step in which it got it, unless that one is out of dispatch.
    pub(crate) fn check_given_up(
        &self,
        number: u32,
        fate: Fate,
        listeners: &[ListenerSnapshot],
        since: impl Fn(WorkerId, &ListenerSnapshot) -> Option<u64>,
    ) {
        let Client { socket, refusals, .. } = &self.all[number as usize];
        let listener = listeners.iter().find(|one| one.id == *socket || one.sockets.contains(socket));
        let holders = listener.map(|listener| &listener.holders[..]).unwrap_or_default();
        match (fate, listener) {
            (Fate::Orphaned, _) => {
                assert!(
                    holders.is_empty(),
                    "connection {number} is orphaned, and {holders:?} would serve it"
                );
            }
            (Fate::Refused, Some(listener)) => {
                assert!(!holders.is_empty(), "connection {number} was refused by nobody");
                for holder in holders {
                    let Some(since) = since(*holder, listener) else { continue };
                    let has_refused = refusals.iter().any(|(by, step)| by == holder && *step >= since);
                    assert!(
                        has_refused,
                        "connection {number} is given up, and worker {holder} has not refused it"
                    );
                }
            }
            (Fate::Refused, None) => panic!("connection {number} was refused, and nobody has its socket"),
            _ => {}
        }
    }

    /// The worker reads from the connection or writes to it.
    pub(crate) fn touch(&mut self, number: u32, worker: WorkerId) {
        let client = self.get(number);
        assert_eq!(client.copy, Some(worker), "worker {worker} has no connection {number}");
        assert_eq!(client.touched_by, None, "connection {number} is served twice");
        client.touched_by = Some(worker);
    }

    pub(crate) fn is_touched(&self, number: u32) -> bool {
        self.all[number as usize].touched_by.is_some()
    }

    /// The worker has answered the client and closes its copy.
    pub(crate) fn served(&mut self, number: u32, worker: WorkerId) {
        self.copy_closed(number, worker);
        self.get(number).served = true;
    }

    /// A worker accepts from the kernel by itself.
    pub(crate) fn accepted_by_worker(&mut self, number: u32, worker: WorkerId) {
        let socket = self.socket(number);
        self.moved(number, Place::Kernel(socket), Place::Closed);
        self.sent(number, worker);
        self.kept(number, worker);
        self.touch(number, worker);
    }

    /// We close our copy for good.
    pub(crate) fn closed(&mut self, number: u32, from: Place, fate: Fate) {
        self.moved(number, from, Place::Closed);
        let client = self.get(number);
        client.fate = Some(fate);
        match fate {
            Fate::Accepted => {
                assert!(client.kept_by.is_some(), "connection {number} was given up for nobody");
            }
            Fate::Probe | Fate::Private => panic!("connection {number} is a client's"),
            Fate::Touched => {
                assert!(client.touched_by.is_some(), "connection {number} was untouched and could be saved");
            }
            Fate::Refused | Fate::Orphaned => {
                assert_eq!(client.copy, None, "connection {number} is {fate:?} while a worker has it");
                assert_eq!(client.touched_by, None, "connection {number} is {fate:?} half served");
            }
        }
    }

    /// The numbers of those whose place is like this.
    pub(crate) fn count(&self, matches: impl Fn(Place) -> bool) -> usize {
        self.all.iter().filter(|client| matches(client.place)).count()
    }

    pub(crate) fn copies(&self) -> impl Iterator<Item = (u32, WorkerId)> {
        let copy = |(number, client): (usize, &Client)| client.copy.map(|worker| (number as u32, worker));
        self.all.iter().enumerate().filter_map(copy)
    }

    /// In the end every client is served or there is a reason.
    pub(crate) fn check_ends(&self) {
        for (number, client) in self.all.iter().enumerate() {
            assert_eq!(client.place, Place::Closed, "connection {number} still waits: {client:?}");
            assert_eq!(client.copy, None, "connection {number} is still open: {client:?}");
            // Refused and orphaned were checked when it happened; who was touched or kept and is not served lost its worker.
            let reason = client.fate.is_some() || client.touched_by.is_some();
            assert!(client.served || reason, "connection {number} got lost: {client:?}");
        }
    }

    /// Everybody from this one on is served.
    pub(crate) fn check_all_served(&self, first: usize) {
        for (number, client) in self.all.iter().enumerate().skip(first) {
            assert!(client.served, "connection {number} was not served, and nothing was wrong: {client:?}");
        }
    }
}
