//! Everything that a child needs, made before there is a child; and the moment of making it.

use std::cell::Cell;
use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid, WaitId, WaitIdOptions, getrlimit};

use super::{Group, Source, Spawn, SpawnError, Spawned, Step, child};
use crate::sys::fd::inherited_nofile;
use crate::sys::pidfd::PidFd;

/// A child to be, complete. Its pointers lead into its own strings.
pub(super) struct Plan {
    /// What to try to execute, in order.
    pub(super) candidates: Vec<CString>,
    pub(super) argv: Vec<*const c_char>,
    /// The arguments for the shell that executes a script without `#!`; the script's path goes to place 1.
    pub(super) script_argv: Vec<*const c_char>,
    pub(super) envp: Vec<*const c_char>,
    /// Where the child writes its pid, in zeroed memory: part of `pid_entry`.
    pub(super) pid_digits: Option<PidDigits>,
    pub(super) cwd: Option<CString>,
    /// By number in the child: the number here, or -1 for none. The child moves them about.
    pub(super) sources: Vec<RawFd>,
    /// Above all descriptors that can be open, for kernels that cannot close a range.
    pub(super) nofile: RawFd,
    pub(super) limit: Option<Rlimit>,
    pub(super) drop_groups: bool,
    pub(super) gid: Option<Gid>,
    pub(super) uid: Option<Uid>,
    pub(super) group: Group,
    pub(super) parent_death_signal: Option<c_int>,
    pub(super) parent: Pid,
    /// Written by the child if it fails.
    pub(super) failure: Option<(Step, c_int)>,
    stack: Stack,
    _strings: Vec<CString>,
    _owned: Vec<OwnedFd>,
}

/// `NAME=` and room for a number, shared with `envp`.
pub(super) struct PidDigits {
    entry: Box<[Cell<u8>]>,
    /// How long `NAME=` is.
    prefix: usize,
}

// SAFETY: the pointers lead to memory that the plan owns and that nobody else has a pointer to.
unsafe impl Send for Plan {}

impl Plan {
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a NUL byte in a string; what `mmap` reports.
    pub(super) fn new(spawn: Spawn) -> io::Result<Self> {
        let Spawn { program, argv, mut env, cwd, fds, uid, gid, .. } = spawn;
        if let Some(name) = &spawn.pid_variable {
            env.retain(|(other, _)| other != name);
        }
        let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let candidates = candidates(&program, path.unwrap_or(OsStr::new(DEFAULT_PATH)))?;

        let mut strings = Vec::with_capacity(argv.len() + env.len());
        let argv = pointers(&mut strings, argv.into_iter())?;
        let mut envp = pointers(&mut strings, env.into_iter().map(entry))?;
        let pid_digits = spawn.pid_variable.map(PidDigits::new).transpose()?;
        if let Some(digits) = &pid_digits {
            envp.insert(envp.len() - 1, digits.entry.as_ptr().cast());
        }
        let mut script_argv = vec![SHELL.as_ptr(), ptr::null()];
        script_argv.extend(argv.get(1..).unwrap_or(&[ptr::null()]));

        let mut owned = Vec::new();
        let mut sources = Vec::with_capacity(fds.len());
        for source in fds {
            sources.push(match source {
                None => -1,
                Some(Source::Inherit(number)) if number < 0 => return Err(Errno::BADF.into()),
                Some(Source::Inherit(number)) => number,
                Some(Source::Owned(fd)) => {
                    let number = fd.as_raw_fd();
                    owned.push(fd);
                    number
                }
            });
        }
        let nofile = getrlimit(Resource::Nofile).current.and_then(|limit| RawFd::try_from(limit).ok());
        Ok(Self {
            candidates,
            argv,
            script_argv,
            envp,
            pid_digits,
            cwd: cwd.map(|path| CString::new(PathBuf::into_os_string(path).into_vec())).transpose()?,
            sources,
            nofile: nofile.unwrap_or(RawFd::MAX),
            limit: inherited_nofile(),
            drop_groups: uid.is_some() || gid.is_some(),
            gid: gid.map(Gid::from_raw),
            uid: uid.map(Uid::from_raw),
            group: spawn.process_group,
            parent_death_signal: spawn.parent_death_signal,
            parent: rustix::process::getpid(),
            failure: None,
            stack: Stack::new()?,
            _strings: strings,
            _owned: owned,
        })
    }

    /// Makes the process, from this thread.
    pub(super) fn start(mut self) -> Result<Spawned, SpawnError> {
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let top = self.stack.top();
        let plan: *mut Plan = &mut self;
        let signals = BlockedSignals::new();
        // SAFETY: the child runs `child::main` on a stack of its own, on memory shared with us. CLONE_VFORK
        // holds this thread until the child has left that memory, so the plan and the stack outlive its use
        // and nobody else touches the plan meanwhile. No signal handler of ours runs in the child: all
        // signals are blocked until it has put them back to their defaults.
        let pid = unsafe { libc::clone(child::main, top, flags, plan.cast::<c_void>(), &mut pidfd) };
        let error = io::Error::last_os_error();
        drop(signals);
        if pid < 0 {
            return Err(SpawnError { step: Step::Clone, source: error });
        }
        // SAFETY: the kernel made this descriptor for us just now, and nobody else knows of it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let Some((step, errno)) = self.failure else {
            return Ok(Spawned { pid, pidfd: PidFd::from(pidfd) });
        };
        // It is exiting. Where SIGCHLD is ignored the kernel reaps it: then there is nothing to wait for.
        let _ = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
        });
        Err(SpawnError { step, source: io::Error::from_raw_os_error(errno) })
    }
}

impl PidDigits {
    fn new(name: OsString) -> io::Result<Self> {
        let bytes = CString::new(name.into_vec())?.into_bytes();
        let prefix = bytes.len() + 1;
        let digits_and_nul = [0; 11];
        let entry = bytes.into_iter().chain([b'=']).chain(digits_and_nul).map(Cell::new).collect();
        Ok(Self { entry, prefix })
    }

    /// Writes `pid` in decimal. Called in the child, so it only touches what is there.
    pub(super) fn write(&self, pid: u32) {
        let digits = pid.checked_ilog10().unwrap_or(0) as usize + 1;
        let mut rest = pid;
        for place in self.entry.iter().skip(self.prefix).take(digits).rev() {
            place.set(b'0' + (rest % 10) as u8);
            rest /= 10;
        }
    }
}

/// The stack of a child until it executes its program: with a page below that is nobody's.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of anybody.
        let base = unsafe { libc::mmap(ptr::null_mut(), STACK_SIZE, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base };
        // SAFETY: the lowest page of the mapping made above, which nobody uses yet.
        match unsafe { libc::mprotect(base, rustix::param::page_size(), libc::PROT_NONE) } {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Stacks grow down, and begin at a multiple of 16, which the end of a page is.
    fn top(&self) -> *mut c_void {
        // SAFETY: the end of the mapping, which is STACK_SIZE long.
        unsafe { self.base.byte_add(STACK_SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which no child uses any more: whoever started one was held until
        // it had left.
        unsafe { libc::munmap(self.base, STACK_SIZE) };
    }
}

/// All signals blocked in this thread, the C library's own included, until dropped.
struct BlockedSignals {
    before: u64,
}

impl BlockedSignals {
    fn new() -> Self {
        Self { before: child::set_signal_mask(u64::MAX) }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        child::set_signal_mask(self.before);
    }
}

/// What `execvp` would try: the program itself if it has a `/` in it, else one path a directory of `path`, where
/// an empty directory is the working directory.
fn candidates(program: &OsStr, path: &OsStr) -> io::Result<Vec<CString>> {
    let program = program.as_bytes();
    let candidate = |directory: &[u8]| {
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        Ok(CString::new([directory, separator, program].concat())?)
    };
    if program.is_empty() {
        return Ok(Vec::new());
    }
    if program.contains(&b'/') {
        return Ok(vec![candidate(b"")?]);
    }
    path.as_bytes().split(|byte| *byte == b':').map(candidate).collect()
}

fn entry((name, value): (OsString, OsString)) -> OsString {
    let mut entry = name;
    entry.push("=");
    entry.push(value);
    entry
}

/// The null-terminated table that `execve` takes, of strings that stay in `strings`.
fn pointers(
    strings: &mut Vec<CString>,
    values: impl Iterator<Item = OsString>,
) -> io::Result<Vec<*const c_char>> {
    let mut table = Vec::with_capacity(values.size_hint().0 + 2);
    for value in values {
        let string = CString::new(value.into_vec())?;
        table.push(string.as_ptr());
        strings.push(string);
    }
    table.push(ptr::null());
    Ok(table)
}

/// Where programs are looked for without a `PATH` (glibc's `_CS_PATH`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Who executes a file without `#!`.
pub(super) const SHELL: &std::ffi::CStr = c"/bin/sh";

/// Far more than system calls need, in a debug build too.
const STACK_SIZE: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_of_all_lengths_are_written() {
        for pid in [1, 9, 10, 99_999, 4_194_304, i32::MAX as u32] {
            let digits = PidDigits::new("A".into()).unwrap();
            digits.write(pid);
            let entry: Vec<u8> = digits.entry.iter().map(Cell::get).collect();
            let text = std::ffi::CStr::from_bytes_until_nul(&entry).unwrap();
            assert_eq!(text.to_str().unwrap(), format!("A={pid}"));
        }
    }
}
