//! Programs by name, as `execvp` finds them. Only looks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Where programs are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    /// The directories, separated by colons.
    pub(super) path: &'a OsStr,
    /// What relative ones are relative to.
    pub(super) cwd: &'a Path,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A file that can be executed.
    At(PathBuf),
    /// Something that cannot be executed.
    NotExecutable(PathBuf),
    /// Nothing.
    Nowhere,
}

impl Search<'_> {
    /// A word with a slash is a path; another is looked for on `PATH`.
    pub(super) fn find(&self, word: &OsStr) -> Found {
        let candidates: Vec<PathBuf> = if super::is_path(word) {
            vec![self.cwd.join(word)]
        } else {
            std::env::split_paths(self.path).map(|directory| self.cwd.join(directory).join(word)).collect()
        };
        let mut refused = None;
        for candidate in candidates {
            if candidate.is_file() && access(&candidate, Access::EXEC_OK).is_ok() {
                return Found::At(candidate);
            }
            if candidate.exists() {
                refused.get_or_insert(candidate);
            }
        }
        refused.map_or(Found::Nowhere, Found::NotExecutable)
    }
}
