//! `cargo xtask bench`: contenders measured against each other on one machine.
//!
//! What makes the numbers comparable:
//!
//! - Contenders are *interleaved*: each round measures all of them once, and each round begins with
//!   another one, so that a machine that slows down does so for all. Servers even take turns within a round (`turns`).
//! - Contenders are *pinned alike*: the server side on its CPUs, the load on its own.
//! - A contender is compared with the baseline *within each round*; of these ratios the median is told,
//!   with an interval (`statistics::median_interval`) that tells luck from difference.
//!
//! A new measure is a new file with an implementation of `Measure`, and a line in `measures`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::workspace;
use channel::Channel;
use child_process::ChildProcess;
use connect::Connect;
use dispatch::Dispatch;
use guard::{Deaths, Guard};
use http::Http;
use lane::Lane;
use machine::Cpus;
use memory::Memory;
use report::Report;
use target::Target;

pub mod bare;
mod channel;
mod child_process;
mod connect;
mod dispatch;
mod guard;
mod http;
mod lane;
mod load;
mod machine;
mod memory;
mod report;
mod server;
mod statistics;
mod target;
mod turns;

/// The fewest rounds: with them the interval of the median reaches 95 %, one outlier on each side aside.
pub const MIN_ROUNDS: u64 = 9;

/// What the command line asks for.
pub struct Options {
    /// The measure, or what the names of several begin with; all of them if absent.
    pub measure: Option<String>,
    /// How often each contender is measured, at least [`MIN_ROUNDS`].
    pub rounds: u64,
    /// Only these contenders; all of them if empty.
    pub only: Vec<String>,
    /// What the others are compared with; the measure's own choice if absent.
    pub baseline: Option<String>,
    /// Where the report goes as JSON as well.
    pub json: Option<PathBuf>,
}

/// Something that can be measured of several contenders.
trait Measure {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// One sentence: what is counted, under which load.
    fn about(&self) -> String;

    /// What the values count.
    fn unit(&self) -> &'static str;

    /// The names of all contenders.
    fn contenders(&self) -> Vec<&'static str>;

    /// The contender that the others are compared with unless another is asked for.
    fn baseline(&self) -> &'static str;

    /// How often each contender is measured, where `asked` is wanted: less often only what is the same each time.
    fn rounds(&self, asked: u64) -> u64 {
        asked
    }

    /// On which CPUs it takes place.
    fn pinning(&self, cpus: &Cpus) -> String {
        cpus.to_string()
    }

    /// What is aimed at.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// What it needs that this machine does not have.
    fn lacks(&self) -> Option<&'static str> {
        None
    }

    /// Builds or downloads what these contenders need; not part of the measurement.
    fn prepare(&self, contenders: &[&'static str]) -> Result<()>;

    /// Measures each of these once, in a time that does not depend on how fast it is; a sample for each.
    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>>;
}

/// A round in which each contender is alone while it is measured.
fn one_by_one(contenders: &[&str], sample: impl Fn(&str) -> Result<Sample>) -> Result<Vec<Sample>> {
    let sample = |contender: &&str| {
        eprint!(".");
        sample(contender).with_context(|| (*contender).to_owned())
    };
    contenders.iter().map(sample).collect()
}

/// One measured value.
#[derive(Clone, Debug)]
struct Sample {
    /// In the unit of the measure.
    value: f64,
    /// The part of the time in which the load generator used its CPU. Near 1, the value is the load
    /// generator's limit and the contender may be capable of more. None without a load generator.
    load_busy: Option<f64>,
    /// The part of the time in which the server side's CPUs had something to do. None without a load generator.
    server_busy: Option<f64>,
    /// Operations that went wrong, not counted in the value.
    failed: u64,
    /// How many operations each worker did, the busiest first, where the load can tell.
    shares: Vec<u64>,
}

impl Sample {
    /// A value without a load generator.
    fn of(value: f64) -> Self {
        Self { value, load_busy: None, server_busy: None, failed: 0, shares: Vec::new() }
    }
}

/// Measures what `options` ask for, prints the tables, writes the JSON.
pub fn bench(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        return in_release();
    }
    let mut selected = measures();
    if let Some(name) = &options.measure {
        let names: Vec<_> = selected.iter().map(|measure| measure.name()).collect();
        // The name of several is what they begin with.
        let wanted = |own: &str| match names.contains(&name.as_str()) {
            true => own == name,
            false => own.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-')),
        };
        selected.retain(|measure| wanted(measure.name()));
        if selected.is_empty() {
            bail!("no measure {name}; there are: {}", names.join(", "));
        }
    }
    let cpus = Cpus::divide()?;
    let mut reports = Vec::new();
    for measure in &selected {
        match measure.lacks() {
            Some(what) if options.measure.is_none() => {
                println!("\n{} is left out: {what} is not installed", measure.name());
                continue;
            }
            Some(what) => bail!("{} needs {what}, which is not installed", measure.name()),
            None => {}
        }
        let report = run(measure.as_ref(), options, &cpus)?;
        println!("\n{report}");
        reports.push(report);
    }
    if let Some(path) = &options.json {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        serde_json::to_writer_pretty(&mut file, &reports)?;
        writeln!(file)?;
        file.flush().with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measures() -> Vec<Box<dyn Measure>> {
    let child_process = ChildProcess::ALL.map(|measure| Box::new(measure) as Box<dyn Measure>);
    let channel = Channel::ALL.map(|measure| Box::new(measure) as Box<dyn Measure>);
    let cluster: [Box<dyn Measure>; 6] = [
        Box::new(Connect),
        Box::new(Http::Connect),
        Box::new(Http::KeepAlive),
        Box::new(Dispatch),
        Box::new(Memory),
        Box::new(Lane),
    ];
    let guard = Guard::ALL.map(|measure| Box::new(measure) as Box<dyn Measure>);
    let guard = guard.into_iter().chain([Box::new(Deaths) as Box<dyn Measure>]);
    cluster.into_iter().chain(guard).chain(child_process).chain(channel).collect()
}

/// Goes on as the optimised program: the load generator and the bare servers are part of it.
fn in_release() -> Result<()> {
    let mut command = workspace::cargo(["run", "--quiet", "--release", "--package", "xtask", "--"]);
    // From the caller's directory, since that is what a path in an option is relative to.
    command.current_dir(std::env::current_dir()?).arg("bench").args(std::env::args_os().skip(2));
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", workspace::shown(&command)))
}

fn run(measure: &dyn Measure, options: &Options, cpus: &Cpus) -> Result<Report> {
    let contenders = select(measure, &options.only)?;
    let baseline = choose_baseline(measure, options.baseline.as_deref(), &contenders)?;
    measure.prepare(&contenders)?;

    let mut samples = vec![Vec::new(); contenders.len()];
    let rounds = usize::try_from(measure.rounds(options.rounds))?;
    for round in 0..rounds {
        eprint!("{} round {}/{rounds} ", measure.name(), round + 1);
        let first = round % contenders.len();
        let order = [&contenders[first..], &contenders[..first]].concat();
        let measured = measure.round(&order, cpus);
        let mut measured = measured.inspect_err(|_| eprintln!()).with_context(|| measure.name())?;
        order.iter().zip(&measured).for_each(|(name, sample)| eprint!(" {name} {:.0}", sample.value));
        eprintln!();
        measured.rotate_right(first);
        samples.iter_mut().zip(measured).for_each(|(all, one)| all.push(one));
    }
    Ok(Report::new(measure, cpus, &contenders, baseline, &samples))
}

fn select(measure: &dyn Measure, only: &[String]) -> Result<Vec<&'static str>> {
    let all = measure.contenders();
    if let Some(unknown) = only.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("{} has no contender {unknown}; there are: {}", measure.name(), all.join(", "));
    }
    Ok(all.into_iter().filter(|name| only.is_empty() || only.iter().any(|chosen| chosen == name)).collect())
}

/// The index of the baseline; the first contender where the measure's own choice is left out.
fn choose_baseline(measure: &dyn Measure, asked: Option<&str>, contenders: &[&str]) -> Result<usize> {
    let position = |name: &str| contenders.iter().position(|contender| *contender == name);
    match asked {
        Some(name) => position(name).with_context(|| format!("the baseline {name} is not measured")),
        None => Ok(position(measure.baseline()).unwrap_or(0)),
    }
}
