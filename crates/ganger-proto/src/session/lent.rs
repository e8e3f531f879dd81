//! Sockets that a process has lent to its peer, and that the peer has lent to it, counted by the server that they
//! came from: Node's `SocketListReceive` and `SocketListSend` (`lib/internal/socket_list.js`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Event, Session};
use crate::node::{HandleKind, Lent, LentMessage};

/// The books of one channel.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Books {
    /// What the peer has lent us, by key.
    held: BTreeMap<String, Held>,
    /// What we have lent to the peer, by key.
    lent: BTreeMap<String, Given>,
}

/// What is known of a server whose sockets the peer got. Who got one answers every question, in order; who got none
/// answers none.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Given {
    /// The peer has got one.
    arrived: bool,
    /// Questions that it will answer.
    asked: u64,
    /// Questions that it will answer if the first one arrives, which is still on its way.
    waiting: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Held {
    open: u64,
    /// The peer wants to know when the last one is closed.
    notify: bool,
}

/// A peer cannot make us keep books of more servers than that; it has no reason to come near.
const SERVERS: usize = 4096;
/// Nor of ones with such names; Node's are addresses.
const LONGEST_KEY: usize = 4096;

impl<H> Session<H> {
    /// A socket came that the peer's server accepted.
    pub(super) fn lent_to_us(&mut self, key: &str) {
        if let Some(held) = self.books.held.get_mut(key) {
            held.open += 1;
        } else if self.books.held.len() < SERVERS && key.len() <= LONGEST_KEY {
            self.books.held.insert(key.into(), Held { open: 1, notify: false });
        }
    }

    /// A socket that came with this key is closed here.
    pub fn lent_socket_closed(&mut self, key: &str) {
        let Some(held) = self.books.held.get_mut(key) else { return };
        held.open = held.open.saturating_sub(1);
        if held.open == 0 && std::mem::take(&mut held.notify) {
            // A closed channel needs no answer.
            self.say(key, Lent::AllClosed);
        }
    }

    /// How many sockets of this key, which the peer has lent us, are open here.
    pub fn lent_sockets(&self, key: &str) -> u64 {
        self.books.held.get(key).map_or(0, |held| held.open)
    }

    /// Asks the peer how many of the sockets that it got with this key are open. The answer is [`Event::Lent`], and always
    /// that to the last question: what was asked before is not told any more. A peer that never got one does not answer.
    /// False if nobody can be asked.
    pub fn ask_for_lent(&mut self, key: &str) -> bool {
        let under_way = self.on_its_way(key);
        let said = self.say(key, Lent::GetCount);
        match self.books.lent.get_mut(key) {
            _ if !said => {}
            Some(given) if given.arrived => given.asked += 1,
            Some(given) => given.waiting += 1,
            None if under_way => {
                self.books.lent.insert(key.into(), Given { waiting: 1, ..Given::default() });
            }
            None => {}
        }
        said
    }

    fn on_its_way(&self, key: &str) -> bool {
        let pending = self.pending.iter().map(|pending| &pending.attachment);
        let held = self.held.iter().filter_map(|held| held.attachment.as_ref());
        let is =
            |kind: &HandleKind| matches!(kind, HandleKind::NetSocket { key: Some(known) } if known == key);
        pending.chain(held).any(|attachment| is(&attachment.kind))
    }

    /// What has become of a socket of ours.
    pub(super) fn lent_to_peer(&mut self, kind: &HandleKind, arrived: bool) {
        let HandleKind::NetSocket { key: Some(key) } = kind else { return };
        if arrived {
            let given = self.books.lent.entry(key.clone()).or_default();
            given.arrived = true;
            given.asked += std::mem::take(&mut given.waiting);
        } else if !self.on_its_way(key) && self.books.lent.get(key).is_some_and(|given| !given.arrived) {
            self.books.lent.remove(key);
        }
    }

    /// Asks the peer to say when the last socket that it got with this key is closed. The answer is [`Event::Lent`].
    /// False if nobody can be asked.
    pub fn ask_for_end_of_lent(&mut self, key: &str) -> bool {
        self.say(key, Lent::NotifyClose)
    }

    pub(super) fn handle_lent(&mut self, message: LentMessage) {
        let LentMessage { key, what } = message;
        match what {
            Lent::Count(_) if self.is_outdated(&key) => {}
            Lent::Count(_) | Lent::AllClosed => {
                self.events.push_back(Event::Lent(LentMessage { key, what }));
            }
            // Who asks and never reads is found out as with every answer.
            Lent::GetCount if self.books.held.contains_key(&key) => {
                let count = self.lent_sockets(&key);
                self.say(&key, Lent::Count(count));
            }
            Lent::NotifyClose => match self.books.held.get_mut(&key) {
                Some(held) if held.open > 0 => held.notify = true,
                Some(_) => {
                    self.say(&key, Lent::AllClosed);
                }
                None => {}
            },
            Lent::GetCount => {}
        }
    }

    /// Whether a count answers another question than the last.
    fn is_outdated(&mut self, key: &str) -> bool {
        let Some(given) = self.books.lent.get_mut(key) else { return false };
        given.asked = given.asked.saturating_sub(1);
        given.asked > 0
    }

    fn say(&mut self, key: &str, what: Lent) -> bool {
        let mut json = Vec::new();
        LentMessage { key: key.into(), what }.write(&mut json);
        self.send_json(&String::from_utf8_lossy(&json), None).is_ok()
    }
}
