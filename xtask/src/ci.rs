//! `cargo xtask ci`: the whole gate, the same here and on the server.

use anyhow::Result;

use crate::test::{self, Tier};
use crate::workspace::{cargo, run, step};

/// Format, lints, documentation, then the test command with the tests of `tier`.
pub fn ci(tier: Tier) -> Result<()> {
    step("format", || run(&mut cargo(["fmt", "--all", "--check"])))?;
    step("lints", || {
        run(&mut cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))
    })?;
    step("documentation", || {
        run(cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"))
    })?;
    step("test command", || test::test(tier, &[]))
}
