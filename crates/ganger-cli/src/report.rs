//! What the command says about the gang, on stderr: one event, one line; for people or as JSON.
//!
//! Knows what can be told, not why it happens.

mod gist;
mod json;
mod text;
mod writer;

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use ganger::WorkerId;
use ganger::cluster::Policy;
use ganger::guard::{AgentNotice, DeathReport, Notice, Source, Verdict, Why};

use crate::args::LogFormat;
use crate::plan::Part;
use writer::Writer;

pub(crate) use gist::{gist, says_address_in_use};

/// Something to tell.
#[derive(Debug)]
pub(crate) enum Event {
    /// The gang is about to be started.
    Starting {
        name: String,
        policy: Policy,
        /// What is started; without a name it is only one.
        parts: Vec<Starting>,
    },
    /// A remark.
    Note(String),
    /// A remark on something that may not be as it was meant.
    Warning(String),
    /// What was typed cannot be run.
    Unusable(String),
    /// The command itself failed.
    Failed(String),
    /// A socket is open.
    Listening { address: String },
    /// Every slot has a ready worker for the first time.
    Ready { workers: u32, after: Duration, pids: Vec<i32> },
    /// What the guard noticed, but for [`Event::Ready`].
    Noticed(Noticed),
    /// A worker could not have a socket.
    BindFailed {
        worker: WorkerId,
        pid: Option<i32>,
        group: Option<String>,
        address: String,
        error: io::Error,
    },
    /// A worker broke a rule.
    Fault { worker: WorkerId, pid: Option<i32>, group: Option<String>, fault: String },
    /// The agent broke a rule.
    AgentFault { pid: i32, fault: String },
    /// Every slot has a new worker.
    Reloaded {
        workers: u32,
        after: Duration,
        /// Connections that nobody served meanwhile.
        refused: u64,
        /// Old workers that still finish what they have.
        draining: u32,
    },
    /// The reload could not even begin.
    NotReloaded(String),
    /// A signal came for something that this version does not have.
    Absent { signal: &'static str, meaning: &'static str },
    /// The gang is being stopped.
    Stopping { signal: &'static str, workers: usize, at_once: bool },
    /// The gang has ended, so long after the stop was asked for.
    Ended { verdict: Verdict, after: Duration },
}

/// Workers of one program that are about to be started.
#[derive(Debug)]
pub(crate) struct Starting {
    /// The group's name, if it is one.
    pub(crate) group: Option<String>,
    pub(crate) program: String,
    pub(crate) workers: u32,
    /// Why so many, if that was found out.
    pub(crate) why: Option<String>,
}

impl Starting {
    pub(crate) fn of(part: &Part) -> Self {
        let Part { name, workers, why, .. } = part;
        Self { group: name.clone(), program: part.command_line(), workers: *workers, why: why.clone() }
    }
}

/// What the guard noticed, with what is known of the worker.
#[derive(Debug)]
pub(crate) struct Noticed {
    pub(crate) notice: Notice,
    pub(crate) pid: Option<i32>,
    /// The name of its group, if there are groups.
    pub(crate) group: Option<String>,
    /// Whether it was ever ready.
    pub(crate) was_ready: bool,
    /// The last lines of its stderr, if it died.
    pub(crate) last_words: Vec<String>,
    /// All that is known of its death.
    pub(crate) death: Option<Box<DeathReport>>,
    /// Whether the gang's start was complete already.
    pub(crate) complete: bool,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Info,
    Warning,
    Error,
}

/// Writes events. It never waits for who reads them.
#[derive(Debug)]
pub(crate) struct Reporter {
    format: LogFormat,
    quiet: bool,
    colour: bool,
    /// Whether a person has just seen what the workers wrote.
    seen: bool,
    writer: Writer,
    /// Events that could not be written, and were not told of yet.
    lost: Cell<u32>,
}

impl Reporter {
    /// `quiet` leaves only warnings and errors.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub(crate) fn new(format: LogFormat, quiet: bool) -> io::Result<Self> {
        let colour = wants_colour(io::stderr().is_terminal());
        Ok(Self {
            format,
            quiet,
            colour,
            seen: io::stderr().is_terminal(),
            writer: Writer::new()?,
            lost: Cell::new(0),
        })
    }

    /// Tells of an event.
    pub(crate) fn report(&self, event: &Event) {
        if self.quiet && event.level() < Level::Warning {
            return;
        }
        let lost = self.lost.get();
        if lost > 0 {
            let event = Event::Warning(format!("{lost} messages of ganger are missing: nobody read stderr"));
            if !self.write(&event) {
                return self.lost.set(lost + 1);
            }
            self.lost.set(0);
        }
        if !self.write(event) {
            self.lost.set(1);
        }
    }

    /// Waits for what is still to be written, if anybody reads it.
    pub(crate) fn finish(self) {
        self.writer.finish();
    }

    fn write(&self, event: &Event) -> bool {
        let lines = match self.format {
            LogFormat::Text => text::lines(event, self.colour, self.seen),
            LogFormat::Json => Some(json::line(event, SystemTime::now())),
        };
        lines.is_none_or(|lines| self.writer.write(lines))
    }
}

/// Writes to stderr, by one call where the system can. Where nobody reads it there is nobody to tell.
pub(crate) fn say(lines: &str) {
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}

/// What stands before a worker's lines, which may say its group (one name a slot): nothing, unless both outputs are a
/// terminal's. A program's output that goes into a file or a pipe stays as it is.
pub(crate) fn prefix(groups: Vec<String>) -> impl Fn(Source) -> String + Send + 'static {
    let terminal = on_terminal();
    let colour = wants_colour(terminal);
    let groups = text::aligned(groups);
    move |source| match terminal {
        true => text::prefix(source, &groups, colour),
        false => String::new(),
    }
}

/// Whether all that is written goes to a person.
fn on_terminal() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// <https://no-color.org>: any value but an empty one.
fn wants_colour(terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl Event {
    fn level(&self) -> Level {
        match self {
            Self::Starting { .. }
            | Self::Note(_)
            | Self::Listening { .. }
            | Self::Ready { .. }
            | Self::Reloaded { refused: 0, .. }
            | Self::Stopping { .. }
            | Self::Ended { verdict: Verdict::Stopped | Verdict::Over { failed: 0 }, .. } => Level::Info,
            Self::Warning(_)
            | Self::BindFailed { .. }
            | Self::Fault { .. }
            | Self::AgentFault { .. }
            | Self::Reloaded { .. }
            | Self::NotReloaded(_)
            | Self::Absent { .. } => Level::Warning,
            Self::Unusable(_) | Self::Failed(_) | Self::Ended { .. } => Level::Error,
            Self::Noticed(noticed) => noticed.level(),
        }
    }
}

impl Noticed {
    fn level(&self) -> Level {
        use ganger::guard::Then;
        match &self.notice {
            Notice::Started { .. } | Notice::WorkerReady { .. } | Notice::GangReady { .. } => Level::Info,
            Notice::Left { .. } | Notice::Reloading { .. } | Notice::ReloadQueued => Level::Info,
            Notice::Scaled { .. }
            | Notice::StopDelayed { .. }
            | Notice::Paused { .. }
            | Notice::Recycled { why: Why::Lifetime, .. } => Level::Info,
            Notice::Died { then: Then::GangEnds, .. } => Level::Error,
            Notice::Died { then, .. } if text::is_work_done(then) => Level::Info,
            Notice::StartFailed { retry_in: None, .. } => Level::Error,
            Notice::Agent(AgentNotice::Started { .. } | AgentNotice::Ready { .. }) => Level::Info,
            Notice::Agent(AgentNotice::Died { then: Then::GangEnds, .. }) => Level::Error,
            Notice::Agent(AgentNotice::StartFailed { retry_in: None, .. }) => Level::Error,
            _ => Level::Warning,
        }
    }
}
