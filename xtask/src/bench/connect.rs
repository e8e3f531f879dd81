//! The measure `connect`: how many connections a second come to a worker.

use std::time::Duration;

use anyhow::{Context, Result};

use super::machine::Cpus;
use super::server::{Schedule, Server, WORKERS};
use super::{Measure, Sample, load};
use crate::fetch;

/// Connections that are open or being opened at any time.
const CLIENTS: usize = 64;
/// Until every worker is up and Node's compiler has seen the code.
const WARM_UP: Duration = Duration::from_millis(500);
/// What is measured of each contender in a round.
const DURATION: Duration = Duration::from_secs(1);

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
        Server::ALL.map(Server::name).to_vec()
    }

    fn baseline(&self) -> &'static str {
        Server::Node(Schedule::RoundRobin).name()
    }

    fn prepare(&self, contenders: &[&'static str]) -> Result<()> {
        fetch::fetch()?;
        contenders.iter().filter_map(|name| Server::named(name)).try_for_each(Server::prepare)
    }

    fn sample(&self, contender: &str, cpus: &Cpus) -> Result<Sample> {
        let server = Server::named(contender).context("not a contender")?.start(cpus)?;
        let outcome = load::connections(server.address(), CLIENTS, WARM_UP, DURATION)?;
        Ok(Sample {
            value: outcome.completed as f64 / outcome.elapsed.as_secs_f64(),
            load_busy: Some(outcome.cpu.as_secs_f64() / outcome.elapsed.as_secs_f64()),
            failed: outcome.failed,
        })
    }
}
