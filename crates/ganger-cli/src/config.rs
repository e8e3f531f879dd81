//! `ganger.toml`: found, read and understood. Starts nothing.
//!
//! Whatever is wrong with the file is one line that begins with the place in it. A key that is an option is checked
//! by the option's own parser, and becomes a word of the command line.

mod reader;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::args::Workers;
use crate::program::Unusable;
use reader::Reader;

/// The file's name.
pub(crate) const FILE: &str = "ganger.toml";

/// What a ganger.toml says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The file, as it is shown.
    pub(crate) shown: String,
    /// Where it is: what is relative in it is relative to this.
    pub(crate) directory: PathBuf,
    /// The options in it, as they would be typed.
    pub(crate) options: Vec<OsString>,
    /// What is run.
    pub(crate) what: What,
}

/// What is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// `program`: in as many workers as the options say.
    Program(Entry),
    /// `[[worker]]`: at least one.
    Groups(Vec<Group>),
}

/// A program and what belongs to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Where in the file the program stands.
    pub(crate) place: String,
    /// Where it runs, absolute; the file's directory, if that is not said.
    pub(crate) cwd: PathBuf,
}

/// A `[[worker]]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// What it is called; no other one is.
    pub(crate) name: String,
    /// What its workers run.
    pub(crate) entry: Entry,
    /// How many there are.
    pub(crate) count: Workers,
    /// What it sets beside what is set for all.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Exit codes by which its program says that it is not to be started again, beside those of all.
    pub(crate) no_restart_codes: Vec<u8>,
    /// What runs JavaScript in it, if that is not the same for all.
    pub(crate) runtime: Option<OsString>,
}

/// The nearest file, from a directory upward; `None` without one.
pub(crate) fn nearest(cwd: &Path) -> Result<Option<Config>, Unusable> {
    let Some(directory) = cwd.ancestors().find(|directory| directory.join(FILE).exists()) else {
        return Ok(None);
    };
    let path = directory.join(FILE);
    let shown = if directory == cwd { FILE.to_owned() } else { path.display().to_string() };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Unusable::new(format!("cannot read {}: {error}", path.display())))?;
    Reader::new(shown, directory, &text).read().map(Some)
}

#[cfg(test)]
mod tests;
