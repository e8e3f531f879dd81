//! A gang under `ganger run`: what it says, as events, and the workers that it has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use crate::process;

/// Longer than anything that is waited for may take: a drain is over after a minute, whatever happens.
const PATIENCE: Duration = Duration::from_secs(90);
/// A stop takes 25 s at most.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A gang that runs. Dropped, it is killed, and its workers with it.
pub(super) struct Gang {
    child: Child,
    events: Receiver<Event>,
    said: Arc<Said>,
    /// Where it listens.
    pub(super) port: u16,
    /// Those that are ready, also while they are on their way out, by their pids.
    pub(super) workers: BTreeMap<i32, Worker>,
    /// Events that a gang has no reason for.
    pub(super) unexpected: Vec<Event>,
    /// The deaths that were told.
    pub(super) deaths: Vec<Event>,
    /// Whether workers die because we want them to.
    deadly: bool,
}

/// A worker that is ready.
pub(super) struct Worker {
    pub(super) pidfd: OwnedFd,
    pub(super) ready: Instant,
}

/// Something that the gang has told.
#[derive(Clone)]
pub(super) struct Event {
    pub(super) at: Instant,
    value: Value,
}

/// All that it wrote, with the time when it came.
#[derive(Default)]
pub(super) struct Said(Mutex<Vec<(Instant, String)>>);

impl Gang {
    /// Starts it; returns when every worker is ready. `deadly` says that workers are going to die.
    pub(super) fn start(mut command: Command, log: &Path, deadly: bool) -> Result<Self> {
        let file = || File::create(log).with_context(|| format!("cannot write {}", log.display()));
        let file = file()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let said = Arc::new(Said::default());
        let (sender, events) = mpsc::channel();
        let lines = said.clone();
        thread::spawn(move || lines.collect(stderr, file, &sender));
        let mut gang = Self {
            child,
            events,
            said,
            port: 0,
            workers: BTreeMap::new(),
            unexpected: Vec::new(),
            deaths: Vec::new(),
            deadly,
        };
        let listening = gang.wait("a line that says where it listens", |event| event.is("listening"))?;
        let port = listening.text("address").rsplit(':').next().and_then(|port| port.parse().ok());
        gang.port = port.context("no port in the address")?;
        gang.wait("all workers to be ready", |event| event.is("ready"))?;
        Ok(gang)
    }

    /// The primary's process.
    pub(super) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// All that it wrote so far.
    pub(super) fn said(&self) -> &Arc<Said> {
        &self.said
    }

    /// Sends the primary a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("cannot signal the primary")
    }

    /// The first event that is wanted; meanwhile the others are heeded.
    pub(super) fn wait(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Result<Event> {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(event) = self.next(until)? else {
                bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
            };
            if wanted(&event) {
                return Ok(event);
            }
        }
    }

    /// Waits until so many workers are there, and none on its way out.
    pub(super) fn settle(&mut self, workers: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.workers.len() != workers {
            if self.next(until)?.is_none() {
                let left = self.workers.len();
                bail!("{left} workers are left after {} s, not {workers}", PATIENCE.as_secs());
            }
        }
        Ok(())
    }

    /// Heeds what the gang tells for so long.
    pub(super) fn pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while self.next(until)?.is_some() {}
        Ok(())
    }

    /// Ends it as one does; an error if it does not end well.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = process::wait(&mut self.child, STOP_LIMIT)?;
        let status =
            status.with_context(|| format!("it has not ended {} s after TERM", STOP_LIMIT.as_secs()))?;
        ensure!(status.success(), "it ended with {status} after TERM");
        Ok(())
    }

    /// The next event; none if there is none until then.
    fn next(&mut self, until: Instant) -> Result<Option<Event>> {
        let left = until.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(event) => {
                self.heed(&event)?;
                Ok(Some(event))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let status = process::wait(&mut self.child, STOP_LIMIT)?;
                bail!("the gang has ended by itself: {}", status.map_or("it lives".into(), |s| s.to_string()))
            }
        }
    }

    fn heed(&mut self, event: &Event) -> Result<()> {
        match event.name() {
            "worker-ready" => {
                let pid = event.pid().context("a ready worker without a pid")?;
                // It may have died meanwhile, which is told next.
                if let Ok(pidfd) = pidfd_open(pid_of(pid)?, PidfdFlags::empty()) {
                    self.workers.insert(pid, Worker { pidfd, ready: event.at });
                }
            }
            "worker-left" => drop(event.pid().map(|pid| self.workers.remove(&pid))),
            "worker-died" => {
                event.pid().map(|pid| self.workers.remove(&pid));
                self.deaths.push(event.clone());
                if !self.deadly {
                    self.unexpected.push(event.clone());
                }
            }
            "worker-killed" | "worker-fault" | "start-failed" | "restarts-spaced" | "bind-failed"
            | "failed" | "ended" => self.unexpected.push(event.clone()),
            _ => {}
        }
        Ok(())
    }
}

impl Drop for Gang {
    fn drop(&mut self) {
        // Its workers die with it. It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Event {
    pub(super) fn name(&self) -> &str {
        self.text("event")
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name() == name
    }

    /// A field that is text; empty if there is none.
    pub(super) fn text(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or_default()
    }

    /// A field that is a number; none if there is none.
    pub(super) fn number(&self, field: &str) -> Option<i64> {
        self.value[field].as_i64()
    }

    pub(super) fn pid(&self) -> Option<i32> {
        i32::try_from(self.number("pid")?).ok()
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", shortened(&self.value.to_string()))
    }
}

impl Said {
    /// Reads to the end; keeps everything, passes on what is an event.
    fn collect(&self, stderr: impl BufRead, mut log: File, events: &mpsc::Sender<Event>) {
        for line in stderr.lines().map_while(Result::ok) {
            let at = Instant::now();
            // What cannot be written is only missing in the file.
            let _ = writeln!(log, "{line}");
            let event: Option<Value> =
                line.starts_with('{').then(|| serde_json::from_str(&line).ok()).flatten();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((at, line));
            if let Some(value) = event.filter(|value| value["event"].is_string()) {
                // Nobody may wait for it any more.
                let _ = events.send(Event { at, value });
            }
        }
    }

    /// What it wrote so long before and after a moment, each line with its distance in seconds.
    pub(super) fn around(&self, moment: Instant, distance: Duration) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let near = lines.iter().filter_map(|(at, line)| {
            let (sign, gap) = match at.checked_duration_since(moment) {
                Some(after) => ('+', after),
                None => ('-', moment - *at),
            };
            (gap <= distance).then(|| format!("{sign}{:.3} {}", gap.as_secs_f64(), shortened(line)))
        });
        near.collect()
    }
}

/// A line of which the end does not matter.
fn shortened(line: &str) -> String {
    const MOST: usize = 400;
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

fn pid_of(pid: i32) -> Result<Pid> {
    Pid::from_raw(pid).context("0 is no process")
}
