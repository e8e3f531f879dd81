//! Hints: what a small file in front of a Node program tells the primary and is told by it, and the file.
//!
//! The messages are this project's own. A Node without the file ignores what it is told, as all that is internal
//! and unknown to it.

use serde::{Deserialize, Serialize};

/// The name of the file that stands as `--require` in front of a Node program: it reports, and heeds [`Act::Drain`].
///
/// [`Act::Drain`]: super::Act::Drain
pub const NAME: &str = "hints.cjs";
/// Its text.
pub const SOURCE: &str = include_str!("hints/hints.cjs");
/// The name of the file that stands behind it, in the same directory, where a program is to end gracefully after an
/// uncaught exception.
pub const GRACEFUL_NAME: &str = "graceful.cjs";
/// Its text.
pub const GRACEFUL_SOURCE: &str = include_str!("hints/graceful.cjs");

/// The `cmd` of a report.
pub(super) const REPORT: &str = "NODE_GANGER_REPORT";
/// The `cmd` by which a worker is told to have its clients go.
pub(super) const DRAIN: &str = "NODE_GANGER_DRAIN";
/// The `cmd` by which it is told to end what it still has.
pub(super) const SHED: &str = "NODE_GANGER_SHED";

/// How busy a worker says that it is. What it does not say is absent; nothing of it is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Report {
    /// Connections that its servers have accepted and not closed; none where its runtime does not tell (Node before 18.8).
    pub connections: Option<u32>,
    /// Bytes of its JavaScript heap in use.
    pub heap: Option<u64>,
    /// Bytes up to which the heap may grow; beyond them it ends for want of memory.
    pub heap_limit: Option<u64>,
    /// For how many thousandths of the last second its event loop was busy.
    pub busy: Option<u16>,
    /// How many milliseconds its event loop was late, at one moment in the last second.
    pub late: Option<u32>,
    /// Whether it listens to `SIGTERM`.
    pub term: Option<bool>,
}

impl Report {
    /// Of the JSON of a report's `report`; none if it is no report.
    pub(super) fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Act, ClusterMessage, Line, decode};

    fn check(json: &str, act: Act) {
        let message = ClusterMessage { seq: None, act };
        assert_eq!(decode(json).unwrap(), Line::Cluster(message.clone()), "{json}");
        let mut out = Vec::new();
        message.write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), json);
    }

    #[test]
    fn the_three_words() {
        check(r#"{"cmd":"NODE_GANGER_DRAIN"}"#, Act::Drain);
        let over = std::time::Duration::from_millis(15_000);
        check(r#"{"cmd":"NODE_GANGER_SHED","over":15000}"#, Act::Shed { over });
        let report = Report {
            connections: Some(3),
            heap: Some(6_000_000),
            heap_limit: Some(1 << 40),
            busy: Some(1000),
            late: Some(0),
            term: Some(true),
        };
        let json =
            r#"{"connections":3,"heap":6000000,"heapLimit":1099511627776,"busy":1000,"late":0,"term":true}"#;
        check(&format!(r#"{{"cmd":"NODE_GANGER_REPORT","report":{json}}}"#), Act::Report(report));
    }

    #[test]
    fn what_is_not_said_is_not_known_and_more_is_nobodys_business() {
        let report = r#"{"cmd":"NODE_GANGER_REPORT","report":{"term":false,"heap":null,"load":[1]}}"#;
        let known = Report { term: Some(false), ..Report::default() };
        let message = ClusterMessage { seq: None, act: Act::Report(known) };
        assert_eq!(decode(report).unwrap(), Line::Cluster(message));
    }

    #[test]
    fn what_cannot_be_true_is_no_report() {
        let nothing = Line::Cluster(ClusterMessage { seq: None, act: Act::Unknown });
        for report in [
            r#"{"connections":-1}"#,
            r#"{"connections":4294967296}"#,
            r#"{"connections":"many"}"#,
            r#"{"busy":0.5}"#,
            r#"{"term":1}"#,
            r#"{"heap":1e99}"#,
            r#"[[[[]]]]"#,
            "7",
            "null",
        ] {
            let line = format!(r#"{{"cmd":"NODE_GANGER_REPORT","report":{report}}}"#);
            assert_eq!(decode(&line).unwrap(), nothing, "{line}");
        }
        assert_eq!(decode(r#"{"cmd":"NODE_GANGER_REPORT"}"#).unwrap(), nothing);
        assert_eq!(decode(r#"{"cmd":"NODE_GANGER_ELSE"}"#).unwrap(), Line::Other);
    }
}
