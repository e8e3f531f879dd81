//! Child processes: a command, the child that it becomes, and how that ends.
//!
//! A thin layer over [`crate::sys::spawn`], the one place that starts processes. Knows nothing of clusters.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use ganger_proto::node;
use rustix::event::{PollFd, PollFlags};
use tokio::io::Interest;

use crate::sys::{
    self,
    pidfd::PidFd,
    spawn::{Group, Source, Spawn, Step},
};

pub use crate::sys::pidfd::Exit;

/// What a child's stdout or stderr is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdio {
    /// The parent's own.
    #[default]
    Inherit,
    /// A pipe whose reading end the parent gets.
    Pipe,
}

/// A process to be started.
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    cwd: Option<PathBuf>,
    output: Stdio,
    channel: bool,
    guarded: bool,
}

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program:?}: {}", self.reason())]
pub struct SpawnError {
    /// The program.
    pub program: OsString,
    /// Its working directory, if one was asked for.
    pub cwd: Option<PathBuf>,
    /// The step that failed.
    pub step: Step,
    /// What the system said.
    pub source: io::Error,
}

impl SpawnError {
    fn reason(&self) -> String {
        match (self.step, self.source.kind()) {
            (Step::Exec, io::ErrorKind::NotFound) => "there is no such program".into(),
            (Step::Exec, io::ErrorKind::PermissionDenied) => "it is not executable".into(),
            (Step::Chdir, _) => {
                let cwd = self.cwd.clone().unwrap_or_default();
                format!("its working directory {} cannot be entered: {}", cwd.display(), self.source)
            }
            (step, _) => format!("{step}: {}", self.source),
        }
    }
}

impl Command {
    /// A command without arguments, with the parent's environment, directory and stdio.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            output: Stdio::Inherit,
            channel: false,
            guarded: false,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove(&mut self, name: impl Into<OsString>) -> &mut Self {
        self.env.push((name.into(), None));
        self
    }

    /// Sets the working directory.
    pub fn cwd(&mut self, cwd: impl Into<PathBuf>) -> &mut Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// What stdout and stderr are; stdin is always the parent's.
    pub fn output(&mut self, output: Stdio) -> &mut Self {
        self.output = output;
        self
    }

    /// Whether the child gets a channel, as descriptor 3 and in `NODE_CHANNEL_FD`.
    pub fn channel(&mut self, channel: bool) -> &mut Self {
        self.channel = channel;
        self
    }

    /// Whether the child leads a process group of its own and is killed when this process dies. A terminal is
    /// not its stdin then, since only one process group can read from it.
    pub fn guarded(&mut self, guarded: bool) -> &mut Self {
        self.guarded = guarded;
        self
    }

    /// Starts the process.
    ///
    /// The parent's own channel is never passed on: its variables are taken out of the environment unless
    /// [`Command::channel`] puts new ones there.
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        let fail =
            |step, source| SpawnError { program: self.program.clone(), cwd: self.cwd.clone(), step, source };
        let prepare = |source| fail(Step::Prepare, source);
        // In a process group of its own it would be stopped for reading from the terminal.
        let stdin = if self.guarded && io::stdin().is_terminal() {
            Source::Owned(std::fs::File::open("/dev/null").map_err(prepare)?.into())
        } else {
            Source::Inherit(0)
        };
        let mut fds = vec![Some(stdin)];
        let mut outputs = [None, None];
        for (number, output) in (1..).zip(&mut outputs) {
            match self.output {
                Stdio::Inherit => fds.push(Some(Source::Inherit(number))),
                Stdio::Pipe => {
                    let (ours, theirs) = output_pipe().map_err(prepare)?;
                    *output = Some(ours);
                    fds.push(Some(Source::Owned(theirs)));
                }
            }
        }
        let mut channel = None;
        let number = fds.len();
        if self.channel {
            let (ours, theirs) = sys::socket::channel_pair().map_err(prepare)?;
            channel = Some(ours);
            fds.push(Some(Source::Owned(theirs)));
        }
        let spawn = Spawn {
            program: self.program.clone(),
            argv: std::iter::once(&self.program).chain(&self.args).cloned().collect(),
            env: self.environment(self.channel.then_some(number)),
            cwd: self.cwd.clone(),
            fds,
            process_group: if self.guarded { Group::Own } else { Group::Same },
            parent_death_signal: self.guarded.then_some(KILL),
            ..Spawn::default()
        };
        let spawned = spawn.spawn().map_err(|error| fail(error.step, error.source))?;
        let [stdout, stderr] = outputs;
        Ok(Child { pid: spawned.pid, pidfd: spawned.pidfd, channel, stdout, stderr })
    }

    /// The error of a child that was started and could not be kept.
    pub(crate) fn failed(&self, source: io::Error) -> SpawnError {
        SpawnError { program: self.program.clone(), cwd: self.cwd.clone(), step: Step::Prepare, source }
    }

    /// The child's environment: ours without our channel's variables, then what was asked for.
    fn environment(&self, channel: Option<usize>) -> Vec<(OsString, OsString)> {
        let ours = [node::CHANNEL_FD, node::CHANNEL_SERIALIZATION_MODE, node::UNIQUE_ID];
        let mut env: Vec<(OsString, OsString)> =
            std::env::vars_os().filter(|(name, _)| !ours.iter().any(|our| name == *our)).collect();
        let mut set = |name: &OsStr, value: Option<OsString>| {
            env.retain(|(other, _)| other != name);
            env.extend(value.map(|value| (name.to_owned(), value)));
        };
        for (name, value) in &self.env {
            set(name, value.clone());
        }
        if let Some(number) = channel {
            set(node::CHANNEL_FD.as_ref(), Some(number.to_string().into()));
            set(node::CHANNEL_SERIALIZATION_MODE.as_ref(), Some("json".into()));
        }
        env
    }
}

/// A running child. Dropped, it goes on; only what is left of it when it ends stays until this process does.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: PidFd,
    channel: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Our end of its channel, if it has one; once.
    pub fn take_channel(&mut self) -> Option<OwnedFd> {
        self.channel.take()
    }

    /// The reading end of its stdout, non-blocking, if that is a pipe; once.
    pub fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.stdout.take()
    }

    /// The same for its stderr.
    pub fn take_stderr(&mut self) -> Option<OwnedFd> {
        self.stderr.take()
    }

    /// Sends it a signal, and never hits another process.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        self.pidfd.kill(signal)
    }

    /// Kills it and its process group; meant for [`Command::guarded`] children, who lead one.
    pub fn kill_group(&self) -> io::Result<()> {
        // The group first: its number is safe as long as its leader has not been reaped.
        sys::pidfd::kill_group(self.pid, KILL)?;
        self.pidfd.kill(KILL)
    }

    /// Ends it at once and leaves nothing of it.
    pub(crate) fn end(self) {
        // Who is dead already needs no signal, and who cannot be waited for has been reaped.
        let _ = self.kill_group();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = rustix::event::poll(&mut fds, None);
        let _ = self.try_wait();
    }

    /// How it ended, if it has.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        self.pidfd.try_wait()
    }

    /// Waits for its end and reaps it.
    pub async fn wait(&self) -> io::Result<Exit> {
        let watch = sys::watch::watch(self.pidfd.as_fd(), Interest::READABLE)?;
        loop {
            let mut ready = watch.readable().await?;
            if let Some(exit) = self.try_wait()? {
                return Ok(exit);
            }
            ready.clear_ready();
        }
    }

    pub(crate) fn pidfd(&self) -> &PidFd {
        &self.pidfd
    }
}

const KILL: i32 = rustix::process::Signal::KILL.as_raw();

/// A pipe for a child's output: our end is non-blocking, the child's is not. A pipe and not a socket, so
/// that `/dev/stdout` works in the child.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    sys::fd::set_nonblocking(&ours)?;
    Ok((ours, theirs))
}
