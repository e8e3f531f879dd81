//! From a command to a running process: what is executed, what it finds in its environment, what makes no sense.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::Path,
    sync::{Arc, Once},
};

use ganger_proto::node;

use super::{
    Command, SpawnError, Stdio,
    command::What,
    error::{Invalid, Reason},
    running::{KILL, Process},
    stdio::{self, STANDARD, Wiring},
};
use crate::{
    ipc::{FORK_ROLE, LANE_FD},
    sys::{
        pidfd::is_signal,
        process::own_executable,
        reap,
        spawn::{Group, Spawn, Step},
    },
};

/// A process that was started, and our ends of its descriptors.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Arc<Process>,
    /// By number in the child; non-blocking.
    pub(crate) ends: Vec<Option<OwnedFd>>,
    pub(crate) channel: Option<OwnedFd>,
    pub(crate) lane: Option<OwnedFd>,
    /// What was executed, with its arguments.
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
}

impl Command {
    /// Starts the process.
    pub(crate) fn start(&self) -> Result<Started, SpawnError> {
        static HEED: Once = Once::new();
        // Where the signal is ignored no exit status is to be had.
        HEED.call_once(|| drop(reap::heed_children()));

        let (program, args) = self.resolve().map_err(|reason| self.error(self.named(), &[], reason))?;
        let fail = |reason| self.error(program.clone(), &args, reason);
        let system = |step| move |source| Reason::System { step, source };
        let stdio = self.wanted();
        self.check(&program, &args, &stdio).map_err(|invalid| fail(Reason::Invalid(invalid)))?;
        let wiring = Wiring::new(&stdio, self.lane);
        let wiring = wiring.map_err(system(Step::Prepare)).map_err(fail)?;
        let argv0 = self.argv0.clone().unwrap_or_else(|| program.clone());
        let leader = self.detached || self.own_group || self.guarded;
        let spawn = Spawn {
            program: program.clone(),
            argv: std::iter::once(argv0).chain(args.iter().cloned()).collect(),
            env: self.environment(&wiring),
            cwd: self.cwd.clone(),
            fds: wiring.sources,
            uid: self.uid,
            gid: self.gid,
            process_group: match leader {
                true if self.detached => Group::Session,
                true => Group::Own,
                false => Group::Same,
            },
            parent_death_signal: self.guarded.then_some(KILL),
            pid_variable: None,
        };
        let spawned = spawn.spawn().map_err(|error| fail(system(error.step)(error.source)))?;
        Ok(Started {
            process: Arc::new(Process::new(spawned.pid, spawned.pidfd, leader)),
            ends: wiring.ends,
            channel: wiring.channel.map(|(ours, _)| ours),
            lane: wiring.lane.map(|(ours, _)| ours),
            program,
            args,
        })
    }

    /// The error of a child that was started and could not be kept.
    pub(crate) fn failed(&self, source: io::Error) -> SpawnError {
        self.error(self.named(), &self.args, Reason::System { step: Step::Prepare, source })
    }

    pub(super) fn error(&self, program: OsString, args: &[OsString], reason: Reason) -> SpawnError {
        SpawnError { program, args: args.into(), cwd: self.cwd.clone(), reason }
    }

    /// What it was made with.
    pub(super) fn named(&self) -> OsString {
        match &self.what {
            What::Program(program) => program.clone(),
            What::Module(module) => module.into(),
            What::Role(role) => role.into(),
        }
    }

    /// What is executed, and its arguments (`normalizeSpawnArguments` and `fork` in Node's
    /// `lib/child_process.js`).
    fn resolve(&self) -> Result<(OsString, Vec<OsString>), Reason> {
        let name = self.named();
        if name.is_empty() {
            return Err(Reason::Invalid(Invalid::Empty));
        }
        if has_nul(&name) {
            return Err(Reason::Invalid(Invalid::Nul("the program")));
        }
        match &self.what {
            What::Program(_) => match &self.shell {
                Some(shell) => {
                    let mut line = name;
                    for arg in &self.args {
                        line.push(" ");
                        line.push(arg);
                    }
                    Ok((shell.clone(), vec!["-c".into(), line]))
                }
                None => Ok((name, self.args.clone())),
            },
            What::Module(module) => {
                if let Some(cwd) = self.cwd.as_deref().filter(|cwd| !cwd.exists()) {
                    let source = cwd.metadata().err().unwrap_or_else(|| io::ErrorKind::NotFound.into());
                    return Err(Reason::System { step: Step::Chdir, source });
                }
                let path = self.cwd.as_deref().unwrap_or(Path::new("")).join(module);
                let runtime = match (&self.exec_path, form(&path)) {
                    (_, None) => return Err(Reason::Invalid(Invalid::NoModule)),
                    (Some(runtime), _) => Some(runtime.clone()),
                    (None, Some(Form::Script)) => Some(NODE.into()),
                    (None, Some(Form::Executable)) => None,
                };
                let Some(runtime) = runtime else {
                    let is_path = name.as_encoded_bytes().contains(&b'/');
                    let program = if is_path { name } else { Path::new(".").join(module).into() };
                    return Ok((program, self.args.clone()));
                };
                let args = self.exec_argv.iter().cloned().chain([name]).chain(self.args.iter().cloned());
                Ok((runtime, args.collect()))
            }
            What::Role(_) => {
                let own = own_executable();
                let own = own.map_err(|source| Reason::System { step: Step::Prepare, source })?;
                Ok((own.into(), self.args.clone()))
            }
        }
    }

    /// What its descriptors are, from 0 on.
    fn wanted(&self) -> Vec<Stdio> {
        let forks = self.forks();
        let standard = if forks && !self.silent { Stdio::Inherit } else { Stdio::Pipe };
        let said = self.stdio.iter().cloned();
        let mut wanted: Vec<Stdio> = said
            .chain(std::iter::repeat(None))
            .take(self.stdio.len().max(STANDARD))
            .enumerate()
            .map(|(number, said)| match said {
                Some(stdio) => stdio,
                None if number < STANDARD => standard.clone(),
                None => Stdio::Ignore,
            })
            .collect();
        if forks && !self.stdio_is_whole && !has_channel(&wanted) {
            let free = (STANDARD..wanted.len()).find(|number| self.stdio[*number].is_none());
            match free {
                Some(number) => wanted[number] = Stdio::Ipc,
                None => wanted.push(Stdio::Ipc),
            }
        }
        // In a process group of its own it would be stopped for reading from the terminal.
        if self.guarded && matches!(wanted[0], Stdio::Inherit) && io::stdin().is_terminal() {
            wanted[0] = Stdio::Ignore;
        }
        wanted
    }

    pub(super) fn forks(&self) -> bool {
        !matches!(self.what, What::Program(_))
    }

    /// Whether it is to have a channel.
    pub(super) fn wants_channel(&self) -> bool {
        has_channel(&self.wanted())
    }

    /// Finds what makes no sense, before anything is made.
    fn check(&self, program: &OsStr, args: &[OsString], stdio: &[Stdio]) -> Result<(), Invalid> {
        if program.is_empty() {
            return Err(Invalid::Empty);
        }
        let env = self.env.iter().flat_map(|(name, value)| {
            [
                (Some(name.as_os_str()), "the name of a variable"),
                (value.as_deref(), "the value of a variable"),
            ]
        });
        let strings = [
            (Some(program), "what runs it"),
            (self.argv0.as_deref(), "its name (argv0)"),
            (self.cwd.as_deref().map(Path::as_os_str), "the working directory"),
        ];
        let args = args.iter().map(|arg| (Some(arg.as_os_str()), "an argument"));
        for (string, what) in strings.into_iter().chain(args).chain(env) {
            if string.is_some_and(has_nul) {
                return Err(Invalid::Nul(what));
            }
        }
        for (id, what) in [(self.uid, "user"), (self.gid, "group")] {
            // The system calls take it for "as it is".
            if id == Some(u32::MAX) {
                return Err(Invalid::Id(u32::MAX, what));
            }
        }
        if !is_signal(self.kill_signal) {
            return Err(Invalid::Signal(self.kill_signal));
        }
        stdio::check(stdio)?;
        if self.forks() && !has_channel(stdio) {
            return Err(Invalid::NoChannel);
        }
        Ok(())
    }

    /// The child's environment: ours without our channel's variables, then what was asked for.
    fn environment(&self, wiring: &Wiring) -> Vec<(OsString, OsString)> {
        let channel = [node::CHANNEL_FD, node::CHANNEL_SERIALIZATION_MODE, node::UNIQUE_ID];
        let ours = [&channel[..], &[FORK_ROLE, LANE_FD]].concat();
        let mut env: Vec<(OsString, OsString)> = match self.env_clear {
            true => Vec::new(),
            false => std::env::vars_os().filter(|(name, _)| !ours.iter().any(|our| name == *our)).collect(),
        };
        let mut set = |name: &OsStr, value: Option<OsString>| {
            env.retain(|(other, _)| other != name);
            env.extend(value.map(|value| (name.to_owned(), value)));
        };
        for (name, value) in &self.env {
            set(name, value.clone());
        }
        if let What::Role(role) = &self.what {
            set(FORK_ROLE.as_ref(), Some(role.into()));
        }
        if let Some((_, number)) = &wiring.lane {
            set(LANE_FD.as_ref(), Some(number.to_string().into()));
        }
        if let Some((_, number)) = &wiring.channel {
            set(node::CHANNEL_FD.as_ref(), Some(number.to_string().into()));
            set(node::CHANNEL_SERIALIZATION_MODE.as_ref(), Some(self.serialization.name().into()));
        }
        env
    }
}

/// What a forked file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Script,
    Executable,
}

/// What is at `path`, if there is anything that can be forked.
fn form(path: &Path) -> Option<Form> {
    if let Ok(file) = path.metadata() {
        let executable = file.is_file() && file.permissions().mode() & 0o111 != 0;
        return Some(if executable && !is_script(path) { Form::Executable } else { Form::Script });
    }
    // What Node finds under a name without its extension (`Module._findPath` in
    // `lib/internal/modules/cjs/loader.js`).
    let with = |extension: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(extension);
        Path::new(&name).is_file()
    };
    [".js", ".json", ".node"].into_iter().any(with).then_some(Form::Script)
}

/// Whether a file is a script for a JavaScript runtime, by its name.
pub fn is_script(path: impl AsRef<Path>) -> bool {
    let extension = path.as_ref().extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| SCRIPTS.contains(&extension))
}

fn has_nul(string: &OsStr) -> bool {
    string.as_encoded_bytes().contains(&0)
}

fn has_channel(stdio: &[Stdio]) -> bool {
    stdio.iter().any(|stdio| matches!(stdio, Stdio::Ipc))
}

/// Extensions of what runs under a JavaScript runtime.
const SCRIPTS: [&str; 6] = ["js", "mjs", "cjs", "ts", "mts", "cts"];
/// What scripts run under.
const NODE: &str = "node";
