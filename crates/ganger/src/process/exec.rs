//! Commands whose output is collected: Node's `exec` and `execFile`.

use std::{
    future::{IntoFuture, pending},
    io,
    path::Path,
    pin::{Pin, pin},
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Captured, Child, ChildOutput, ChildStdin, Command, ExecError, Exit, Failure, Killer, Stdio,
    child::{ChildError, Event},
    command::What,
};

/// What a command wrote that did what was asked of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// To its stdout.
    pub stdout: Captured,
    /// To its stderr.
    pub stderr: Captured,
}

/// A command that runs, and whose output is collected while this is awaited.
///
/// It resolves when the command has ended and both streams are closed: with what it wrote if its exit code was 0,
/// and with an [`ExecError`] otherwise. Where the kill signal was sent, what others hold of the streams is not
/// waited for; the command itself is. After a cancellation, and where the signal is refused, nothing is waited for.
#[derive(Debug)]
#[must_use = "its output is collected while it is awaited"]
pub struct Exec {
    /// Where its stdin is written. Unless it is taken out it is closed, after
    /// [`input`](Command::input), as soon as the output is awaited.
    pub stdin: Option<ChildStdin>,
    running: Result<Running, ExecError>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    cmd: Box<str>,
    cwd: Option<Box<Path>>,
    input: Vec<u8>,
    max_buffer: usize,
    timeout: Duration,
    kill_signal: i32,
}

impl Command {
    /// Starts it, to collect what it writes: Node's `execFile`, and for a [command line](Command::shell) `exec`. Its
    /// stdout and stderr are pipes, whatever else was said of them; further pipes are closed.
    ///
    /// That it could not be started is said when the result is awaited.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn exec(&self) -> Exec {
        let mut command = self.clone();
        command.stdout(Stdio::Pipe).stderr(Stdio::Pipe);
        match command.spawn() {
            Ok(mut child) => Exec {
                stdin: child.stdin.take(),
                running: Ok(Running {
                    child,
                    cmd: self.cmd(),
                    cwd: self.cwd.as_deref().map(Into::into),
                    input: command.input.unwrap_or_default(),
                    max_buffer: self.max_buffer,
                    timeout: self.timeout.unwrap_or_default(),
                    kill_signal: self.kill_signal,
                }),
            },
            Err(error) => {
                Exec { stdin: None, running: Err(ExecError::new(self, Failure::Spawn(error.into()))) }
            }
        }
    }

    /// The command line, as Node's errors have it.
    pub(super) fn cmd(&self) -> Box<str> {
        let first = match &self.what {
            What::Program(program) => program.as_os_str(),
            What::Module(module) => module.as_os_str(),
            What::Role(role) => role.as_ref(),
        };
        let words = std::iter::once(first).chain(self.args.iter().map(|arg| arg.as_os_str()));
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ").into()
    }
}

impl ExecError {
    pub(super) fn new(command: &Command, failure: Failure) -> Self {
        let (stdout, stderr) = Default::default();
        let (cmd, cwd) = (command.cmd(), command.cwd.as_deref().map(Into::into));
        Self { cmd, cwd, failure, exit: None, killed: false, stdout, stderr }
    }
}

impl Exec {
    /// Its number; `None` if it could not be started.
    pub fn pid(&self) -> Option<i32> {
        self.running.as_ref().ok().map(|running| running.child.pid())
    }

    /// What can signal it while its output is awaited; `None` if it could not be started.
    pub fn killer(&self) -> Option<Killer> {
        self.running.as_ref().ok().map(|running| running.child.killer())
    }
}

impl IntoFuture for Exec {
    type Output = Result<Output, ExecError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.running?.collect(self.stdin).await })
    }
}

impl Running {
    async fn collect(mut self, stdin: Option<ChildStdin>) -> Result<Output, ExecError> {
        let mut stdout = Collector::new(self.child.stdout.take(), self.max_buffer);
        let mut stderr = Collector::new(self.child.stderr.take(), self.max_buffer);
        let input = std::mem::take(&mut self.input);
        let mut writing = pin!(write(stdin, input));
        let mut written = false;
        // Nobody can read them.
        self.child.pipes.clear();
        let mut failure = None;
        while !self.child.is_closed() {
            let over = tokio::select! {
                over = stdout.read() => over.map(|over| over.then_some("stdout")),
                over = stderr.read() => over.map(|over| over.then_some("stderr")),
                () = &mut writing, if !written => {
                    written = true;
                    Ok(None)
                }
                () = self.child.progress() => Ok(None),
            };
            let over = over.map(|over| over.map(|stream| Failure::MaxBuffer { stream }));
            let mut abandoned = false;
            if let Some(over) = over.map_err(Failure::Io).unwrap_or_else(Some) {
                failure.get_or_insert(over);
                if let Some(refused) = self.child.end(self.kill_signal) {
                    (failure, abandoned) = (Some(Failure::Io(refused)), true);
                }
            }
            while let Some(event) = self.child.take_event() {
                match event {
                    Event::Error(ChildError::Aborted) => {
                        (failure, abandoned) = (Some(Failure::Aborted), true);
                    }
                    Event::Error(ChildError::Kill(refused)) => {
                        (failure, abandoned) = (Some(Failure::Io(refused)), true);
                    }
                    Event::Error(ChildError::Lost(error)) => drop(failure.get_or_insert(Failure::Io(error))),
                    _ => {}
                }
            }
            if abandoned {
                break;
            }
            if failure.is_some() || self.child.expired() {
                stdout.stop();
                stderr.stop();
            }
        }
        let exit = self.child.exit();
        if failure.is_none() {
            failure = match exit {
                _ if self.child.timed_out() => Some(Failure::TimedOut(self.timeout)),
                Some(Exit::Code(0)) => None,
                _ => Some(Failure::Exit),
            };
        }
        let (stdout, stderr) = (stdout.bytes.into(), stderr.bytes.into());
        let Some(failure) = failure else { return Ok(Output { stdout, stderr }) };
        let over = matches!(failure, Failure::MaxBuffer { .. } | Failure::Aborted);
        let killed = self.child.killed() || self.child.expired() || over;
        Err(ExecError { cmd: self.cmd, cwd: self.cwd, failure, exit, killed, stdout, stderr })
    }
}

/// Writes the whole input, then closes it. Who does not want it all has that right.
async fn write(stdin: Option<ChildStdin>, input: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

/// One stream, and what came of it so far.
struct Collector {
    stream: Option<ChildOutput>,
    bytes: Vec<u8>,
    max: usize,
}

impl Collector {
    fn new(stream: Option<ChildOutput>, max: usize) -> Self {
        Self { stream, bytes: Vec::new(), max }
    }

    /// Reads on, and tells whether it was more than allowed; what is too much is left out. Can be dropped and
    /// called again.
    async fn read(&mut self) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else { return pending().await };
        self.bytes.reserve(CHUNK);
        let count = stream.read_buf(&mut self.bytes).await;
        if !matches!(count, Ok(1..)) {
            self.stop();
        }
        count?;
        let over = self.bytes.len() > self.max;
        self.bytes.truncate(self.max);
        Ok(over)
    }

    fn stop(&mut self) {
        self.stream = None;
    }
}

/// So much room there is for one read, at least.
const CHUNK: usize = 16 << 10;
