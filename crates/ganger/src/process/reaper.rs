//! Children whose owner has gone: somebody waits for them, so that none stays as a zombie.
//!
//! A thread, and not a task: a child may outlive the runtime that it was started in. There is none until the first
//! child is abandoned, and it costs nothing while they live.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::event::{PollFd, PollFlags};

use super::running::{KILL, Process};
use crate::sys::poll::{Interest, Poller};

/// Waits for `process` in its owner's place.
pub(super) fn adopt(process: &Arc<Process>) {
    if process.is_reaped() || !matches!(process.try_wait(), Ok(None)) {
        return;
    }
    let mut orphanage = orphanage();
    orphanage.unwatched.push(process.clone());
    // Where a thread or a descriptor is not to be had, they wait for the next one to be adopted.
    let _ = orphanage.watch();
}

/// Kills `process`, unless it has ended, with all that is its own, and waits for it in its owner's place.
pub(crate) fn abandon(process: &Arc<Process>) {
    if matches!(process.bury(), Ok(None)) {
        let _ = process.kill_all(KILL);
        adopt(process);
    }
}

#[derive(Default)]
struct Orphanage {
    /// What the thread waits on, once there is one.
    poller: Option<Arc<Poller>>,
    watched: HashMap<u64, Arc<Process>>,
    unwatched: Vec<Arc<Process>>,
}

impl Orphanage {
    fn watch(&mut self) -> io::Result<()> {
        let poller = match &self.poller {
            Some(poller) => poller.clone(),
            None => {
                let poller = Arc::new(Poller::new()?);
                let own = poller.clone();
                thread::Builder::new().name("ganger-reaper".to_owned()).spawn(move || reap(&own))?;
                self.poller.insert(poller).clone()
            }
        };
        while let Some(process) = self.unwatched.pop() {
            // No two children that are not reaped have the same number.
            let token = u64::from(process.pid().unsigned_abs());
            if let Err(error) = poller.add(&**process.pidfd(), token, Interest::Read) {
                self.unwatched.push(process);
                return Err(error);
            }
            self.watched.insert(token, process);
        }
        Ok(())
    }
}

/// The thread.
fn reap(poller: &Poller) {
    let mut ready = Vec::new();
    loop {
        let _ = rustix::event::poll(&mut [PollFd::new(poller, PollFlags::IN)], None);
        let _ = poller.wait(&mut ready);
        for orphan in ready.drain(..) {
            let process = orphanage().watched.remove(&orphan.token);
            if let Some(process) = process {
                // Somebody else has waited for it, at worst.
                let _ = process.try_wait();
                let _ = poller.remove(&**process.pidfd());
            }
        }
    }
}

fn orphanage() -> MutexGuard<'static, Orphanage> {
    static ORPHANAGE: LazyLock<Mutex<Orphanage>> = LazyLock::new(Mutex::default);
    ORPHANAGE.lock().unwrap_or_else(PoisonError::into_inner)
}
