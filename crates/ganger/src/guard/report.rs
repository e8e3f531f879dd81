//! All that is known of a death that nobody had asked for.

use std::{fmt, time::Duration};

use ganger_proto::{
    AgentId, Slot, WorkerId,
    cluster::Held,
    guard::{Cause, Panic},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    Source,
    cause::{bytes, describe, kind},
    vitals::Remains,
};
use crate::{process::Exit, sys::evidence::Evidence};

/// A death that nobody had asked for, and all that is known of it.
///
/// Its [`Display`](fmt::Display) is a text of several lines for a person. Serialized it is one flat object, in which what is not
/// known is left out:
///
/// | key | what |
/// |---|---|
/// | `worker`, `slot` or `agent` | who |
/// | `pid` | its process |
/// | `age` | how long it lived, in seconds |
/// | `cause`, `kind` | why it ended: in words, and as one of `exit`, `signal`, `out-of-memory`, `unresponsive`, `start-timeout`, `panic`, `misbehaviour`, `left`, `unfit`, `asked` |
/// | `exit_code` or `signal`, `core_dumped` | how it ended |
/// | `panic` | `message`, `place`, `backtrace` |
/// | `connections` | `under_way`: handed to it and not answered for; `open`: taken and not closed |
/// | `memory` | its resident memory of the last minute, second by second, in bytes |
/// | `status` | what it said last of what it does (`STATUS=`, `sd_notify(3)`) |
/// | `evidence` | what it was doing when it was killed by us: `state`, `wait_channel`, `stack` |
/// | `restarts` | how many deaths there were in its place before it |
/// | `last_words` | the last lines of its stderr |
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeathReport {
    /// Who.
    pub who: Source,
    /// Its process, if that is known.
    pub pid: Option<i32>,
    /// How long it lived.
    pub age: Duration,
    /// Of what it died.
    pub cause: Cause,
    /// How it ended.
    pub exit: Option<Exit>,
    /// What it had of connections when its channel closed.
    pub connections: Held,
    /// Its resident memory in bytes, second by second, the oldest first: of its last minute.
    pub memory: Vec<u64>,
    /// What it said last of what it does, in its own words.
    pub status: Option<String>,
    /// What it was doing when it was killed, if we have killed it.
    pub evidence: Option<Evidence>,
    /// How many deaths there were in its place before it: so often it was filled again.
    pub restarts: u32,
    /// The last lines of its stderr, if they pass through an [`Output`](super::Output).
    pub last_words: Vec<String>,
}

impl DeathReport {
    pub(super) fn new(
        who: Source,
        age: Duration,
        cause: Cause,
        restarts: u32,
        remains: Option<Remains>,
    ) -> Self {
        let mut report = Self {
            who,
            pid: None,
            age,
            cause,
            exit: None,
            connections: Held::default(),
            memory: Vec::new(),
            status: None,
            evidence: None,
            restarts,
            last_words: Vec::new(),
        };
        if let Some(Remains { pid, exit, held, memory, status, evidence }) = remains {
            report.pid = Some(pid);
            report.exit = Some(exit);
            report.connections = held;
            report.memory = memory;
            report.status = status;
            report.evidence = evidence;
        }
        report
    }

    /// Its memory in words: `12 MB → 64 MB in its last 30 s`. `None` if it did not live that long.
    pub fn memory_in_words(&self) -> Option<String> {
        let (first, last) = (self.memory.first()?, self.memory.last()?);
        let most = self.memory.iter().max().filter(|most| *most > first && *most > last);
        let most = most.map(|most| format!(", {} at most", bytes(*most))).unwrap_or_default();
        let seconds = self.memory.len();
        Some(format!("{} → {} in its last {seconds} s{most}", bytes(*first), bytes(*last)))
    }
}

impl Serialize for DeathReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.who {
            Source::Worker(WorkerId(worker), Slot(slot)) => {
                map.serialize_entry("worker", &worker)?;
                map.serialize_entry("slot", &slot)?;
            }
            Source::Agent(AgentId(agent)) => map.serialize_entry("agent", &agent)?,
        }
        if let Some(pid) = self.pid {
            map.serialize_entry("pid", &pid)?;
        }
        // To the millisecond.
        map.serialize_entry("age", &((self.age.as_secs_f64() * 1000.0).round() / 1000.0))?;
        map.serialize_entry("cause", &describe(&self.cause))?;
        map.serialize_entry("kind", kind(&self.cause))?;
        match self.exit {
            Some(Exit::Code(code)) => map.serialize_entry("exit_code", &code)?,
            Some(Exit::Signal { signal, core_dumped }) => {
                map.serialize_entry("signal", &signal)?;
                map.serialize_entry("core_dumped", &core_dumped)?;
            }
            None => {}
        }
        if let Cause::Panicked(panic) = &self.cause {
            map.serialize_entry("panic", panic)?;
        }
        map.serialize_entry("connections", &self.connections)?;
        map.serialize_entry("memory", &self.memory)?;
        if let Some(status) = &self.status {
            map.serialize_entry("status", status)?;
        }
        if let Some(evidence) = &self.evidence {
            map.serialize_entry("evidence", evidence)?;
        }
        map.serialize_entry("restarts", &self.restarts)?;
        map.serialize_entry("last_words", &self.last_words)?;
        map.end()
    }
}

impl fmt::Display for DeathReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Source::Worker(worker, slot) => write!(f, "worker {worker}, slot {slot}")?,
            Source::Agent(agent) => write!(f, "agent {agent}")?,
        }
        if let Some(pid) = self.pid {
            write!(f, " (pid {pid})")?;
        }
        writeln!(f, " died after {:.1} s: {}", self.age.as_secs_f64(), describe(&self.cause))?;
        if let Some(exit) = self.exit {
            writeln!(f, "  ended with      {exit}")?;
        }
        let Held { under_way, open, .. } = self.connections;
        write!(f, "  connections     {under_way} handed to it and not taken yet")?;
        match open {
            Some(open) => writeln!(f, ", {open} open")?,
            None => writeln!(f)?,
        }
        if let Some(memory) = self.memory_in_words() {
            writeln!(f, "  memory          {memory}")?;
        }
        if let Some(status) = &self.status {
            writeln!(f, "  it had said     {status}")?;
        }
        if let Some(evidence) = &self.evidence {
            writeln!(f, "  when killed     {evidence}")?;
            list(f, "in the kernel", evidence.stack.iter().map(String::as_str))?;
        }
        writeln!(f, "  deaths before   {}", self.restarts)?;
        if let Cause::Panicked(Panic { backtrace: Some(backtrace), .. }) = &self.cause {
            list(f, "backtrace", backtrace.lines())?;
        }
        list(f, "last words", self.last_words.iter().map(String::as_str))
    }
}

/// Lines below a heading, if there are any. What a process says cannot recolour them.
fn list<'a>(f: &mut fmt::Formatter<'_>, heading: &str, lines: impl Iterator<Item = &'a str>) -> fmt::Result {
    for (number, line) in lines.enumerate() {
        if number == 0 {
            writeln!(f, "  {heading}")?;
        }
        let line: String = line.chars().filter(|char| !char.is_control() || *char == '\t').collect();
        writeln!(f, "    {line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(cause: Cause) -> DeathReport {
        let who = Source::Worker(WorkerId(3), Slot(1));
        let mut held = Held::default();
        held.under_way = 2;
        let exit = Exit::Signal { signal: 9, core_dumped: false };
        let memory = vec![12 << 20, 80 << 20, 64 << 20];
        let remains = Remains { pid: 42, exit, held, memory, status: None, evidence: None };
        DeathReport::new(who, Duration::from_micros(12_345_678), cause, 5, Some(remains))
    }

    #[test]
    fn in_json_it_is_flat_and_what_is_not_known_is_left_out() {
        let report = report(Cause::OutOfMemory { limit: Some(64 << 20) });
        let expected = json!({ "worker": 3, "slot": 1, "pid": 42, "age": 12.346,
            "cause": describe(&report.cause), "kind": "out-of-memory", "signal": 9, "core_dumped": false,
            "connections": { "under_way": 2, "open": null }, "memory": [12 << 20, 80 << 20, 64 << 20],
            "restarts": 5, "last_words": [] });
        assert_eq!(serde_json::to_value(&report).unwrap(), expected);
        let agent = DeathReport::new(Source::Agent(AgentId(1)), Duration::ZERO, Cause::Left, 0, None);
        let expected = json!({ "agent": 1, "age": 0.0, "cause": describe(&Cause::Left), "kind": "left",
            "connections": { "under_way": 0, "open": null }, "memory": [], "restarts": 0, "last_words": [] });
        assert_eq!(serde_json::to_value(&agent).unwrap(), expected);
    }

    #[test]
    fn a_person_reads_it() {
        let panic = Panic::new("boom", Some("src/main.rs:1:2"), Some("0: hello::serve\n1: main"));
        let mut report = report(Cause::Panicked(panic));
        report.connections.open = Some(17);
        report.status = Some("3 requests".into());
        report.last_words = vec!["boom\u{1b}[2J".into()];
        assert_eq!(
            report.to_string(),
            "worker 3, slot 1 (pid 42) died after 12.3 s: panicked at src/main.rs:1:2: boom\n\
             \x20 ended with      signal SIGKILL\n\
             \x20 connections     2 handed to it and not taken yet, 17 open\n\
             \x20 memory          12 MB → 64 MB in its last 3 s, 80 MB at most\n\
             \x20 it had said     3 requests\n\
             \x20 deaths before   5\n\
             \x20 backtrace\n    0: hello::serve\n    1: main\n\
             \x20 last words\n    boom[2J\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["panic"]["place"], "src/main.rs:1:2");
        assert_eq!(json["connections"]["open"], 17);
        assert_eq!(json["status"], "3 requests");
    }
}
