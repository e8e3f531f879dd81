//! What can go wrong with a child: in Node's codes for programs, in words for people.

use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Captured, Exit};
use crate::sys::{errno::errno_name, pidfd::signal_name, spawn::Step};

/// A process could not be started. Nothing of it is left.
#[derive(Debug)]
#[non_exhaustive]
pub struct SpawnError {
    /// What was to be executed.
    pub program: OsString,
    /// Its arguments, without its own name (Node's `spawnargs`).
    pub args: Vec<OsString>,
    /// Its working directory, if one was asked for.
    pub cwd: Option<PathBuf>,
    /// Why.
    pub reason: Reason,
}

/// Why a process could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// What was asked for makes no sense; nothing was tried.
    Invalid(Invalid),
    /// The system refused.
    System {
        /// What was being done.
        step: Step,
        /// What the system said.
        source: io::Error,
    },
}

/// What makes no sense about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// There is no program without a name.
    #[error("its name is empty")]
    Empty,
    /// No string of a process can hold a NUL byte.
    #[error("there is a NUL byte in {0}")]
    Nul(&'static str),
    /// It is the number that means "nobody".
    #[error("{0} is no {1}")]
    Id(u32, &'static str),
    /// No signal is meant by it.
    #[error("{0} is no signal")]
    Signal(i32),
    /// A process has one channel at most.
    #[error("it is to have more than one channel: name `Ipc` once among its descriptors")]
    TwoChannels,
    /// `fork` without a channel is `spawn`.
    #[error("a forked process needs a channel: name `Ipc` among its descriptors")]
    NoChannel,
    /// Nobody could speak on it while the caller waits.
    #[error("a process that is waited for cannot have a channel")]
    ChannelInSync,
    /// It cannot be passed on.
    #[error("descriptor {0} is not open here")]
    NotOpen(i32),
    /// There is nothing to fork.
    #[error("there is no such file: look at its spelling and at the directory that it is relative to")]
    NoModule,
}

impl SpawnError {
    /// Node's code for it: an errno's name (`ENOENT`, `EACCES`, `E2BIG`, …) or one of Node's own
    /// (`ERR_INVALID_ARG_VALUE`, `ERR_IPC_ONE_PIPE`, …).
    pub fn code(&self) -> &'static str {
        match &self.reason {
            Reason::Invalid(invalid) => invalid.code(),
            Reason::System { source, .. } => source.raw_os_error().and_then(errno_name).unwrap_or("UNKNOWN"),
        }
    }

    /// The errno, if the system refused.
    pub fn errno(&self) -> Option<i32> {
        match &self.reason {
            Reason::Invalid(Invalid::NotOpen(_)) => Some(libc::EBADF),
            Reason::Invalid(Invalid::NoModule) => Some(libc::ENOENT),
            Reason::Invalid(_) => None,
            Reason::System { source, .. } => source.raw_os_error(),
        }
    }

    /// What was being done, if the system refused.
    pub fn step(&self) -> Option<Step> {
        match self.reason {
            Reason::Invalid(_) => None,
            Reason::System { step, .. } => Some(step),
        }
    }

    fn refusal(&self, f: &mut fmt::Formatter<'_>, step: Step, source: &io::Error) -> fmt::Result {
        let advice = match (step, source.raw_os_error()) {
            (Step::Chdir, _) => {
                let cwd = self.cwd.clone().unwrap_or_default();
                let (cwd, code) = (cwd.display(), self.code());
                return match source.kind() {
                    io::ErrorKind::NotFound => {
                        write!(f, "its working directory {cwd} does not exist ({code})")
                    }
                    _ => write!(f, "its working directory {cwd} cannot be entered ({code})"),
                };
            }
            (Step::Exec, Some(libc::ENOENT)) if self.has_path() && self.exists() => {
                "it is there, and its interpreter (`#!` line, or loader) is not"
            }
            (Step::Exec, Some(libc::ENOENT)) if self.has_path() => "there is no such file",
            (Step::Exec, Some(libc::ENOENT)) => "there is no such program on its PATH",
            (Step::Exec, Some(libc::EACCES)) => "it is not executable",
            (Step::Exec, Some(libc::ENOEXEC)) => "it is no program for this machine",
            (Step::Exec, Some(libc::E2BIG)) => {
                "its arguments and environment are longer than the system takes: use its stdin or a file"
            }
            (Step::Clone, Some(libc::EAGAIN)) => "there are too many processes (see `ulimit -u`)",
            (Step::Setuid | Step::Setgid, Some(libc::EPERM)) => {
                return write!(f, "{step}: we are not allowed to (EPERM)");
            }
            (_, Some(libc::EMFILE)) => "this process has too many descriptors open (see `ulimit -n`)",
            (_, Some(libc::ENFILE)) => "the system has too many files open",
            _ => return write!(f, "{step}: {source}"),
        };
        write!(f, "{advice} ({})", self.code())
    }

    fn has_path(&self) -> bool {
        self.program.as_encoded_bytes().contains(&b'/')
    }

    fn exists(&self) -> bool {
        self.cwd.clone().unwrap_or_default().join(&self.program).exists()
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {}: ", command_line(&self.program, &self.args))?;
        match &self.reason {
            Reason::Invalid(invalid) => write!(f, "{invalid} ({})", invalid.code()),
            Reason::System { step, source } => self.refusal(f, *step, source),
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Invalid(_) => None,
            Reason::System { source, .. } => Some(source),
        }
    }
}

impl Invalid {
    fn code(self) -> &'static str {
        match self {
            Self::Empty | Self::Nul(_) => "ERR_INVALID_ARG_VALUE",
            Self::Id(..) => "ERR_OUT_OF_RANGE",
            Self::Signal(_) => "ERR_UNKNOWN_SIGNAL",
            Self::TwoChannels => "ERR_IPC_ONE_PIPE",
            Self::NoChannel => "ERR_CHILD_PROCESS_IPC_REQUIRED",
            Self::ChannelInSync => "ERR_IPC_SYNC_FORK",
            Self::NotOpen(_) => "EBADF",
            Self::NoModule => "ENOENT",
        }
    }
}

/// A command did not do what was asked: the error of `exec`, `exec_file` and their blocking forms. What it had
/// written so far is there.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExecError {
    /// The command line.
    pub cmd: Box<str>,
    /// Its working directory, if one was asked for.
    pub cwd: Option<Box<Path>>,
    /// What happened.
    pub failure: Failure,
    /// How it ended; `None` if it was not started, or goes on (after a cancellation).
    pub exit: Option<Exit>,
    /// Whether it was sent a signal by us, or would have been had it not ended.
    pub killed: bool,
    /// What it wrote to its stdout, cut off at the limit.
    pub stdout: Captured,
    /// What it wrote to its stderr, cut off at the limit.
    pub stderr: Captured,
}

/// What happened to a command.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// It could not be started.
    Spawn(Box<SpawnError>),
    /// It ended with another code than 0, or by a signal that was not ours.
    Exit,
    /// It took longer than [`Command::timeout`](super::Command::timeout) and was sent the kill signal.
    TimedOut(Duration),
    /// It wrote more than [`Command::max_buffer`](super::Command::max_buffer) to this stream, and was sent the
    /// kill signal.
    MaxBuffer {
        /// `stdout` or `stderr`.
        stream: &'static str,
    },
    /// In a blocking form: it wrote more than [`Command::max_buffer`](super::Command::max_buffer) to all its
    /// streams together, and was sent the kill signal.
    NoBuffers,
    /// Its [token](super::Command::cancellation) was cancelled, and it was sent the kill signal.
    Aborted,
    /// Reading from it, waiting for it or signalling it failed.
    Io(io::Error),
}

impl Failure {
    /// Node's code for it. `None` for an exit, where Node has the exit code in its place.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Exit => None,
            Self::Spawn(error) => Some(error.code()),
            Self::TimedOut(_) => Some("ETIMEDOUT"),
            Self::MaxBuffer { .. } => Some("ERR_CHILD_PROCESS_STDIO_MAXBUFFER"),
            Self::NoBuffers => Some("ENOBUFS"),
            Self::Aborted => Some("ABORT_ERR"),
            Self::Io(error) => Some(error.raw_os_error().and_then(errno_name).unwrap_or("UNKNOWN")),
        }
    }

    /// The errno, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Spawn(error) => error.errno(),
            Self::TimedOut(_) => Some(libc::ETIMEDOUT),
            Self::NoBuffers => Some(libc::ENOBUFS),
            Self::MaxBuffer { .. } | Self::Exit | Self::Aborted => None,
            Self::Io(error) => error.raw_os_error(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(error) => error.fmt(f),
            Self::Exit => f.write_str("it failed"),
            Self::TimedOut(limit) => write!(f, "it was not done within {limit:?} (ETIMEDOUT)"),
            Self::MaxBuffer { stream } => write!(f, "{stream} maxBuffer length exceeded"),
            Self::NoBuffers => f.write_str("it wrote more than maxBuffer allows (ENOBUFS)"),
            Self::Aborted => f.write_str("it was aborted (ABORT_ERR)"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl ExecError {
    /// [`Failure::code`].
    pub fn code(&self) -> Option<&'static str> {
        self.failure.code()
    }

    /// [`Failure::errno`].
    pub fn errno(&self) -> Option<i32> {
        self.failure.errno()
    }

    /// The exit code, if that is how it ended.
    pub fn exit_code(&self) -> Option<i32> {
        match self.exit? {
            Exit::Code(code) => Some(code),
            Exit::Signal { .. } => None,
        }
    }

    /// The name of the signal that ended it, if one did.
    pub fn signal(&self) -> Option<&'static str> {
        match self.exit? {
            Exit::Code(_) => None,
            Exit::Signal { signal, .. } => Some(signal_name(signal)),
        }
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.failure, self.exit) {
            (Failure::Spawn(error), _) => return error.fmt(f),
            (Failure::Exit, Some(exit)) => write!(f, "command failed: {}: {exit}", self.cmd)?,
            (failure, _) => write!(f, "command failed: {}: {failure}", self.cmd)?,
        }
        let words = self.stderr.to_string();
        if words.trim_end().is_empty() { Ok(()) } else { write!(f, "\n{}", words.trim_end()) }
    }
}

impl std::error::Error for ExecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.failure {
            // It is shown in our own words already.
            Failure::Spawn(error) => error.source(),
            Failure::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A command line as a person would read it, the end of a long one left out.
pub(super) fn command_line(program: &OsString, args: &[OsString]) -> String {
    let words = std::iter::once(program).chain(args).map(|word| word.to_string_lossy());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        if word.is_empty() {
            line.push_str("\"\"");
        }
        line.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        if let Some((end, _)) = line.char_indices().nth(SHOWN) {
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

/// So many characters of a command line are shown.
const SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(program: &str, reason: Reason) -> SpawnError {
        SpawnError { program: program.into(), args: vec!["-x".into()], cwd: Some("/nowhere".into()), reason }
    }

    fn system(step: Step, errno: i32) -> Reason {
        Reason::System { step, source: io::Error::from_raw_os_error(errno) }
    }

    #[test]
    fn errors_say_what_happened_to_what() {
        let check = |error: SpawnError, text: &str, code: &str| {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.code(), code);
        };
        check(
            error("app", system(Step::Exec, libc::ENOENT)),
            "cannot start app -x: there is no such program on its PATH (ENOENT)",
            "ENOENT",
        );
        check(
            error("./app", system(Step::Exec, libc::ENOENT)),
            "cannot start ./app -x: there is no such file (ENOENT)",
            "ENOENT",
        );
        check(
            error("/bin", system(Step::Exec, libc::ENOENT)),
            "cannot start /bin -x: it is there, and its interpreter (`#!` line, or loader) is not (ENOENT)",
            "ENOENT",
        );
        check(
            error("app", system(Step::Chdir, libc::ENOENT)),
            "cannot start app -x: its working directory /nowhere does not exist (ENOENT)",
            "ENOENT",
        );
        check(
            error("app", system(Step::Group, libc::EPERM)),
            "cannot start app -x: give the process its process group: Operation not permitted (os error 1)",
            "EPERM",
        );
        check(
            error("app", Reason::Invalid(Invalid::Nul("an argument"))),
            "cannot start app -x: there is a NUL byte in an argument (ERR_INVALID_ARG_VALUE)",
            "ERR_INVALID_ARG_VALUE",
        );
    }

    #[test]
    fn a_long_command_line_is_cut_and_stays_one_line() {
        let line = command_line(&"app".into(), &["a\nb".into(), "".into(), "é".repeat(500).into()]);
        assert!(line.starts_with("app a\u{fffd}b \"\" éé"), "{line}");
        assert_eq!(line.chars().count(), SHOWN + 1);
    }
}
