//! The measure `connect`: how many connections a second come to a worker.

use anyhow::Result;

use super::load::Exchange;
use super::machine::Cpus;
use super::server::{BYTE, Server, WORKERS};
use super::turns::{self, CLIENTS};
use super::{Measure, Sample, Target};
use crate::fetch;

/// Clients connect, read one byte and the end, close, and connect again.
pub(super) struct Connect;

impl Measure for Connect {
    fn name(&self) -> &'static str {
        "connect"
    }

    fn about(&self) -> String {
        format!("{CLIENTS} clients connect, read one byte and the end, close; {WORKERS} workers")
    }

    fn unit(&self) -> &'static str {
        "connections/s"
    }

    fn contenders(&self) -> Vec<&'static str> {
        BYTE.map(|server| server.name).to_vec()
    }

    fn baseline(&self) -> &'static str {
        "node-rr"
    }

    fn targets(&self) -> Vec<Target> {
        vec![
            Target::at_least("ganger-rr-rust", 0.9, "bare-handoff"),
            Target::at_least("ganger-rr-rust", 4.0, "node-rr"),
            Target::at_least("ganger-shared-rust", 0.95, "bare-shared"),
            Target::at_least("ganger-reuseport-rust", 0.95, "bare-reuseport"),
        ]
    }

    fn prepare(&self, contenders: &[&'static str]) -> Result<()> {
        fetch::fetch()?;
        contenders.iter().try_for_each(|name| Server::named(&BYTE, name)?.prepare())
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        turns::measure(&BYTE, contenders, Exchange::Byte, cpus)
    }
}
