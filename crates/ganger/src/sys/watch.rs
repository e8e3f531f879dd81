//! Descriptors watched by tokio.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{pidfd::PidFd, poll::Poller};

/// Something that holds one descriptor, the same one and open, as long as it lives.
pub(crate) trait Steady: AsRawFd + sealed::Sealed {}

impl Steady for OwnedFd {}
impl Steady for Arc<OwnedFd> {}
impl Steady for BorrowedFd<'_> {}
impl Steady for Arc<PidFd> {}
impl Steady for Poller {}

mod sealed {
    /// Only this module can say that a type is steady.
    pub(crate) trait Sealed {}
    impl Sealed for super::OwnedFd {}
    impl Sealed for super::Arc<super::OwnedFd> {}
    impl Sealed for super::BorrowedFd<'_> {}
    impl Sealed for super::Arc<super::PidFd> {}
    impl Sealed for super::Poller {}
}

/// Watches a descriptor in the current tokio runtime.
///
/// # Errors
/// Those of registering it with the runtime's poll; `EPERM` for a regular file.
///
/// # Panics
/// Without a tokio runtime.
pub(crate) fn watch<T: Steady>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: a `Steady` value returns one descriptor all its life and keeps it open; the trait is sealed, and
    // the types that have it do.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
