//! Node's own tests of `child_process`, row by row: a trial has the name of the upstream test whose behaviour it
//! checks (docs/conformance.md lists them all, with those that have no counterpart).
//!
//! No libtest: this program is its own child too, and such a one has to take its channel before anything else.
//! What it does as a child is said by a variable, see [`part`].

mod blocking;
mod exec;
mod fork;
mod handle;
mod ipc;
mod kid;
mod lane;
mod oracle;
mod other_user;
mod part;
#[path = "../support/rows.rs"]
mod rows;
mod spawn;
mod stdio;
mod streams;
mod stress;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "the other test binary uses the rest")]
mod support;

use std::{env, future::Future};

use libtest_mimic::{Arguments, Trial};

fn main() {
    if let Ok(part) = env::var(part::VARIABLE) {
        return part::play(&part);
    }
    let groups = [
        spawn::trials(),
        other_user::trials(),
        exec::trials(),
        blocking::trials(),
        stdio::trials(),
        streams::trials(),
        fork::trials(),
        ipc::trials(),
        handle::trials(),
        lane::trials(),
        oracle::trials(),
        stress::trials(),
    ];
    libtest_mimic::run(&Arguments::from_args(), groups.into_iter().flatten().collect()).exit();
}

/// The test of a row.
fn row<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name, move || {
        support::run(test());
        Ok(())
    })
}
