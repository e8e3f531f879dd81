//! One cell of the table: a trial, with workers of one kind, under one policy.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::gang::Gang;
use super::holder::Loss;
use super::load::{Failure, Load, Tally};
use super::program::Program;
use super::progress::Running;
use super::trial::{Allowed, Stage, Trial};
use crate::{fetch, workspace};

/// The load goes on so long after the last round.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// So much of what the gang said around the first trouble is shown.
const AROUND: Duration = Duration::from_millis(1500);
/// So many failures are told one by one.
const TOLD: usize = 20;

/// A cell of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) trial: Trial,
    pub(super) program: Program,
    /// Of Node the release line.
    pub(super) version: Option<String>,
    pub(super) policy: String,
}

/// What came of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) cell: Cell,
    pub(super) rounds: u32,
    pub(super) seconds: f64,
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// What was promised and not kept, the first thing first.
    pub(super) broken: Vec<String>,
    /// What the gang said around that.
    pub(super) said: Vec<String>,
}

/// What the clients have counted.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Requests, but for those that were meant to fail.
    pub(super) requests: u64,
    /// Those that failed and should not have.
    pub(super) failed: usize,
    /// Those that failed with the worker that had them, where that is allowed.
    pub(super) held: usize,
    /// Those that were repeated, since a reused connection was closed before the answer began.
    pub(super) repeats: u64,
    /// Those that were meant to fail.
    pub(super) asked_to_fail: u64,
}

impl Cell {
    /// What the workers are, in words.
    pub(super) fn workers(&self) -> String {
        match &self.version {
            Some(version) => format!("Node {version}"),
            None => "Rust".into(),
        }
    }

    /// Plays it to its end.
    pub(super) fn run(&self, rounds: u32, running: &Running) -> Outcome {
        let began = Instant::now();
        let played = self.play(rounds, running);
        let (counts, broken, said) =
            played.unwrap_or_else(|error| (Counts::default(), vec![format!("{error:#}")], Vec::new()));
        Outcome { cell: self.clone(), rounds, seconds: began.elapsed().as_secs_f64(), counts, broken, said }
    }

    /// What was counted; what was broken, and what the gang said around it.
    fn play(&self, rounds: u32, running: &Running) -> Result<(Counts, Vec<String>, Vec<String>)> {
        let directory = self.directory()?;
        self.program.mend_in(&directory)?;
        let group =
            (self.trial == Trial::Leak).then(|| Cgroup::new(&format!("ganger-soak-{}", self.file_name())));
        let group = group.transpose()?;
        let command = self.command(&directory, group.as_ref());
        let mut gang = Gang::start(command, &directory.join("log"), self.trial.is_deadly())?;
        let load = Load::start(gang.port, self.trial.clients(), self.trial.fail_every());
        let mut losses = Vec::new();
        let mut troubles = Troubles::default();
        let mut stage = Stage {
            trial: self.trial,
            program: self.program,
            gang: &mut gang,
            load: &load,
            directory: &directory,
            rounds,
            running,
            losses: &mut losses,
        };
        troubles.add_if("", stage.play());
        troubles.add_if("afterwards: ", gang.pass(AFTERWARDS));
        let tally = load.finish();
        troubles.add_if("at the end: ", gang.stop());
        for event in &gang.unexpected {
            troubles.add(event.at, format!("unexpected: {event}"));
        }
        let counts = self.judge(tally, &losses, &mut troubles);
        let said = troubles.first().map(|first| gang.said().around(first, AROUND)).unwrap_or_default();
        Ok((counts, troubles.told(), said))
    }

    /// Which failures were allowed.
    fn judge(&self, tally: Tally, losses: &[Loss], troubles: &mut Troubles) -> Counts {
        let Tally { requests, repeats, failures, asked_to_fail } = tally;
        let may_be_lost = self.trial.allowed() == Allowed::Held;
        let is_explained = |failure: &Failure| {
            let Some((local, since)) = failure.connection else { return false };
            losses.iter().any(|loss| loss.explains(local, since, failure.at))
        };
        let (held, failed): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|failure| may_be_lost && is_explained(failure));
        for failure in failed.iter().take(TOLD) {
            troubles.add(failure.at, failure.to_string());
        }
        if self.trial.allowed() == Allowed::NotEvenRepeats && repeats > 0 {
            troubles.add(Instant::now(), format!("{repeats} requests were repeated"));
        }
        Counts { requests, failed: failed.len(), held: held.len(), repeats, asked_to_fail }
    }

    /// An empty directory of its own, which stays for who wants to look at it.
    fn directory(&self) -> Result<PathBuf> {
        let directory = workspace::target().join("soak").join(self.file_name());
        // The last one's is of no use any more, if there was one.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    }

    fn file_name(&self) -> String {
        self.to_string().replace(|char: char| !char.is_ascii_alphanumeric(), "-")
    }

    fn command(&self, directory: &Path, group: Option<&Cgroup>) -> Command {
        let ganger = workspace::target().join("release/ganger");
        let mut command = match group {
            None => Command::new(ganger),
            Some(group) => {
                let mut command = Command::new("sh");
                let script = format!("echo $$ >'{}' && exec \"$@\"", group.processes().display());
                command.args(["-c", &script, "sh"]).arg(ganger);
                command
            }
        };
        let workers = self.trial.workers().to_string();
        command.args(["run", "--workers", &workers, "--schedule", &self.policy]);
        command.args(["--log-format", "json", "--restart-limit", "off"]);
        if let Some(version) = &self.version {
            command.arg("--runtime").arg(fetch::node(version));
        }
        command.args(self.trial.options(self.program)).arg("--").arg(self.program.path(directory));
        command.current_dir(directory).env("PORT", "0").env_remove("NODE_OPTIONS");
        command
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trial = self.trial.to_possible_value();
        let trial = trial.as_ref().map_or("", |trial| trial.get_name());
        write!(f, "{trial}, {}, {}", self.workers(), self.policy)
    }
}

/// What went wrong, and when.
#[derive(Default)]
struct Troubles(Vec<(Instant, String)>);

impl Troubles {
    fn add(&mut self, at: Instant, text: String) {
        self.0.push((at, text));
    }

    fn add_if(&mut self, when: &str, result: Result<()>) {
        if let Err(error) = result {
            self.add(Instant::now(), format!("{when}{error:#}"));
        }
    }

    fn first(&self) -> Option<Instant> {
        self.0.iter().map(|(at, _)| *at).min()
    }

    /// In the order in which it went wrong, in seconds from the first on.
    fn told(mut self) -> Vec<String> {
        self.0.sort_by_key(|(at, _)| *at);
        let Some(first) = self.first() else { return Vec::new() };
        self.0.into_iter().map(|(at, text)| format!("+{:.3} {text}", (at - first).as_secs_f64())).collect()
    }
}
