//! The memory cgroup that a process is in, in both versions: what the kernel killed in it, its limit, its usage.
//! Nothing here changes anything.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Limits from here on mean none: version 1 writes the largest number of pages there is.
const UNLIMITED: u64 = 1 << 60;

/// A memory cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryGroup {
    version: Version,
    /// Its directory.
    path: PathBuf,
    /// The hierarchy that it is in: the topmost directory that can be seen.
    mount: PathBuf,
    /// Where the kernel counts for the whole machine.
    machine: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryGroup {
    /// The one that process `pid` is in. `None` if there is no such process, or the machine has no cgroups.
    pub fn of(pid: i32) -> Option<Self> {
        Self::below(Path::new("/"), &pid.to_string())
    }

    /// The one that this process is in.
    pub fn own() -> Option<Self> {
        Self::below(Path::new("/"), "self")
    }

    /// The same on a machine whose `/proc` and `/sys` are below `root`; `process` is a name below `proc`.
    pub fn below(root: &Path, process: &str) -> Option<Self> {
        let groups = fs::read_to_string(root.join("proc").join(process).join("cgroup")).ok()?;
        let named = |wanted: fn(&str) -> bool| {
            let fields = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            fields.into_iter().find(|(controllers, _)| wanted(controllers)).map(|(_, path)| path)
        };
        // Where the controller of version 1 is in use, the other hierarchy does not have it.
        let first = named(|controllers| controllers.split(',').any(|controller| controller == "memory"));
        let (version, mount, path) = match first {
            Some(path) => (Version::One, "sys/fs/cgroup/memory", path),
            None => (Version::Two, "sys/fs/cgroup", named(str::is_empty)?),
        };
        let mount = root.join(mount);
        // In a container the path may be the host's and not be there: what is above it is. Or it leads out of what can be seen.
        let path = path.trim_start_matches('/');
        let path = if path.starts_with("..") { mount.clone() } else { mount.join(path) };
        let path = path.ancestors().take_while(|path| path.starts_with(&mount)).find(|path| path.is_dir())?;
        Some(Self { version, path: path.into(), mount, machine: root.join("proc/vmstat") })
    }

    /// How many processes the kernel has killed in it because memory had run out, in it or in the machine. `None` where
    /// that is not counted (Linux before 4.13), or when the group has been removed.
    pub fn oom_kills(&self) -> Option<u64> {
        let of = |path: &Path| count(path, "oom_kill");
        match self.version {
            _ if !self.path.is_dir() => return None,
            Version::One => of(&self.path.join("memory.oom_control")),
            // The topmost group counts nothing, and one without the controller leaves it to the one above it. The other file
            // counts the groups in a group too.
            Version::Two => self
                .upwards("memory.events.local")
                .find_map(|local| of(&local).or_else(|| of(&local.with_file_name("memory.events")))),
        }
        .or_else(|| of(&self.machine))
    }

    /// The smallest limit of it and those above it, in bytes. `None` if there is none.
    pub fn limit(&self) -> Option<u64> {
        let limits = self.upwards(self.file("memory.limit_in_bytes", "memory.max"));
        limits.filter_map(|path| number(&path)).filter(|limit| *limit < UNLIMITED).min()
    }

    /// What is used in it, in bytes, files in memory included.
    pub fn usage(&self) -> Option<u64> {
        number(&self.path.join(self.file("memory.usage_in_bytes", "memory.current")))
    }

    fn file(&self, one: &'static str, two: &'static str) -> &'static str {
        match self.version {
            Version::One => one,
            Version::Two => two,
        }
    }

    /// A file of it, and the same of those above it.
    fn upwards(&self, file: &'static str) -> impl Iterator<Item = PathBuf> + '_ {
        let groups = self.path.ancestors().take_while(|path| path.starts_with(&self.mount));
        groups.map(move |path| path.join(file))
    }
}

/// `max` is no number.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line `name number` of a file.
fn count(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        /// With this in the process's `cgroup`.
        fn new(groups: &str) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            machine.write("proc/7/cgroup", groups);
            machine
        }

        fn write(&self, path: &str, text: &str) -> &Self {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn group(&self) -> Option<MemoryGroup> {
            MemoryGroup::below(self.0.path(), "7")
        }
    }

    const EVENTS: &str = "low 0\nhigh 3\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n";

    #[test]
    fn version_2() {
        let machine = Machine::new("0::/app.slice/web\n");
        assert_eq!(machine.group(), None);
        machine.write("sys/fs/cgroup/cgroup.controllers", "");
        let group = machine.group().unwrap();
        assert_eq!((group.oom_kills(), group.limit(), group.usage()), (None, None, None));
        machine.write("proc/vmstat", "nr_free_pages 5\noom_kill 4\nzone_reclaim_success 0\n");
        assert_eq!(group.oom_kills(), Some(4), "the topmost counts nothing itself");

        machine.write("sys/fs/cgroup/app.slice/memory.max", "1073741824\n");
        machine.write("sys/fs/cgroup/app.slice/memory.events", "oom_kill 9\n");
        machine.write("sys/fs/cgroup/app.slice/web/cgroup.procs", "7\n");
        let group = machine.group().unwrap();
        assert_eq!((group.oom_kills(), group.limit()), (Some(9), Some(1 << 30)), "not its own controller");

        machine.write("sys/fs/cgroup/app.slice/web/memory.events", EVENTS);
        machine.write("sys/fs/cgroup/app.slice/web/memory.max", "max\n");
        machine.write("sys/fs/cgroup/app.slice/web/memory.current", "4096\n");
        assert_eq!((group.oom_kills(), group.limit(), group.usage()), (Some(1), Some(1 << 30), Some(4096)));
        machine.write("sys/fs/cgroup/app.slice/web/memory.max", "65536\n");
        assert_eq!(group.limit(), Some(65_536));
    }

    /// As it is on a machine that has it alone (Linux 6): a worker in the primary's group, beside a group with processes of others.
    #[test]
    fn version_2_counts_what_was_killed_in_a_group_and_in_those_below_it() {
        let machine = Machine::new("0::/system.slice/shop.service\n");
        let group = "sys/fs/cgroup/system.slice/shop.service";
        machine.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n");
        machine.write("proc/vmstat", "oom_kill 40\n");
        machine.write("sys/fs/cgroup/system.slice/memory.events", "oom_kill 30\n");
        machine.write("sys/fs/cgroup/system.slice/memory.events.local", "oom_kill 0\n");
        machine.write(&format!("{group}/memory.events"), EVENTS.replace("oom_kill 1", "oom_kill 9").as_str());
        machine.write(&format!("{group}/memory.events.local"), EVENTS);
        let own = machine.group().unwrap();
        assert_eq!(own.oom_kills(), Some(1), "eight were killed in groups of their own");
        // A worker that was moved into a group of its own, without the controller.
        machine.write("proc/7/cgroup", "0::/system.slice/shop.service/worker\n");
        machine.write(&format!("{group}/worker/cgroup.procs"), "7\n");
        let below = machine.group().unwrap();
        assert_eq!((below.oom_kills(), below == own), (Some(1), false));
        // And with it; when it has gone, nobody knows.
        machine.write(&format!("{group}/worker/memory.events.local"), "oom_kill 2\n");
        assert_eq!(below.oom_kills(), Some(2));
        fs::remove_dir_all(machine.0.path().join(group).join("worker")).unwrap();
        assert_eq!(below.oom_kills(), None);
        assert_eq!(machine.group(), Some(own));
    }

    #[test]
    fn version_1() {
        let machine = Machine::new("5:cpu,cpuacct:/x\n4:memory:/web\n0::/\n");
        machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        machine.write("sys/fs/cgroup/memory/web/memory.limit_in_bytes", "268435456\n");
        machine.write("sys/fs/cgroup/memory/web/memory.usage_in_bytes", "8192\n");
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        machine.write("sys/fs/cgroup/memory/web/memory.oom_control", control);
        let group = machine.group().unwrap();
        assert_eq!((group.oom_kills(), group.limit(), group.usage()), (Some(2), Some(1 << 28), Some(8192)));
    }

    #[test]
    fn in_a_container_the_path_may_be_the_hosts() {
        let machine = Machine::new("4:memory:/docker/0123\n0::/\n");
        machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
        machine.write("sys/fs/cgroup/memory/memory.oom_control", "oom_kill 3\n");
        let group = machine.group().unwrap();
        assert_eq!((group.oom_kills(), group.limit()), (Some(3), Some(1 << 28)));
        let machine = Machine::new("0::/../../docker/0123\n");
        machine.write("sys/fs/cgroup/memory.events", EVENTS);
        machine.write("sys/fs/cgroup/memory.current", "4096\n");
        let group = machine.group().unwrap();
        assert_eq!((group.oom_kills(), group.usage()), (Some(1), Some(4096)));
    }

    #[test]
    fn an_old_kernel_counts_nothing() {
        let machine = Machine::new("4:memory:/\n");
        machine.write("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n");
        assert_eq!(machine.group().unwrap().oom_kills(), None);
    }

    #[test]
    fn of_this_process() {
        let own = MemoryGroup::own();
        assert_eq!(own, MemoryGroup::of(std::process::id().cast_signed()));
        assert_eq!(MemoryGroup::of(i32::MAX), None);
        assert!(own.unwrap().oom_kills().is_some());
    }
}
