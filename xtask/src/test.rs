//! `cargo xtask test`: the test command, with every supported Node.
//!
//! What tests are told, as environment:
//!
//! - `GANGER_TEST_NODES`: the directory in which `<major>/bin/node` is each version of Node;
//! - `GANGER_TEST_BUN`, `GANGER_TEST_DENO`: these runtimes;
//! - `GANGER_TEST_MODULES`: the `node_modules` with the npm packages that examples use;
//! - `GANGER_TEST_RELEASE`: the command as users get it, for what is measured;
//! - `GANGER_TEST_MATRIX`: a file to which a test appends `feature<TAB>major<TAB>ok`, by one write, for
//!   each version of Node that it has run with. From it the closing matrix is made.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::workspace::{self, Failed};
use crate::{fetch, soak};

/// Which tests are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Tier {
    /// Those that any account can run
    User,
    /// Also those that need root or packages of the system
    System,
}

impl Tier {
    /// What its examples and tests need beside the defaults: the same for each build, so that nothing is built twice.
    fn features(self) -> [&'static str; 2] {
        let features = match self {
            Self::User => "ganger/axum",
            Self::System => "ganger/axum,ganger/system-tests,ganger-cli/system-tests",
        };
        ["--features", features]
    }
}

/// Fetches, builds and runs the tests of `tier`; prints the matrix and the count.
///
/// `args` go to `cargo test` as they are. With any, not every version of Node has to appear in the
/// matrix, since a filter may leave out all tests of one.
pub fn test(tier: Tier, args: &[OsString]) -> Result<()> {
    if tier == Tier::System {
        check_system()?;
    }
    workspace::step("fetch Node and npm packages", fetch::fetch)?;
    workspace::step("build programs and examples", || {
        workspace::run(
            workspace::cargo(["build", "--workspace", "--bins", "--examples"]).args(tier.features()),
        )
    })?;
    workspace::step("build the command for release", || {
        workspace::run(&mut workspace::cargo(["build", "--release", "-p", "ganger-cli"]))
    })?;

    let matrix = workspace::target().join("ganger-test-matrix.tsv");
    fs::write(&matrix, "").with_context(|| format!("cannot write {}", matrix.display()))?;
    let mut count = Count::default();
    let mut result = workspace::step("tests", || {
        let mut command = workspace::cargo(["test", "--workspace", "--no-fail-fast"]);
        command.args(tier.features()).args(args);
        run_tests(&mut command, &matrix, &mut count)
    });
    if args.is_empty() && result.is_ok() {
        result = workspace::step("gangs under load, ten rounds", soak::ten_rounds);
    }

    let seen = Matrix::read(&matrix)?;
    println!("\n{seen}");
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    result?;
    if args.is_empty() {
        seen.check()?;
    }
    Ok(())
}

/// What the second tier needs of the machine.
fn check_system() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the system tests need root: run `cargo xtask test --tier system` as root");
    }
    Ok(())
}

/// Runs a `cargo test`, passing its output through and adding up its `test result:` lines.
fn run_tests(command: &mut Command, matrix: &Path, count: &mut Count) -> Result<()> {
    command
        .env("GANGER_TEST_NODES", fetch::nodes())
        .env("GANGER_TEST_BUN", fetch::runtime("bun"))
        .env("GANGER_TEST_DENO", fetch::runtime("deno"))
        .env("GANGER_TEST_MODULES", fetch::modules())
        .env("GANGER_TEST_RELEASE", workspace::target().join("release/ganger"))
        .env("GANGER_TEST_MATRIX", matrix)
        .stdout(Stdio::piped());
    let shown = workspace::shown(command);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let mut output = child.stdout.take().expect("stdout is piped");
    let mut buffer = [0; 8192];
    let mut line = Vec::new();
    loop {
        let bytes = match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read what the tests print"),
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).context("cannot print")?;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.ends_with(b"\n") {
                count.add(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    if !status.success() {
        return Err(Failed { command: shown, status }.into());
    }
    Ok(())
}

/// The sum of all `test result:` lines.
#[derive(Default, PartialEq, Eq, Debug)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result:") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(word)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Which feature was exercised with which versions of Node.
#[derive(Default)]
struct Matrix {
    features: BTreeMap<String, BTreeSet<String>>,
}

impl Matrix {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut matrix = Self::default();
        for line in text.lines() {
            let [feature, major, "ok"] = line.split('\t').collect::<Vec<_>>()[..] else {
                bail!("not `feature<TAB>major<TAB>ok`: {line:?}");
            };
            matrix.features.entry(feature.to_owned()).or_default().insert(major.to_owned());
        }
        Ok(matrix)
    }

    /// An error if a supported version of Node appears nowhere.
    fn check(&self) -> Result<()> {
        let unseen: Vec<&str> = majors().filter(|major| !self.has_any(major)).collect();
        if !unseen.is_empty() {
            bail!("no test has run with Node {}", unseen.join(", "));
        }
        Ok(())
    }

    fn has_any(&self, major: &str) -> bool {
        self.features.values().any(|majors| majors.contains(major))
    }
}

impl std::fmt::Display for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let heading = "tested with Node";
        let width = self.features.keys().map(|feature| feature.chars().count()).max();
        let width = width.unwrap_or(0).max(heading.len());
        write!(f, "{heading:width$}")?;
        for major in majors() {
            write!(f, "  {major:>3}")?;
        }
        for (feature, seen) in &self.features {
            write!(f, "\n{feature:width$}")?;
            for major in majors() {
                write!(f, "  {:>3}", if seen.contains(major) { "ok" } else { "–" })?;
            }
        }
        writeln!(f)
    }
}

fn majors() -> impl Iterator<Item = &'static str> {
    fetch::VERSIONS.into_iter().map(fetch::major)
}

#[cfg(test)]
mod tests {
    use super::{Count, Matrix};

    #[test]
    fn result_lines_are_added_up() {
        let mut count = Count::default();
        count.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s\n");
        count.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n");
        count.add("test passed ... ok\n");
        assert_eq!(count, Count { passed: 14, failed: 1, skipped: 1 });
    }

    #[test]
    fn matrix_shows_what_is_missing() {
        let matrix = Matrix::parse("http\t18\tok\nhttp\t24\tok\nudp sockets\t24\tok\n").unwrap();
        assert_eq!(
            matrix.to_string(),
            "tested with Node   18   20   22   24   26\n\
             http               ok    –    –   ok    –\n\
             udp sockets         –    –    –   ok    –\n"
        );
        let error = matrix.check().unwrap_err();
        assert_eq!(error.to_string(), "no test has run with Node 20, 22, 26");
        assert!(Matrix::parse("http 18 ok").is_err());
    }
}
