//! Groups: workers of different programs in one gang, on the same ports.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use ganger_proto::{Serialization, Slot};

use super::Settings;

/// Workers of one program in a gang of several: Node beside Rust, one port.
///
/// Slots are numbered through: the first group has 0 to n-1, the next one goes on from there. A slot is always
/// filled by its group's program.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Group {
    /// What the group is called. Default: the program's file name.
    pub name: String,
    /// The program that its workers run.
    pub program: OsString,
    /// Its arguments. Default: none.
    pub args: Vec<OsString>,
    /// Variables that its workers have beside those of [`Settings::env`], and instead of those of the same name.
    pub env: Vec<(OsString, OsString)>,
    /// Their working directory. Default: that of [`Settings::cwd`].
    pub cwd: Option<PathBuf>,
    /// How many slots it has. Default: 1.
    pub workers: u32,
    /// As [`Settings::channel`].
    pub channel: bool,
    /// As [`Settings::serialization`].
    pub serialization: Serialization,
    /// As [`Settings::lane`].
    pub lane: bool,
    /// As [`Settings::no_restart_codes`](field@Settings::no_restart_codes).
    pub no_restart_codes: Vec<u8>,
}

impl Group {
    /// One worker that runs `program` without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        let program = program.into();
        Self {
            name: file_name(&program),
            program,
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            workers: 1,
            channel: true,
            serialization: Serialization::Json,
            lane: true,
            no_restart_codes: Vec::new(),
        }
    }
}

/// What a slot is filled with.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    /// The group's place in [`Settings::groups`].
    pub(super) group: usize,
    pub(super) program: &'a OsStr,
    pub(super) args: &'a [OsString],
    /// What the group sets beside [`Settings::env`].
    pub(super) env: &'a [(OsString, OsString)],
    pub(super) cwd: Option<&'a Path>,
    pub(super) channel: bool,
    pub(super) serialization: Serialization,
    pub(super) lane: bool,
    pub(super) no_restart_codes: &'a [u8],
}

impl Settings {
    /// How many slots there are meant to be: those of the groups, or [`Settings::workers`] where there are none.
    pub fn slots(&self) -> u32 {
        if self.groups.is_empty() {
            self.workers
        } else {
            self.groups.iter().map(|group| group.workers).sum()
        }
    }

    /// The exit codes after which a slot is not filled again.
    pub(crate) fn no_restart_codes(&self, slot: Slot) -> &[u8] {
        self.launch(slot).no_restart_codes
    }

    /// What fills a slot. One behind the last group's is the last group's too.
    pub(super) fn launch(&self, slot: Slot) -> Launch<'_> {
        let mut end = 0;
        let place = self.groups.iter().position(|group| {
            end += group.workers;
            slot.0 < end
        });
        let group = place.unwrap_or(self.groups.len().saturating_sub(1));
        match self.groups.get(group) {
            Some(Group {
                program, args, env, cwd, channel, serialization, lane, no_restart_codes, ..
            }) => Launch {
                group,
                program,
                args,
                env,
                cwd: cwd.as_deref().or(self.cwd.as_deref()),
                channel: *channel,
                serialization: *serialization,
                lane: *lane,
                no_restart_codes,
            },
            None => Launch {
                group: 0,
                program: &self.program,
                args: &self.args,
                env: &[],
                cwd: self.cwd.as_deref(),
                channel: self.channel,
                serialization: self.serialization,
                lane: self.lane,
                no_restart_codes: &self.no_restart_codes,
            },
        }
    }
}

/// What something that runs `program` is called.
pub(super) fn file_name(program: &OsStr) -> String {
    Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, workers: u32) -> Group {
        Group { workers, ..Group::new(name) }
    }

    #[test]
    fn without_groups_every_slot_runs_the_settings_program() {
        let mut settings = Settings::new("/opt/shop/server");
        settings.workers = 3;
        settings.args = vec!["-v".into()];
        assert_eq!((settings.slots(), settings.name.as_str()), (3, "server"));
        for slot in [0, 2, 7] {
            let launch = settings.launch(Slot(slot));
            assert_eq!((launch.group, launch.program), (0, OsStr::new("/opt/shop/server")));
            assert_eq!(launch.args, settings.args);
        }
    }

    #[test]
    fn slots_are_numbered_through_the_groups() {
        let mut settings = Settings::new("unused");
        settings.cwd = Some("/srv".into());
        settings.groups =
            vec![group("a", 2), group("none", 0), Group { cwd: Some("/x".into()), ..group("b", 1) }];
        assert_eq!(settings.slots(), 3);
        let of = |slot| (settings.launch(Slot(slot)).group, settings.launch(Slot(slot)).program.to_owned());
        assert_eq!([of(0), of(1), of(2)], [(0, "a".into()), (0, "a".into()), (2, "b".into())]);
        assert_eq!(of(3), (2, "b".into()));
        assert_eq!(settings.launch(Slot(0)).cwd, Some(Path::new("/srv")));
        assert_eq!(settings.launch(Slot(2)).cwd, Some(Path::new("/x")));
    }
}
