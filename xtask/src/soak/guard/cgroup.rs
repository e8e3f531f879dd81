//! A memory cgroup with a limit, in which the kernel kills.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::geteuid;

/// Enough for the command and two workers; a leak is over soon.
const LIMIT: u64 = 320 << 20;
/// Where cgroups are.
const ROOT: &str = "/sys/fs/cgroup";
/// How long the last processes may take to be gone.
const EMPTY: Duration = Duration::from_secs(10);
/// Between two looks whether they are.
const LOOK: Duration = Duration::from_millis(10);

/// A memory cgroup; removed in the end.
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    /// What is lacking where there can be none.
    pub(super) fn lacks() -> Option<&'static str> {
        let hierarchy = Path::new(ROOT);
        if !geteuid().is_root() {
            Some("root")
        } else if hierarchy.join("memory").is_dir() || hierarchy.join("cgroup.controllers").is_file() {
            None
        } else {
            Some("a memory cgroup")
        }
    }

    /// A new one, of the version that this machine has.
    pub(super) fn new(name: &str) -> Result<Self> {
        let (first, root) = (Path::new(ROOT).join("memory"), Path::new(ROOT));
        let (path, file) = if first.is_dir() {
            (first.join(name), "memory.limit_in_bytes")
        } else {
            fs::write(root.join("cgroup.subtree_control"), "+memory").context("no cgroups to write to")?;
            (root.join(name), "memory.max")
        };
        // One that a run left behind which was ended early; there are processes in it if that cannot be removed.
        let _ = fs::remove_dir(&path);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let group = Self(path);
        fs::write(group.0.join(file), LIMIT.to_string()).context("cannot limit a cgroup's memory")?;
        // What is swapped out is not killed for; where nothing is swapped, there is no such file.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        let _ = fs::write(group.0.join("memory.swappiness"), "0");
        Ok(group)
    }

    /// Who writes its process here is in it.
    pub(super) fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + EMPTY;
        while fs::read_to_string(self.processes()).is_ok_and(|all| !all.is_empty()) && Instant::now() < end {
            thread::sleep(LOOK);
        }
        // What is left of it then does no harm.
        let _ = fs::remove_dir(&self.0);
    }
}
