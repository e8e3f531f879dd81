//! The sockets on which workers and the agent say how they are, in the words of `sd_notify(3)`.
//!
//! Each has one of its own, named by its `NOTIFY_SOCKET`: so it is known who speaks, also when it is a child of the process that
//! was meant, which may be dead by the time it is heard. What can write to it is the user that the process runs as, and root.

use std::{
    ffi::OsString,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use ganger_proto::{
    WorkerId,
    notify::{self, LONGEST, Notification},
};
use rustix::io::Errno;

use super::{Primary, Token};
use crate::{
    cluster::{AgentEvent, Event, place::Place},
    process::Command,
    sys::{
        poll::Interest,
        socket::{self, SocketFile},
    },
};

/// So many datagrams are heard before others have their turn.
const DATAGRAMS: usize = 16;

/// Descriptors have run out.
pub(super) const SHORTAGES: [Option<i32>; 2] =
    [Some(Errno::MFILE.raw_os_error()), Some(Errno::NFILE.raw_os_error())];

/// A process's socket. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct NotifySocket {
    fd: OwnedFd,
    path: PathBuf,
    /// It removes its file.
    _file: SocketFile,
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Primary {
    /// How long a process may be silent before somebody takes it for dead, if anybody does: said to workers that are started from
    /// now on.
    pub(crate) fn set_watchdog(&mut self, watchdog: Option<Duration>) {
        self.watchdog = watchdog;
    }

    /// The socket of a process that is about to be started, as this user or the primary's.
    pub(super) fn notify_socket(
        &mut self,
        name: impl fmt::Display,
        owner: Option<u32>,
    ) -> Option<NotifySocket> {
        self.in_place(|place| {
            let path = place.path()?.join(name.to_string());
            let (fd, file) = socket::receive_at(&path, owner)?;
            Ok(NotifySocket { fd, path, _file: file })
        })
    }

    /// Puts something where workers find it by its path. If it cannot be put there, that is told, and it is not tried again.
    pub(super) fn in_place<T>(&mut self, put: impl FnOnce(&mut Place) -> io::Result<T>) -> Option<T> {
        if self.place_is_refused {
            return None;
        }
        match put(&mut self.place) {
            Ok(put) => Some(put),
            // Without descriptors the process itself cannot be started, and that is tried again.
            Err(error) if SHORTAGES.contains(&error.raw_os_error()) => None,
            Err(error) => {
                self.place_is_refused = true;
                self.events.push_back(Event::NoPlace { error });
                None
            }
        }
    }

    /// What a worker has said.
    pub(super) fn receive_notifications(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let Some(socket) = &worker.notify else { return };
        let worker = worker.info;
        for notification in receive(socket, &mut self.buffer) {
            if notification.stopping {
                self.messenger.worker_leaves(id);
            }
            self.perform_effects();
            self.events.push_back(Event::Notified { worker, notification });
        }
    }

    /// What the agent has said.
    pub(super) fn receive_agents_notifications(&mut self) {
        let Some(agent) = &self.agent else { return };
        let Some(socket) = &agent.notify else { return };
        let info = agent.info;
        for notification in receive(socket, &mut self.buffer) {
            self.tell_of_agent(info, AgentEvent::Notified(notification));
        }
    }

    /// The worker has gone. What it said before is heard; who speaks for it from now on is somebody else.
    pub(super) fn end_notify(&mut self, id: WorkerId) {
        self.receive_notifications(id);
        if let Some(socket) = self.workers.get_mut(&id).and_then(|worker| worker.notify.take()) {
            let _ = self.poller.get_ref().remove(&socket);
        }
    }

    /// The same of the agent.
    pub(super) fn end_agents_notify(&mut self) {
        self.receive_agents_notifications();
        if let Some(socket) = self.agent.as_mut().and_then(|agent| agent.notify.take()) {
            let _ = self.poller.get_ref().remove(&socket);
        }
    }

    /// Watches a socket.
    pub(super) fn watch_notify(&self, socket: Option<&NotifySocket>, token: Token) -> io::Result<()> {
        match socket {
            Some(socket) => self.poller.get_ref().add(socket, token.into(), Interest::Read),
            None => Ok(()),
        }
    }
}

fn receive(socket: &NotifySocket, buffer: &mut [u8]) -> Vec<Notification> {
    let buffer = &mut buffer[..LONGEST];
    let mut heard = Vec::new();
    for _ in 0..DATAGRAMS {
        match socket::receive_datagram(socket.as_fd(), buffer) {
            Ok(Some(length)) => heard.push(Notification::read(&buffer[..length])),
            // It was too long to mean anything.
            Ok(None) => {}
            Err(_) => break,
        }
    }
    heard.retain(|notification| !notification.is_empty());
    heard
}

/// Tells a process where it can say how it is, and how often somebody wants to hear of it. What we were told ourselves is not
/// meant for it.
pub(super) fn tell(command: &mut Command, socket: Option<&NotifySocket>, watchdog: Option<Duration>) {
    for name in [notify::SOCKET, notify::WATCHDOG_USEC, notify::WATCHDOG_PID] {
        command.env_remove(name);
    }
    if let Some(socket) = socket {
        command.env(notify::SOCKET, &socket.path);
        if let Some(watchdog) = watchdog {
            command.env(notify::WATCHDOG_USEC, OsString::from(watchdog.as_micros().to_string()));
        }
    }
}
