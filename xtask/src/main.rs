//! `cargo xtask`: the command line of the project's own tasks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use xtask::bench::bare::{self, Role};
use xtask::bench::{self, Options};
use xtask::test::Tier;
use xtask::workspace::Failed;
use xtask::{ci, fetch, golden, soak, test};

/// The project's own tasks
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Download the Node versions and npm packages that tests and benchmarks use (into .cache)
    Fetch,
    /// Run the tests with every supported Node
    Test {
        #[arg(long, value_enum, default_value = "user")]
        tier: Tier,
        /// Passed to `cargo test`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Run the whole gate: format, lints, documentation, tests
    Ci {
        #[arg(long, value_enum, default_value = "user")]
        tier: Tier,
    },
    /// Capture the golden transcripts anew from Node's own primary
    Golden {
        /// Only print FILE as golden transcripts are written, with ports, pids and directories replaced
        #[arg(long, value_name = "FILE")]
        normalise: Option<PathBuf>,
    },
    /// Measure contenders against each other
    Bench {
        /// What to measure: connect, http, keep-alive, dispatch, memory, lane, guard (guard-fork, guard-serve,
        /// guard-memory), spawn, spawn-pipes, output, messages, messages-all-cpus, ping-pong, ping-pong-all-cpus,
        /// large-json, large-advanced, handles [default: everything]
        name: Option<String>,
        /// How often each contender is measured
        #[arg(long, value_name = "N", default_value_t = bench::MIN_ROUNDS, value_parser = clap::value_parser!(u64).range(bench::MIN_ROUNDS..))]
        rounds: u64,
        /// Measure only these contenders
        #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
        only: Vec<String>,
        /// Compare with this contender [default: node-rr, or the first of --only]
        #[arg(long, value_name = "NAME")]
        baseline: Option<String>,
        /// Write the report to FILE as well, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Run the long forms of the tests
    Soak {
        /// Only this one
        #[command(subcommand)]
        part: Option<soak::Part>,
    },
    /// Be one of the bare servers that bench compares with
    #[command(hide = true)]
    Bare { role: Role },
}

fn main() -> ExitCode {
    let Err(error) = run(Task::parse()) else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    let code = error.downcast_ref::<Failed>().and_then(|failed| failed.status.code());
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Fetch => fetch::fetch(),
        Task::Test { tier, args } => test::test(tier, &args),
        Task::Ci { tier } => ci::ci(tier),
        Task::Golden { normalise: Some(file) } => {
            let transcript =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            print!("{}", golden::normalise(&transcript));
            Ok(())
        }
        Task::Golden { normalise: None } => golden::golden(),
        Task::Bench { name, rounds, only, baseline, json } => {
            bench::bench(&Options { measure: name, rounds, only, baseline, json })
        }
        Task::Soak { part } => soak::soak(part.as_ref()),
        Task::Bare { role } => bare::bare(role),
    }
}
