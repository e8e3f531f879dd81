//! A primary that works on its own, and whoever wants something of it.

use std::{ffi::OsString, future::pending, sync::Arc};

use ganger_proto::cluster::Snapshot;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use super::{Events, ForkError, Primary, Settings, WorkerHandle, events, primary::Call};

/// A [`Primary`] at work in a task of its own. Cheap to clone; all clones are the same cluster. When the last one is
/// dropped, the primary goes, and its workers are killed with it: [`Cluster::disconnect`] has them finish before.
///
/// What it is asked for is done by that task, in the order of the calls. Once the runtime is going down it is never done: so is
/// whoever waits.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ganger::Result {
/// use ganger::cluster::{Event, Primary, Settings};
///
/// let (cluster, mut events) = Primary::new(Settings::new("./worker"))?.spawn();
/// let worker = cluster.fork().await?;
/// worker.send("hello")?;
/// while let Some(event) = events.next().await {
///     if let Event::Exit { worker, exit, .. } = event {
///         println!("worker {} has ended: {exit}", worker.id);
///         break;
///     }
/// }
/// cluster.disconnect().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cluster {
    calls: mpsc::UnboundedSender<Call>,
    _task: Arc<Task>,
}

/// The primary's task, which ends with this.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Primary {
    /// Lets the primary work in a task of its own; what happens comes as a stream that never keeps it waiting.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(mut self) -> (Cluster, Events) {
        let (teller, events) = events::channel();
        let calls = self.calls();
        let task = tokio::spawn(async move {
            loop {
                teller.tell(self.event().await);
            }
        });
        (Cluster { calls, _task: Arc::new(Task(task.abort_handle())) }, events)
    }
}

impl Cluster {
    /// Does something with the primary, and returns what came of it. Whatever it is, the primary does nothing else
    /// meanwhile.
    pub async fn with<R: Send + 'static>(&self, act: impl FnOnce(&mut Primary) -> R + Send + 'static) -> R {
        let (sender, result) = oneshot::channel();
        // Who does not wait any more does not get it.
        let _ = self.calls.send(Box::new(move |primary| drop(sender.send(act(primary)))));
        match result.await {
            Ok(result) => result,
            Err(_) => pending().await,
        }
    }

    /// Sets what workers are from now on: see [`Primary::setup`].
    pub async fn setup(&self, change: impl FnOnce(&mut Settings) + Send + 'static) {
        self.with(|primary| primary.setup(change)).await;
    }

    /// Starts a worker in the lowest slot that nobody holds.
    ///
    /// # Errors
    /// If its process cannot be started; then there is no new worker.
    pub async fn fork(&self) -> Result<WorkerHandle, ForkError> {
        self.fork_with([("", ""); 0]).await
    }

    /// The same with variables of its own: Node's `cluster.fork(env)`.
    ///
    /// # Errors
    /// As [`Cluster::fork`].
    pub async fn fork_with<N, V>(
        &self,
        env: impl IntoIterator<Item = (N, V)>,
    ) -> Result<WorkerHandle, ForkError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let env: Vec<(OsString, OsString)> =
            env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.with(move |primary| primary.fork_anywhere(&env)).await
    }

    /// The workers that have not been reaped: Node's `cluster.workers`.
    pub async fn workers(&self) -> Vec<WorkerHandle> {
        self.with(|primary| {
            let ids: Vec<_> = primary.workers().map(|worker| worker.id).collect();
            ids.into_iter().filter_map(|id| primary.worker(id)).collect()
        })
        .await
    }

    /// The state of the cluster now, whatever of its events has been read.
    pub async fn snapshot(&self) -> Snapshot {
        self.with(|primary| primary.snapshot()).await
    }

    /// Asks all workers to finish and leave, and resolves when there is none left, be it at once: Node's
    /// `cluster.disconnect()`. It waits as long as they take; one without a channel does not hear of it, and has to be
    /// [killed](WorkerHandle::kill).
    pub async fn disconnect(&self) {
        let gone = self.with(|primary| {
            primary.disconnect_all();
            primary.gone()
        });
        gone.await.await;
    }
}
