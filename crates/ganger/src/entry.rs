//! The entry of a program that is a worker or an agent, or primary and both in one source.

use std::{error, future::Future, io};

use tokio::runtime::{Builder, Runtime};

use crate::{
    cluster::{self, Agent, NewAgent, NewWorker, Primary, Role, Settings, Worker},
    guard::{Kept, failure_of},
    sys::fd,
};

/// Whatever went wrong in a program's own functions.
pub type Error = Box<dyn error::Error + Send + Sync>;
/// What a program's own functions return.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Runs `worker` where the process was started as a worker, by a ganger or a Node primary, and `primary`
/// otherwise. Belongs first in `main`, before any thread is started: it takes what is the worker's
/// own (`NODE_CHANNEL_FD`, `NODE_UNIQUE_ID`, `GANGER_SLOT` and their like) out of the environment, so
/// that the program's own children do not take themselves for workers.
///
/// Each process runs a single-threaded tokio runtime, as a Node process has one thread: more CPUs are used by
/// more workers. When `worker` returns, the worker leaves. A worker that loses its primary exits with code 0,
/// as in Node. One in which a task panics, or whose function returns an error, tells its primary what it was, is replaced, and
/// finishes what it has: see [`guard::graceful`](crate::guard::graceful).
///
/// # Errors
/// What `primary` or `worker` returned; that it was called too late; that there is no runtime to be had.
pub fn main<P, W>(primary: impl FnOnce(Primary) -> P, worker: impl FnOnce(Worker) -> W) -> Result
where
    P: Future<Output = Result>,
    W: Future<Output = Result>,
{
    match cluster::take()? {
        Some(Role::Worker(role)) => run_worker(role, worker),
        Some(Role::Agent(_)) => Err(cluster::no_agent().into()),
        None => run_primary(primary),
    }
}

/// As [`main()`], and `agent` where the process was started as the gang's agent. The primary says that there is one:
///
/// ```no_run
/// use ganger::{
///     Guard,
///     cluster::{Agent, AgentSettings, Primary, To, Worker},
///     guard::Config,
/// };
///
/// fn main() -> ganger::Result {
///     ganger::main_with_agent(primary, worker, agent)
/// }
///
/// async fn primary(mut cluster: Primary) -> ganger::Result {
///     let agent = AgentSettings::this_program()?;
///     cluster.setup(|settings| settings.agent = Some(agent));
///     let mut guard = Guard::new(cluster, Config::default(), None);
///     while let Some(_report) = guard.next().await {}
///     Ok(())
/// }
///
/// async fn worker(worker: Worker) -> ganger::Result {
///     worker.send_letter(To::Agent, "hello", &std::process::id())?;
///     worker.send("ready")?;
///     worker.stopping().await;
///     Ok(())
/// }
///
/// async fn agent(agent: Agent) -> ganger::Result {
///     agent.ready()?;
///     while let Some(message) = agent.recv().await {
///         if let Some(letter) = message.letter() {
///             println!("{} from {:?}", letter.action, letter.from);
///         }
///     }
///     Ok(())
/// }
/// ```
///
/// # Errors
/// As [`main()`].
pub fn main_with_agent<P, W, A>(
    primary: impl FnOnce(Primary) -> P,
    worker: impl FnOnce(Worker) -> W,
    agent: impl FnOnce(Agent) -> A,
) -> Result
where
    P: Future<Output = Result>,
    W: Future<Output = Result>,
    A: Future<Output = Result>,
{
    match cluster::take()? {
        Some(Role::Worker(role)) => run_worker(role, worker),
        Some(Role::Agent(role)) => run_agent(role, agent),
        None => run_primary(primary),
    }
}

/// Runs `agent` in a program that is nothing but a gang's agent: what `ganger run --agent` names. Belongs first in `main`, as
/// [`main()`] does.
///
/// # Errors
/// What `agent` returned; that the process was not started as an agent, or this was called too late; that there is no
/// runtime to be had.
pub fn agent<A>(agent: impl FnOnce(Agent) -> A) -> Result
where
    A: Future<Output = Result>,
{
    match cluster::take()? {
        Some(Role::Agent(role)) => run_agent(role, agent),
        _ => Err("this program is a gang's agent: start it with `ganger run --agent`".into()),
    }
}

fn run_primary<P: Future<Output = Result>>(primary: impl FnOnce(Primary) -> P) -> Result {
    runtime()?.block_on(async {
        let settings = Settings::this_program()?;
        primary(Primary::new(settings)?).await
    })
}

/// Runs `worker`, whoever started the process: a ganger or a Node primary, or nobody of that sort; then it is a server
/// like any other, and ends at Ctrl-C or `SIGTERM`. Belongs first in `main`, as [`main()`] does, and all that is said
/// there of workers is so here.
///
/// ```no_run
/// use ganger::cluster::Worker;
///
/// fn main() -> ganger::Result {
///     ganger::worker(serve)
/// }
///
/// async fn serve(worker: Worker) -> ganger::Result {
///     let mut listener = worker.listen(8000).await?;
///     while let Some(connection) = listener.accept().await {
///         // … serve it
///     }
///     Ok(())
/// }
/// ```
///
/// # Errors
/// What `worker` returned; that it was called too late; that there is no runtime to be had.
pub fn worker<W>(worker: impl FnOnce(Worker) -> W) -> Result
where
    W: Future<Output = Result>,
{
    run_worker(cluster::worker()?, worker)
}

fn run_agent<A: Future<Output = Result>>(role: NewAgent, agent: impl FnOnce(Agent) -> A) -> Result {
    runtime()?.block_on(role.run(|this| async move {
        let result = agent(this.clone()).await;
        if let Err(error) = &result {
            this.fail(&failure_of(error));
        }
        result
    }))
}

fn run_worker<W: Future<Output = Result>>(role: NewWorker, worker: impl FnOnce(Worker) -> W) -> Result {
    let kept = Kept::default();
    let heeded = kept.clone();
    let result = runtime()?.block_on(role.run(|this| heeded.heed(this, worker)));
    kept.resume();
    result
}

fn runtime() -> io::Result<Runtime> {
    // Without more descriptors than the usual soft limit it still works, only not for as many.
    let _ = fd::raise_nofile();
    Builder::new_current_thread().enable_all().build()
}
