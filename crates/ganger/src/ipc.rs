//! The channel to whoever started this process: Node's `process.send` and `process.on('message')`.
//!
//! ```no_run
//! use ganger::channel::Received;
//!
//! fn main() -> ganger::Result {
//!     // First of all, before there are other threads.
//!     let mut parent = ganger::ipc::parent()?.ok_or("to be started by fork()")?;
//!     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//!     runtime.block_on(async {
//!         while let Some(Received::Message(message)) = parent.recv().await {
//!             parent.send(&message.parse::<serde_json::Value>()?)?;
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! What the parent left in the environment (`NODE_CHANNEL_FD`, `GANGER_FORK_ROLE` and their like) is taken out of it
//! here, so that the program's own children do not take it for theirs. The environment can be changed only
//! while a process has one thread; so these functions belong first in `main`.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    sync::{Mutex, OnceLock, PoisonError},
};

use ganger_proto::{Serialization, node};

use crate::{
    Channel,
    sys::{
        env::{self, TooLate},
        fd,
        process::own_executable,
    },
};

/// The variable that holds the role of a process that forked itself.
pub(crate) const FORK_ROLE: &str = "GANGER_FORK_ROLE";
/// The variable that holds the number of the native lane's descriptor.
pub(crate) const LANE_FD: &str = "GANGER_LANE_FD";

/// The channel of a process that was asked first whether it is a cluster's worker, which it is not.
static KEPT: Mutex<Option<Result<Channel, ParentError>>> = Mutex::new(None);

/// The parent's channel is not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParentError {
    /// Other threads run already.
    #[error(transparent)]
    TooLate(#[from] TooLate),
    /// A variable says what no parent would say.
    #[error("{name}={value:?} in the environment is nonsense: whoever started this process has to mend it")]
    Nonsense {
        /// The variable.
        name: &'static str,
        /// What it says.
        value: OsString,
    },
    /// The descriptor is not there, or cannot be used.
    #[error("the channel that the parent announced as descriptor {number} is not there: {source}")]
    Descriptor {
        /// Its number.
        number: i32,
        /// What the system said.
        source: io::Error,
    },
}

/// The channel to the process that started this one with `fork`, Node's or ours, or by any other means that sets
/// `NODE_CHANNEL_FD`; none if it was started otherwise, or if the channel was taken before, as that of a cluster's worker is.
/// It needs no runtime until it is awaited, and keeps no program alive. Within [`ganger::main`](crate::main()) and its like it may
/// be called at any time.
///
/// # Errors
/// [`ParentError`].
pub fn parent() -> Result<Option<Channel>, ParentError> {
    if let Some(kept) = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return kept.map(Some);
    }
    // Whoever is first in `main` keeps the program's path.
    let _ = own_executable();
    let names = [node::CHANNEL_FD, node::CHANNEL_SERIALIZATION_MODE, LANE_FD, node::UNIQUE_ID];
    let taken = env::take(&names)?;
    let [number, mode, lane, _] = <[_; 4]>::try_from(taken).unwrap_or_default();
    adopt(number, mode, lane)
}

/// Takes over what a parent announced and keeps it for [`parent`].
pub(crate) fn keep(number: Option<OsString>, mode: Option<OsString>, lane: Option<OsString>) {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = adopt(number, mode, lane).transpose();
}

fn adopt(
    number: Option<OsString>,
    mode: Option<OsString>,
    lane: Option<OsString>,
) -> Result<Option<Channel>, ParentError> {
    let Some(value) = number.filter(|number| !number.is_empty()) else { return Ok(None) };
    let serialization = match mode {
        None => Serialization::Json,
        Some(value) => match value.to_str().and_then(Serialization::named) {
            Some(serialization) => serialization,
            None => return Err(ParentError::Nonsense { name: node::CHANNEL_SERIALIZATION_MODE, value }),
        },
    };
    let number = value.to_str().and_then(|text| text.parse().ok()).filter(|number: &i32| *number >= 0);
    let number = number.ok_or(ParentError::Nonsense { name: node::CHANNEL_FD, value })?;
    let channel = fd::adopt(number).and_then(|socket| Channel::with_serialization(socket, serialization));
    let channel = channel.map_err(|source| ParentError::Descriptor { number, source })?;
    Ok(Some(channel.with_lane(adopt_lane(lane.as_deref()))))
}

/// The lane that a parent announced. Without one Node's wire is spoken, so what is wrong with it is no error.
pub(crate) fn adopt_lane(number: Option<&OsStr>) -> Option<OwnedFd> {
    let lane = fd::adopt(number?.to_str()?.parse().ok()?).ok()?;
    fd::set_nonblocking(&lane).ok()?;
    Some(lane)
}

/// The role that this process was started for by [`Command::fork_self`](crate::process::Command::fork_self); none if
/// it was started otherwise.
///
/// # Errors
/// [`TooLate`] if other threads run already.
pub fn role() -> Result<Option<String>, TooLate> {
    static ROLE: OnceLock<Option<String>> = OnceLock::new();
    if let Some(role) = ROLE.get() {
        return Ok(role.clone());
    }
    let _ = own_executable();
    let role = env::take(&[FORK_ROLE])?.pop().flatten().map(|role| role.to_string_lossy().into_owned());
    Ok(ROLE.get_or_init(|| role).clone())
}
