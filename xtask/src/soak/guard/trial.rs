//! What happens to a gang while clients ask: a trial a row of the table.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;

use super::client::{Connection, Lasting};
use super::gang::{Event, Gang};
use super::holder::{self, Loss, Stopped};
use super::load::{Clients, Load};
use super::program::Program;
use super::progress::Running;

/// Who is younger dies *young*, and is not replaced at once.
const GROWN_UP: Duration = Duration::from_millis(1200);
/// How long a killed process may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);
/// A death is told so long after it, at the latest.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// What a death has lost shows so long after it was told, at the latest.
const AFTERMATH: Duration = Duration::from_secs(2);
/// A look at how far the load is.
const LOOK: Duration = Duration::from_millis(100);
/// Every so many requests a worker fails.
const FAIL_EVERY: u64 = 1000;

/// What is done to a gang.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Trial {
    /// Reloads, a new connection a request
    Reload,
    /// Reloads, keep-alive
    KeepAlive,
    /// Reloads, keep-alive, Node without hints
    NoHints,
    /// From 2 workers to 8 and back
    Scale,
    /// Random workers are killed
    Kill,
    /// A worker panics, or throws, in every 1,000th request: Rust, and Node with --graceful
    Fail,
    /// The same with Node that handles nothing
    FailBare,
    /// Reloads to a program that does not start
    Broken,
    /// A worker stops for ever
    Hang,
    /// A worker leaks until the kernel takes it
    Leak,
}

/// Which requests may fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allowed {
    /// None.
    Nothing,
    /// None, and none may be repeated.
    NotEvenRepeats,
    /// Those that a worker held which died.
    Held,
}

impl Trial {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Reload => "reload, a new connection a request",
            Self::KeepAlive => "reload, keep-alive",
            Self::NoHints => "reload, keep-alive, without hints",
            Self::Scale => "scale 2 → 8 → 2",
            Self::Kill => "`kill -9` of a random worker",
            Self::Fail => "a panic or throw in every 1,000th request",
            Self::FailBare => "the same, nobody handles it",
            Self::Broken => "reload to a broken program",
            Self::Hang => "`SIGSTOP` for ever, `--watchdog 2s`",
            Self::Leak => "a leak until the kernel kills",
        }
    }

    /// How often it happens unless something else is asked for.
    pub(super) fn rounds(self) -> u32 {
        match self {
            Self::Reload | Self::KeepAlive | Self::NoHints => 100,
            Self::Scale => 20,
            Self::Kill => 200,
            Self::Fail | Self::FailBare => 50,
            Self::Broken | Self::Hang => 5,
            Self::Leak => 3,
        }
    }

    pub(super) fn is_for(self, program: Program) -> bool {
        program == Program::Node || !matches!(self, Self::NoHints | Self::FailBare)
    }

    pub(super) fn workers(self) -> usize {
        match self {
            Self::Kill | Self::Fail | Self::FailBare => 4,
            _ => 2,
        }
    }

    /// Options of `ganger run` beside the common ones.
    pub(super) fn options(self, program: Program) -> &'static [&'static str] {
        match self {
            // A client that is never told to go stays until the end of the drain.
            Self::NoHints => &["--no-hints", "--drain-timeout", "3s"],
            Self::Fail if program == Program::Node => &["--graceful"],
            Self::Hang => &["--watchdog", "2s"],
            _ => &[],
        }
    }

    pub(super) fn clients(self) -> Clients {
        match self {
            Self::Reload => Clients::All(Lasting::Once),
            Self::KeepAlive | Self::NoHints => Clients::All(Lasting::Kept),
            _ => Clients::Mixed,
        }
    }

    pub(super) fn fail_every(self) -> Option<u64> {
        matches!(self, Self::Fail | Self::FailBare).then_some(FAIL_EVERY)
    }

    pub(super) fn allowed(self) -> Allowed {
        match self {
            Self::KeepAlive => Allowed::NotEvenRepeats,
            Self::Kill | Self::FailBare | Self::Hang | Self::Leak => Allowed::Held,
            Self::Reload | Self::NoHints | Self::Scale | Self::Fail | Self::Broken => Allowed::Nothing,
        }
    }

    /// Whether workers die in it.
    pub(super) fn is_deadly(self) -> bool {
        matches!(self, Self::Kill | Self::Fail | Self::FailBare | Self::Hang | Self::Leak)
    }
}

/// A trial under way.
pub(super) struct Stage<'a> {
    pub(super) trial: Trial,
    pub(super) program: Program,
    pub(super) gang: &'a mut Gang,
    pub(super) load: &'a Load,
    /// Where the program is.
    pub(super) directory: &'a Path,
    pub(super) rounds: u32,
    pub(super) running: &'a Running,
    /// What has died so far.
    pub(super) losses: &'a mut Vec<Loss>,
}

impl Stage<'_> {
    /// Does what the trial is about, so many times; an error if the gang does not what it should.
    pub(super) fn play(&mut self) -> Result<()> {
        match self.trial {
            Trial::Fail | Trial::FailBare => self.fail()?,
            _ => {
                for round in 0..self.rounds {
                    self.round(round).with_context(|| format!("round {}", round + 1))?;
                    self.running.done(u64::from(round) + 1);
                }
            }
        }
        self.gang.settle(self.trial.workers())
    }

    fn round(&mut self, round: u32) -> Result<()> {
        match self.trial {
            Trial::Reload | Trial::KeepAlive | Trial::NoHints => self.reload(),
            Trial::Scale => self.scale(),
            // One as it comes, of the other it is seen exactly what it holds.
            Trial::Kill if round.is_multiple_of(2) => self.kill(),
            Trial::Kill => self.stop(true),
            Trial::Broken => self.reload_broken(),
            Trial::Hang => self.stop(false),
            Trial::Leak => self.leak(),
            Trial::Fail | Trial::FailBare => unreachable!("it goes by requests"),
        }
    }

    fn reload(&mut self) -> Result<()> {
        let verdict = self.verdict()?;
        ensure!(verdict.is("reloaded"), "not reloaded: {verdict}");
        let expected = self.trial.workers() as i64;
        ensure!(verdict.number("workers") == Some(expected), "not all were replaced: {verdict}");
        ensure!(verdict.number("refused") == Some(0), "connections were refused: {verdict}");
        Ok(())
    }

    fn verdict(&mut self) -> Result<Event> {
        self.gang.signal(Signal::HUP)?;
        let is_verdict =
            |event: &Event| matches!(event.name(), "reloaded" | "reload-failed" | "not-reloaded");
        self.gang.wait("the verdict on a reload", is_verdict)
    }

    fn scale(&mut self) -> Result<()> {
        const FEW: i64 = 2;
        const MANY: i64 = 8;
        let mut ready = 0;
        for workers in FEW..MANY {
            self.gang.signal(Signal::TTIN)?;
            self.gang.wait("one worker more", |event| {
                ready += i64::from(event.is("worker-ready"));
                event.is("scaled") && event.number("to") == Some(workers + 1)
            })?;
        }
        while ready < MANY - FEW {
            self.gang.wait("the new workers to be ready", |event| event.is("worker-ready"))?;
            ready += 1;
        }
        for workers in (FEW..MANY).rev() {
            self.gang.signal(Signal::TTOU)?;
            self.gang.wait("one worker fewer", |event| {
                event.is("scaled") && event.number("to") == Some(workers)
            })?;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let pid = self.grown_up()?;
        let from = Instant::now();
        let pidfd = self.gang.workers[&pid].pidfd.as_fd();
        pidfd_send_signal(pidfd, Signal::KILL).context("cannot kill a worker")?;
        wait_for_end(pidfd)?;
        let until = Instant::now();
        let died = self.died("signal")?;
        ensure!(died.pid() == Some(pid), "another worker than {pid} died: {died}");
        self.losses.push(Loss { from, until, held: None, over: died.at + AFTERMATH });
        Ok(())
    }

    /// Stops a worker, and sees what is lost with it when it ends: by our hand, or by the gang's.
    fn stop(&mut self, kill: bool) -> Result<()> {
        let pid = self.grown_up()?;
        let pidfd = self.gang.workers[&pid].pidfd.as_fd();
        let Stopped { from, until, held } = holder::stop(pid, pidfd, self.gang.pid())?;
        if kill {
            pidfd_send_signal(pidfd, Signal::KILL).context("cannot kill a worker")?;
        }
        let died = self.died(if kill { "signal" } else { "unresponsive" })?;
        ensure!(died.pid() == Some(pid), "another worker than {pid} died: {died}");
        self.losses.push(Loss { from, until, held: Some(held), over: died.at + AFTERMATH });
        Ok(())
    }

    /// The kernel may take another one as well, of which it says the same.
    fn leak(&mut self) -> Result<()> {
        self.gang.settle(self.trial.workers())?;
        let asked = self.ask("/leak")?;
        loop {
            let died = self.gang.wait("a worker to die of its leak", |event| event.is("worker-died"))?;
            self.losses.push(loss_of(&died));
            check_death(&died, "out-of-memory")?;
            if died.pid() == Some(asked) {
                return Ok(());
            }
        }
    }

    /// Until so many requests have failed in a worker.
    fn fail(&mut self) -> Result<()> {
        loop {
            let failed = self.load.asked_to_fail().min(self.rounds.into());
            self.running.done(failed);
            if failed == u64::from(self.rounds) {
                break;
            }
            self.gang.pass(LOOK)?;
        }
        // The last of them may still be about to die, or to be told of.
        self.gang.pass(TOLD_WITHIN)?;
        self.gang.settle(self.trial.workers())?;
        self.losses.extend(self.gang.deaths.iter().map(loss_of));
        ensure!(!self.gang.deaths.is_empty(), "nobody died of a failure");
        // A Node that handles it says that it leaves, unless it has nothing left to finish.
        let kinds = if self.program == Program::Rust { ["panic"; 2] } else { ["exit", "left"] };
        for died in &self.gang.deaths {
            ensure!(kinds.contains(&died.text("kind")), "neither of {kinds:?}: {died}");
            ensure!(died.number("exit_code") == Some(1), "not exit code 1: {died}");
        }
        Ok(())
    }

    fn reload_broken(&mut self) -> Result<()> {
        self.program.break_in(self.directory)?;
        let before: Vec<i32> = self.gang.workers.keys().copied().collect();
        let verdict = self.verdict()?;
        ensure!(verdict.is("reload-failed"), "a broken program was taken: {verdict}");
        let why = verdict.text("why");
        ensure!(why.contains("exit code ") && why.contains(Program::WHY), "not the reason: {verdict}");
        ensure!(verdict.number("kept") == Some(before.len() as i64), "not all were kept: {verdict}");
        self.gang.pass(LOOK)?;
        let after: Vec<i32> = self.gang.workers.keys().copied().collect();
        ensure!(before == after, "the workers were {before:?} and are {after:?}");
        let answered = self.ask("/")?;
        ensure!(before.contains(&answered), "{answered} answers, who is none of {before:?}");
        self.program.mend_in(self.directory)?;
        self.reload()?;
        self.gang.settle(self.trial.workers())
    }

    /// A random worker that does not die young.
    fn grown_up(&mut self) -> Result<i32> {
        loop {
            let old = self.gang.workers.iter().filter(|(_, worker)| worker.ready.elapsed() >= GROWN_UP);
            let old: Vec<i32> = old.map(|(pid, _)| *pid).collect();
            if !old.is_empty() {
                let random = RandomState::new().hash_one(0);
                return Ok(old[random as usize % old.len()]);
            }
            self.gang.pass(LOOK)?;
        }
    }

    /// Waits for the death of a worker: of what it should, and it is replaced at once.
    fn died(&mut self, kind: &str) -> Result<Event> {
        let died = self.gang.wait("a death to be told", |event| event.is("worker-died"))?;
        check_death(&died, kind)?;
        Ok(died)
    }

    /// One request of our own: who answered.
    fn ask(&self, path: &str) -> Result<i32> {
        let connection = Connection::open(u8::MAX, self.gang.port);
        let mut connection = connection.with_context(|| format!("cannot ask for {path}"))?;
        match connection.get(u8::MAX, path, Lasting::Once) {
            Ok(answer) => Ok(answer.worker),
            Err(trouble) => bail!("asked for {path}: {}", trouble.error),
        }
    }
}

fn check_death(died: &Event, kind: &str) -> Result<()> {
    ensure!(died.text("kind") == kind, "not {kind}: {died}");
    ensure!(died.number("replaced_by").is_some(), "not replaced at once: {died}");
    Ok(())
}

/// What may have been lost with a worker of which nothing is known but that it was told to have died.
fn loss_of(died: &Event) -> Loss {
    let from = died.at.checked_sub(TOLD_WITHIN).unwrap_or(died.at);
    Loss { from, until: died.at, held: None, over: died.at + AFTERMATH }
}

fn wait_for_end(pidfd: impl AsFd) -> Result<()> {
    let limit = Timespec::try_from(END_LIMIT)?;
    let ended = retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)));
    ensure!(ended.context("cannot wait for a worker's end")? > 0, "a killed worker lives on");
    Ok(())
}
