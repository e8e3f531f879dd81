//! The blocking forms: Node's `spawnSync`, `execSync` and `execFileSync`. They need no runtime.

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, retry_on_intr},
    time::Timespec,
};

use super::{
    Captured, Command, ExecError, Exit, Failure, SpawnError,
    error::{Invalid, Reason},
    running::{Process, refused},
    start::Started,
};
use crate::clock;

/// How a command ended that was waited for.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished {
    /// Its number.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
    /// What it wrote, by number; `None` for what was no pipe, and always for its stdin.
    pub output: Vec<Option<Captured>>,
    /// Why it was ended before its time, if it was: `ETIMEDOUT` or `ENOBUFS`.
    pub failure: Option<Failure>,
}

impl Finished {
    /// What it wrote to its stdout, if that was a pipe.
    pub fn stdout(&self) -> Option<&Captured> {
        self.output.get(1)?.as_ref()
    }

    /// What it wrote to its stderr, if that was a pipe.
    pub fn stderr(&self) -> Option<&Captured> {
        self.output.get(2)?.as_ref()
    }
}

impl Command {
    /// Runs it and waits until it has ended and all its pipes are closed: Node's `spawnSync`. Where it was ended
    /// before its time, the pipes are not waited for. A [token](Command::cancellation) has no effect.
    ///
    /// # Errors
    /// [`SpawnError`] if it could not be started. That it failed is no error here.
    ///
    /// Who ignores the kill signal, or may not be signalled, is waited for all the same, as in Node.
    pub fn spawn_sync(&self) -> Result<Finished, SpawnError> {
        if self.wants_channel() {
            let invalid = Reason::Invalid(Invalid::ChannelInSync);
            return Err(self.error(self.named(), &self.args, invalid));
        }
        let deadline = self.timeout.map(|timeout| clock::now() + timeout);
        let Started { process, ends, .. } = self.start()?;
        let mut wait = Wait::new(&process, ends, self);
        wait.deadline = deadline;
        let exit = wait.run().map_err(|error| {
            process.end();
            self.failed(error)
        })?;
        let output = wait.outputs.into_iter().map(|output| output.map(Captured::from)).collect();
        Ok(Finished { pid: process.pid(), exit, output, failure: wait.failure })
    }

    /// Runs it, waits for it, and returns what it wrote to its stdout (nothing, if that was no pipe): Node's
    /// `execFileSync`, and for a [command line](Command::shell) `execSync`. What it wrote to its stderr is copied to
    /// ours, unless something was said of its descriptors.
    ///
    /// # Errors
    /// [`ExecError`] unless its exit code is 0, with all that it wrote.
    pub fn exec_sync(&self) -> Result<Captured, ExecError> {
        let finished =
            self.spawn_sync().map_err(|error| ExecError::new(self, Failure::Spawn(error.into())))?;
        let Finished { exit, mut output, failure, .. } = finished;
        let mut take = |number| output.get_mut(number).and_then(Option::take).unwrap_or_default();
        let (stdout, stderr): (Captured, Captured) = (take(1), take(2));
        if self.stdio.is_empty() {
            // Who has closed our stderr does not want it.
            let _ = io::stderr().write_all(&stderr);
        }
        let killed = failure.is_some();
        match failure.or((exit != Exit::Code(0)).then_some(Failure::Exit)) {
            None => Ok(stdout),
            Some(failure) => Err(ExecError {
                cmd: self.cmd(),
                cwd: self.cwd.as_deref().map(Into::into),
                failure,
                exit: Some(exit),
                killed,
                stdout,
                stderr,
            }),
        }
    }
}

/// What is waited for.
struct Wait<'a> {
    process: &'a Process,
    command: &'a Command,
    /// Our end of its stdin, and how much of the input is written.
    stdin: Option<OwnedFd>,
    written: usize,
    /// Our ends of its outputs by number, as long as they are open.
    streams: Vec<Option<OwnedFd>>,
    outputs: Vec<Option<Vec<u8>>>,
    /// How much that is.
    total: usize,
    deadline: Option<ganger_proto::Time>,
    exit: Option<Exit>,
    failure: Option<Failure>,
}

impl<'a> Wait<'a> {
    fn new(process: &'a Process, ends: Vec<Option<OwnedFd>>, command: &'a Command) -> Self {
        let mut streams = ends;
        let stdin = streams.first_mut().and_then(Option::take);
        let outputs = streams.iter().map(|stream| stream.as_ref().map(|_| Vec::new())).collect();
        Self {
            process,
            command,
            stdin,
            written: 0,
            streams,
            outputs,
            total: 0,
            deadline: None,
            exit: None,
            failure: None,
        }
    }

    fn run(&mut self) -> io::Result<Exit> {
        loop {
            self.write()?;
            if let Some(exit) = self.exit
                && self.streams.iter().all(Option::is_none)
            {
                // The zombie was kept for the sake of its group.
                let _ = self.process.try_wait();
                return Ok(exit);
            }
            self.poll()?;
            if self.exit.is_none() {
                self.exit = self.process.peek()?;
            }
            for number in 0..self.streams.len() {
                self.read(number)?;
            }
            if self.deadline.is_some_and(|deadline| clock::now() >= deadline) {
                self.deadline = None;
                self.end(Failure::TimedOut(self.command.timeout.unwrap_or_default()));
            }
        }
    }

    /// Waits until there is something to do.
    fn poll(&self) -> io::Result<()> {
        let limit = self.deadline.map(|deadline| {
            let left = deadline - clock::now();
            // Rounded up, so that the deadline has passed afterwards.
            Timespec::try_from(left + Duration::from_millis(1))
                .unwrap_or(Timespec { tv_sec: 1 << 30, tv_nsec: 0 })
        });
        let mut fds = Vec::with_capacity(self.streams.len() + 2);
        fds.extend(self.streams.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.stdin.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        if self.exit.is_none() {
            fds.push(PollFd::new(&**self.process.pidfd(), PollFlags::IN));
        }
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes what the pipe takes of the input, and closes it at the end.
    fn write(&mut self) -> io::Result<()> {
        let input = self.command.input.as_deref().unwrap_or_default();
        while let Some(stdin) = &self.stdin {
            let rest = &input[self.written..];
            // A pipe's reader may be gone: it had the right not to read it all.
            match retry_on_intr(|| rustix::io::write(stdin, rest)) {
                _ if rest.is_empty() => self.stdin = None,
                Ok(count) => self.written += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::PIPE) => self.stdin = None,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there. More than the limit is kept, as it has been read already (Node's `SyncProcessRunner`).
    fn read(&mut self, number: usize) -> io::Result<()> {
        while let (Some(stream), Some(output)) = (&self.streams[number], &mut self.outputs[number]) {
            output.reserve(CHUNK);
            let read =
                retry_on_intr(|| rustix::io::read(stream.as_fd(), rustix::buffer::spare_capacity(output)));
            match read {
                Ok(0) | Err(Errno::CONNRESET) => self.streams[number] = None,
                Ok(count) => {
                    self.total += count;
                    if self.total > self.command.max_buffer {
                        self.end(Failure::NoBuffers);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Ends it before its time: from now on only its end is waited for.
    fn end(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        if let Some(refused) = refused(self.process.kill_all(self.command.kill_signal)) {
            self.failure = Some(Failure::Io(refused));
        }
        self.stdin = None;
        self.streams.iter_mut().for_each(|stream| *stream = None);
    }
}

/// Node's unit of reading.
const CHUNK: usize = 64 << 10;
