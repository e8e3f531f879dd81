//! What can only be seen of a process while it lives: its memory, second by second, what the kernel has killed in its cgroup, what it
//! was doing when we killed it.

use std::{collections::BTreeMap, time::Duration};

use ganger_proto::{Time, WorkerId, cluster::Held};

use super::{Guard, Source};
use crate::{
    clock,
    process::Exit,
    sys::{cgroup::MemoryGroup, evidence::Evidence, process::resident},
};

/// So often everybody is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// So many looks are remembered: those of the last minute.
const REMEMBERED: usize = 60;

const KILL: i32 = rustix::process::Signal::KILL.as_raw();
/// What a shell says of a program that was killed.
const KILLED_IN_A_SHELL: i32 = 128 + KILL;

/// The processes of a gang.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    living: BTreeMap<Source, Vital>,
    /// Those whose death was not told yet.
    dead: BTreeMap<Source, Remains>,
    next: Option<Time>,
}

/// One process.
#[derive(Debug)]
struct Vital {
    pid: i32,
    /// The memory cgroup that it is in, and how many kills there are not its own.
    group: Option<(MemoryGroup, u64)>,
    /// Its resident memory in bytes, the oldest first.
    memory: Vec<u64>,
    /// What it said last of what it does.
    status: Option<String>,
    /// How long its last answer took.
    lag: Option<Duration>,
    evidence: Option<Evidence>,
}

/// What is left of one.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) pid: i32,
    pub(super) exit: Exit,
    pub(super) held: Held,
    pub(super) memory: Vec<u64>,
    pub(super) status: Option<String>,
    pub(super) evidence: Option<Evidence>,
}

/// A process was killed in a cgroup where memory had run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfMemory {
    /// The cgroup's limit in bytes.
    pub(super) limit: Option<u64>,
}

impl Guard {
    /// How long a worker took for its last answer to the question whether it is there: the delay of its event loop. Of a worker that
    /// is neither Node nor of this library it is the age that the oldest connection had for which it owed an answer. It is asked
    /// each 5 s, or twice in the [watchdog](super::Config::watchdog)'s time if that is more often. None before the first
    /// answer, for one that is not asked (it says by itself that it is there, or is being debugged), and when it is dead.
    pub fn lag(&self, worker: WorkerId) -> Option<Duration> {
        let slot = self.workers.get(&worker)?.slot;
        self.vitals.living.get(&Source::Worker(worker, slot))?.lag
    }
}

impl Vitals {
    /// When [`look`](Self::look) wants to be called.
    pub(super) fn next(&self) -> Option<Time> {
        self.next
    }

    /// A process was started.
    pub(super) fn started(&mut self, source: Source, pid: i32) {
        self.living.insert(source, Vital::new(pid, group_of(pid)));
        self.next.get_or_insert(clock::now() + EVERY);
    }

    /// Looks at everybody, if it is time. Whether it was.
    pub(super) fn look(&mut self) -> bool {
        let now = clock::now();
        if self.next.is_none_or(|at| at > now) {
            return false;
        }
        for vital in self.living.values_mut() {
            vital.look();
        }
        self.next = (!self.living.is_empty()).then_some(now + EVERY);
        true
    }

    /// What the workers used at the last look, in bytes.
    pub(super) fn memory(&self) -> impl Iterator<Item = (WorkerId, u64)> + '_ {
        self.living.iter().filter_map(|(source, vital)| match source {
            Source::Worker(worker, _) => Some((*worker, *vital.memory.last()?)),
            Source::Agent(_) => None,
        })
    }

    /// A process says what it is doing.
    pub(super) fn says(&mut self, source: Source, status: String) {
        if let Some(vital) = self.living.get_mut(&source) {
            vital.status = Some(status).filter(|status| !status.is_empty());
        }
    }

    /// A process has answered the question whether it is there.
    pub(super) fn answered(&mut self, source: Source, lag: Duration) {
        if let Some(vital) = self.living.get_mut(&source) {
            vital.lag = Some(lag);
        }
    }

    /// A process is about to be killed, by us.
    pub(super) fn killing(&mut self, source: Source) {
        if let Some(vital) = self.living.get_mut(&source) {
            vital.evidence = Evidence::of(vital.pid);
        }
    }

    /// A process has ended. Whether the kernel has killed somebody for memory where it was, and it may have been this one.
    pub(super) fn ended(&mut self, source: Source, exit: Exit, held: Held) -> Option<OutOfMemory> {
        let Vital { pid, group, memory, status, evidence, .. } = self.living.remove(&source)?;
        self.dead.insert(source, Remains { pid, exit, held, memory, status, evidence });
        let was_killed = match exit {
            Exit::Signal { signal, .. } => signal == KILL,
            Exit::Code(code) => code == KILLED_IN_A_SHELL,
        };
        let (group, known) = group.filter(|_| was_killed)?;
        let kills = group.oom_kills()?;
        if kills <= known {
            return None;
        }
        // One kill has one victim: it does not explain another death. Who was started after all of them knows them already.
        for (other, known) in self.living.values_mut().filter_map(|vital| vital.group.as_mut()) {
            if *other == group && *known < kills {
                *known += 1;
            }
        }
        Some(OutOfMemory { limit: group.limit() })
    }

    /// What is left of one, once.
    pub(super) fn take(&mut self, source: Source) -> Option<Remains> {
        self.dead.remove(&source)
    }

    /// Whose death was to be told has been told of.
    pub(super) fn forget_the_dead(&mut self) {
        self.dead.clear();
    }
}

impl Vital {
    fn new(pid: i32, group: Option<(MemoryGroup, u64)>) -> Self {
        Self { pid, group, memory: Vec::new(), status: None, lag: None, evidence: None }
    }

    fn look(&mut self) {
        let Some(used) = resident(self.pid).filter(|used| *used > 0) else { return };
        if self.memory.len() < REMEMBERED {
            // Some move into a cgroup of their own, in their first seconds.
            let group = group_of(self.pid);
            let path = |group: &Option<(MemoryGroup, u64)>| group.as_ref().map(|(group, _)| group.clone());
            if path(&group) != path(&self.group) {
                self.group = group;
            }
        } else {
            self.memory.remove(0);
        }
        self.memory.push(used);
    }
}

fn group_of(pid: i32) -> Option<(MemoryGroup, u64)> {
    let group = MemoryGroup::of(pid)?;
    let kills = group.oom_kills()?;
    Some((group, kills))
}

#[cfg(test)]
mod tests {
    use ganger_proto::{Slot, WorkerId};

    use super::*;

    fn source(id: u32) -> Source {
        Source::Worker(WorkerId(id), Slot(0))
    }

    #[test]
    fn memory_is_kept_for_a_minute_and_no_longer() {
        let pid = std::process::id().cast_signed();
        let mut vital = Vital::new(pid, None);
        for _ in 0..REMEMBERED + 5 {
            vital.look();
        }
        assert_eq!(vital.memory.len(), REMEMBERED);
        assert!(vital.memory.iter().all(|used| *used > 64 * 1024));
        assert!(vital.group.is_some());
    }

    /// A replacement may be started when a channel closes, before the death is seen.
    #[test]
    fn a_kill_explains_one_death_also_beside_a_worker_that_was_started_between_the_two() {
        let machine = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = machine.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let kills = |count| write("sys/fs/cgroup/memory.events", &format!("oom_kill {count}\n"));
        write("proc/7/cgroup", "0::/\n");
        kills(0);
        let group = MemoryGroup::below(machine.path(), "7").unwrap();
        let mut vitals = Vitals::default();
        let start = |vitals: &mut Vitals, id| {
            let group = Some((group.clone(), group.oom_kills().unwrap()));
            vitals.living.insert(source(id), Vital::new(7, group));
        };
        let dies = |vitals: &mut Vitals, id| {
            let killed = Exit::Signal { signal: KILL, core_dumped: false };
            vitals.ended(source(id), killed, Held::default()).is_some()
        };
        start(&mut vitals, 1);
        start(&mut vitals, 2);
        kills(1);
        start(&mut vitals, 3);
        assert!(dies(&mut vitals, 1));
        kills(2);
        start(&mut vitals, 4);
        assert!(dies(&mut vitals, 3), "it had its own kill");
        assert!(!dies(&mut vitals, 2), "both kills had their victims");
        assert!(!dies(&mut vitals, 4));
        start(&mut vitals, 5);
        start(&mut vitals, 6);
        kills(4);
        start(&mut vitals, 7);
        assert!(dies(&mut vitals, 5) && dies(&mut vitals, 6) && !dies(&mut vitals, 7), "two at a time");
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let mut vitals = Vitals::default();
        vitals.started(source(1), std::process::id().cast_signed());
        vitals.started(source(2), std::process::id().cast_signed());
        assert!(vitals.next().is_some());
        let killed = Exit::Signal { signal: KILL, core_dumped: false };
        assert_eq!(vitals.ended(source(1), killed, Held::default()), None, "nothing was killed for memory");
        assert_eq!(vitals.ended(source(2), Exit::Code(0), Held::default()), None);
        assert!(vitals.take(source(1)).is_some());
        assert!(vitals.take(source(1)).is_none());
        vitals.forget_the_dead();
        assert!(vitals.take(source(2)).is_none());
        assert_eq!(vitals.ended(source(2), killed, Held::default()), None);
    }
}
