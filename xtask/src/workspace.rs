//! Where things are in this work tree, and how its steps are run.
//!
//! Every path that a task uses begins at [`root`], so a task does the same from any directory.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Result};

/// The root of the work tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the work tree")
}

/// The untracked directory of everything that is downloaded.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// `cargo` (the one that runs this task), in the root of the work tree.
pub fn cargo(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs `command` with its output streamed through; an error if it does not end with status 0.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        return Err(Failed { command: shown, status }.into());
    }
    Ok(())
}

/// Prints a heading, does the step, prints how long it took.
pub fn step<T>(heading: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n== {heading}");
    let start = Instant::now();
    let result = step();
    let end = if result.is_ok() { "done" } else { "FAILED" };
    println!("== {heading}: {end} in {:.1} s", start.elapsed().as_secs_f64());
    result
}

/// A command that was run and failed. `cargo xtask` ends with its exit status.
#[derive(Debug)]
pub struct Failed {
    /// The command line, for people.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed: {}", self.command, self.status)
    }
}

impl std::error::Error for Failed {}

/// The command line as a person would type it (without the directory of the program).
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    words.join(" ")
}
