//! How many workers the machine has room for: `--workers auto`.

use std::thread;

use ganger::sys::cgroup::MemoryGroup;

/// What a worker is reckoned to need.
const MEMORY: u64 = 256 << 20;

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
    count(u32::try_from(cpus).unwrap_or(u32::MAX), MemoryGroup::own().and_then(|group| group.limit()))
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
}
