//! Servers under load in turns.
//!
//! A machine that others use too is faster now and slower then, for seconds at a time and by more than what is to be told. So the
//! servers of a round all run at the same time, and each is under load for a moment, again and again, while the others rest.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Sample;
use super::load::{self, Exchange, Outcome};
use super::machine::Cpus;
use super::server::{Server, WORKERS};

/// Connections to a server that are open or being opened at any time of its turn.
pub(super) const CLIENTS: usize = 64;
/// How long a turn lasts.
const TURN: Duration = Duration::from_millis(300);
/// How many of them each server has in a round.
const TURNS: usize = 10;

/// Starts these servers of `all` anew, warms them up, and measures them against each other; a sample for each.
pub(super) fn measure(
    all: &[Server],
    names: &[&str],
    exchange: Exchange,
    cpus: &Cpus,
) -> Result<Vec<Sample>> {
    let mut servers = Vec::with_capacity(names.len());
    for name in names {
        eprint!(".");
        let server = Server::named(all, name)?.start(WORKERS, cpus)?;
        load::warm_up(server.address(), exchange, CLIENTS, cpus).with_context(|| (*name).to_owned())?;
        servers.push((server, Outcome::default()));
    }
    for turn in 0..TURNS {
        for position in 0..names.len() {
            let index = (turn + position) % names.len();
            let (server, outcome) = &mut servers[index];
            let more = load::run(server.address(), exchange, CLIENTS, TURN, cpus);
            outcome.add(more.with_context(|| names[index].to_owned())?);
        }
    }
    Ok(servers.into_iter().map(|(_, outcome)| outcome.into_sample()).collect())
}
