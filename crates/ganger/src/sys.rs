//! The operating-system floor: thin wrappers over system calls, safe outside.
//!
//! Everything here speaks of descriptors, processes and errnos. It knows nothing of messages, of Node or of
//! clusters, and it never reports more than an [`std::io::Error`] and the step that failed.
//!
//! Invariants:
//! - all `unsafe` of the library is below this module, each block with the fact that it relies on;
//! - a descriptor is close-on-exec from birth; only [`spawn`] hands one to another program, and only those it
//!   was given;
//! - an interrupted call (`EINTR`) is repeated, never reported.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod diag;
pub mod env;
pub mod errno;
pub mod evidence;
pub mod fd;
pub mod pidfd;
pub mod poll;
pub mod process;
pub mod reap;
pub mod socket;
pub mod spawn;
pub(crate) mod watch;

#[cfg(test)]
mod fixture;
