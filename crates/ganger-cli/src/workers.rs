//! How many workers the machine has room for: `--workers auto`.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// What a worker is reckoned to need.
const MEMORY: u64 = 256 << 20;
/// Limits from here on mean none (cgroup v1 writes a huge number).
const UNLIMITED: u64 = 1 << 60;

/// A number of workers, and why it is that.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) workers: u32,
    pub(crate) why: String,
}

/// The number for this machine, as affinity and cgroups let us see it.
pub(crate) fn auto() -> Count {
    // It knows of affinity and of the quotas of both versions of cgroups.
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get());
    count(u32::try_from(cpus).unwrap_or(u32::MAX), memory_limit(Path::new("/")))
}

fn count(cpus: u32, limit: Option<u64>) -> Count {
    let shown = if cpus == 1 { "1 CPU".to_owned() } else { format!("{cpus} CPUs") };
    let fit = limit.map(|limit| (limit, u32::try_from(limit / MEMORY).unwrap_or(u32::MAX).max(1)));
    match fit {
        Some((limit, fit)) if fit < cpus => {
            Count { workers: fit, why: format!("{} MB of memory, 256 MB for each; {shown}", limit >> 20) }
        }
        _ => Count { workers: cpus.max(1), why: shown },
    }
}

/// The smallest memory limit of our cgroup and those above it. `root` is `/` but for tests.
fn memory_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups.lines().filter_map(|line| group_limit(root, line)).min()
}

/// The limit that one line of `/proc/self/cgroup` leads to: `0::/path` or `4:memory:/path`.
fn group_limit(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let mount = root.join(mount);
    // In a container the path may be the host's and not be there: what is above it is.
    let group: PathBuf = mount.join(group.trim_start_matches('/'));
    let above = group.ancestors().take_while(|directory| directory.starts_with(&mount));
    let limit = |directory: &Path| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
    above.filter_map(limit).filter(|limit| *limit < UNLIMITED).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_cpus_and_memory_counts() {
        let check = |cpus, limit, workers, why: &str| {
            assert_eq!(count(cpus, limit), Count { workers, why: why.into() });
        };
        check(4, None, 4, "4 CPUs");
        check(1, None, 1, "1 CPU");
        check(4, Some(4 << 30), 4, "4 CPUs");
        check(4, Some(600 << 20), 2, "600 MB of memory, 256 MB for each; 4 CPUs");
        check(2, Some(100 << 20), 1, "100 MB of memory, 256 MB for each; 2 CPUs");
        check(1, Some(100 << 20), 1, "1 CPU");
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_limit_of_version_2_is_the_smallest_on_the_way_up() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(memory_limit(root.path()), None);
        write(root.path(), "proc/self/cgroup", "0::/a/b\n");
        assert_eq!(memory_limit(root.path()), None);
        write(root.path(), "sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(memory_limit(root.path()), None);
        write(root.path(), "sys/fs/cgroup/a/memory.max", "1073741824\n");
        assert_eq!(memory_limit(root.path()), Some(1 << 30));
        write(root.path(), "sys/fs/cgroup/memory.max", "536870912\n");
        assert_eq!(memory_limit(root.path()), Some(512 << 20));
    }

    #[test]
    fn the_limit_of_version_1_is_found_where_the_path_is_the_hosts() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n");
        write(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(memory_limit(root.path()), None);
        write(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
        assert_eq!(memory_limit(root.path()), Some(256 << 20));
    }
}
