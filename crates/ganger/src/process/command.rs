//! A process to be started: what, with which arguments, and every option of Node's four functions.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use ganger_proto::Serialization;
use tokio_util::sync::CancellationToken;

use super::{Stdio, stdio::STANDARD};

/// A process to be started, with Node's options and Node's defaults: its three standard streams are pipes, its
/// environment and directory are ours. It can be started any number of times.
///
/// What is started depends on how the command was made: [`new`](Command::new) an executable,
/// [`shell`](Command::shell) a command line, [`fork`](Command::fork) a script or a program with a channel,
/// [`fork_self`](Command::fork_self) this program again. How, on the method at the end:
/// [`spawn`](Command::spawn) for events and streams, [`exec`](Command::exec) for collected output,
/// [`spawn_sync`](Command::spawn_sync) and [`exec_sync`](Command::exec_sync) to wait for it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ganger::Result {
/// use ganger::process::Command;
/// use std::time::Duration;
///
/// let output = Command::new("sort").input("b\na\n").timeout(Duration::from_secs(10)).exec().await?;
/// assert_eq!(output.stdout, "a\nb\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Command {
    pub(super) what: What,
    pub(super) args: Vec<OsString>,
    pub(super) argv0: Option<OsString>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env_clear: bool,
    /// In order; later ones win.
    pub(super) env: Vec<(OsString, Option<OsString>)>,
    /// What was said of each descriptor; the rest is as the form has it.
    pub(super) stdio: Vec<Option<Stdio>>,
    /// Whether that was said of all at once.
    pub(super) stdio_is_whole: bool,
    pub(super) silent: bool,
    pub(super) shell: Option<OsString>,
    pub(super) detached: bool,
    pub(super) own_group: bool,
    pub(super) guarded: bool,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) timeout: Option<Duration>,
    pub(super) kill_signal: i32,
    pub(super) kill_on_drop: bool,
    pub(super) max_buffer: usize,
    pub(super) input: Option<Vec<u8>>,
    pub(super) cancellation: Option<CancellationToken>,
    pub(super) serialization: Serialization,
    pub(super) lane: bool,
    pub(super) exec_path: Option<OsString>,
    pub(super) exec_argv: Vec<OsString>,
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// An executable, or with a shell the beginning of a command line.
    Program(OsString),
    /// A script or an executable, with a channel.
    Module(PathBuf),
    /// This program, with a channel.
    Role(String),
}

impl Command {
    /// An executable: a path if there is a `/` in it, else looked for in the `PATH` that the child will have.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self::of(What::Program(program.into()))
    }

    /// A command line for `/bin/sh`. What a user typed does not belong into it: it would be executed.
    pub fn shell(line: impl Into<OsString>) -> Self {
        let mut command = Self::new(line);
        command.use_shell(DEFAULT_SHELL);
        command
    }

    /// A script that runs under Node ([`Command::exec_path`]), or an executable, with a channel. By its name it is
    /// a script: `.js`, `.mjs`, `.cjs`, `.ts`, `.mts`, `.cts`, or without an extension what Node would find under
    /// it. A relative path is relative to the child's directory. Its standard streams are ours, unless
    /// [`silent`](Command::silent) or said otherwise.
    pub fn fork(module: impl Into<PathBuf>) -> Self {
        Self::of(What::Module(module.into()))
    }

    /// This program again, with a channel, and a role that it asks for with [`ipc::role`](crate::ipc::role). Its
    /// path is the one it had when this process started, so that after a deploy the new program runs.
    pub fn fork_self(role: impl Into<String>) -> Self {
        Self::of(What::Role(role.into()))
    }

    fn of(what: What) -> Self {
        Self {
            what,
            args: Vec::new(),
            argv0: None,
            cwd: None,
            env_clear: false,
            env: Vec::new(),
            stdio: Vec::new(),
            stdio_is_whole: false,
            silent: false,
            shell: None,
            detached: false,
            own_group: false,
            guarded: false,
            uid: None,
            gid: None,
            timeout: None,
            kill_signal: rustix::process::Signal::TERM.as_raw(),
            kill_on_drop: false,
            max_buffer: MAX_BUFFER,
            input: None,
            cancellation: None,
            serialization: Serialization::Json,
            lane: false,
            exec_path: None,
            exec_argv: Vec::new(),
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

    /// What the child finds as its own name, `argv[0]`. Default: the program as it was named.
    pub fn argv0(&mut self, name: impl Into<OsString>) -> &mut Self {
        self.argv0 = Some(name.into());
        self
    }

    /// Sets the working directory. A relative program is relative to it.
    pub fn cwd(&mut self, cwd: impl Into<PathBuf>) -> &mut Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Sets variables of the child's environment.
    pub fn envs<N, V>(&mut self, variables: impl IntoIterator<Item = (N, V)>) -> &mut Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        self.env.extend(variables.into_iter().map(|(name, value)| (name.into(), Some(value.into()))));
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove(&mut self, name: impl Into<OsString>) -> &mut Self {
        self.env.push((name.into(), None));
        self
    }

    /// Begins with an empty environment, without a `PATH` even: the whole environment is what is set from here
    /// on.
    pub fn env_clear(&mut self) -> &mut Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// What its stdin is.
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.descriptor(0, stdio)
    }

    /// What its stdout is.
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.descriptor(1, stdio)
    }

    /// What its stderr is.
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.descriptor(2, stdio)
    }

    /// What one of its descriptors is. Those that nothing is said of are not open above 2.
    ///
    /// # Panics
    /// If `number` is above 65 535.
    pub fn descriptor(&mut self, number: usize, stdio: impl Into<Stdio>) -> &mut Self {
        assert!(
            number <= usize::from(u16::MAX),
            "descriptor {number} of a child is none of the lowest 65,536"
        );
        if self.stdio.len() <= number {
            self.stdio.resize_with(number + 1, || None);
        }
        self.stdio[number] = Some(stdio.into());
        self
    }

    /// What all its descriptors are, from 0 on; a list shorter than three is filled up with pipes. For a
    /// [fork](Command::fork) it has to name [`Stdio::Ipc`].
    pub fn stdio(&mut self, list: impl IntoIterator<Item = Stdio>) -> &mut Self {
        self.stdio = list.into_iter().map(Some).collect();
        while self.stdio.len() < STANDARD {
            self.stdio.push(Some(Stdio::Pipe));
        }
        self.stdio_is_whole = true;
        self
    }

    /// Whether the standard streams of a fork are pipes and not ours. Default: no.
    pub fn silent(&mut self, silent: bool) -> &mut Self {
        self.silent = silent;
        self
    }

    /// Lets a shell run it: the shell's path or name. The program and the arguments are joined with spaces and
    /// nothing is quoted, as in Node. A fork never uses one.
    pub fn use_shell(&mut self, shell: impl Into<OsString>) -> &mut Self {
        self.shell = Some(shell.into());
        self
    }

    /// Whether it leads a session of its own, without a terminal, and with it a process group: what ends it
    /// before its time ends all of the group. Default: no.
    pub fn detached(&mut self, detached: bool) -> &mut Self {
        self.detached = detached;
        self
    }

    /// Whether it leads a process group of its own, in our session: what ends it before its time ends all of the
    /// group. Without one, a shell that is killed leaves behind what it had started. Default: no, as in Node.
    pub fn kill_group(&mut self, own: bool) -> &mut Self {
        self.own_group = own;
        self
    }

    /// Whether the child leads a process group of its own and is killed when this process dies. A terminal is not
    /// its stdin then, since only one process group can read from it. Default: no.
    pub fn guarded(&mut self, guarded: bool) -> &mut Self {
        self.guarded = guarded;
        self
    }

    /// The user to become. Supplementary groups are dropped, if we may.
    pub fn uid(&mut self, uid: u32) -> &mut Self {
        self.uid = Some(uid);
        self
    }

    /// The group to become.
    pub fn gid(&mut self, gid: u32) -> &mut Self {
        self.gid = Some(gid);
        self
    }

    /// How long it may run before it is sent the kill signal. It counts whether or not somebody looks at the
    /// child. Default: as long as it takes.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = Some(timeout);
        self
    }

    /// The signal that ends it before its time. Default: `SIGTERM`.
    pub fn kill_signal(&mut self, signal: i32) -> &mut Self {
        self.kill_signal = signal;
        self
    }

    /// Whether it is sent the kill signal when its [`Child`](super::Child) is dropped; `SIGTERM`, the default one, it may
    /// ignore. Default: it goes on, and leaves no zombie.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// How many bytes of stdout, and of stderr, are collected before it is sent the kill signal; in the blocking forms,
    /// of all streams together. `usize::MAX` for any number. Default: 1 MiB.
    pub fn max_buffer(&mut self, bytes: usize) -> &mut Self {
        self.max_buffer = bytes;
        self
    }

    /// What [`exec`](Command::exec) and the blocking forms write to its stdin before they close it. Default:
    /// nothing.
    pub fn input(&mut self, input: impl Into<Vec<u8>>) -> &mut Self {
        self.input = Some(input.into());
        self
    }

    /// A token that sends it the kill signal when it is cancelled: Node's `AbortSignal`.
    pub fn cancellation(&mut self, token: CancellationToken) -> &mut Self {
        self.cancellation = Some(token);
        self
    }

    /// How values are written on its channel. Default: [`Serialization::Json`], as in Node.
    pub fn serialization(&mut self, serialization: Serialization) -> &mut Self {
        self.serialization = serialization;
        self
    }

    /// Whether a [lane](crate::channel::Lane) lies beside its channel, as the next descriptor that is free: for a program
    /// with this library. Any other ignores it. Default: no.
    pub fn lane(&mut self, lane: bool) -> &mut Self {
        self.lane = lane;
        self
    }

    /// What a forked script runs under. Default: `node`. An executable is then run under it too. No effect on a
    /// [`fork_self`](Command::fork_self).
    pub fn exec_path(&mut self, path: impl Into<OsString>) -> &mut Self {
        self.exec_path = Some(path.into());
        self
    }

    /// Options of what a forked script runs under; they stand before the script. No effect where nothing runs under
    /// anything.
    pub fn exec_argv<A: Into<OsString>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.exec_argv = args.into_iter().map(Into::into).collect();
        self
    }
}

/// Who runs a command line.
pub(super) const DEFAULT_SHELL: &str = "/bin/sh";
/// Node's `MAX_BUFFER`.
const MAX_BUFFER: usize = 1 << 20;
