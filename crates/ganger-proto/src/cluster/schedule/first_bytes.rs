//! Who a client says that it is, in the head of its first request.

use super::{Client, StickyBy};
use crate::Slot;

/// More headers than any browser sends; who sends more is known by its address.
const HEADERS: usize = 128;

/// What the first bytes of a connection tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// Who it is.
    From(Client),
    /// Nothing, and no more bytes would: it is not HTTP/1, or the value is not there.
    Silent,
    /// The head is not complete.
    Partial,
}

impl StickyBy {
    /// Reads what a client has sent so far.
    pub fn read(&self, bytes: &[u8]) -> FirstBytes {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return FirstBytes::Partial,
            Err(_) => return FirstBytes::Silent,
        }
        let value_of = |name: &str| {
            let mut headers = request.headers.iter();
            headers.find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
        };
        let value = match self {
            Self::Ip => None,
            Self::Header(name) => value_of(name),
            Self::Cookie(name) => value_of("cookie").and_then(|cookies| cookie(cookies, name.as_bytes())),
        };
        match value.map(<[u8]>::trim_ascii).filter(|value| !value.is_empty()) {
            Some(value) => FirstBytes::From(slot_in(value).map_or_else(|| Client::known(value), Client::Of)),
            None => FirstBytes::Silent,
        }
    }
}

/// The value of one cookie (RFC 6265, section 4.2.1).
fn cookie<'a>(cookies: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let pairs = cookies.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"=")).next()
}

/// The slot that a value ends in, after its last dot.
fn slot_in(value: &[u8]) -> Option<Slot> {
    let dot = value.iter().rposition(|byte| *byte == b'.')?;
    std::str::from_utf8(&value[dot + 1..])
        .ok()
        .filter(|digits| !digits.starts_with('+'))?
        .parse()
        .ok()
        .map(Slot)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by(policy: &str) -> StickyBy {
        match policy.parse() {
            Ok(crate::cluster::Policy::Sticky(by)) => by,
            other => panic!("{other:?}"),
        }
    }

    fn head(lines: &[&str]) -> Vec<u8> {
        let lines = ["GET / HTTP/1.1", "Host: x"].iter().chain(lines).map(|line| format!("{line}\r\n"));
        (lines.collect::<String>() + "\r\nbody").into_bytes()
    }

    #[test]
    fn a_header_is_found_by_its_name() {
        let by = by("sticky=header:X-User");
        let alice = FirstBytes::From(Client::known(b"alice"));
        assert_eq!(by.read(&head(&["X-USER:  alice "])), alice);
        assert_eq!(by.read(&head(&["x-user: alice", "x-user: bob"])), alice);
        assert_eq!(by.read(&head(&["x-user-id: bob"])), FirstBytes::Silent);
        assert_eq!(by.read(&head(&["x-user: "])), FirstBytes::Silent);
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let by = by("sticky=cookie:sid");
        let abc = FirstBytes::From(Client::known(b"abc=="));
        assert_eq!(by.read(&head(&["Cookie: a=b; sid=abc==; c=d"])), abc);
        assert_eq!(by.read(&head(&["Cookie: xsid=no; sid=abc=="])), abc);
        assert_eq!(by.read(&head(&["Cookie: SID=no"])), FirstBytes::Silent);
        assert_eq!(by.read(&head(&[])), FirstBytes::Silent);
    }

    #[test]
    fn a_value_may_name_its_slot() {
        let by = by("sticky=cookie:sid");
        let value = |value: &str| by.read(&head(&[&format!("Cookie: sid={value}")]));
        assert_eq!(value("abc.3"), FirstBytes::From(Client::Of(Slot(3))));
        assert_eq!(value("a.b.12"), FirstBytes::From(Client::Of(Slot(12))));
        for other in ["abc", "abc.", "abc.x3", "3", "a.+3", "a.99999999999"] {
            assert_eq!(value(other), FirstBytes::From(Client::known(other.as_bytes())), "{other}");
        }
    }

    #[test]
    fn what_is_not_http_1_is_silent_and_a_cut_head_is_partial() {
        let by = by("sticky=cookie:sid");
        assert_eq!(by.read(b""), FirstBytes::Partial);
        assert_eq!(by.read(b"\x16\x03\x01\x02\x00"), FirstBytes::Silent);
        assert_eq!(by.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), FirstBytes::Silent);
        let whole = head(&["Cookie: sid=1"]);
        let end = whole.len() - "body".len();
        for cut in 0..end {
            assert_eq!(by.read(&whole[..cut]), FirstBytes::Partial, "{cut}");
        }
        assert_ne!(by.read(&whole[..end]), FirstBytes::Partial);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read(bytes: Vec<u8>) {
            by("sticky=cookie:sid").read(&bytes);
            by("sticky=header:x").read(&bytes);
        }
    }
}
