//! `ganger run`: the gang in the foreground, from what was typed to the exit status.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use ganger::cluster::{self, Group, Policy, Primary};
use ganger::guard::{
    self, AgentNotice, DeathReport, Guard, Newcomer, Notice, Output, Report, Then, Unfit, Verdict,
};
use ganger::process::Stdio;
use ganger::{AgentId, WorkerId};

use crate::args::{self, Run};
use crate::config::Config;
use crate::plan::{self, Options, Plan};
use crate::program::{Note, Unusable};
use crate::report::{self, Event, Noticed, Reporter, Starting};
use crate::signals::{Request, Signals};
use crate::{FAILED, USAGE};

/// The keys whose new values new workers get in a reload; the name is compared as it comes out.
const RELOADED: [&str; 8] =
    ["workers", "env", "agent", "runtime", "no-restart-codes", "no-hints", "graceful", "name"];

/// Runs the gang until it ends. `line` is the whole command line, `typed` what it says.
pub(crate) fn run(typed: &Run, line: &[OsString]) -> ExitCode {
    let configured = configure(typed, line);
    let options = configured.as_ref().ok().and_then(|(_, options)| options.as_ref()).unwrap_or(typed);
    let reporter = match Reporter::new(options.log_format, options.quiet) {
        Ok(reporter) => reporter,
        Err(error) => {
            report::say(&format!("ganger: cannot start a thread: {error}\n"));
            return ExitCode::from(FAILED);
        }
    };
    let options = Options { all: options, typed, line };
    let verdict = match &configured {
        Ok((config, _)) => supervise(options, config.as_ref(), &reporter),
        Err(error) => Err(Unusable::new(error.to_string()).into()),
    };
    let code = match verdict {
        Ok(Verdict::Stopped | Verdict::Over { failed: 0 }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) if error.is::<Unusable>() => {
            reporter.report(&Event::Unusable(error.to_string()));
            ExitCode::from(USAGE)
        }
        Err(error) => {
            reporter.report(&Event::Failed(format!("{error:#}")));
            ExitCode::from(FAILED)
        }
    };
    reporter.finish();
    code
}

/// The file that says what is run, and all options together, if it is not what was typed.
fn configure(typed: &Run, line: &[OsString]) -> Result<(Option<Config>, Option<Run>)> {
    let Some(config) = plan::config(typed, &here()?)? else { return Ok((None, None)) };
    let options = args::keys::with_options_of_file(line, &config.options);
    let options = options.map_err(|error| Unusable::new(args::brief(&error)))?;
    Ok((Some(config), Some(options)))
}

fn here() -> Result<PathBuf> {
    std::env::current_dir().context("the working directory is gone")
}

fn supervise(options: Options<'_>, config: Option<&Config>, reporter: &Reporter) -> Result<Verdict> {
    // A limit that cannot be raised is only smaller than it could be.
    let _ = ganger::sys::fd::raise_nofile();
    let plan = Plan::new(options, config, &here()?)?;
    if let Some(option) = args::misplaced(options.line, &options.typed.command) {
        reporter.report(&Event::Warning(format!(
            "{0} stands behind the program and goes to it: write ganger's options before it, or `--` before \
             it if {0} is the program's",
            option.display()
        )));
    }
    if let Some(config) = config {
        reporter.report(&Event::Note(format!("{} says what is run", config.shown)));
    }
    for note in plan.notes() {
        reporter.report(&match note {
            Note::Info(text) => Event::Note(text.clone()),
            Note::Warning(text) => Event::Warning(text.clone()),
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make the event loop")?;
    runtime.block_on(async {
        let signals = Signals::new().context("cannot listen to signals")?;
        let guard = start(options.all, &plan, reporter)?;
        let of_file = config.map(|config| config.options.clone()).unwrap_or_default();
        let gang = Gang::new(guard, options, of_file, reporter);
        Ok(gang.until_its_end(signals).await)
    })
}

/// Sets the gang up; its workers are started when it is awaited.
fn start(options: &Run, plan: &Plan, reporter: &Reporter) -> Result<Guard> {
    let mut settings = plan.settings();
    settings.policy = options.schedule.clone().unwrap_or_else(|| inherited_policy(reporter));
    settings.output = Stdio::Pipe;
    settings.messenger = options.messenger;
    settings.hints = !options.no_hints;
    settings.graceful = options.graceful;

    let mut config = guard::Config::default();
    config.workers = settings.slots();
    config.ready = options.ready;
    config.start_timeout = options.start_timeout;
    config.probe.clone_from(&options.probe);
    config.stop_timeout = options.stop_timeout;
    config.drain_delay = options.drain_delay;
    config.drain_timeout = options.drain_timeout;
    config.batch = options.batch;
    config.max_draining = options.max_draining;
    config.watchdog = options.watchdog;
    config.max_memory = options.max_memory;
    config.max_lifetime = options.max_lifetime;
    config.restart = options.restart;
    config.restart_limit = options.restart_limit.0;
    config.seed = seed();

    reporter.report(&Event::Starting {
        name: settings.name.clone(),
        policy: settings.policy.clone(),
        parts: plan.parts.iter().map(Starting::of).collect(),
    });
    let primary = Primary::new(settings).context("cannot start the primary")?;
    let output = Output::new(report::prefix(plan.groups())).context("cannot pass on the workers' output")?;
    Ok(Guard::new(primary, config, Some(output)))
}

fn inherited_policy(reporter: &Reporter) -> Policy {
    cluster::inherited_policy().unwrap_or_else(|name| {
        // Node says nothing and takes its default.
        reporter.report(&Event::Warning(format!("{name} is neither rr nor none: the schedule is rr")));
        Policy::default()
    })
}

/// Whether each slot has the group that it had: only of the last one may there be more or fewer. A worker has to listen where its
/// predecessor does, which another group's never would.
fn is_continued(was: &[Group], now: &[Group]) -> bool {
    let last = was.len().saturating_sub(1);
    let is_same = |(at, (was, now)): (usize, (&Group, &Group))| {
        was.name == now.name && (was.workers == now.workers || at == last)
    };
    was.len() == now.len() && was.iter().zip(now).enumerate().all(is_same)
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs() << 32 ^ u64::from(std::process::id())
}

/// A running gang and what is told about it.
struct Gang<'a> {
    guard: Guard,
    reporter: &'a Reporter,
    /// Workers that were started and whose death was not told yet.
    alive: BTreeSet<WorkerId>,
    /// Those among them that have been ready.
    ready: BTreeSet<WorkerId>,
    /// Whether every slot has been ready.
    complete: bool,
    /// The last agent that was ready.
    ready_agent: Option<AgentId>,
    /// Workers that could not listen, which was told.
    portless: BTreeSet<WorkerId>,
    /// Whether a socket was asked for by way of the cluster.
    shares: bool,
    stopping: Option<Instant>,
    /// What was typed, to be read again for a reload.
    typed: &'a Run,
    line: &'a [OsString],
    /// The options that the file had at the start.
    of_file: Vec<OsString>,
    /// Connections that nobody served, when the last reload began.
    unserved: u64,
}

impl<'a> Gang<'a> {
    fn new(guard: Guard, options: Options<'a>, of_file: Vec<OsString>, reporter: &'a Reporter) -> Self {
        let Options { typed, line, .. } = options;
        let (alive, ready, portless) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self {
            guard,
            reporter,
            alive,
            ready,
            portless,
            complete: false,
            ready_agent: None,
            shares: false,
            stopping: None,
            typed,
            line,
            of_file,
            unserved: 0,
        }
    }

    async fn until_its_end(mut self, mut signals: Signals) -> Verdict {
        loop {
            tokio::select! {
                request = signals.next() => self.requested(request),
                report = self.guard.next() => match report {
                    Some(Report::End(verdict)) => {
                        let after = self.stopping.map(|since| since.elapsed()).unwrap_or_default();
                        self.reporter.report(&Event::Ended { verdict, after });
                        return verdict;
                    }
                    Some(report) => self.reported(report),
                    None => return Verdict::Stopped,
                },
            }
        }
    }

    /// A worker's process, and its group's name if there are groups.
    fn known(&self, worker: WorkerId) -> (Option<i32>, Option<String>) {
        let info = self.guard.worker(worker);
        let group = info.and_then(|info| self.guard.settings().groups.get(info.group));
        let group = group.map(|group| group.name.clone());
        (info.map(|info| info.pid), group)
    }

    fn requested(&mut self, request: Request) {
        match request {
            Request::Stop(signal) => {
                let at_once = self.stopping.is_some();
                self.stopping.get_or_insert_with(Instant::now);
                // All that there are, also those whose start was not told yet.
                let workers = self.guard.primary().workers().count();
                self.reporter.report(&Event::Stopping { signal, workers, at_once });
                self.guard.stop();
            }
            Request::Reload => {
                if let Err(error) = self.reload() {
                    self.reporter.report(&Event::NotReloaded(format!("{error:#}")));
                }
            }
            Request::More => self.guard.scale(self.guard.slots().saturating_add(1).min(args::MOST_WORKERS)),
            Request::Fewer => self.guard.scale(self.guard.slots().saturating_sub(1)),
            Request::Absent { signal, meaning } => {
                self.reporter.report(&Event::Absent { signal, meaning });
            }
        }
    }

    /// Reads everything again that says what is run, and replaces the workers.
    fn reload(&mut self) -> Result<()> {
        let (config, options) = configure(self.typed, self.line)?;
        let all = options.as_ref().unwrap_or(self.typed);
        let options = Options { all, typed: self.typed, line: self.line };
        let plan = Plan::new(options, config.as_ref(), &here()?)?;
        let now = plan.settings();
        let of_file = config.as_ref().map_or(&[][..], |config| &config.options);
        let mut changed = args::keys::changed(self.line, &self.of_file, of_file);
        changed.retain(|key| !RELOADED.contains(&key.as_str()));
        let was = self.guard.settings();
        let keeps_agent = was.agent.is_some() != now.agent.is_some();
        let keeps_groups = !is_continued(&was.groups, &now.groups);
        for (differs, what) in [
            (was.name != now.name, "the gang's name"),
            (keeps_agent, "agent (that there is one)"),
            (keeps_groups, "[[worker]] (which groups there are, and their counts but the last one's)"),
        ] {
            if differs {
                changed.push(what.into());
            }
        }
        if !changed.is_empty() {
            self.reporter.report(&Event::Warning(format!(
                "a restart is needed for what has changed of {}: until then it is as it was",
                changed.join(", ")
            )));
        }
        let (hints, graceful) = (!all.no_hints, all.graceful);
        self.guard.reload_with(move |settings| {
            if !keeps_groups {
                settings.workers = now.workers;
                settings.groups = now.groups;
                settings.program = now.program;
                settings.channel = now.channel;
                settings.args = now.args;
                settings.no_restart_codes = now.no_restart_codes;
            }
            settings.env = now.env;
            (settings.hints, settings.graceful) = (hints, graceful);
            settings.cwd = now.cwd;
            if !keeps_agent {
                settings.agent = now.agent;
            }
        });
        Ok(())
    }

    fn reported(&mut self, report: Report) {
        let event = match report {
            Report::Notice { notice, death } => return self.noticed(notice, death),
            Report::Listening { address } => {
                self.shares = true;
                Event::Listening { address }
            }
            Report::BindFailed { worker, address, error } => {
                self.shares = true;
                self.portless.insert(worker);
                let (pid, group) = self.known(worker);
                Event::BindFailed { worker, pid, group, address, error }
            }
            Report::Fault { worker, fault } => {
                let (pid, group) = self.known(worker);
                Event::Fault { worker, pid, group, fault }
            }
            Report::NoPlace { error } => Event::Warning(format!(
                "there is no place for a directory of ganger's own ({error}): workers run without hints, and what they \
                 would say to NOTIFY_SOCKET is not heard; give ganger a TMPDIR that only its user can change"
            )),
            Report::NoSurvey { error } => Event::Warning(format!(
                "the kernel does not tell which connections are open ({error}): of workers that do not report it \
                 least-conn counts only what they have not answered for; load the kernel's tcp_diag, or let ganger open sockets of the family netlink"
            )),
            Report::AgentFault { agent, fault } => Event::AgentFault { pid: agent.pid, fault },
            // A worker's messages are for the program's own primary, and this one has nothing to say to them.
            _ => return,
        };
        self.reporter.report(&event);
    }

    /// How many connections nobody served.
    fn unserved(&mut self) -> u64 {
        let counters = self.guard.primary().snapshot().counters;
        counters.refused + counters.orphaned + counters.broken
    }

    fn noticed(&mut self, notice: Notice, death: Option<Box<DeathReport>>) {
        let mut last_words = death.as_ref().map(|death| death.last_words.clone()).unwrap_or_default();
        let opens_its_port = !self.shares
            && self.alive.len() > 1
            && report::gist(&last_words).is_some_and(|gist| report::says_address_in_use(&gist));
        let mut was_ready = false;
        let worker = match &notice {
            Notice::Started { worker, .. } => {
                self.alive.insert(*worker);
                Some(*worker)
            }
            Notice::WorkerReady { worker, .. } => {
                self.ready.insert(*worker);
                Some(*worker)
            }
            Notice::Died { worker, then, .. } => {
                self.alive.remove(worker);
                if self.portless.remove(worker) {
                    // Why it died has been said, and shorter.
                    last_words.clear();
                }
                was_ready = self.ready.remove(worker);
                if let Then::ReplacedBy(next) = then {
                    self.alive.insert(*next);
                }
                Some(*worker)
            }
            Notice::Left { worker, .. } => {
                self.alive.remove(worker);
                was_ready = self.ready.remove(worker);
                Some(*worker)
            }
            Notice::ReloadFailed {
                who: Newcomer::Worker { worker: Some(worker), .. },
                unfit: Unfit::Died { .. },
                ..
            }
            | Notice::NotRecycled { heir: Some(worker), unfit: Unfit::Died { .. }, .. } => {
                self.alive.remove(worker);
                Some(*worker)
            }
            Notice::ReloadFailed { who: Newcomer::Worker { worker, .. }, .. } => *worker,
            Notice::NoSign { worker, .. }
            | Notice::NotReadyYet { worker, .. }
            | Notice::Ill { worker, .. }
            | Notice::Killed { worker, .. }
            | Notice::Recycled { worker, .. }
            | Notice::NotRecycled { worker, .. }
            | Notice::Silent { worker, .. }
            | Notice::Answers { worker, .. } => Some(*worker),
            Notice::Reloading { .. } => {
                self.unserved = self.unserved();
                None
            }
            Notice::Reloaded { workers, after, draining } => {
                let refused = self.unserved() - self.unserved;
                let (workers, after, draining) = (*workers, *after, *draining);
                return self.reporter.report(&Event::Reloaded { workers, after, refused, draining });
            }
            Notice::GangReady { workers, after } => {
                let pids = self.ready.iter().filter_map(|worker| self.known(*worker).0).collect();
                let event = Event::Ready { workers: *workers, after: *after, pids };
                self.complete = true;
                return self.reporter.report(&event);
            }
            _ => None,
        };
        let (mut pid, group) = worker.map(|worker| self.known(worker)).unwrap_or_default();
        if let Notice::ReloadFailed { who: Newcomer::Agent(Some(agent)), .. } = &notice {
            pid = self.guard.agent_pid(*agent);
        }
        if let Notice::Agent(notice) = &notice {
            let agent = agent_of(notice);
            pid = agent.and_then(|agent| self.guard.agent_pid(agent));
            was_ready = agent.is_some() && agent == self.ready_agent;
            if matches!(notice, AgentNotice::Ready { .. }) {
                self.ready_agent = agent;
            }
        }
        self.reporter.report(&Event::Noticed(Noticed {
            notice,
            pid,
            group,
            was_ready,
            last_words,
            death,
            complete: self.complete,
        }));
        if opens_its_port {
            let text = "the program opens its port by itself, which only one process can: run it with -n 1";
            self.reporter.report(&Event::Warning(text.into()));
        }
    }
}

/// Which agent it is about.
fn agent_of(notice: &AgentNotice) -> Option<AgentId> {
    match notice {
        AgentNotice::Started { agent }
        | AgentNotice::Ready { agent, .. }
        | AgentNotice::NoSign { agent, .. }
        | AgentNotice::Died { agent, .. }
        | AgentNotice::Ill { agent, .. }
        | AgentNotice::Killed { agent, .. } => Some(*agent),
        _ => None,
    }
}
