//! What a Rust worker does when something in it fails that nobody caught.

use std::{
    any::Any,
    error, fmt,
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe, catch_unwind},
    pin::pin,
    process,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use super::Panic;
use crate::cluster::Worker;

type Error = Box<dyn error::Error + Send + Sync>;

/// So long a worker that has failed finishes what it has.
const FINISH: Duration = Duration::from_secs(30);
/// The code that Rust's own runtime gives a program that panicked.
const PANICKED: i32 = 101;

/// From now on a panic in any of this process's threads or tasks is answered in three steps, so that only the request in
/// which it happened fails:
///
/// 1. the worker tells its primary what failed, with place and backtrace, closes its listeners and says that it leaves:
///    [`Worker::stopping`] resolves;
/// 2. the primary forks a replacement at that moment;
/// 3. the worker finishes what it has accepted, and ends with a code that is not 0: when its function has returned and its
///    connections are closed, at the latest after 30 s.
///
/// A panic in a task of tokio ends the task and nothing else; this sees to it that a process in which something is wrong does
/// not go on for ever. [`ganger::worker`](crate::worker) and [`ganger::main`](crate::main()) do it by themselves; a program with a
/// runtime of its own calls this first in the function that it gives to [`NewWorker::run`](crate::cluster::NewWorker::run). It
/// is a hook in front of the one that is set: a panic that the program catches counts as well. A worker that is alone does
/// nothing of it, and under Node's primary it is as if the worker had called [`Worker::disconnect`].
///
/// HTTP clients that keep connections alive are told to go by the server: hyper's and axum's graceful shutdown, begun when
/// [`Worker::closing`] resolves, closes idle connections at once and busy ones after their answer, which
/// says `Connection: close` if it is begun in time, or if the program sees to it by [`Worker::is_stopping`].
///
/// # Panics
/// Outside of a tokio runtime with time, and from a thread that is panicking.
pub fn graceful(worker: &Worker) {
    graceful_within(worker, FINISH);
}

/// As [`graceful`], with another time to finish. The first call counts.
///
/// # Panics
/// As [`graceful`].
pub fn graceful_within(worker: &Worker, time: Duration) {
    if !worker.heed_failures() {
        return;
    }
    let weak = worker.downgrade();
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // First the primary, which has something to do; what the other one writes may take its time.
        if let Some(worker) = weak.upgrade() {
            worker.panicked(info);
        }
        previous(info);
    }));
    let failed = worker.failed();
    tokio::spawn(async move {
        failed.await;
        tokio::time::sleep(time).await;
        eprintln!("ganger: this worker did not finish within {} s of its failure", time.as_secs_f64());
        process::exit(PANICKED);
    });
}

/// The panic of a program's own function, kept until everybody else has finished.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

impl Kept {
    /// A worker's function, heeded: what it returns or panics with is told, and other tasks may finish.
    pub(crate) async fn heed<F>(self, worker: Worker, function: impl FnOnce(Worker) -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        graceful(&worker);
        let given = worker.clone();
        let mut future = pin!(async move { function(given).await });
        let poll = |cx: &mut Context<'_>| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        };
        match poll_fn(poll).await {
            Ok(result) => {
                if let Err(error) = &result {
                    worker.fail(&failure_of(error));
                }
                // The function has finished well, but not the worker as a whole.
                match worker.finish().await {
                    Some(failure) => result.and(Err(Failed(failure).into())),
                    None => result,
                }
            }
            Err(panic) => {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                Err(Failed(String::new()).into())
            }
        }
    }

    /// Goes on with the panic, if there was one.
    pub(crate) fn resume(self) {
        let panic = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            panic::resume_unwind(panic);
        }
    }
}

/// What a `main` that returns it says, without a frame around it.
struct Failed(String);

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a task of this worker has panicked: {}", self.0)
    }
}

impl error::Error for Failed {}

/// What is told of an error that a program's own function returned.
pub(crate) fn failure_of(error: &Error) -> Panic {
    Panic::new(&in_full(error), None, None)
}

/// An error with those that led to it.
fn in_full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source: Option<&(dyn error::Error + 'static)> = error.source();
    while let Some(error) = source {
        let reason = error.to_string();
        // Some say it themselves.
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start: {0}")]
    struct Repeats(#[source] io::Error);

    #[test]
    fn an_error_is_told_with_its_reasons_and_none_of_them_twice() {
        let full = |error: Error| in_full(&error);
        assert_eq!(full("x".into()), "x");
        assert_eq!(full(Outer(io::Error::other("no")).into()), "cannot start: no");
        assert_eq!(full(Repeats(io::Error::other("no")).into()), "cannot start: no");
    }
}
