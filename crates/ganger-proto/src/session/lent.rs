//! Sockets that a process has lent to its peer, and that the peer has lent to it, counted by the server that they
//! came from: Node's `SocketListReceive` and `SocketListSend` (`lib/internal/socket_list.js`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Event, Session};
use crate::node::{Lent, LentMessage};

/// The books of one channel.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Books {
    /// What the peer has lent us, by key.
    held: BTreeMap<String, Held>,
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

    /// Asks the peer how many of the sockets that it got with this key are open. The answer is [`Event::Lent`]; a peer that
    /// never got one does not answer. False if nobody can be asked.
    pub fn ask_for_lent(&mut self, key: &str) -> bool {
        self.say(key, Lent::GetCount)
    }

    /// Asks the peer to say when the last socket that it got with this key is closed. The answer is [`Event::Lent`].
    /// False if nobody can be asked.
    pub fn ask_for_end_of_lent(&mut self, key: &str) -> bool {
        self.say(key, Lent::NotifyClose)
    }

    pub(super) fn handle_lent(&mut self, message: LentMessage) {
        let LentMessage { key, what } = message;
        match what {
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

    fn say(&mut self, key: &str, what: Lent) -> bool {
        let mut json = Vec::new();
        LentMessage { key: key.into(), what }.write(&mut json);
        self.send_json(&String::from_utf8_lossy(&json), None).is_ok()
    }
}
