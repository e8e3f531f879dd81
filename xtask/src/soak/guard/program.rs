//! What the workers are.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::workspace;

/// What the workers are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Program {
    /// `xtask/soak/worker.js`
    Node,
    /// `xtask/soak/worker.rs`, the example `soak_worker` of the crate `ganger`
    Rust,
}

impl Program {
    /// What a broken one says.
    pub(super) const WHY: &str = "no such table";

    /// Where it is in a cell's directory.
    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Node => "worker.js",
            Self::Rust => "worker",
        })
    }

    /// Puts it, as it should be, where it is run from.
    pub(super) fn mend_in(self, directory: &Path) -> Result<()> {
        self.replace(directory, |place| match self {
            Self::Node => fs::copy(workspace::root().join("xtask/soak/worker.js"), place).map(drop),
            Self::Rust => symlink(workspace::target().join("debug/examples/soak_worker"), place),
        })
    }

    /// Puts one there that does not start.
    pub(super) fn break_in(self, directory: &Path) -> Result<()> {
        self.replace(directory, |place| match self {
            Self::Node => fs::write(place, format!("throw new Error('{}')\n", Self::WHY)),
            Self::Rust => {
                fs::write(place, format!("#!/bin/sh\necho '{}' >&2\nexit 3\n", Self::WHY))?;
                fs::set_permissions(place, fs::Permissions::from_mode(0o755))
            }
        })
    }

    /// Nobody finds half a program.
    fn replace(self, directory: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
        let (path, new) = (self.path(directory), directory.join("new"));
        let made = make(&new).and_then(|()| fs::rename(&new, &path));
        made.with_context(|| format!("cannot make {}", path.display()))
    }
}
