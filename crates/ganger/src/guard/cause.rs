//! Causes in words, and between the two floors' types.

use ganger_proto::guard::{self as proto, Cause, Panic, Unproven};

use crate::process::Exit;

/// A cause of death in words: `exit code 7`, `signal SIGSEGV (core dumped)`, `panicked at src/main.rs:5:9: boom`, … One line.
pub fn describe(cause: &Cause) -> String {
    match cause {
        Cause::Exit(exit) => in_system(*exit).to_string(),
        Cause::OutOfMemory { limit: Some(limit) } => {
            format!("out of memory: killed by the kernel ({} are all there is for its cgroup)", bytes(*limit))
        }
        Cause::OutOfMemory { limit: None } => "out of memory: killed by the kernel".into(),
        Cause::Unresponsive { after } => {
            format!("it answered nothing for {:.1} s: killed", after.as_secs_f64())
        }
        Cause::StartTimeout { after } => {
            format!("not ready within {} s of its start: killed", after.as_secs())
        }
        Cause::Unproven(unproven) => format!("{}: killed", unproven_in_words(unproven)),
        Cause::Panicked(Panic { message, place, .. }) => {
            let message = one_line(message);
            match place {
                Some(place) => format!("panicked at {}: {message}", one_line(place)),
                None => format!("failed: {message}"),
            }
        }
        Cause::Condemned(why) => format!("{why}: killed"),
        Cause::Left => "it left of its own accord".into(),
        Cause::Asked => "it was asked to".into(),
        _ => "for an unknown reason".into(),
    }
}

/// What was wanted of a worker before it is ready, and what came of it.
pub fn unproven_in_words(Unproven { path, answer, after }: &Unproven) -> String {
    let seconds = after.as_secs_f64();
    let answer =
        answer.as_ref().map_or_else(|| "it did not answer".into(), |answer| one_line(&answer.to_string()));
    format!("GET {path} was to be answered with 2xx within {seconds} s, and {answer}")
}

/// A word for machines.
pub(super) fn kind(cause: &Cause) -> &'static str {
    match cause {
        Cause::Exit(proto::Exit::Code(_)) => "exit",
        Cause::Exit(proto::Exit::Signal { .. }) => "signal",
        Cause::OutOfMemory { .. } => "out-of-memory",
        Cause::Unresponsive { .. } => "unresponsive",
        Cause::StartTimeout { .. } => "start-timeout",
        Cause::Unproven(_) => "probe",
        Cause::Panicked(_) => "panic",
        Cause::Condemned(_) => "misbehaviour",
        Cause::Left => "left",
        Cause::Unfit(_) => "unfit",
        Cause::Asked => "asked",
        _ => "unknown",
    }
}

/// What a worker says is data: it makes no line of its own.
fn one_line(text: &str) -> String {
    let line = |line: &str| line.trim().chars().filter(|char| !char.is_control()).collect::<String>();
    text.lines().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A size as a person would say it.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} kB", bytes >> 10),
        megabytes @ 1..10_240 => format!("{megabytes} MB"),
        megabytes => format!("{} GB", megabytes >> 10),
    }
}

pub(super) fn in_proto(exit: Exit) -> proto::Exit {
    match exit {
        Exit::Code(code) => proto::Exit::Code(code),
        Exit::Signal { signal, core_dumped } => proto::Exit::Signal { signal, core_dumped },
    }
}

pub(super) fn in_system(exit: proto::Exit) -> Exit {
    match exit {
        proto::Exit::Code(code) => Exit::Code(code),
        proto::Exit::Signal { signal, core_dumped } => Exit::Signal { signal, core_dumped },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ganger_proto::guard::Answer;

    use super::*;

    #[test]
    fn every_cause_is_one_line() {
        let check = |cause: Cause, expected: &str| assert_eq!(describe(&cause), expected);
        check(Cause::Exit(proto::Exit::Code(7)), "exit code 7");
        let signal = |signal, core_dumped| Cause::Exit(proto::Exit::Signal { signal, core_dumped });
        check(signal(11, true), "signal SIGSEGV (core dumped)");
        check(signal(9, false), "signal SIGKILL");
        check(
            Cause::OutOfMemory { limit: Some(512 << 20) },
            "out of memory: killed by the kernel (512 MB are all there is for its cgroup)",
        );
        check(Cause::OutOfMemory { limit: None }, "out of memory: killed by the kernel");
        let after = Duration::from_millis(2500);
        check(Cause::Unresponsive { after }, "it answered nothing for 2.5 s: killed");
        check(
            Cause::StartTimeout { after: Duration::from_secs(30) },
            "not ready within 30 s of its start: killed",
        );
        let panic = |message, place| Cause::Panicked(Panic::new(message, place, None));
        check(
            panic("boom\n  left: 1\u{1b}[2J\n", Some("src/a.rs:1:2")),
            "panicked at src/a.rs:1:2: boom left: 1[2J",
        );
        check(panic("no such host", None), "failed: no such host");
        let unproven = |answer| {
            Cause::Unproven(Unproven { path: "/health".into(), answer, after: Duration::from_secs(30) })
        };
        check(
            unproven(None),
            "GET /health was to be answered with 2xx within 30 s, and it did not answer: killed",
        );
        check(
            unproven(Some(Answer::Status(503))),
            "GET /health was to be answered with 2xx within 30 s, and it answered with status 503: killed",
        );
        check(Cause::Condemned("a line that is not JSON".into()), "a line that is not JSON: killed");
        check(Cause::Left, "it left of its own accord");
        check(Cause::Asked, "it was asked to");
    }
}
