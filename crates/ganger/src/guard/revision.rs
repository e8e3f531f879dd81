//! What a reload changes of the settings: in force from the moment in which it begins, and no more if it fails.

use std::fmt;

use ganger_proto::guard::{Input, Notice};

use super::Guard;
use crate::{clock, cluster::Settings};

type Change = Box<dyn FnOnce(&mut Settings) + Send>;

#[derive(Default)]
pub(super) struct Revision {
    /// For the next reload, in the order in which they came.
    planned: Vec<Change>,
    /// What was so before the reload that is under way.
    before: Option<Settings>,
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revision").field("planned", &self.planned.len()).finish_non_exhaustive()
    }
}

impl Guard {
    /// [Reloads](Self::reload) to other settings. They are in force from the moment in which the reload begins, also for a worker
    /// that is started because another one died; if the reload fails, all is as it was before, the number of
    /// [slots](Settings::slots) too. The policy stays what it is.
    pub fn reload_with(&mut self, change: impl FnOnce(&mut Settings) + Send + 'static) {
        self.revision.planned.push(Box::new(change));
        self.reload();
    }

    /// The settings are those of the reload that begins, or has failed.
    pub(super) fn revise(&mut self, notice: &Notice) {
        match notice {
            Notice::Reloading { .. } => self.begin_revision(),
            Notice::Reloaded { .. } => self.revision.before = None,
            Notice::ReloadFailed { .. } => {
                if let Some(before) = self.revision.before.take() {
                    self.primary.setup(|current| *current = before);
                }
            }
            _ => {}
        }
    }

    fn begin_revision(&mut self) {
        let planned = std::mem::take(&mut self.revision.planned);
        if planned.is_empty() {
            return;
        }
        let before = self.primary.settings().clone();
        self.primary.setup(|settings| planned.into_iter().for_each(|change| change(settings)));
        let slots = self.primary.settings().slots();
        if slots != before.slots() {
            self.machine.handle(clock::now(), Input::Revised(slots));
        }
        self.revision.before = Some(before);
    }
}
