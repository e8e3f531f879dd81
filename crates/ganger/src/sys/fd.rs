//! Descriptors: their flags, their limit, and one kept in reserve.
//!
//! It must not know what a descriptor stands for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd, ioctl_fionread};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Makes the open file behind `fd` non-blocking: for everybody who shares it, in other processes too.
///
/// # Errors
/// Those of `fcntl`; none for a valid descriptor.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    if !flags.contains(OFlags::NONBLOCK) {
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    }
    Ok(())
}

/// Sets or clears close-on-exec.
///
/// # Errors
/// Those of `fcntl`; none for a valid descriptor.
pub fn set_cloexec(fd: impl AsFd, on: bool) -> io::Result<()> {
    let mut flags = fcntl_getfd(&fd)?;
    flags.set(FdFlags::CLOEXEC, on);
    Ok(fcntl_setfd(&fd, flags)?)
}

/// The limit of open descriptors before and after [`raise_nofile`]. `None` in a limit means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nofile {
    /// As this process inherited it: what its children get back.
    pub before: Rlimit,
    /// As it is now.
    pub now: Rlimit,
}

/// Raises the soft limit of open descriptors to the hard one, and remembers what it was so that
/// [`crate::sys::spawn`] gives it back to children (programs that use `select` break above 1024). A second call
/// changes nothing more.
///
/// # Errors
/// Those of `setrlimit`: `EPERM` if the hard limit is above `/proc/sys/fs/nr_open`.
pub fn raise_nofile() -> io::Result<Nofile> {
    let current = getrlimit(Resource::Nofile);
    let before = *INHERITED_NOFILE.get_or_init(|| current);
    let now = Rlimit { current: current.maximum, maximum: current.maximum };
    if now != current {
        setrlimit(Resource::Nofile, now)?;
    }
    Ok(Nofile { before, now })
}

/// The limit of open descriptors that this process was started with, once [`raise_nofile`] was called.
pub fn inherited_nofile() -> Option<Rlimit> {
    INHERITED_NOFILE.get().copied()
}

/// Whether a descriptor of this number is open.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: the number is not -1, and `fcntl` says so if it is not open; the borrow ends here.
    number >= 0 && fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok()
}

/// How many bytes wait to be read from a socket or a pipe.
pub fn unread(fd: impl AsFd) -> usize {
    ioctl_fionread(fd).ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
}

/// Makes the open file behind `fd` blocking again: what most programs expect of their standard streams.
///
/// # Errors
/// Those of `fcntl`; none for a valid descriptor.
pub fn set_blocking(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    if flags.contains(OFlags::NONBLOCK) {
        fcntl_setfl(&fd, flags - OFlags::NONBLOCK)?;
    }
    Ok(())
}

/// A copy of a descriptor that this process was started with. One that it opened itself is close-on-exec and
/// counts as not open: a worker that names a number must not come by what is not meant for it.
///
/// # Errors
/// `EBADF`, `EMFILE`.
pub fn duplicate_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: the number is only looked at by calls that check it (`fcntl` says EBADF if it is not open), and the
    // borrow ends with this function.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if fcntl_getfd(fd)?.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BADF.into());
    }
    Ok(fcntl_dupfd_cloexec(fd, 3)?)
}

/// Takes over a descriptor that was inherited under a known number (`NODE_CHANNEL_FD`), and makes it
/// close-on-exec. To be called once for a number, before anything else is opened.
///
/// # Errors
/// `EBADF` if it is not open; so it also is when it was opened by this process and not inherited.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let copy = duplicate_inherited(number)?;
    // SAFETY: the number is open and was inherited (checked above), so no owner of this process knows it; the
    // caller hands it over by its contract.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(copy)
}

/// One descriptor kept in reserve, to be given up for a moment when a call fails with `EMFILE`: a listener
/// whose connections cannot be accepted would stay readable for ever.
#[derive(Debug)]
pub struct Reserve(Option<OwnedFd>);

impl Reserve {
    /// Takes the spare descriptor.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Some(spare()?)))
    }

    /// Closes the spare, runs `f`, takes the spare again. Where another thread was quicker, the reserve stays
    /// empty until a later call finds room.
    pub fn release<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.0 = None;
        let result = f();
        self.0 = spare().ok();
        result
    }
}

/// How many descriptors this process has open now.
///
/// # Errors
/// Those of reading `/proc/self/fd`.
pub fn count_open() -> io::Result<usize> {
    let entries = std::fs::read_dir("/proc/self/fd")?.collect::<io::Result<Vec<_>>>()?;
    // The directory's own descriptor is among them.
    Ok(entries.len().saturating_sub(1))
}

/// Needs no file system, so it works after a chroot too.
fn spare() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}

static INHERITED_NOFILE: OnceLock<Rlimit> = OnceLock::new();

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::sys::fixture;

    #[test]
    fn flags_are_set_and_cleared() {
        let (reader, _writer) = std::io::pipe().unwrap();
        set_nonblocking(&reader).unwrap();
        set_nonblocking(&reader).unwrap();
        assert!(fcntl_getfl(&reader).unwrap().contains(OFlags::NONBLOCK));
        set_blocking(&reader).unwrap();
        set_blocking(&reader).unwrap();
        assert!(!fcntl_getfl(&reader).unwrap().contains(OFlags::NONBLOCK));
        assert!(is_open(reader.as_raw_fd()) && !is_open(-1) && !is_open(RawFd::MAX));
        set_cloexec(&reader, false).unwrap();
        assert_eq!(fcntl_getfd(&reader).unwrap(), FdFlags::empty());
        set_cloexec(&reader, true).unwrap();
        assert_eq!(fcntl_getfd(&reader).unwrap(), FdFlags::CLOEXEC);
    }

    #[test]
    fn the_limit_is_raised_and_the_old_one_remembered() {
        let path = concat!(module_path!(), "::the_limit_is_raised_and_the_old_one_remembered");
        fixture::own_process(path, || {
            assert_eq!(inherited_nofile(), None);
            let hard = getrlimit(Resource::Nofile).maximum;
            let before = Rlimit { current: Some(123), maximum: hard };
            setrlimit(Resource::Nofile, before).unwrap();
            let now = Rlimit { current: hard, maximum: hard };
            for _ in 0..2 {
                assert_eq!(raise_nofile().unwrap(), Nofile { before, now });
                assert_eq!(getrlimit(Resource::Nofile), now);
            }
            assert_eq!(inherited_nofile(), Some(before));
        });
    }

    #[test]
    fn the_reserve_is_there_when_nothing_else_is() {
        let path = concat!(module_path!(), "::the_reserve_is_there_when_nothing_else_is");
        fixture::own_process(path, || {
            let mut reserve = Reserve::new().unwrap();
            let limit = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
            setrlimit(Resource::Nofile, limit).unwrap();
            let open = || File::open("/dev/null");
            let mut all: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
            assert_eq!(open().unwrap_err().raw_os_error(), Some(libc::EMFILE));

            // What is opened and closed inside leaves the reserve as it was.
            reserve.release(|| drop(open().unwrap()));
            // What is kept takes its place, and the next room is the reserve's again.
            let kept = reserve.release(open).unwrap();
            reserve.release(|| open().unwrap_err());
            drop(kept);
            reserve.release(|| ());
            open().unwrap_err();
            reserve.release(|| drop(open().unwrap()));
            all.clear();
        });
    }

    #[test]
    fn open_descriptors_are_counted() {
        fixture::own_process(concat!(module_path!(), "::open_descriptors_are_counted"), || {
            let before = count_open().unwrap();
            let files: Vec<_> = (0..5).map(|_| File::open("/dev/null").unwrap()).collect();
            assert_eq!(count_open().unwrap(), before + 5);
            drop(files);
            assert_eq!(count_open().unwrap(), before);
        });
    }
}
