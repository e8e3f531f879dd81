//! How a process becomes a worker: under a ganger primary, under Node's, or alone.

use std::{ffi::OsString, future::Future, io, sync::Once};

use ganger_proto::{AgentId, Serialization, Slot, WorkerId, node};

use super::{
    Member, NewAgent, Worker,
    connected::{Shared, Taken},
    inherited::Inherited,
    life::Life,
    notifier::Notifier,
};
use crate::{
    cluster::environment,
    ipc::{self, adopt_lane},
    sys::{env, fd},
};

/// What this process was started as, and with: [`worker`] finds it out, [`run`](Self::run) makes a [`Worker`] of it.
#[derive(Debug)]
pub struct NewWorker {
    id: WorkerId,
    slot: Slot,
    primary: Option<Taken>,
    inherited: Inherited,
    notifier: Option<Notifier>,
}

/// What this process was started as; for programs that have a runtime of their own, others use
/// [`ganger::worker`](crate::worker). Belongs first in `main`, before any thread is started: it takes what is the worker's
/// own (`NODE_CHANNEL_FD`, `NODE_UNIQUE_ID`, `GANGER_SLOT`, `LISTEN_FDS`, `NOTIFY_SOCKET` and their like) out of the
/// environment, so that the program's own children do not take themselves for workers.
///
/// ```no_run
/// fn main() -> ganger::Result {
///     let worker = ganger::cluster::worker()?;
///     let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
///     runtime.block_on(worker.run(async |worker: ganger::cluster::Worker| -> ganger::Result {
///         let mut listener = worker.listen(8000).await?;
///         while let Some(connection) = listener.accept().await {
///             // … serve it
///         }
///         Ok(())
///     }))
/// }
/// ```
///
/// # Errors
/// That it was called too late; that a variable or a descriptor is not what it should be, with its name.
pub fn worker() -> io::Result<NewWorker> {
    match take()? {
        Some(Role::Worker(worker)) => Ok(worker),
        Some(Role::Agent(_)) => Err(no_agent()),
        None => Ok(NewWorker::alone(WorkerId(0), Slot(0), Inherited::take()?)),
    }
}

/// What a process may be started as.
#[derive(Debug)]
pub(crate) enum Role {
    Worker(NewWorker),
    Agent(NewAgent),
}

/// A program that has nothing for an agent to do must not take itself for a primary.
pub(crate) fn no_agent() -> io::Error {
    let text = "started as a gang's agent, which this program is not: it would have to call ganger::agent or \
                ganger::main_with_agent";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// What this process was started as; none if it was started by nobody of that sort.
pub(crate) fn take() -> io::Result<Option<Role>> {
    let worker = env::take(&environment::OWN).map_err(io::Error::other)?;
    let text =
        |at: usize| worker.get(at).cloned().flatten().and_then(|value: OsString| value.into_string().ok());
    let slot = text(3).and_then(|slot| slot.parse().ok()).map(Slot);
    // A ganger's name for it: host/name/slot/id, or host/name/agent/id.
    let number = || text(7).and_then(|id| id.rsplit('/').next().and_then(|id| id.parse().ok())).unwrap_or(0);
    let role = text(8);
    let primary = || -> io::Result<Option<Taken>> {
        let Some(channel) = text(0) else { return Ok(None) };
        let serialization = match text(1) {
            None => Serialization::Json,
            Some(name) => Serialization::named(&name).ok_or_else(|| {
                let message =
                    format!("the channel's serialization {name:?} is not spoken here: json or advanced");
                io::Error::new(io::ErrorKind::Unsupported, message)
            })?,
        };
        let number = channel.parse().map_err(|_| wrong(node::CHANNEL_FD, &channel))?;
        let lane = adopt_lane(worker.get(4).and_then(Option::as_deref));
        Ok(Some(Taken { channel: fd::adopt(number)?, lane, serialization }))
    };
    let of_ganger = role.as_deref() == Some(environment::WORKER);
    let mut role = match (text(2), role.as_deref()) {
        (Some(id), _) if text(0).is_some() => {
            let id: u32 = id.parse().map_err(|_| wrong(node::UNIQUE_ID, &id))?;
            let slot = slot.unwrap_or(Slot(id.saturating_sub(1)));
            let (primary, inherited) = (primary()?, Inherited::take()?);
            Role::Worker(NewWorker { id: WorkerId(id), slot, primary, inherited, notifier: None })
        }
        (_, Some(environment::AGENT)) => {
            let (id, slot) = (WorkerId(0), Slot(0));
            let (primary, inherited) = (primary()?, Inherited::take()?);
            let member = NewWorker { id, slot, primary, inherited, notifier: None };
            Role::Agent(NewAgent { id: AgentId(number()), member })
        }
        _ => {
            // A channel that is not a cluster's is the program's own affair.
            let channel = |at: usize| worker.get(at).cloned().flatten();
            ipc::keep(channel(0), channel(1), channel(4));
            if !of_ganger {
                return Ok(None);
            }
            let inherited = Inherited::take()?;
            Role::Worker(NewWorker::alone(WorkerId(number()), slot.unwrap_or(Slot(0)), inherited))
        }
    };
    // Who was started by nobody of that sort may use them as it likes.
    let notifier = Notifier::take()?;
    if let Role::Worker(worker) = &mut role {
        // What another primary has not taken out of the environment is meant for that one.
        worker.notifier = notifier.filter(|_| of_ganger);
    }
    Ok(Some(role))
}

fn wrong(name: &str, value: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{name}={value} in the environment is no number"))
}

impl NewWorker {
    fn alone(id: WorkerId, slot: Slot, inherited: Inherited) -> Self {
        Self { id, slot, primary: None, inherited, notifier: None }
    }

    /// Whether there is no primary.
    pub fn is_alone(&self) -> bool {
        self.primary.is_none()
    }

    /// Runs the program's own future in the current tokio runtime, and leaves when it is done. A worker that loses its
    /// primary before anybody has asked it to leave ends with exit code 0, at once, as in Node
    /// (`lib/internal/cluster/child.js`).
    ///
    /// # Errors
    /// What `worker` returned; that something else failed meanwhile, if that is [heeded](crate::guard::graceful); that the
    /// channel cannot be watched.
    ///
    /// # Panics
    /// Without a tokio runtime that has I/O and time.
    pub async fn run<F, T, E>(self, worker: impl FnOnce(Worker) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<io::Error>,
    {
        let role = self.start()?;
        let mut result = role.serve(worker(role.clone())).await;
        if let Some(failure) = role.finish().await {
            // Others have finished well, but the worker as a whole has not.
            result = result.and_then(|_| Err(io::Error::other(failure).into()));
        }
        role.close().await;
        result
    }

    fn start(self) -> io::Result<Worker> {
        let Self { id, slot, primary, inherited, notifier } = self;
        let life = Life::default();
        let primary = primary.map(|taken| Shared::start(taken, life.clone())).transpose()?;
        let notifier = notifier.map(|notifier| notifier.start(primary.is_none()));
        Ok(Worker::new(Member { id, slot, primary, inherited, notifier, life, heeding: Once::new() }))
    }
}
