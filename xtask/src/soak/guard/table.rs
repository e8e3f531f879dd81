//! The table: a row a trial and kind of workers, a column a policy.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};

use super::cell::{Cell, Counts, Outcome};
use crate::workspace;

/// What came of all cells.
#[derive(Default)]
pub(super) struct Table {
    outcomes: Vec<Outcome>,
}

impl Table {
    /// That of the runs before, if there is one.
    pub(super) fn load() -> Result<Self> {
        let path = path();
        if !path.is_file() {
            return Ok(Self::default());
        }
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let outcomes = serde_json::from_slice(&text);
        Ok(Self { outcomes: outcomes.with_context(|| format!("{} is of another version", path.display()))? })
    }

    /// Writes it as JSON, for machines and for the next run.
    pub(super) fn save(&self) -> Result<()> {
        let (path, text) = (path(), serde_json::to_string_pretty(&self.outcomes)?);
        fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// A cell has been played, perhaps once more.
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.outcomes.retain(|old| old.cell != outcome.cell);
        self.outcomes.push(outcome);
        self.outcomes.sort_by_key(|outcome| (outcome.cell.trial as u8, outcome.cell.workers()));
    }

    /// Those in which a promise was broken.
    pub(super) fn broken(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| !outcome.broken.is_empty())
    }

    fn policies(&self) -> Vec<&str> {
        let mut policies: Vec<&str> = Vec::new();
        for Outcome { cell, .. } in &self.outcomes {
            if !policies.contains(&cell.policy.as_str()) {
                policies.push(&cell.policy);
            }
        }
        let place =
            |policy: &&str| super::POLICIES.iter().position(|known| known == policy).unwrap_or(usize::MAX);
        policies.sort_by_key(place);
        policies
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policies = self.policies();
        let headings = policies.iter().map(|policy| format!(" {policy} |")).collect::<String>();
        writeln!(f, "| under continuous load | workers | rounds |{headings}")?;
        writeln!(f, "|---|---|---:|{}", "---:|".repeat(policies.len()))?;
        let is_like = |one: &Cell, other: &Cell| {
            (one.trial, one.program, &one.version) == (other.trial, other.program, &other.version)
        };
        for row in self.outcomes.chunk_by(|one, other| is_like(&one.cell, &other.cell)) {
            let cell = &row[0].cell;
            write!(f, "| {} | {} | {} |", cell.trial.title(), cell.workers(), rounds(row))?;
            for policy in &policies {
                match row.iter().find(|outcome| outcome.cell.policy == *policy) {
                    Some(outcome) => write!(f, " {} |", outcome.shown())?,
                    None => write!(f, "  |")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The fewest and the most of a row's cells.
fn rounds(row: &[Outcome]) -> String {
    let rounds = || row.iter().map(|outcome| outcome.rounds);
    match (rounds().min(), rounds().max()) {
        (Some(fewest), Some(most)) if fewest != most => format!("{fewest} – {most}"),
        (fewest, _) => fewest.unwrap_or(0).to_string(),
    }
}

impl Outcome {
    /// As it stands in the table: bold where a promise was broken.
    pub(super) fn shown(&self) -> String {
        let Counts { requests, failed, held, repeats, asked_to_fail } = self.counts;
        let mut more = Vec::new();
        for (count, what) in [(held as u64, "held"), (asked_to_fail, "asked to"), (repeats, "repeated")] {
            if count > 0 {
                more.push(format!("{count} {what}"));
            }
        }
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        let counted = format!("{failed} of {requests}{more}");
        if self.broken.is_empty() { counted } else { format!("**{counted}**") }
    }
}

fn path() -> std::path::PathBuf {
    workspace::target().join("soak/guard.json")
}
