//! Child processes: Node's `child_process`, whole.
//!
//! | | result | runs | own time limit |
//! |---|---|---|---|
//! | [`spawn`] | [`Child`]: events and streams | an executable | yes |
//! | [`exec`] | [`Output`] or [`ExecError`] | a command line, through the shell | yes |
//! | [`exec_file`] | [`Output`] or [`ExecError`] | an executable | yes |
//! | [`fork`] | [`Child`]: events, streams, a channel | a Node script, a Rust program, or this one again | yes |
//! | [`spawn_sync`], [`exec_sync`], [`exec_file_sync`] | the same, after waiting for it | | yes |
//!
//! These functions are for the simple case. For all else there is [`Command`], with every option of Node's, of
//! which they are thin layers:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ganger::Result {
//! use ganger::process::{Command, Event, exec, spawn};
//! use tokio::io::AsyncReadExt;
//!
//! // Collected output.
//! let output = exec("echo hello | tr a-z A-Z").await?;
//! assert_eq!(output.stdout, "HELLO\n");
//!
//! // Events and streams.
//! let mut child = spawn("sh", ["-c", "echo on the way; exit 7"])?;
//! let mut text = String::new();
//! child.stdout.take().unwrap().read_to_string(&mut text).await?;
//! assert_eq!(text, "on the way\n");
//! while let Some(event) = child.next().await {
//!     if let Event::Exit(exit) = event {
//!         assert_eq!(exit.to_string(), "exit code 7");
//!     }
//! }
//!
//! // Options.
//! let error = Command::new("sleep").arg("1000").timeout(std::time::Duration::from_millis(5)).exec().await.unwrap_err();
//! assert_eq!(error.code(), Some("ETIMEDOUT"));
//! assert_eq!(error.signal(), Some("SIGTERM"));
//! # Ok(())
//! # }
//! ```
//!
//! What differs from Node: errors that Node tells by an `error` event come as an `Err` from where the process is
//! started; [`Event::Close`] comes after the parent's own `disconnect` too, and always last; a missing directory
//! and a missing program are told apart; pipes for stdin, stdout and stderr are pipes and not sockets; `exec` closes
//! the command's stdin, so that one that reads it ends; a command that a time limit was to end has timed out, even
//! if it then chose to exit with 0. Text is UTF-8; for other encodings take the bytes.
//!
//! A thin layer over [`crate::sys::spawn`], the one place that starts processes. Knows nothing of clusters.

mod blocking;
mod captured;
mod child;
mod command;
mod error;
mod exec;
mod limits;
mod reaper;
mod running;
mod start;
mod stdio;
mod stream;

use std::{ffi::OsString, path::PathBuf};

pub use blocking::Finished;
pub use captured::Captured;
pub use child::{Child, ChildError, Event};
pub use command::Command;
pub use error::{ExecError, Failure, Invalid, Reason, SpawnError};
pub use exec::{Exec, Output};
pub use running::Killer;
pub use start::is_script;
pub use stdio::Stdio;
pub use stream::{ChildOutput, ChildPipe, ChildStdin, Streams};
pub use tokio_util::sync::CancellationToken;

pub use crate::sys::pidfd::{Exit, signal_name, signal_number};

pub(crate) use reaper::abandon;
pub(crate) use running::Process;
pub(crate) use start::Started;

/// Starts an executable, with pipes to its three standard streams.
///
/// # Errors
/// [`SpawnError`].
///
/// # Panics
/// Outside of a tokio runtime.
pub fn spawn<A: Into<OsString>>(
    program: impl Into<OsString>,
    args: impl IntoIterator<Item = A>,
) -> Result<Child, SpawnError> {
    Command::new(program).args(args).spawn()
}

/// Runs a command line through the shell, and collects what it writes. What a user typed does not belong into it:
/// it would be executed.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn exec(line: impl Into<OsString>) -> Exec {
    Command::shell(line).exec()
}

/// Runs an executable, and collects what it writes.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn exec_file<A: Into<OsString>>(program: impl Into<OsString>, args: impl IntoIterator<Item = A>) -> Exec {
    Command::new(program).args(args).exec()
}

/// Starts a Node script or a Rust program with a channel: see [`Command::fork`].
///
/// # Errors
/// [`SpawnError`]; a file that is not there is found before anything is started.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn fork<A: Into<OsString>>(
    module: impl Into<PathBuf>,
    args: impl IntoIterator<Item = A>,
) -> Result<Child, SpawnError> {
    Command::fork(module).args(args).spawn()
}

/// Runs an executable and waits until it has ended.
///
/// # Errors
/// [`SpawnError`]. That it failed is no error here.
pub fn spawn_sync<A: Into<OsString>>(
    program: impl Into<OsString>,
    args: impl IntoIterator<Item = A>,
) -> Result<Finished, SpawnError> {
    Command::new(program).args(args).spawn_sync()
}

/// Runs a command line through the shell, waits for it, and returns what it wrote to its stdout.
///
/// # Errors
/// [`ExecError`] unless its exit code is 0.
pub fn exec_sync(line: impl Into<OsString>) -> Result<Captured, ExecError> {
    Command::shell(line).exec_sync()
}

/// Runs an executable, waits for it, and returns what it wrote to its stdout.
///
/// # Errors
/// [`ExecError`] unless its exit code is 0.
pub fn exec_file_sync<A: Into<OsString>>(
    program: impl Into<OsString>,
    args: impl IntoIterator<Item = A>,
) -> Result<Captured, ExecError> {
    Command::new(program).args(args).exec_sync()
}
