//! One thread that never ends, for processes that are to die with this process: the kernel sends the
//! parent-death signal when the thread that started the child ends.

use std::io;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::plan::Plan;
use super::{SpawnError, Spawned, Step};

/// Carries out `plan` on the long-lived thread, which the first call starts, and waits for the result.
pub(super) fn start(plan: Plan) -> Result<Spawned, SpawnError> {
    let (answer, result) = mpsc::sync_channel(1);
    orders()?.send(Order { plan, answer }).map_err(|_| ended())?;
    result.recv().unwrap_or_else(|_| Err(ended()))
}

struct Order {
    plan: Plan,
    answer: SyncSender<Result<Spawned, SpawnError>>,
}

fn orders() -> Result<Sender<Order>, SpawnError> {
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(orders) = &*spawner {
        return Ok(orders.clone());
    }
    let (sender, receiver) = mpsc::channel::<Order>();
    thread::Builder::new()
        .name("ganger-spawner".to_owned())
        .spawn(move || {
            for Order { plan, answer } in receiver {
                // Whoever asked waits for the answer, so the other end is there.
                let _ = answer.send(plan.start());
            }
        })
        .map_err(|source| SpawnError { step: Step::Prepare, source })?;
    Ok(spawner.insert(sender).clone())
}

fn ended() -> SpawnError {
    SpawnError { step: Step::Clone, source: io::Error::other("the spawner thread has ended") }
}

/// Holds a sender for ever, which is what keeps the thread.
static SPAWNER: Mutex<Option<Sender<Order>>> = Mutex::new(None);
