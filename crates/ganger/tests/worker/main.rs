//! Workers and agents in Rust, under a ganger primary, under Node's own, and alone.
//!
//! No libtest: this program is its own worker too, and such a one has to call [`ganger::main`] before anything
//! else. What it does as a worker is said by its arguments, see [`role`].

mod agent;
mod alone;
mod boss;
mod by_hand;
mod dispatch;
mod failing;
mod guard;
#[path = "../support/interfaces.rs"]
mod interfaces;
mod life;
mod mixed;
mod role;
mod sockets;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "the other test binary uses the rest")]
mod support;

use std::{env, future::Future, process};

use libtest_mimic::{Arguments, Trial};

use boss::Under;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let is_agent = env::var_os("GANGER_ROLE").is_some_and(|role| role == "agent");
    let is_ours = ["NODE_UNIQUE_ID", alone::VARIABLE].iter().any(|name| env::var_os(name).is_some());
    if is_agent || is_ours {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        process::exit(role::play(&args));
    }
    let mut trials = Vec::new();
    life::trials(&mut trials);
    dispatch::trials(&mut trials);
    failing::trials(&mut trials);
    by_hand::trials(&mut trials);
    guard::trials(&mut trials);
    sockets::trials(&mut trials);
    alone::trials(&mut trials);
    mixed::trials(&mut trials);
    agent::trials(&mut trials);
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A test under one primary.
fn trial<F: Future<Output = ()>>(
    trials: &mut Vec<Trial>,
    name: &str,
    under: Under,
    test: impl FnOnce(Under) -> F + Send + 'static,
) {
    let feature = format!("Rust worker: {name}");
    trials.push(Trial::test(format!("{name} under {under}"), move || {
        support::run(test(under));
        if let Some(major) = under.node() {
            support::passed(&feature, major);
        }
        Ok(())
    }));
}

/// A test under every primary.
fn trial_everywhere<F: Future<Output = ()> + 'static>(
    trials: &mut Vec<Trial>,
    name: &str,
    test: fn(Under) -> F,
) {
    Under::all().for_each(|under| trial(trials, name, under, test));
}
