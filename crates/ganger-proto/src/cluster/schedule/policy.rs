//! The policies and their names.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Who accepts, and who picks the worker. Written as on the command line: `rr`, `least-conn`, `sticky`,
/// `sticky=header:x-user`, `sticky=cookie:sid`, `shared` or `none`, `reuseport`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Policy {
    /// The primary accepts; the next worker in turn that has room gets the connection. Node's `SCHED_RR`.
    #[default]
    RoundRobin,
    /// The primary accepts; the worker with the fewest open connections gets it.
    LeastConn,
    /// The primary accepts; the same client goes to the same slot.
    Sticky(StickyBy),
    /// The workers accept from one socket; the kernel picks. Node's `SCHED_NONE`.
    Shared,
    /// Each slot has a socket of its own on the same port (`SO_REUSEPORT`), and its worker accepts from it; the
    /// kernel picks the socket. What can have only one socket (a path, a descriptor) is shared.
    ReusePort,
}

/// By what a client is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StickyBy {
    /// Its address.
    Ip,
    /// The value of a header of its first request, by the header's name in lower case; without one, its address.
    Header(Box<str>),
    /// The value of a cookie of its first request; without one, its address.
    Cookie(Box<str>),
}

impl Policy {
    /// Whether the primary accepts and hands over.
    pub fn hands_over(&self) -> bool {
        match self {
            Self::RoundRobin | Self::LeastConn | Self::Sticky(_) => true,
            Self::Shared | Self::ReusePort => false,
        }
    }

    /// Whether the first bytes of a connection have to be seen before it is shared out.
    pub fn peeks(&self) -> bool {
        matches!(self, Self::Sticky(StickyBy::Header(_) | StickyBy::Cookie(_)))
    }
}

/// It is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no schedule: rr, least-conn, sticky, sticky=header:NAME, sticky=cookie:NAME, shared, reuseport"
)]
pub struct UnknownPolicy(pub String);

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        // What a header and a cookie may be called (RFC 9110, `token`).
        let is_token = |name: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !name.is_empty() && name.bytes().all(fits)
        };
        Ok(match text {
            "rr" => Self::RoundRobin,
            "least-conn" => Self::LeastConn,
            "sticky" | "sticky=ip" => Self::Sticky(StickyBy::Ip),
            "shared" | "none" => Self::Shared,
            "reuseport" => Self::ReusePort,
            _ => match text.strip_prefix("sticky=").and_then(|by| by.split_once(':')) {
                Some(("header", name)) if is_token(name) => {
                    Self::Sticky(StickyBy::Header(name.to_ascii_lowercase().into()))
                }
                Some(("cookie", name)) if is_token(name) => Self::Sticky(StickyBy::Cookie(name.into())),
                _ => return Err(UnknownPolicy(text.into())),
            },
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("rr"),
            Self::LeastConn => f.write_str("least-conn"),
            Self::Sticky(StickyBy::Ip) => f.write_str("sticky"),
            Self::Sticky(StickyBy::Header(name)) => write!(f, "sticky=header:{name}"),
            Self::Sticky(StickyBy::Cookie(name)) => write!(f, "sticky=cookie:{name}"),
            Self::Shared => f.write_str("shared"),
            Self::ReusePort => f.write_str("reuseport"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_written_as_it_is_read() {
        for text in
            ["rr", "least-conn", "sticky", "sticky=header:x-user", "sticky=cookie:sid", "shared", "reuseport"]
        {
            assert_eq!(text.parse::<Policy>().map(|policy| policy.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("none".parse(), Ok(Policy::Shared));
        assert_eq!("sticky=ip".parse(), Ok(Policy::Sticky(StickyBy::Ip)));
        assert_eq!("sticky=header:X-User".parse(), "sticky=header:x-user".parse::<Policy>());
        for text in
            ["", "RR", "sticky=", "sticky=header:", "sticky=cookie:a b", "sticky=path:x", "reuse-port"]
        {
            assert_eq!(text.parse::<Policy>(), Err(UnknownPolicy(text.into())));
        }
    }
}
