//! Telling the primary what failed in this worker.

use std::sync::TryLockError;

use ganger_proto::node::Panic;

use super::{Inner, Shared};

impl Shared {
    /// Tells what failed, and leaves, as far as that goes without waiting: where the panic happened while somebody was at
    /// work here, perhaps this very thread, nothing is done. The channel stays open for [`fail`](Self::fail), which is to follow.
    pub(in super::super) fn try_fail(&self, panic: &Panic) {
        let inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.act(inner, |inner| inner.fail(panic));
    }

    /// Tells what failed, all that is known of it, and leaves.
    pub(in super::super) fn fail(&self, panic: &Panic) {
        self.with(|inner| {
            inner.fail(panic);
            inner.telling = false;
            if inner.close_when_told {
                inner.close_channel();
            }
        });
    }
}

impl Inner {
    fn fail(&mut self, panic: &Panic) {
        self.telling = true;
        self.json.clear();
        panic.write(&mut self.json);
        if let (Some(link), Ok(json)) = (&mut self.link, std::str::from_utf8(&self.json)) {
            // Where it cannot be told any more, the exit code has to do.
            let _ = link.session.send_json(json, None);
        }
        self.machine.disconnect();
    }
}
