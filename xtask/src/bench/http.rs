//! The measures of HTTP: what a primary costs and saves unmodified Node workers.

use anyhow::Result;

use super::load::Exchange;
use super::machine::Cpus;
use super::server::{HTTP, Server, WORKERS};
use super::turns::{self, CLIENTS};
use super::{Measure, Sample, Target};
use crate::fetch;

/// How long a connection lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Http {
    /// For one request.
    Connect,
    /// For ever.
    KeepAlive,
}

impl Measure for Http {
    fn name(&self) -> &'static str {
        match self {
            Self::Connect => "http",
            Self::KeepAlive => "keep-alive",
        }
    }

    fn about(&self) -> String {
        let how = match self {
            Self::Connect => "each request on a new connection",
            Self::KeepAlive => "each always on the same connection",
        };
        format!("{CLIENTS} clients send requests, {how}; {WORKERS} workers, the same Node program for all")
    }

    fn unit(&self) -> &'static str {
        "requests/s"
    }

    fn contenders(&self) -> Vec<&'static str> {
        HTTP.map(|server| server.name).to_vec()
    }

    fn baseline(&self) -> &'static str {
        "node-rr"
    }

    fn targets(&self) -> Vec<Target> {
        match self {
            Self::Connect => vec![
                Target::at_least("ganger-rr", 1.5, "node-rr"),
                Target::at_least("ganger-shared", 0.95, "node-none"),
                Target::at_least("ganger-reuseport", 0.95, "node-none"),
            ],
            Self::KeepAlive => {
                let ours = HTTP.iter().map(|server| server.name).filter(|name| name.starts_with("ganger"));
                ours.map(|name| Target::no_less(name, "node-rr")).collect()
            }
        }
    }

    fn prepare(&self, contenders: &[&'static str]) -> Result<()> {
        fetch::fetch()?;
        contenders.iter().try_for_each(|name| Server::named(&HTTP, name)?.prepare())
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        let exchange = match self {
            Self::Connect => Exchange::Request,
            Self::KeepAlive => Exchange::Requests,
        };
        turns::measure(&HTTP, contenders, exchange, cpus)
    }
}
