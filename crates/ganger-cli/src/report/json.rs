//! Events as JSON objects, one a line. Every one has `time`, `level` and `event`; times are in seconds.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ganger::guard::{
    AgentNotice, DeathReport, Illness, Newcomer, Notice, Request, Then, Verdict, Why, describe,
};
use serde_json::{Value, json};

use super::{Event, Level, Noticed, Starting, text::change};

/// The event's line. `now` is when it is told.
pub(super) fn line(event: &Event, now: SystemTime) -> String {
    let level = match event.level() {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let (name, fields) = named(event);
    let mut line = format!(r#"{{"time":"{}","level":"{level}","event":"{name}""#, rfc3339(now));
    if let Value::Object(fields) = fields {
        for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            // Writing to a string cannot fail.
            let _ = write!(line, r#","{key}":{value}"#);
        }
    }
    line.push_str("}\n");
    line
}

/// The event's name and what else is known.
fn named(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Starting { name, policy, parts } => {
            let workers: u32 = parts.iter().map(|part| part.workers).sum();
            let schedule = policy.to_string();
            let fields = match &parts[..] {
                [Starting { group: None, program, why, .. }] => json!({ "name": name, "program": program,
                    "schedule": schedule, "workers": workers, "why": why }),
                parts => {
                    let group = |Starting { group, program, workers, why }: &Starting| json!({ "group": group, "program": program, "workers": workers, "why": why });
                    json!({ "name": name, "schedule": schedule, "workers": workers,
                        "groups": parts.iter().map(group).collect::<Vec<_>>() })
                }
            };
            ("starting", fields)
        }
        Event::Note(text) => ("note", json!({ "message": text })),
        Event::Warning(text) => ("warning", json!({ "message": text })),
        Event::Unusable(text) => ("usage", json!({ "message": text })),
        Event::Failed(text) => ("failed", json!({ "message": text })),
        Event::Listening { address } => ("listening", json!({ "address": address })),
        Event::Ready { workers, after, pids } => {
            ("ready", json!({ "workers": workers, "after": seconds(*after), "pids": pids }))
        }
        Event::Noticed(noticed) => {
            let (name, mut fields) = notice(noticed);
            if let Some(group) = &noticed.group {
                fields["group"] = json!(group);
            }
            (name, fields)
        }
        Event::BindFailed { worker, pid, group, address, error } => (
            "bind-failed",
            json!({ "worker": worker.0, "pid": pid, "group": group, "address": address, "error": error.to_string() }),
        ),
        Event::Fault { worker, pid, group, fault } => {
            ("worker-fault", json!({ "worker": worker.0, "pid": pid, "group": group, "fault": fault }))
        }
        Event::AgentFault { pid, fault } => ("agent-fault", json!({ "pid": pid, "fault": fault })),
        Event::Reloaded { workers, after, refused, draining } => (
            "reloaded",
            json!({ "workers": workers, "after": seconds(*after), "refused": refused, "draining": draining }),
        ),
        Event::NotReloaded(error) => ("not-reloaded", json!({ "error": error })),
        Event::Absent { signal, meaning } => {
            ("signal-ignored", json!({ "signal": signal, "meaning": meaning }))
        }
        Event::Stopping { signal, workers, at_once } => {
            ("stopping", json!({ "signal": signal, "workers": workers, "at_once": at_once }))
        }
        Event::Ended { verdict: Verdict::Stopped, after } => ("stopped", json!({ "after": seconds(*after) })),
        Event::Ended { verdict: Verdict::FirstStart, .. } => {
            ("ended", json!({ "why": "a worker died before any was ready" }))
        }
        Event::Ended { verdict: Verdict::Over { failed }, .. } => {
            ("ended", json!({ "why": "all workers have ended", "failed": failed }))
        }
        Event::Ended { verdict: Verdict::AgentStart, .. } => {
            ("ended", json!({ "why": "the agent died before it was ready" }))
        }
        Event::Ended { verdict: Verdict::AgentCrashLoop, .. } => {
            ("ended", json!({ "why": "agents die as soon as they are started" }))
        }
        Event::Ended { verdict: Verdict::CrashLoop { slot }, .. } => {
            ("ended", json!({ "slot": slot.0, "why": "workers die as soon as they are started" }))
        }
    }
}

fn notice(Noticed { notice, pid, was_ready, last_words, death, .. }: &Noticed) -> (&'static str, Value) {
    match notice {
        Notice::Started { worker, slot } => {
            ("worker-started", json!({ "worker": worker.0, "slot": slot.0, "pid": pid }))
        }
        Notice::WorkerReady { worker, slot, after } => (
            "worker-ready",
            json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "after": seconds(*after) }),
        ),
        Notice::NoSign { worker, slot, after } => (
            "worker-no-sign",
            json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "after": seconds(*after) }),
        ),
        Notice::NotReadyYet { worker, slot, path, answer } => (
            "worker-not-ready-yet",
            json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "path": path, "why": answer.to_string() }),
        ),
        Notice::Died { worker, slot, age, cause, then, .. } => {
            let (mut replaced_by, mut retry_in, mut not_restarted) = (None, None, None);
            match then {
                Then::ReplacedBy(next) => replaced_by = Some(next.0),
                Then::RetryIn(pause) => retry_in = Some(seconds(*pause)),
                Then::StaysVacant(last) => not_restarted = Some(change::no_restart(last.why)),
                Then::GangEnds | Then::Nothing => {}
            }
            let told = json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "age": seconds(*age),
                "cause": describe(cause), "was_ready": was_ready, "replaced_by": replaced_by,
                "retry_in": retry_in, "not_restarted": not_restarted, "last_words": last_words });
            ("worker-died", with(told, death.as_deref()))
        }
        Notice::Ill { worker, slot, illness, replaced_by } => {
            let illness = match illness {
                Illness::ChannelClosed => "channel-closed",
                Illness::Leaving => "leaving",
                Illness::Panicked => "panicked",
            };
            (
                "worker-ill",
                json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "illness": illness,
                    "replaced_by": replaced_by.map(|next| next.0) }),
            )
        }
        Notice::Killed { worker, slot, after } => (
            "worker-killed",
            json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "after": seconds(*after) }),
        ),
        Notice::StartFailed { slot, error, retry_in } => {
            ("start-failed", json!({ "slot": slot.0, "error": error, "retry_in": retry_in.map(seconds) }))
        }
        Notice::StaysVacant { slot, why } => {
            ("slot-vacant", json!({ "slot": slot.0, "not_restarted": change::no_restart(*why) }))
        }
        Notice::RestartsSpaced { limit } => {
            ("restarts-spaced", json!({ "limit": limit.count, "within": seconds(limit.within) }))
        }
        Notice::Left { worker, slot, age } => {
            ("worker-left", json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "age": seconds(*age) }))
        }
        Notice::Reloading { workers } => ("reloading", json!({ "workers": workers })),
        Notice::ReloadQueued => ("reload-queued", json!({})),
        Notice::TooLate(Request::Reload) => ("too-late", json!({ "asked": "reload" })),
        Notice::TooLate(Request::Scale(to)) => ("too-late", json!({ "asked": "scale", "workers": to })),
        Notice::ReloadFailed { who, unfit, done, kept, after } => {
            let (slot, worker, agent) = match who {
                Newcomer::Worker { slot, worker } => (Some(slot.0), worker.map(|worker| worker.0), None),
                Newcomer::Agent(agent) => (None, None, agent.map(|agent| agent.0)),
            };
            (
                "reload-failed",
                json!({ "slot": slot, "worker": worker, "agent": agent, "pid": pid, "replaced": done,
                    "why": change::unfit(*who, unfit, *pid, None, last_words), "kept": kept,
                    "after": seconds(*after), "last_words": last_words }),
            )
        }
        Notice::Recycled { worker, slot, why, replaced_by } => (
            "worker-recycled",
            json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "why": recycling(why),
                "replaced_by": replaced_by.0 }),
        ),
        Notice::NotRecycled { worker, slot, why, heir, unfit, retry_in } => (
            "worker-not-recycled",
            json!({ "worker": worker.0, "slot": slot.0, "why": recycling(why),
                "unfit": change::unfit(Newcomer::Worker { slot: *slot, worker: *heir }, unfit, None, None, last_words), "heir": heir.map(|heir| heir.0), "retry_in": seconds(*retry_in), "last_words": last_words }),
        ),
        Notice::StopDelayed { by } => ("stop-delayed", json!({ "by": seconds(*by) })),
        Notice::Scaled { from, to } => ("scaled", json!({ "from": from, "to": to })),
        Notice::Paused { slot, paused } => ("paused", json!({ "slot": slot.0, "paused": paused })),
        Notice::Silent { worker, slot, after, watchdog } => (
            "worker-silent",
            json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "after": seconds(*after),
                "watchdog": watchdog.map(seconds) }),
        ),
        Notice::Answers { worker, slot, after } => (
            "worker-answers",
            json!({ "worker": worker.0, "slot": slot.0, "pid": pid, "after": seconds(*after) }),
        ),
        Notice::Agent(notice) => {
            let (name, fields) = agent(notice, *pid, *was_ready, last_words);
            (name, with(fields, death.as_deref()))
        }
        other => ("notice", json!({ "message": format!("{other:?}") })),
    }
}

fn agent(
    notice: &AgentNotice,
    pid: Option<i32>,
    was_ready: bool,
    last_words: &[String],
) -> (&'static str, Value) {
    match notice {
        AgentNotice::Started { agent } => ("agent-started", json!({ "agent": agent.0, "pid": pid })),
        AgentNotice::Ready { agent, after } => {
            ("agent-ready", json!({ "agent": agent.0, "pid": pid, "after": seconds(*after) }))
        }
        AgentNotice::NoSign { agent, after } => {
            ("agent-no-sign", json!({ "agent": agent.0, "pid": pid, "after": seconds(*after) }))
        }
        AgentNotice::Died { agent, age, cause, then } => {
            let retry_in = match then {
                Then::RetryIn(pause) => Some(seconds(*pause)),
                _ => None,
            };
            (
                "agent-died",
                json!({ "agent": agent.0, "pid": pid, "age": seconds(*age), "cause": describe(cause),
                    "was_ready": was_ready, "retry_in": retry_in, "last_words": last_words }),
            )
        }
        AgentNotice::Ill { agent, .. } => {
            ("agent-ill", json!({ "agent": agent.0, "pid": pid, "illness": "channel-closed" }))
        }
        AgentNotice::Killed { agent, after } => {
            ("agent-killed", json!({ "agent": agent.0, "pid": pid, "after": seconds(*after) }))
        }
        AgentNotice::StartFailed { error, retry_in } => {
            ("agent-start-failed", json!({ "error": error, "retry_in": retry_in.map(seconds) }))
        }
        other => ("notice", json!({ "message": format!("{other:?}") })),
    }
}

/// With all that is known of a death beside what is told of it here.
fn with(mut told: Value, death: Option<&DeathReport>) -> Value {
    if let (Value::Object(told), Some(Ok(Value::Object(death)))) =
        (&mut told, death.map(serde_json::to_value))
    {
        for (key, value) in death {
            told.entry(key).or_insert(value);
        }
    }
    told
}

fn recycling(why: &Why) -> &'static str {
    match why {
        Why::Memory { .. } => "memory",
        Why::Lifetime => "lifetime",
        _ => "reload",
    }
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// `2026-01-31T23:59:59.123Z`.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The date so many days after 1970-01-01: years are counted from March, so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use ganger::guard::Cause;
    use ganger::{Slot, WorkerId};

    use super::*;

    #[test]
    fn a_death() {
        let notice = Notice::Died {
            worker: WorkerId(3),
            slot: Slot(1),
            age: Duration::from_micros(12_345_678),
            cause: Cause::Left,
            then: Then::ReplacedBy(WorkerId(4)),
        };
        let last_words = vec!["boom \"x\"".to_owned()];
        let event = Event::Noticed(Noticed {
            notice,
            pid: Some(42),
            group: None,
            was_ready: true,
            last_words,
            death: None,
            complete: true,
        });
        let line = line(&event, UNIX_EPOCH + Duration::from_millis(1));
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let expected = json!({ "time": "1970-01-01T00:00:00.001Z", "level": "warning", "event": "worker-died",
            "worker": 3, "slot": 1, "pid": 42, "age": 12.346, "cause": describe(&Cause::Left),
            "was_ready": true, "replaced_by": 4, "last_words": ["boom \"x\""] });
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    }

    #[test]
    fn groups_have_their_names() {
        let part = |group: &str, workers| Starting {
            group: Some(group.into()),
            program: "./x".into(),
            workers,
            why: None,
        };
        let parts = vec![part("web", 2), part("api", 1)];
        let event =
            Event::Starting { name: "shop".into(), policy: ganger::cluster::Policy::RoundRobin, parts };
        let expected = json!({ "name": "shop", "schedule": "rr", "workers": 3, "groups": [
            { "group": "web", "program": "./x", "workers": 2, "why": null },
            { "group": "api", "program": "./x", "workers": 1, "why": null },
        ] });
        assert_eq!(named(&event), ("starting", expected));

        let (worker, slot) = (WorkerId(1), Slot(0));
        let notice = Notice::Killed { worker, slot, after: Duration::from_secs(1) };
        let (pid, group, last_words) = (Some(42), Some("web".into()), Vec::new());
        let noticed =
            Noticed { notice, pid, group, was_ready: true, last_words, death: None, complete: true };
        assert_eq!(named(&Event::Noticed(noticed)).1["group"], "web");
    }

    #[test]
    fn dates() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
