//! What is known of a worker outside of its primary, also when it is dead.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ganger_proto::{
    cluster::{Event, WorkerState},
    session::HIGH_WATER_MARK,
};

use super::QUEUE;

/// What everybody who holds a worker knows of it, also when it is dead.
#[derive(Debug)]
pub(super) struct Life {
    state: WorkerState,
    has_channel: bool,
    /// Our ends of its pipes by number, until somebody takes them.
    pub(super) ends: Vec<Option<OwnedFd>>,
    exited_after_disconnect: Option<bool>,
    /// How many bytes of messages wait until the primary has a moment.
    waiting: usize,
    /// How many wait in its session until it reads.
    queued: usize,
}

impl Life {
    pub(super) fn new(has_channel: bool, ends: Vec<Option<OwnedFd>>) -> Self {
        let state = WorkerState::None;
        Self { state, has_channel, ends, exited_after_disconnect: None, waiting: 0, queued: 0 }
    }

    /// What the machine has told.
    pub(super) fn follow(&mut self, event: &Event) {
        match event {
            Event::Online { .. } => self.state = WorkerState::Online,
            Event::Listening { .. } => self.state = WorkerState::Listening,
            Event::Leaving { .. } => self.exited_after_disconnect = Some(true),
            Event::Disconnect { .. } => {
                self.state = WorkerState::Disconnected;
                self.exited_after_disconnect.get_or_insert(false);
            }
            Event::Exit { exited_after_disconnect, .. } => {
                self.state = WorkerState::Dead;
                self.exited_after_disconnect = Some(*exited_after_disconnect);
            }
            _ => {}
        }
    }

    /// It was asked to disconnect.
    pub(super) fn asked(&mut self) {
        if self.state != WorkerState::Dead {
            self.exited_after_disconnect = Some(true);
        }
    }

    /// Its primary has gone without it: its channel is closed.
    pub(super) fn abandoned(&mut self) {
        if self.state != WorkerState::Dead {
            self.state = WorkerState::Disconnected;
            self.exited_after_disconnect.get_or_insert(false);
        }
    }

    pub(super) fn state(&self) -> WorkerState {
        self.state
    }

    pub(super) fn exited_after_disconnect(&self) -> Option<bool> {
        self.exited_after_disconnect
    }

    pub(super) fn is_connected(&self) -> bool {
        self.has_channel && !matches!(self.state, WorkerState::Disconnected | WorkerState::Dead)
    }

    /// So much waits in its session now.
    pub(super) fn set_queued(&mut self, bytes: usize) {
        self.queued = bytes;
    }

    /// Whether a user's message of this length may be added to what waits.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.unread().saturating_add(length) <= QUEUE
    }

    /// Whether whoever sends should wait.
    pub(super) fn is_slow(&self) -> bool {
        self.unread() >= HIGH_WATER_MARK
    }

    /// A message has found room, and its session will have it when the primary has a moment.
    pub(super) fn promise(&mut self, length: usize) {
        self.waiting += length;
    }

    /// It is about to have it.
    pub(super) fn keep(&mut self, length: usize) {
        self.waiting -= length;
        self.queued += length;
    }

    fn unread(&self) -> usize {
        self.waiting + self.queued
    }
}

/// Nobody panics while it is locked.
pub(super) fn lock(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}
