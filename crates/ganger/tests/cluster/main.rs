//! Node's own tests of `cluster`, row by row: a trial has the name of the upstream test whose behaviour it checks
//! (docs/conformance.md lists them all, with those that have no counterpart). A row runs with a Rust primary and
//! workers of every Node and of Rust, and where it has a worker's side also with Rust workers under Node's primary.
//!
//! No libtest: this program is its own worker too, and such a one has to call [`ganger::main`] before anything
//! else. Which [`Part`] it plays is its first argument. Where a row needs a primary in a process of its own, it is that
//! as well, see [`alone`].

mod alone;
mod api;
mod apps;
mod descriptor;
mod disconnect;
mod events;
mod flood;
mod hints;
mod interface;
#[path = "../support/interfaces.rs"]
mod interfaces;
mod part;
mod refused;
#[path = "../support/rows.rs"]
mod rows;
mod rr;
mod setup;
mod shared;
mod sockets;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "the other test binaries use the rest")]
mod support;
mod tls;
mod udp;
mod under_node;

use std::{env, future::Future};

use libtest_mimic::{Arguments, Trial};

use part::Part;

fn main() {
    if env::var_os("NODE_UNIQUE_ID").is_some() {
        part::play(&parts());
    }
    if let Some(role) = alone::role() {
        alone::play(&role);
    }
    let groups = [
        setup::trials(),
        events::trials(),
        disconnect::trials(),
        api::trials(),
        flood::trials(),
        apps::trials(),
        tls::trials(),
        hints::trials(),
        interface::trials(),
        refused::trials(),
        descriptor::trials(),
        rr::trials(),
        shared::trials(),
        udp::trials(),
        under_node::trials(),
    ];
    libtest_mimic::run(&Arguments::from_args(), groups.into_iter().flatten().collect()).exit();
}

/// What workers do in all rows.
fn parts() -> Vec<&'static Part> {
    [part::PARTS, disconnect::PARTS, api::PARTS, &[sockets::SOCKETS], udp::PARTS]
        .into_iter()
        .flatten()
        .collect()
}

/// The test of a row without a worker, or with one that is not the row's matter.
fn row<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name, move || {
        support::run(test());
        Ok(())
    })
}

/// The test of a row with Rust workers under Node's primary. The script finds `cluster` and
/// `workers(part, ...args)`, which sets what is forked from then on, beside what [`rows`] has.
fn rows_under_node(name: &str, script: &'static str) -> Vec<Trial> {
    rows::rows_under_node(name, NODES_CLUSTER, &[], script)
}

const NODES_CLUSTER: &str = "
const cluster = require('cluster');
const node = process.execPath;
process.execPath = process.env.RUST;
const workers = (exec, ...args) => cluster.setupPrimary({ exec, args, execArgv: [] });
// What a worker says to an order, see the part `obey`.
const ask = (worker, order, answered) => { worker.once('message', answered); worker.send(order); };
";
