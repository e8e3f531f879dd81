//! `cargo xtask soak guard`: real gangs under load while things happen to them, and clients that count every request that
//! fails.
//!
//! A *cell* is a trial (what happens), with workers of one kind, under one policy. Each has a gang and clients of its own.
//! What may fail is judged one by one: [`holder`] finds which connections a worker had when it died.

mod cell;
mod cgroup;
mod client;
mod gang;
mod holder;
mod load;
mod program;
mod progress;
mod table;
mod trial;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{fetch, workspace};
use cell::{Cell, Outcome};
use cgroup::Cgroup;
use program::Program;
use progress::Progress;
use table::Table;
use trial::Trial;

/// Every policy there is; sticky both by what the kernel knows and by what the client says.
const POLICIES: [&str; 6] = ["rr", "least-conn", "sticky", "sticky=cookie:client", "shared", "reuseport"];
/// The release line of Node that is run unless another is asked for.
const NODE: &str = "24";
/// Cells at a time: they mostly wait.
const SIDE_BY_SIDE: usize = 4;

/// What is to be played.
#[derive(Args, Default, Debug)]
pub struct Options {
    /// Only these trials
    #[arg(long, value_name = "TRIAL,…", value_delimiter = ',')]
    only: Vec<Trial>,
    /// Only workers of this kind
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    workers: Vec<Program>,
    /// Only these policies
    #[arg(long, value_name = "POLICY,…", value_delimiter = ',')]
    policies: Vec<String>,
    /// How often it happens what a trial is about [default: what the table is to show: 100 reloads, 200 kills, …]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// The release lines of Node [default: 24]
    #[arg(long, value_name = "MAJOR,…", value_delimiter = ',')]
    node: Vec<String>,
    /// How many cells at a time [default: 4]
    #[arg(long, value_name = "N")]
    side_by_side: Option<usize>,
    /// Add to the table of the runs before
    #[arg(long)]
    add: bool,
}

/// Ten rounds of what happens to workers, with two policies, for the test command, which has built and fetched what it takes.
pub(crate) fn ten_rounds() -> Result<()> {
    use Trial::{Broken, Fail, FailBare, Hang, Kill, Leak, Scale};
    let options = Options {
        only: vec![Scale, Kill, Fail, FailBare, Broken, Hang, Leak],
        policies: ["rr", "reuseport"].map(str::to_owned).to_vec(),
        rounds: Some(10),
        side_by_side: Some(6),
        ..Options::default()
    };
    let cells = options.cells();
    judge(&options, &cells)
}

/// Plays all cells, prints the table, and fails if a promise was broken.
pub(super) fn guard(options: &Options) -> Result<()> {
    let cells = options.cells();
    prepare(&cells)?;
    judge(options, &cells)
}

fn judge(options: &Options, cells: &[Cell]) -> Result<()> {
    let table = Mutex::new(if options.add { Table::load()? } else { Table::default() });
    play(options, cells, &table)?;
    let table = table.into_inner().expect("no player panics");
    println!("\n{table}");
    let broken: Vec<&Outcome> = table.broken().filter(|outcome| cells.contains(&outcome.cell)).collect();
    for outcome in &broken {
        println!("{}", told(outcome));
    }
    if !broken.is_empty() {
        bail!("{} of {} cells broke their promise", broken.len(), cells.len());
    }
    Ok(())
}

impl Options {
    fn cells(&self) -> Vec<Cell> {
        let chosen = |all: &[String], default: &[&str]| match all {
            [] => default.iter().map(|one| (*one).to_owned()).collect(),
            chosen => chosen.to_vec(),
        };
        let (policies, versions): (Vec<String>, Vec<String>) =
            (chosen(&self.policies, &POLICIES), chosen(&self.node, &[NODE]));
        let mut cells = Vec::new();
        for trial in Trial::value_variants().iter().copied().filter(|one| is_chosen(&self.only, one)) {
            if let Some(what) = Cgroup::lacks().filter(|_| trial == Trial::Leak) {
                println!("{trial:?} is left out: it needs {what}");
                continue;
            }
            for program in
                Program::value_variants().iter().copied().filter(|one| is_chosen(&self.workers, one))
            {
                if !trial.is_for(program) {
                    continue;
                }
                let versions = match program {
                    Program::Node => versions.iter().cloned().map(Some).collect(),
                    Program::Rust => vec![None],
                };
                for version in versions {
                    let cell = |policy: &String| Cell {
                        trial,
                        program,
                        version: version.clone(),
                        policy: policy.clone(),
                    };
                    cells.extend(policies.iter().map(cell));
                }
            }
        }
        cells
    }
}

fn is_chosen<T: PartialEq>(chosen: &[T], one: &T) -> bool {
    chosen.is_empty() || chosen.contains(one)
}

/// Builds and downloads what the cells need.
fn prepare(cells: &[Cell]) -> Result<()> {
    let build = |args: &[&str]| workspace::run(workspace::cargo(["build", "--quiet"]).args(args));
    build(&["--release", "-p", "ganger-cli"])?;
    if cells.iter().any(|cell| cell.program == Program::Rust) {
        build(&["-p", "ganger", "--example", "soak_worker"])?;
    }
    for version in cells.iter().filter_map(|cell| cell.version.as_deref()) {
        let known = fetch::VERSIONS.iter().any(|known| fetch::major(known) == version);
        known.then_some(()).with_context(|| format!("there is no Node {version} here"))?;
    }
    if cells.iter().any(|cell| cell.program == Program::Node) {
        fetch::fetch()?;
    }
    Ok(())
}

/// Plays the cells, some side by side. Whatever ends it early, the table has what was played.
fn play(options: &Options, cells: &[Cell], table: &Mutex<Table>) -> Result<()> {
    let (next, progress) = (AtomicUsize::new(0), Progress::default());
    let player = || -> Result<()> {
        while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
            let rounds = options.rounds.unwrap_or(cell.trial.rounds());
            let name = cell.to_string();
            let outcome = cell.run(rounds, &progress.begin(&name, rounds));
            progress.end(&name, told(&outcome).trim_end());
            let mut table = table.lock().expect("no player panics");
            table.add(outcome);
            table.save()?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        scope.spawn(|| progress.show());
        let count = options.side_by_side.unwrap_or(SIDE_BY_SIDE).max(1);
        let players: Vec<_> = (0..count).map(|_| scope.spawn(player)).collect();
        let played: Vec<_> = players.into_iter().map(|player| player.join()).collect();
        progress.finish();
        played.into_iter().try_for_each(|played| played.expect("no player panics"))
    })
}

/// What came of a cell; of a broken one also what went wrong, for who looks for the cause.
fn told(outcome: &Outcome) -> String {
    let Outcome { cell, seconds, broken, said, .. } = outcome;
    let mut text = format!("{cell}: {} in {seconds:.0} s\n", outcome.shown());
    for line in broken {
        text.push_str(&format!("  {line}\n"));
    }
    if !said.is_empty() {
        text.push_str("  the gang said, in seconds from the first of it:\n");
    }
    for line in said {
        text.push_str(&format!("    {line}\n"));
    }
    text
}
