//! The entry of a program that is primary and worker in one source.

use std::{error, ffi::OsString, future::Future, io};

use ganger_proto::{Serialization, Slot, WorkerId, node};
use tokio::runtime::Builder;

use crate::{
    cluster::{Primary, Settings, Taken, Worker, environment},
    ipc::adopt_lane,
    sys::{env, fd},
};

/// Whatever went wrong in a program's own functions.
pub type Error = Box<dyn error::Error + Send + Sync>;
/// What a program's own functions return.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Runs `worker` where the process was started as a worker, by a ganger or a Node primary, and `primary`
/// otherwise. Belongs first in `main`, before any thread is started: it takes what is the
/// worker's own (`NODE_CHANNEL_FD`, `NODE_UNIQUE_ID`, `GANGER_SLOT` and their like) out of the environment, so
/// that the program's own children do not take themselves for workers.
///
/// Each process runs a single-threaded tokio runtime, as a Node process has one thread: more CPUs are used by
/// more workers. When `worker` returns, the worker leaves. A worker that loses its primary exits with code 0,
/// as in Node.
///
/// # Errors
/// What `primary` or `worker` returned; that it was called too late; that there is no runtime to be had.
pub fn main<P, W>(primary: impl FnOnce(Primary) -> P, worker: impl FnOnce(Worker) -> W) -> Result
where
    P: Future<Output = Result>,
    W: Future<Output = Result>,
{
    let taken = take()?;
    // Without more descriptors than the usual soft limit it still works, only not for as many.
    let _ = fd::raise_nofile();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match taken {
            None => {
                let settings = Settings::this_program()?;
                primary(Primary::new(settings)?).await
            }
            Some(taken) => {
                let role = Worker::new(taken)?;
                let result = serve(&role, worker(role.clone())).await;
                role.close().await;
                result
            }
        }
    })
}

/// The worker's own future, as long as there is a primary that wants it to run.
async fn serve(role: &Worker, worker: impl Future<Output = Result>) -> Result {
    let mut worker = std::pin::pin!(worker);
    tokio::select! {
        biased;
        result = &mut worker => return result,
        () = role.disconnected() => {}
    }
    if !role.is_stopping() {
        // `lib/internal/cluster/child.js`: a worker whose primary is lost ends with 0, at once.
        std::process::exit(0);
    }
    worker.await
}

/// The worker that this process was started as, if it was: its variables are gone from the environment.
fn take() -> Result<Option<Taken>> {
    let taken = env::take(&environment::OWN)?;
    let text =
        |at: usize| taken.get(at).cloned().flatten().and_then(|value: OsString| value.into_string().ok());
    let (Some(channel), Some(id)) = (text(0), text(2)) else { return Ok(None) };
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
    let slot = text(3).and_then(|slot| slot.parse().ok());
    Ok(Some(Taken {
        id: WorkerId(id),
        slot: Slot(slot.unwrap_or(id.saturating_sub(1))),
        channel: fd::adopt(number)?,
        lane: adopt_lane(taken.get(4).and_then(Option::as_deref)),
        serialization,
    }))
}
