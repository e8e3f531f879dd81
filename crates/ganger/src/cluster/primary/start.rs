//! From settings to a running worker.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex},
};

use ganger_proto::{Generation, Slot, WorkerId, cluster::Held, node, session::Limits};

use super::{
    DEAF_AFTER, Primary, Token,
    life::{Life, lock},
    notify,
    worker::{LaneEnd, Worker, WorkerHandle},
};
use crate::{
    channel::{LaneLink, Link},
    cluster::{Event, ForkError, Settings, WorkerInfo, environment, group::Launch, options, place},
    process::{Command, Started, Stdio, Streams},
    sys::poll::Interest,
};

/// A worker's channel is this descriptor in it, as in Node, where nothing else is said.
pub(super) const CHANNEL: usize = 3;

impl Primary {
    /// Starts a worker in the lowest slot that nobody holds.
    ///
    /// # Errors
    /// If its process cannot be started; then there is no new worker.
    pub fn fork(&mut self) -> Result<WorkerInfo, ForkError> {
        self.fork_with([("", ""); 0])
    }

    /// The same with variables of its own, which stand above those of the settings: Node's `cluster.fork(env)`.
    ///
    /// # Errors
    /// As [`Primary::fork`].
    pub fn fork_with<N, V>(&mut self, env: impl IntoIterator<Item = (N, V)>) -> Result<WorkerInfo, ForkError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let env: Vec<(OsString, OsString)> =
            env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.fork_anywhere(&env).map(|worker| worker.info())
    }

    /// In the lowest slot that nobody holds.
    pub(in crate::cluster) fn fork_anywhere(
        &mut self,
        env: &[(OsString, OsString)],
    ) -> Result<WorkerHandle, ForkError> {
        let free = lowest_free(self.workers.values().map(|worker| worker.info.slot));
        self.fork_worker(free, Generation::default(), env)
    }

    /// Starts a worker of a generation in a slot: of the slot's group, where there are [groups](Settings::groups).
    ///
    /// # Errors
    /// If its process cannot be started; then there is no new worker.
    pub fn fork_in(&mut self, slot: Slot, generation: Generation) -> Result<WorkerInfo, ForkError> {
        self.fork_worker(slot, generation, &[]).map(|worker| worker.info())
    }

    fn fork_worker(
        &mut self,
        slot: Slot,
        generation: Generation,
        env: &[(OsString, OsString)],
    ) -> Result<WorkerHandle, ForkError> {
        if !self.is_set_up {
            self.tell_setup();
        }
        let channel = self.settings.launch(slot).channel;
        let id = self.machine.fork(slot, generation, channel);
        match self.start(id, slot, generation, env) {
            Ok(worker) => {
                self.events.push_back(Event::Fork { worker: worker.info() });
                Ok(worker)
            }
            Err(error) => {
                self.machine.fork_failed(id);
                Err(error)
            }
        }
    }

    fn start(
        &mut self,
        id: WorkerId,
        slot: Slot,
        generation: Generation,
        env: &[(OsString, OsString)],
    ) -> Result<WorkerHandle, ForkError> {
        let settings = self.settings.clone();
        let launch = settings.launch(slot);
        let mut command = Command::new(launch.program);
        command.args(self.hints(&settings, &launch));
        let variables = environment::of_worker(&settings, &launch, id, slot, env);
        let mut args = launch.args.to_vec();
        let is_inspected = is_node(launch.program) && {
            let options = environment::value(&variables, node::OPTIONS);
            options::inspect(&mut args, options.as_deref(), settings.inspect_port, &mut self.inspected)
        };
        command.args(args);
        command.guarded(true).stdio(stdio(&settings, launch.channel)).serialization(launch.serialization);
        command.lane(launch.channel && launch.lane && !is_runtime(launch.program));
        let notify = self.notify_socket(format_args!("worker-{id}"), settings.uid);
        notify::tell(&mut command, notify.as_ref(), self.watchdog);
        command.envs(variables);
        if let Some(cwd) = launch.cwd {
            command.cwd(cwd);
        }
        if let Some(uid) = settings.uid {
            command.uid(uid);
        }
        if let Some(gid) = settings.gid {
            command.gid(gid);
        }
        let Started { process, ends, channel, lane, .. } = command.start()?;
        let info = WorkerInfo { id, slot, generation, pid: process.pid(), group: launch.group };
        let limits = Limits { validate: true, queue: DEAF_AFTER, ..Limits::default() };
        let link = channel.map(|socket| Link::new(socket, launch.serialization, limits)).transpose();
        let watched = link.and_then(|link| {
            self.poller.get_ref().add(&**process.pidfd(), Token::Process(id).into(), Interest::Read)?;
            if let Some(link) = &link {
                self.poller.get_ref().add(link, Token::Channel(id).into(), Interest::Read)?;
            }
            self.watch_notify(notify.as_ref(), Token::Notify(id))?;
            let lane =
                lane.map(|socket| LaneEnd { link: LaneLink::new(socket), agreed: false, blocked: false });
            if let Some(lane) = &lane {
                self.poller.get_ref().add(&lane.link, Token::Lane(id).into(), Interest::Read)?;
            }
            Ok((link, lane))
        });
        // Nobody would see what it says or that it ends.
        let (link, lane) = match watched {
            Ok(watched) => watched,
            Err(error) => {
                process.end();
                return Err(command.failed(error).into());
            }
        };
        if link.is_some() {
            self.messenger.worker_joined(id, slot, info.pid);
        }
        let life = Arc::new(Mutex::new(Life::new(link.is_some(), ends)));
        let worker = Worker {
            info,
            process,
            link,
            lane,
            notify,
            is_inspected,
            blocked: false,
            exit: None,
            held: Held::default(),
            life,
        };
        let handle = self.handle_of(&worker);
        self.workers.insert(id, worker);
        Ok(handle)
    }

    /// The options that put the hints before a worker's program, if it gets them.
    fn hints(&mut self, settings: &Settings, launch: &Launch<'_>) -> Vec<OsString> {
        let is_wanted = settings.hints && (launch.channel || settings.graceful);
        if !is_wanted || !is_node(launch.program) || !place::takes_hints_with(launch.args) {
            return Vec::new();
        }
        self.in_place(|place| place.hints(settings.graceful)).unwrap_or_default()
    }

    /// Our ends of a worker's pipes, once, until it is reaped; afterwards [its handle](WorkerHandle::take_streams) has them.
    ///
    /// # Errors
    /// `NotFound` if it is reaped; otherwise if they cannot be watched, and then they are closed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn take_streams(&mut self, id: WorkerId) -> io::Result<Streams> {
        let reaped = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("worker {id} is reaped: its handle has its streams"),
            )
        };
        self.worker(id).ok_or_else(reaped)?.take_streams()
    }

    /// The reading ends of a worker's stdout and stderr, once, if they are pipes.
    pub(crate) fn take_output(&mut self, id: WorkerId) -> [Option<OwnedFd>; 2] {
        let Some(worker) = self.workers.get(&id) else { return [None, None] };
        let mut life = lock(&worker.life);
        [1, 2].map(|number| life.ends.get_mut(number)?.take())
    }
}

/// The lowest slot that is not taken.
fn lowest_free(taken: impl Iterator<Item = Slot>) -> Slot {
    let taken: HashSet<Slot> = taken.collect();
    (0..).map(Slot).find(|slot| !taken.contains(slot)).unwrap_or(Slot(0))
}

/// What a worker's descriptors are.
fn stdio(settings: &Settings, channel: bool) -> Vec<Stdio> {
    let mut list = match &settings.stdio {
        Some(list) => list.clone(),
        None if settings.silent => vec![Stdio::Pipe; CHANNEL],
        None => vec![Stdio::Inherit, settings.output.clone(), settings.output.clone()],
    };
    list.resize(list.len().max(CHANNEL), Stdio::Pipe);
    let is_channel = |stdio: &Stdio| matches!(stdio, Stdio::Ipc);
    if !channel {
        // What comes behind it keeps its number.
        list.iter_mut().filter(|stdio| is_channel(stdio)).for_each(|stdio| *stdio = Stdio::Ignore);
    } else if !list.iter().any(is_channel) {
        list.push(Stdio::Ipc);
    }
    list
}

fn is_node(program: &OsStr) -> bool {
    stem(program).is_some_and(|name| ["node", "nodejs"].contains(&name))
}

/// Whether a program is a JavaScript runtime, which has no lane.
fn is_runtime(program: &OsStr) -> bool {
    is_node(program) || stem(program).is_some_and(|name| ["bun", "deno"].contains(&name))
}

fn stem(program: &OsStr) -> Option<&str> {
    Path::new(program).file_stem().and_then(OsStr::to_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_slot_that_is_free_is_next() {
        let free = |taken: &[u32]| lowest_free(taken.iter().copied().map(Slot)).0;
        assert_eq!(free(&[]), 0);
        assert_eq!(free(&[1, 2]), 0);
        // In whatever order they were forked, and with a successor beside one that leaves.
        assert_eq!(free(&[3, 0, 4, 1, 0]), 2);
        assert_eq!(free(&[0, 1, 2, u32::MAX]), 3);
    }

    #[test]
    fn a_descriptor_has_its_number_with_a_channel_and_without() {
        use Stdio::{Ignore, Inherit, Ipc, Pipe};
        let mut settings = Settings::new("program");
        let mut both = |said: &[Stdio]| {
            settings.stdio = Some(said.to_vec());
            [true, false].map(|channel| format!("{:?}", stdio(&settings, channel)))
        };
        let lists = |with: &[Stdio], without: &[Stdio]| [format!("{with:?}"), format!("{without:?}")];
        assert_eq!(
            both(&[Ignore, Ipc, Inherit, Inherit]),
            lists(&[Ignore, Ipc, Inherit, Inherit], &[Ignore, Ignore, Inherit, Inherit])
        );
        assert_eq!(both(&[Inherit]), lists(&[Inherit, Pipe, Pipe, Ipc], &[Inherit, Pipe, Pipe]));
        assert_eq!(both(&[Inherit, Ipc]), lists(&[Inherit, Ipc, Pipe], &[Inherit, Ignore, Pipe]));
    }
}
