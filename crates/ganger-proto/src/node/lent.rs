//! The four messages about sockets that one process has lent to another (`lib/internal/socket_list.js` and
//! `internalMessage` handlers of `net.Server` in `lib/internal/child_process.js`). They make `server.close()` and
//! `server.getConnections()` true across processes.

use serde::{Deserialize, Serialize};

use super::{Field, Fields, object::Object};

/// What is said about the sockets of one server, which `key` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LentMessage {
    /// The server, by the label that its sockets came with.
    pub key: String,
    /// What is said.
    pub what: Lent,
}

/// What is said about lent sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lent {
    /// Owner: "How many of them are open with you?"
    GetCount,
    /// Holder: "So many."
    Count(u64),
    /// Owner: "My server closes; tell me when you have none left."
    NotifyClose,
    /// Holder: "I have none left."
    AllClosed,
}

impl LentMessage {
    /// Of an internal message with this `cmd`, if it is one of these.
    pub(super) fn read(cmd: &str, fields: &Fields<'_>) -> Option<Self> {
        let what = match cmd {
            "NODE_SOCKET_GET_COUNT" => Lent::GetCount,
            "NODE_SOCKET_COUNT" => {
                Lent::Count(fields.number(Field::Count).and_then(|count| u64::try_from(count).ok())?)
            }
            "NODE_SOCKET_NOTIFY_CLOSE" => Lent::NotifyClose,
            "NODE_SOCKET_ALL_CLOSED" => Lent::AllClosed,
            _ => return None,
        };
        Some(Self { key: fields.text(Field::Key)?.into_owned(), what })
    }

    /// Appends it as Node writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let cmd = match self.what {
            Lent::GetCount => "NODE_SOCKET_GET_COUNT",
            Lent::Count(_) => "NODE_SOCKET_COUNT",
            Lent::NotifyClose => "NODE_SOCKET_NOTIFY_CLOSE",
            Lent::AllClosed => "NODE_SOCKET_ALL_CLOSED",
        };
        let mut object = Object::new(out);
        object.text("cmd", cmd).text("key", &self.key);
        if let Lent::Count(count) = self.what {
            object.number("count", i64::try_from(count).unwrap_or(i64::MAX));
        }
        object.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Line, decode};

    #[test]
    fn they_are_written_as_node_does() {
        let check = |what, expected: &str| {
            let message = LentMessage { key: "4:127.0.0.1:0".into(), what };
            let mut out = Vec::new();
            message.write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert_eq!(decode(expected).unwrap(), Line::Lent(message));
        };
        check(Lent::GetCount, r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"4:127.0.0.1:0"}"#);
        check(Lent::Count(3), r#"{"cmd":"NODE_SOCKET_COUNT","key":"4:127.0.0.1:0","count":3}"#);
        check(Lent::NotifyClose, r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"4:127.0.0.1:0"}"#);
        check(Lent::AllClosed, r#"{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"4:127.0.0.1:0"}"#);
        // What is no count is nothing that anybody knows.
        assert_eq!(decode(r#"{"cmd":"NODE_SOCKET_COUNT","key":"x","count":-1}"#).unwrap(), Line::Other);
        assert_eq!(decode(r#"{"cmd":"NODE_SOCKET_GET_COUNT"}"#).unwrap(), Line::Other);
    }
}
