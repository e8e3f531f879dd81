//! What runs in the child until its program does: on the parent's memory, between two system calls of the
//! parent. Only system calls are made here. Nothing may allocate, lock, log, or panic: no indexing, no arithmetic
//! that can overflow, no `Drop` that matters.

use std::convert::Infallible;
use std::ffi::{CStr, c_int, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::ptr;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Resource, setrlimit};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::plan::{Plan, SHELL};
use super::{Group, Step};

/// The child's entry, for `clone`. It ends in the program or in `_exit`.
pub(super) extern "C" fn main(plan: *mut c_void) -> c_int {
    // SAFETY: `Plan::start` passes its plan, and does not touch it until this process has left its memory.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    let Err((step, errno)) = execute(plan);
    plan.failure = Some((step, errno.raw_os_error()));
    // SAFETY: ends this process at once, without any of the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

/// Sets the calling thread's signal mask and returns the one before. Not through the C library, which keeps two
/// signals for itself.
pub(super) fn set_signal_mask(mask: u64) -> u64 {
    let mut before: u64 = 0;
    // SAFETY: both pointers lead to sets of the size that is given.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &mask, &mut before, SIGSET_SIZE) };
    before
}

type Failure = (Step, Errno);

fn execute(plan: &mut Plan) -> Result<Infallible, Failure> {
    default_signals();
    let at = |step| move |errno| (step, errno);
    match plan.group {
        Group::Same => {}
        Group::Own => rustix::process::setpgid(None, None).map_err(at(Step::Group))?,
        Group::Session => drop(rustix::process::setsid().map_err(at(Step::Group))?),
    }
    descriptors(plan).map_err(at(Step::Descriptors))?;
    if let Some(cwd) = &plan.cwd {
        rustix::process::chdir(cwd.as_c_str()).map_err(at(Step::Chdir))?;
    }
    if let Some(limit) = plan.limit {
        setrlimit(Resource::Nofile, limit).map_err(at(Step::Limit))?;
    }
    // The calls of this one thread: the C library's would send signals to the parent's threads.
    if plan.drop_groups {
        match set_thread_groups(&[]) {
            // Without the right to drop them we keep what we have, as libuv does.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err((Step::Setgroups, errno)),
        }
    }
    if let Some(gid) = plan.gid {
        set_thread_gid(gid).map_err(at(Step::Setgid))?;
    }
    if let Some(uid) = plan.uid {
        set_thread_uid(uid).map_err(at(Step::Setuid))?;
    }
    if let Some(signal) = plan.parent_death_signal {
        // After the change of user, which would clear it.
        // SAFETY: integers only.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) }.into())
            .map_err(at(Step::ParentDeathSignal))?;
        if rustix::process::getppid() != Some(plan.parent) {
            // It died before: the signal would never come.
            return Err((Step::ParentDeathSignal, Errno::SRCH));
        }
    }
    if let Some(digits) = &plan.pid_digits {
        digits.write(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs());
    }
    set_signal_mask(0);
    Err((Step::Exec, exec(plan)))
}

/// Puts every signal back to its default: a handler of the parent's must not run here, and what the parent
/// ignores would stay ignored in the program.
fn default_signals() {
    // The kernel's struct of four words at most, all zero: SIG_DFL without flags.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the struct is at least as large as the kernel's. KILL and STOP refuse, as they should.
        unsafe {
            let none = ptr::null_mut::<c_void>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, SIGSET_SIZE)
        };
    }
}

/// Gives every descriptor its number, and closes all others.
fn descriptors(plan: &mut Plan) -> Result<(), Errno> {
    let count = RawFd::try_from(plan.sources.len()).map_err(|_| Errno::MFILE)?;
    // First out of the way of each other's numbers, so that the order does not matter afterwards.
    for (target, source) in (0..).zip(&mut plan.sources) {
        if *source >= 0 && *source < count && *source != target {
            *source = match fcntl_dupfd_cloexec(borrow(*source), count) {
                Ok(fd) => fd.into_raw_fd(),
                // The number is above the limit: the kernel's word for "too many" is another one here.
                Err(Errno::INVAL) => return Err(Errno::MFILE),
                Err(errno) => return Err(errno),
            };
        }
    }
    for (target, source) in (0..).zip(&plan.sources) {
        match *source {
            // Nothing to close is fine.
            ..0 => drop(close(target)),
            source if source == target => fcntl_setfd(borrow(target), FdFlags::empty())?,
            source => dup_to(source, target)?,
        }
        if target < STANDARD && *source >= 0 {
            // Few programs expect anything else of their standard streams (libuv's `uv__process_child_init`).
            let flags = fcntl_getfl(borrow(target))?;
            if flags.contains(OFlags::NONBLOCK) {
                fcntl_setfl(borrow(target), flags - OFlags::NONBLOCK)?;
            }
        }
    }
    // SAFETY: integers only; this process's table is its own, and it uses none of these descriptors again.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, count, libc::c_uint::MAX, 0) };
    if closed != 0 {
        // A kernel before 5.9, or a filter that does not know the call.
        for fd in count..plan.nofile {
            let _ = close(fd);
        }
    }
    Ok(())
}

/// Tries all candidates as `execvp` does. Returns only if none could be executed.
fn exec(plan: &mut Plan) -> Errno {
    let mut last = Errno::NOENT;
    let mut denied = false;
    for candidate in &plan.candidates {
        let mut errno = execve(candidate, &plan.argv, &plan.envp);
        if errno == Errno::NOEXEC {
            if let Some(script) = plan.script_argv.get_mut(1) {
                *script = candidate.as_ptr();
            }
            errno = execve(SHELL, &plan.script_argv, &plan.envp);
        }
        match errno {
            Errno::ACCESS => denied = true,
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::NAMETOOLONG
            | Errno::STALE
            | Errno::NODEV
            | Errno::TIMEDOUT => {}
            errno => return errno,
        }
        last = errno;
    }
    if denied { Errno::ACCESS } else { last }
}

fn execve(path: &CStr, argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> Errno {
    // SAFETY: a C string and two null-terminated tables of C strings, all owned by the plan.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_errno()
}

fn dup_to(source: RawFd, target: RawFd) -> Result<(), Errno> {
    loop {
        // SAFETY: integers only; in this process's own table nobody owns the number `target`.
        match check(unsafe { libc::dup2(source, target) }.into()) {
            // Busy: the parent's other threads cannot be opening it here, but the kernel may say so.
            Err(Errno::INTR | Errno::BUSY) => {}
            result => return result,
        }
    }
}

fn close(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: an integer; in this process's own table nobody owns that number.
    check(unsafe { libc::syscall(libc::SYS_close, fd) })
}

fn borrow<'fd>(fd: RawFd) -> BorrowedFd<'fd> {
    // SAFETY: not -1 (a number of the plan, or just made), and used for one call. If it is not open, that call
    // says so.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn check(result: libc::c_long) -> Result<(), Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    // The thread-local variable of the parent's thread, which is waiting for us.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// How many standard streams there are.
const STANDARD: RawFd = 3;

/// The kernel's signal set in bytes, which is not the C library's.
const SIGSET_SIZE: usize = 8;
