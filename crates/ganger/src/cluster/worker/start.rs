//! How a process becomes a worker: under a ganger primary, under Node's, or alone.

use std::{ffi::OsString, future::Future, io, sync::Once};

use ganger_proto::{Serialization, Slot, WorkerId, node};

use super::{
    Member, Worker,
    connected::{Shared, Taken},
    inherited::Inherited,
    life::Life,
};
use crate::{
    cluster::environment,
    ipc::adopt_lane,
    sys::{env, fd},
};

/// What this process was started as, and with: [`worker`] finds it out, [`run`](Self::run) makes a [`Worker`] of it.
#[derive(Debug)]
pub struct NewWorker {
    id: WorkerId,
    slot: Slot,
    primary: Option<Taken>,
    inherited: Inherited,
}

/// What this process was started as; for programs that have a runtime of their own, others use
/// [`ganger::worker`](crate::worker). Belongs first in `main`, before any thread is started: it takes what is the worker's
/// own (`NODE_CHANNEL_FD`, `NODE_UNIQUE_ID`, `GANGER_SLOT`, `LISTEN_FDS` and their like) out of the environment, so that the
/// program's own children do not take themselves for workers.
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
        Some(worker) => Ok(worker),
        None => Ok(NewWorker::alone(WorkerId(0), Slot(0), Inherited::take()?)),
    }
}

/// The worker that this process was started as; none if it was not.
pub(crate) fn take() -> io::Result<Option<NewWorker>> {
    let worker = env::take(&environment::OWN).map_err(io::Error::other)?;
    let text =
        |at: usize| worker.get(at).cloned().flatten().and_then(|value: OsString| value.into_string().ok());
    let slot = text(3).and_then(|slot| slot.parse().ok());
    let (Some(channel), Some(id)) = (text(0), text(2)) else {
        if text(8).as_deref() != Some(environment::WORKER) {
            return Ok(None);
        }
        // A ganger's worker without a channel: host/name/slot/id.
        let id = text(7).and_then(|id| id.rsplit('/').next().and_then(|id| id.parse().ok()));
        let inherited = Inherited::take()?;
        return Ok(Some(NewWorker::alone(WorkerId(id.unwrap_or(0)), Slot(slot.unwrap_or(0)), inherited)));
    };
    let wrong = |name: &str, value: &str| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{name}={value} in the environment is no number"))
    };
    let serialization = match text(1) {
        None => Serialization::Json,
        Some(name) => Serialization::named(&name).ok_or_else(|| {
            let message =
                format!("the channel's serialization {name:?} is not spoken here: json or advanced");
            io::Error::new(io::ErrorKind::Unsupported, message)
        })?,
    };
    let number = channel.parse().map_err(|_| wrong(node::CHANNEL_FD, &channel))?;
    let id: u32 = id.parse().map_err(|_| wrong(node::UNIQUE_ID, &id))?;
    let primary = Taken {
        channel: fd::adopt(number)?,
        lane: adopt_lane(worker.get(4).and_then(Option::as_deref)),
        serialization,
    };
    Ok(Some(NewWorker {
        id: WorkerId(id),
        slot: Slot(slot.unwrap_or(id.saturating_sub(1))),
        primary: Some(primary),
        inherited: Inherited::take()?,
    }))
}

impl NewWorker {
    fn alone(id: WorkerId, slot: Slot, inherited: Inherited) -> Self {
        Self { id, slot, primary: None, inherited }
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
    /// What `worker` returned; that the channel cannot be watched.
    ///
    /// # Panics
    /// Without a tokio runtime that has I/O and time.
    pub async fn run<F, T, E>(self, worker: impl FnOnce(Worker) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<io::Error>,
    {
        let role = self.start()?;
        let result = role.serve(worker(role.clone())).await;
        role.close().await;
        result
    }

    fn start(self) -> io::Result<Worker> {
        let Self { id, slot, primary, inherited } = self;
        let life = Life::default();
        let primary = primary.map(|taken| Shared::start(taken, life.clone())).transpose()?;
        Ok(Worker::new(Member { id, slot, primary, inherited, life, heeding: Once::new() }))
    }
}
