//! A child by descriptor: signals and exit statuses that can never be another process's, since a pid is
//! reused and a pidfd is not.
//!
//! Waiting without blocking is the business of whoever watches the descriptor: it is readable once the process
//! has ended.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus};

/// A process, by descriptor. Readable once it has ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process that has number `pid` now. Free of races only for a child that was not waited for yet.
    ///
    /// # Errors
    /// `ESRCH` if there is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::INVAL)?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Sends `signal`; 0 only asks whether the process could be signalled.
    ///
    /// # Errors
    /// `ESRCH` if it has ended and was waited for; `EPERM`; `EINVAL` for a number that is no signal.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        // SAFETY: four integers and a null pointer, which means "the usual siginfo".
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes the exit status if the child has ended, which also ends the zombie. `None` while it lives.
    ///
    /// # Errors
    /// `ECHILD` if it is not our child, or if its status was taken before.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        self.status(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Looks at the exit status if the child has ended, and leaves the zombie: as long as it is there, neither
    /// its number nor that of its process group can become anybody else's. `None` while it lives.
    ///
    /// # Errors
    /// As [`PidFd::try_wait`].
    pub fn peek(&self) -> io::Result<Option<Exit>> {
        self.status(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    fn status(&self, options: WaitIdOptions) -> io::Result<Option<Exit>> {
        let status =
            rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(self.0.as_fd()), options))?;
        Ok(status.as_ref().map(Exit::from_status))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for PidFd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> Self {
        pidfd.0
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// By itself, with this code (0 to 255).
    Code(i32),
    /// By a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core file was written.
        core_dumped: bool,
    },
}

impl Exit {
    fn from_status(status: &WaitIdStatus) -> Self {
        match status.terminating_signal() {
            Some(signal) => Exit::Signal { signal, core_dumped: status.dumped() },
            None => Exit::Code(status.exit_status().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal { signal, core_dumped } => {
                write!(f, "signal {}", signal_name(signal))?;
                if core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

/// Sends `signal` to every process of group `pgid`. A group that has no process any more is no error.
///
/// # Errors
/// `EPERM` if none of them may be signalled; `EINVAL` for a number that is no signal, or a `pgid` below 2 (0 is
/// our own group, 1 is everybody's to the kernel).
pub fn kill_group(pgid: i32, signal: i32) -> io::Result<()> {
    if pgid < 2 {
        return Err(rustix::io::Errno::INVAL.into());
    }
    // SAFETY: two integers.
    if unsafe { libc::killpg(pgid, signal) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// The process group of a process. Its number may be 0: a group of another pid namespace.
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn group_of(pid: i32) -> io::Result<i32> {
    // SAFETY: an integer.
    match unsafe { libc::getpgid(pid) } {
        -1 => Err(io::Error::last_os_error()),
        group => Ok(group),
    }
}

/// Whether this is the number of a signal; 0 is none.
pub fn is_signal(signal: i32) -> bool {
    (1..=libc::SIGRTMAX()).contains(&signal)
}

/// The name of a signal, as in `SIGTERM`. Real-time signals count from `SIGRTMIN`; a number that is no signal
/// is `unknown`.
pub fn signal_name(signal: i32) -> &'static str {
    let named = SIGNALS.iter().find(|(number, _)| *number == signal);
    let real_time =
        || REAL_TIME.get(usize::try_from(signal).ok()?.checked_sub(REAL_TIME_FIRST as usize)?).copied();
    named.map(|(_, name)| *name).or_else(real_time).unwrap_or("unknown")
}

/// The number of a signal by its name, with or without `SIG`, in any case of letters (as Node takes them).
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let is = |full: &str| full.strip_prefix("SIG") == Some(bare);
    let named = SIGNALS.iter().chain(ALIASES).find(|(_, full)| is(full)).map(|(number, _)| *number);
    let real_time =
        || (REAL_TIME_FIRST..).zip(REAL_TIME).find(|(_, full)| is(full)).map(|(number, _)| number);
    named.or_else(real_time)
}

const SIGNALS: &[(i32, &str)] = &[
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGSTKFLT, "SIGSTKFLT"),
    (libc::SIGCHLD, "SIGCHLD"),
    (libc::SIGCONT, "SIGCONT"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
    (libc::SIGURG, "SIGURG"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGWINCH, "SIGWINCH"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSYS, "SIGSYS"),
];

const ALIASES: &[(i32, &str)] = &[
    (libc::SIGABRT, "SIGIOT"),
    (libc::SIGIO, "SIGPOLL"),
    (libc::SIGCHLD, "SIGCLD"),
    (libc::SIGSYS, "SIGUNUSED"),
];

/// The first two belong to the C library, so `SIGRTMIN` is the third.
const REAL_TIME_FIRST: i32 = 32;
const REAL_TIME: [&str; 33] = [
    "SIG32",
    "SIG33",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+16",
    "SIGRTMIN+17",
    "SIGRTMIN+18",
    "SIGRTMIN+19",
    "SIGRTMIN+20",
    "SIGRTMIN+21",
    "SIGRTMIN+22",
    "SIGRTMIN+23",
    "SIGRTMIN+24",
    "SIGRTMIN+25",
    "SIGRTMIN+26",
    "SIGRTMIN+27",
    "SIGRTMIN+28",
    "SIGRTMIN+29",
    "SIGRTMAX",
];

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// Lives until its standard input ends, or until it is killed.
    fn leashed() -> (std::process::Child, PidFd) {
        let child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn().unwrap();
        let pidfd = PidFd::open(child.id() as i32).unwrap();
        (child, pidfd)
    }

    fn wait(pidfd: &PidFd) -> Exit {
        poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None).unwrap();
        pidfd.try_wait().unwrap().unwrap()
    }

    #[test]
    fn an_exit_is_taken_once() {
        let (mut child, pidfd) = leashed();
        assert_eq!(pidfd.try_wait().unwrap(), None);
        drop(child.stdin.take());
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        assert_eq!([pidfd.peek().unwrap(), pidfd.peek().unwrap()], [Some(Exit::Code(0)); 2]);
        assert_eq!(wait(&pidfd), Exit::Code(0));
        assert_eq!(pidfd.try_wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn signals_reach_the_process_and_nobody_after_it() {
        let (_child, pidfd) = leashed();
        pidfd.kill(0).unwrap();
        assert_eq!(pidfd.kill(1000).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        pidfd.kill(libc::SIGTERM).unwrap();
        assert_eq!(wait(&pidfd), Exit::Signal { signal: libc::SIGTERM, core_dumped: false });
        assert_eq!(pidfd.kill(libc::SIGTERM).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_group_is_signalled_and_its_end_is_no_error() {
        let (child, pidfd) = leashed();
        let group = child.id() as i32;
        kill_group(group, libc::SIGKILL).unwrap();
        assert_eq!(wait(&pidfd), Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
        kill_group(group, libc::SIGKILL).unwrap();
        for everybody in [-1, 0, 1] {
            assert_eq!(kill_group(everybody, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn exits_read_well() {
        let check = |exit: Exit, text: &str| assert_eq!(exit.to_string(), text);
        check(Exit::Code(7), "exit code 7");
        check(Exit::Signal { signal: libc::SIGKILL, core_dumped: false }, "signal SIGKILL");
        check(Exit::Signal { signal: libc::SIGSEGV, core_dumped: true }, "signal SIGSEGV (core dumped)");
    }

    #[test]
    fn every_signal_has_a_name_and_every_name_its_number() {
        for signal in 1..=64 {
            assert_eq!(signal_number(signal_name(signal)), Some(signal), "{}", signal_name(signal));
        }
        assert_eq!(signal_name(libc::SIGRTMIN()), "SIGRTMIN");
        assert_eq!(signal_name(libc::SIGRTMAX()), "SIGRTMAX");
        assert_eq!([signal_name(0), signal_name(-1), signal_name(65), signal_name(i32::MIN)], ["unknown"; 4]);
        assert_eq!(signal_number("TERM"), Some(libc::SIGTERM));
        assert_eq!(signal_number("sigterm"), Some(libc::SIGTERM));
        assert_eq!(signal_number("IOT"), Some(libc::SIGABRT));
        assert_eq!([signal_number(""), signal_number("SIG"), signal_number("SIGSIGTERM")], [None; 3]);
    }
}
