//! The measures of the guard: how soon a dead worker is replaced, and what its death leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::load;
use super::machine::Cpus;
use super::memory::{resident, wait_until_ready, wait_until_said};
use super::server::{Running, SMALL, Server, UNMODIFIED};
use super::statistics::median;
use super::{Measure, Sample, Target, one_by_one};

/// What a worker has to live so that its death is no young one.
const GROWN_UP: Duration = Duration::from_millis(1200);
/// Between two deaths the machine comes to rest.
const REST: Duration = Duration::from_millis(200);
/// Deaths in a sample of a time.
const DEATHS: usize = 8;
/// Workers that die in turn.
const WORKERS: usize = 8;
/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What is measured of deaths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// From a worker's end to its replacement's process.
    Fork,
    /// From the kill of the only worker to the first answer.
    Serve,
}

impl Guard {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Fork, Self::Serve];
}

impl Measure for Guard {
    fn name(&self) -> &'static str {
        match self {
            Self::Fork => "guard-fork",
            Self::Serve => "guard-serve",
        }
    }

    fn about(&self) -> String {
        let what = match self {
            Self::Fork => format!(
                "from a worker's end, as its pidfd tells, to the process of its replacement, as /proc shows it; {WORKERS} workers"
            ),
            Self::Serve => {
                "from kill -9 of the only worker to the first answer to a client who connects at once".into()
            }
        };
        format!("{what}; a value is the median of {DEATHS} deaths")
    }

    fn unit(&self) -> &'static str {
        "µs"
    }

    fn contenders(&self) -> Vec<&'static str> {
        vec![SMALL.name, UNMODIFIED.name]
    }

    fn baseline(&self) -> &'static str {
        SMALL.name
    }

    fn targets(&self) -> Vec<Target> {
        match self {
            Self::Fork => [SMALL, UNMODIFIED].map(|server| Target::below(server.name, 2000.0, "µs")).to_vec(),
            Self::Serve => vec![Target::below(SMALL.name, 25_000.0, "µs")],
        }
    }

    fn prepare(&self, contenders: &[&'static str]) -> Result<()> {
        contenders.iter().try_for_each(|name| Server::named(&[SMALL, UNMODIFIED], name)?.prepare())
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        one_by_one(contenders, |contender| self.sample(contender, cpus))
    }
}

impl Guard {
    fn sample(&self, contender: &str, cpus: &Cpus) -> Result<Sample> {
        let server = Server::named(&[SMALL, UNMODIFIED], contender)?;
        let workers = if *self == Self::Fork { WORKERS } else { 1 };
        let gang = server.start(workers, cpus)?;
        wait_until_ready(&gang)?;
        let mut times = Vec::with_capacity(DEATHS);
        while times.len() < DEATHS {
            thread::sleep(GROWN_UP);
            for worker in children(gang.pid())? {
                let time = match self {
                    Self::Fork => death_to_fork(&gang, worker)?,
                    Self::Serve => death_to_answer(&gang, worker)?,
                };
                times.push(time.as_secs_f64() * 1e6);
                thread::sleep(REST);
            }
        }
        Ok(Sample::of(median(&times)))
    }
}

/// Both ends are watched without a pause, on a CPU of our own: what is measured is at most one look too much.
fn death_to_fork(gang: &Running, worker: i32) -> Result<Duration> {
    let before = children(gang.pid())?;
    let pidfd = pidfd_open(Pid::from_raw(worker).context("no pid")?, PidfdFlags::empty())?;
    let now = Timespec::try_from(Duration::ZERO)?;
    let end = Instant::now() + LIMIT;
    pidfd_send_signal(&pidfd, Signal::KILL).context("cannot kill a worker")?;
    let died = loop {
        if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now))? > 0 {
            break Instant::now();
        }
        if Instant::now() > end {
            bail!("worker {worker} does not die");
        }
    };
    while children(gang.pid())?.is_subset(&before) {
        if Instant::now() > end {
            bail!("worker {worker} is not replaced");
        }
    }
    Ok(died.elapsed())
}

fn death_to_answer(gang: &Running, worker: i32) -> Result<Duration> {
    let killed = Instant::now();
    kill_process(Pid::from_raw(worker).context("no pid")?, Signal::KILL).context("cannot kill a worker")?;
    if !load::answers(gang.address()) {
        bail!("no answer after the death of worker {worker}");
    }
    Ok(killed.elapsed())
}

/// How much more memory the primary uses after ten thousand deaths.
pub(super) struct Deaths;

impl Deaths {
    /// Workers that die at the same time.
    const WORKERS: usize = 200;
    /// Deaths before it is measured for the first time: buffers get their size.
    const WARM_UP: usize = 1000;
    const COUNT: usize = 10_000;
}

impl Measure for Deaths {
    fn name(&self) -> &'static str {
        "guard-memory"
    }

    fn about(&self) -> String {
        format!(
            "resident memory of the primary after {} deaths of {} small Rust workers beyond that after {}",
            Self::WARM_UP + Self::COUNT,
            Self::WORKERS,
            Self::WARM_UP
        )
    }

    fn unit(&self) -> &'static str {
        "KB"
    }

    fn contenders(&self) -> Vec<&'static str> {
        vec![SMALL.name]
    }

    fn baseline(&self) -> &'static str {
        SMALL.name
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::below(SMALL.name, 1000.0, "KB")]
    }

    /// It takes minutes.
    fn rounds(&self, _: u64) -> u64 {
        1
    }

    fn pinning(&self, cpus: &Cpus) -> String {
        cpus.server_alone()
    }

    fn prepare(&self, _: &[&'static str]) -> Result<()> {
        SMALL.prepare()
    }

    fn round(&self, contenders: &[&str], cpus: &Cpus) -> Result<Vec<Sample>> {
        one_by_one(contenders, |contender| self.sample(contender, cpus))
    }
}

impl Deaths {
    fn sample(&self, _: &str, cpus: &Cpus) -> Result<Sample> {
        let gang = SMALL.start(Self::WORKERS, cpus)?;
        wait_until_ready(&gang)?;
        let mut deaths = 0;
        let mut die = |count| {
            for _ in 0..count / Self::WORKERS {
                thread::sleep(GROWN_UP);
                for worker in children(gang.pid())? {
                    kill_process(Pid::from_raw(worker).context("no pid")?, Signal::KILL)?;
                }
                deaths += Self::WORKERS;
                wait_until_said(&gang, ") is ready after ", deaths)?;
            }
            resident(gang.pid())
        };
        let before = die(Self::WARM_UP)?;
        let after = die(Self::COUNT)?;
        Ok(Sample::of((after - before) / 1000.0))
    }
}

/// The child processes of a process.
fn children(pid: u32) -> Result<BTreeSet<i32>> {
    let mut children = BTreeSet::new();
    let directory = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&directory).with_context(|| format!("cannot read {directory}"))? {
        let path = thread?.path().join("children");
        // A thread may end while we look.
        let Ok(list) = fs::read_to_string(&path) else { continue };
        children.extend(list.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(children)
}
