//! Children whose owner has gone: somebody waits for them, so that none stays as a zombie.
//!
//! A thread, and not a task: a child may outlive the runtime that it was started in. There is none until the first
//! child is abandoned, and it costs nothing while they live.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
};

use rustix::event::{PollFd, PollFlags};

use super::running::Process;
use crate::sys::poll::{Interest, Poller};

/// Waits for `process` in its owner's place.
pub(super) fn adopt(process: &Arc<Process>) {
    if process.is_reaped() || matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
        return;
    }
    // Without a thread or a descriptor it stays until this process ends: there is nobody to tell.
    if let Some(reaper) = REAPER.get_or_init(|| Reaper::start().ok()) {
        reaper.watch(process.clone());
    }
}

struct Reaper {
    poller: Arc<Poller>,
    orphans: Arc<Mutex<HashMap<u64, Arc<Process>>>>,
}

impl Reaper {
    fn start() -> io::Result<Self> {
        let reaper = Self { poller: Arc::new(Poller::new()?), orphans: Arc::default() };
        let (poller, orphans) = (reaper.poller.clone(), reaper.orphans.clone());
        thread::Builder::new().name("ganger-reaper".to_owned()).spawn(move || {
            let mut ready = Vec::new();
            loop {
                let mut fds = [PollFd::new(&*poller, PollFlags::IN)];
                let _ = rustix::event::poll(&mut fds, None);
                let _ = poller.wait(&mut ready);
                for orphan in ready.drain(..) {
                    let process =
                        orphans.lock().unwrap_or_else(PoisonError::into_inner).remove(&orphan.token);
                    if let Some(process) = process {
                        // Somebody else has waited for it, at worst.
                        let _ = process.try_wait();
                        let _ = poller.remove(&**process.pidfd());
                    }
                }
            }
        })?;
        Ok(reaper)
    }

    fn watch(&self, process: Arc<Process>) {
        // No two children that are not reaped have the same number.
        let token = u64::from(process.pid().unsigned_abs());
        let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        if self.poller.add(&**process.pidfd(), token, Interest::Read).is_ok() {
            orphans.insert(token, process);
        }
    }
}

static REAPER: OnceLock<Option<Reaper>> = OnceLock::new();
