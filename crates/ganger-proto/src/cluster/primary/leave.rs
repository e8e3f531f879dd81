//! A worker's way out of dispatch: first its clients are led elsewhere, then it is asked to leave.

use super::Primary;
use crate::{
    Time, WorkerId,
    cluster::Effect,
    node::{Act, ClusterMessage},
};

impl<C> Primary<C> {
    /// Takes the worker out of dispatch, before it is [asked to leave](Self::disconnect): nothing new is handed to it. What it
    /// accepts by itself it goes on accepting.
    pub fn withdraw(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.draining = true;
        self.listeners.values_mut().for_each(|listener| listener.withdraw(now, id));
        self.dispatch_all(now);
    }

    /// [Withdraws](Self::withdraw) the worker and tells it to have its clients go: with [hints](crate::node::hints) its
    /// responses say `Connection: close` from now on; any other ignores it. It keeps its servers and its channel.
    /// Harmless when repeated.
    pub fn drain(&mut self, now: Time, id: WorkerId) {
        self.withdraw(now, id);
        if self.workers.get(&id).is_some_and(|worker| worker.channel_open) {
            let message = ClusterMessage { seq: None, act: Act::Drain };
            self.effects.push_back(Effect::Send { worker: id, message });
        }
    }

    /// Takes the worker out of dispatch and asks it to close its servers, finish and leave: Node's
    /// `worker.disconnect()`. Harmless when repeated.
    pub fn disconnect(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.draining = true;
        // Who has said that it leaves must not be told so as well: Node would disconnect twice and fail.
        let agreed = worker.exited_after_disconnect.replace(true) == Some(true);
        let channel_open = worker.channel_open;
        self.share_out_before(now, id);
        self.leave_all(now, id);
        if channel_open && !agreed {
            self.send(id, Act::Disconnect);
        }
    }

    /// Takes it off all listeners.
    pub(super) fn leave_all(&mut self, now: Time, id: WorkerId) {
        for listener in self.listeners.values_mut() {
            listener.leave(now, id, false);
        }
        self.dispatch_all(now);
    }
}
