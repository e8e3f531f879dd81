//! Readiness of many descriptors behind one descriptor (`epoll`), level-triggered unless asked otherwise.
//!
//! A [`Poller`] is itself a descriptor that is readable while any of its descriptors is ready, so one
//! `AsyncFd` watches all of them.
//!
//! A registration belongs to the open file, not to the number: after the descriptor has been duplicated (into
//! another process, for example) closing ours does not end it. [`Poller::remove`] comes before the close.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

/// What a registration waits for. Hang-up and error are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Nothing but hang-up and error.
    None,
    /// Bytes, a connection or the end to read.
    Read,
    /// The same, but told once for what has come, and again only when more comes.
    Arrival,
    /// Room to write.
    Write,
    /// Either.
    ReadWrite,
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The token it was registered with.
    pub token: u64,
    /// A read would not block (this includes the end of a stream).
    pub readable: bool,
    /// A write would not block.
    pub writable: bool,
    /// Both directions are closed, or the descriptor is in error. Level-triggered, and no interest turns it
    /// off: whoever sees it has to [`Poller::remove`] the descriptor sooner or later.
    pub hangup: bool,
}

/// A set of watched descriptors.
#[derive(Debug)]
pub struct Poller(OwnedFd);

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches `fd`, reporting it as `token`.
    ///
    /// # Errors
    /// `EEXIST` if it is watched already; `EPERM` if it is of a kind that is always ready (a regular file);
    /// `ENOSPC` at `/proc/sys/fs/epoll/max_user_watches`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token), interest.flags())?)
    }

    /// Changes token and interest of a watched descriptor.
    ///
    /// # Errors
    /// `ENOENT` if it is not watched.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token), interest.flags())?)
    }

    /// Stops watching `fd`. To be called before it is closed.
    ///
    /// # Errors
    /// `ENOENT` if it is not watched.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Replaces `events` by what is ready now, at most [`BATCH`] descriptors; it never blocks. More than that
    /// come with the next call: the kernel takes the ready ones in turn.
    ///
    /// # Errors
    /// None that a valid set has; passed on from `epoll_wait`.
    pub fn wait(&self, events: &mut Vec<Readiness>) -> io::Result<()> {
        events.clear();
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Without a wait there is nothing to interrupt: no EINTR.
        let (ready, _) = epoll::wait(&self.0, &mut space, Some(&now))?;
        events.extend(ready.iter().map(|event| {
            let flags = event.flags;
            Readiness {
                token: event.data.u64(),
                readable: flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                hangup: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            }
        }));
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Interest::None => EventFlags::empty(),
            Interest::Read => EventFlags::IN,
            Interest::Arrival => EventFlags::IN | EventFlags::ET,
            Interest::Write => EventFlags::OUT,
            Interest::ReadWrite => EventFlags::IN | EventFlags::OUT,
        }
    }
}

/// The most descriptors that one [`Poller::wait`] reports.
pub const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn ready(poller: &Poller) -> Vec<Readiness> {
        let mut events = vec![Readiness { token: 99, readable: true, writable: true, hangup: true }];
        poller.wait(&mut events).unwrap();
        events
    }

    #[test]
    fn reports_what_is_asked_for_and_again_until_it_is_served() {
        let poller = Poller::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        poller.add(&ours, 7, Interest::Read).unwrap();
        assert_eq!(ready(&poller), []);

        theirs.write_all(b"x").unwrap();
        let readable = Readiness { token: 7, readable: true, writable: false, hangup: false };
        assert_eq!(ready(&poller), [readable]);
        assert_eq!(ready(&poller), [readable]);

        poller.modify(&ours, 8, Interest::Write).unwrap();
        assert_eq!(ready(&poller), [Readiness { token: 8, readable: false, writable: true, hangup: false }]);
        poller.modify(&ours, 8, Interest::ReadWrite).unwrap();
        assert_eq!(ready(&poller), [Readiness { token: 8, readable: true, writable: true, hangup: false }]);
        poller.remove(&ours).unwrap();
        assert_eq!(ready(&poller), []);
        assert_eq!(poller.remove(&ours).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn an_arrival_is_told_once() {
        let poller = Poller::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        poller.add(&ours, 7, Interest::Arrival).unwrap();
        for _ in 0..2 {
            theirs.write_all(b"x").unwrap();
            assert_eq!(
                ready(&poller),
                [Readiness { token: 7, readable: true, writable: false, hangup: false }]
            );
            assert_eq!(ready(&poller), []);
        }
    }

    #[test]
    fn without_interest_only_the_hang_up_is_told() {
        let poller = Poller::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        poller.add(&ours, 1, Interest::None).unwrap();
        theirs.write_all(b"x").unwrap();
        assert_eq!(ready(&poller), []);
        drop(theirs);
        assert_eq!(ready(&poller), [Readiness { token: 1, readable: false, writable: false, hangup: true }]);
    }

    #[test]
    fn more_than_a_batch_comes_in_turns() {
        let poller = Poller::new().unwrap();
        let pairs: Vec<_> = (0..BATCH + 10).map(|_| UnixStream::pair().unwrap()).collect();
        for (token, (ours, _)) in (0..).zip(&pairs) {
            poller.add(ours, token, Interest::Write).unwrap();
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let events = ready(&poller);
            assert_eq!(events.len(), BATCH);
            seen.extend(events.iter().map(|event| event.token));
        }
        assert_eq!(seen.len(), BATCH + 10);
    }

    #[test]
    fn the_set_itself_can_be_watched() {
        let (inner, outer) = (Poller::new().unwrap(), Poller::new().unwrap());
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        inner.add(&ours, 1, Interest::Read).unwrap();
        outer.add(&inner, 2, Interest::Read).unwrap();
        assert_eq!(ready(&outer), []);
        theirs.write_all(b"x").unwrap();
        assert_eq!(ready(&outer), [Readiness { token: 2, readable: true, writable: false, hangup: false }]);
    }
}
