//! What the descriptors of a child are, and our ends of them.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType},
    pipe::{PipeFlags, pipe_with},
};

use super::error::Invalid;
use crate::sys::{
    fd::{is_open, set_nonblocking},
    socket,
    spawn::Source,
};

/// What one descriptor of a child is.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// A pipe to us. For 0 to 2 it is a real one, so that `/dev/stdout` can be opened in the child (Node's are
    /// sockets, and it cannot); above it is a Unix socket that both sides read and write. Also Node's
    /// `overlapped`.
    #[default]
    Pipe,
    /// `/dev/null` for 0 to 2; above, not open.
    Ignore,
    /// Our own descriptor of the same number.
    Inherit,
    /// Our own descriptor of this number.
    Number(RawFd),
    /// An open file, socket or pipe: see [`Stdio::from_fd`].
    Fd(Arc<OwnedFd>),
    /// The channel. The child learns the number from `NODE_CHANNEL_FD`.
    Ipc,
}

impl Stdio {
    /// An open file, a socket, or the far end of a pipe. It is closed here with the last command that names it.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Self {
        Self::Fd(Arc::new(fd.into()))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self::from_fd(file)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self::from_fd(fd)
    }
}

/// A child's descriptors by number, and our ends of them.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    /// For the child.
    pub(super) sources: Vec<Option<Source>>,
    /// Ours, non-blocking, where it is a pipe.
    pub(super) ends: Vec<Option<OwnedFd>>,
    /// Our end of the channel, and its number in the child.
    pub(super) channel: Option<(OwnedFd, usize)>,
    /// The same of the native lane.
    pub(super) lane: Option<(OwnedFd, usize)>,
}

impl Wiring {
    /// Makes what has to be made.
    pub(super) fn new(stdio: &[Stdio], lane: bool) -> io::Result<Self> {
        let mut wiring = Self::default();
        for (number, stdio) in stdio.iter().enumerate() {
            let (source, end) = match stdio {
                Stdio::Pipe => {
                    let (ours, theirs) = pair(number)?;
                    (Some(Source::Owned(theirs)), Some(ours))
                }
                Stdio::Ignore if number < STANDARD => {
                    let null = OpenOptions::new().read(true).write(number > 0).open("/dev/null")?;
                    (Some(Source::Owned(null.into())), None)
                }
                Stdio::Ignore => (None, None),
                Stdio::Inherit => (Some(Source::Inherit(number as RawFd)), None),
                Stdio::Number(ours) => (Some(Source::Inherit(*ours)), None),
                // The command outlives the start of the process.
                Stdio::Fd(fd) => (Some(Source::Inherit(fd.as_raw_fd())), None),
                Stdio::Ipc => {
                    let (ours, theirs) = socket::channel_pair()?;
                    wiring.channel = Some((ours, number));
                    (Some(Source::Owned(theirs)), None)
                }
            };
            wiring.sources.push(source);
            wiring.ends.push(end);
        }
        if lane {
            let (ours, theirs) = socket::lane_pair()?;
            wiring.lane = Some((ours, wiring.sources.len()));
            wiring.sources.push(Some(Source::Owned(theirs)));
        }
        Ok(wiring)
    }
}

/// Finds what makes no sense, before anything is made.
pub(super) fn check(stdio: &[Stdio]) -> Result<(), Invalid> {
    if stdio.iter().filter(|stdio| matches!(stdio, Stdio::Ipc)).count() > 1 {
        return Err(Invalid::TwoChannels);
    }
    for (number, stdio) in (0..).zip(stdio) {
        match stdio {
            Stdio::Inherit if !is_open(number) => return Err(Invalid::NotOpen(number)),
            Stdio::Number(ours) if !is_open(*ours) => return Err(Invalid::NotOpen(*ours)),
            _ => {}
        }
    }
    Ok(())
}

/// Ours and theirs of what is to be descriptor `number` in the child.
fn pair(number: usize) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = match number {
        0 => {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            (writer, reader)
        }
        1 | 2 => pipe_with(PipeFlags::CLOEXEC)?,
        _ => {
            let flags = SocketFlags::CLOEXEC;
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?
        }
    };
    set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

/// How many standard streams there are.
pub(super) const STANDARD: usize = 3;
