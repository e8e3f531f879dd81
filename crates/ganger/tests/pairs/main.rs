//! Messages and handles between every pair of runtimes: a Rust parent with every child, every parent with a Rust child,
//! and every other runtime with itself as the oracle. What was seen is docs/interop.md, which is written anew where
//! `GANGER_UPDATE` is set.
//!
//! No libtest: this program is parent and child too, and such a one has to take its channel before anything else.
//! `program.cjs` is both for the others.

mod known;
mod page;
mod pair;
mod rust;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "the other test binaries use the rest")]
mod support;

use std::env;

use libtest_mimic::{Arguments, Trial};

use pair::Cell;

/// Says what this program is, and in which feature: `parent FEATURE`, `child FEATURE`.
const PART: &str = "GANGER_TEST_PART";

fn main() {
    if let Ok(part) = env::var(PART) {
        return rust::play(&part);
    }
    let cells: &'static [Cell] = Cell::all().leak();
    let mut trials: Vec<Trial> = cells.iter().map(Cell::trial).collect();
    trials.push(Trial::test("docs/interop.md says what was seen", || page::check(cells)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
