//! Events as lines for people.

pub(super) mod change;

use std::fmt::Write;
use std::io;
use std::time::Duration;

use ganger::WorkerId;
use ganger::guard::{
    AgentNotice, Cause, DeathReport, Illness, LastEnd, Newcomer, Notice, Request, Source, Then, Verdict,
    describe,
};

use super::{
    Event, Level, Noticed, Starting,
    gist::{from_the_error, gist},
};

/// More pids than these are not told one by one.
const PIDS: usize = 8;
/// One colour a slot, over and over: cyan, magenta, green, blue, yellow, and their bright ones.
const SLOTS: [u8; 10] = [36, 35, 32, 34, 33, 96, 95, 92, 94, 93];

/// The agent's colour: bold.
const AGENT: u8 = 1;

/// The event's line, and below it what belongs to it; none for what only machines want to know. `seen`: what
/// the workers wrote stands above already.
pub(super) fn lines(event: &Event, colour: bool, seen: bool) -> Option<String> {
    let mark = match (colour, event.level()) {
        (false, _) => "ganger:".to_owned(),
        (true, Level::Info) => painted(36, "ganger:"),
        (true, Level::Warning) => painted(33, "ganger:"),
        (true, Level::Error) => painted(31, "ganger:"),
    };
    let mut lines = format!("{mark} {}\n", sentence(event)?);
    if let Event::Starting { parts, .. } = event
        && parts.iter().any(|part| part.group.is_some())
    {
        table(parts).for_each(|line| {
            let _ = writeln!(lines, "{mark}   {line}");
        });
    }
    if let Event::Noticed(noticed) = event
        && let Some(known) = noticed.death.as_ref().and_then(|death| known(death))
    {
        let _ = writeln!(lines, "{mark}   {known}");
    }
    if let Event::Noticed(noticed) = event
        && !seen
        && noticed.last_words.len() > 1
        && !noticed.death.as_ref().is_some_and(|death| matches!(death.cause, Cause::Panicked(_)))
    {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{mark}   its last words:");
        for line in from_the_error(&noticed.last_words) {
            let _ = writeln!(lines, "{mark}     {}", plain(line));
        }
    }
    Some(lines)
}

/// What stands before a line of a worker, or of the agent. `groups` are the names of the groups, one a slot.
pub(super) fn prefix(source: Source, groups: &[String], colour: bool) -> String {
    let (prefix, paint) = match source {
        Source::Worker(worker, slot) => {
            let group = groups.get(slot.0 as usize).map_or("", String::as_str);
            let space = if group.is_empty() { "" } else { " " };
            (format!("{group}{space}{worker} │"), SLOTS[slot.0 as usize % SLOTS.len()])
        }
        Source::Agent(_) => ("agent │".to_owned(), AGENT),
    };
    match colour {
        true => format!("{} ", painted(paint, &prefix)),
        false => format!("{prefix} "),
    }
}

fn painted(colour: u8, text: &str) -> String {
    format!("\x1b[{colour}m{text}\x1b[0m")
}

fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::Starting { name, policy, parts } => {
            let workers = many(parts.iter().map(|part| part.workers as usize).sum());
            match &parts[..] {
                [Starting { group: None, program, why, .. }] => {
                    format!(
                        "{name}: starting {workers} of {program} ({policy}{})",
                        because("; ", why.as_deref())
                    )
                }
                _ => format!("{name}: starting {workers} ({policy})"),
            }
        }
        Event::Note(text) | Event::Warning(text) | Event::Unusable(text) | Event::Failed(text) => {
            text.clone()
        }
        Event::Listening { address } => format!("listening on {address}"),
        Event::Ready { workers, after, pids } => {
            let ready = format!("{} ready in {}", many(*workers as usize), time(*after));
            match pids.len() {
                0 => ready,
                1 => format!("{ready} (pid {})", pids[0]),
                2..=PIDS => format!("{ready} (pids {})", list(pids)),
                more => format!("{ready} (pids {} and {} more)", list(&pids[..PIDS]), more - PIDS),
            }
        }
        Event::Noticed(noticed) => return noticed_sentence(noticed),
        Event::BindFailed { worker, pid, group, address, error } => {
            let who = who(*worker, *pid, group.as_deref());
            format!("{who} cannot listen on {address}: {}", bind_error(error))
        }
        Event::Fault { worker, pid, group, fault } => {
            format!("{}: {fault}", who(*worker, *pid, group.as_deref()))
        }
        Event::AgentFault { pid, fault } => format!("agent (pid {pid}): {fault}"),
        Event::Reloaded { workers, after, refused, draining } => {
            let refused = match refused {
                0 => "no connection lost".to_owned(),
                1 => "1 connection refused or broken".to_owned(),
                more => format!("{more} connections refused or broken"),
            };
            let draining = match draining {
                0 => String::new(),
                1 => "; 1 old one finishes what it has".into(),
                more => format!("; {more} old ones finish what they have"),
            };
            format!("reloaded {} in {}, {refused}{draining}", many(*workers as usize), time(*after))
        }
        Event::NotReloaded(error) => format!("not reloaded: {error}; the workers go on as they are"),
        Event::Absent { signal, meaning } => {
            format!("{signal} is ignored: {meaning} is not in this version")
        }
        Event::Stopping { signal, at_once: true, .. } => format!("stopping at once ({signal} again)"),
        Event::Stopping { signal, workers, .. } => format!("stopping ({signal}): {}", many(*workers)),
        Event::Ended { verdict: Verdict::Stopped, after } => format!("stopped after {}", time(*after)),
        // The death of the worker or of the agent says it all.
        Event::Ended { verdict: Verdict::FirstStart | Verdict::AgentStart, .. } => return None,
        Event::Ended { verdict: Verdict::Over { failed: 0 }, .. } => "all workers have ended".into(),
        Event::Ended { verdict: Verdict::Over { failed }, .. } => {
            format!("all workers have ended, {failed} of them with a failure")
        }
        Event::Ended { verdict: Verdict::AgentCrashLoop, .. } => {
            "giving up: the agents die as soon as they are started, and no worker is ready".into()
        }
        Event::Ended { verdict: Verdict::CrashLoop { slot }, .. } => format!(
            "giving up: the workers of slot {slot} die as soon as they are started, and no other is ready"
        ),
    })
}

fn noticed_sentence(noticed: &Noticed) -> Option<String> {
    let Noticed { notice, pid, group, was_ready, complete, last_words, .. } = noticed;
    let who = |worker| who(worker, *pid, group.as_deref());
    Some(match notice {
        // Of the first ones it is said when all are.
        Notice::WorkerReady { .. } if !complete => return None,
        Notice::WorkerReady { worker, after, .. } => {
            format!("{} is ready after {}", who(*worker), time(*after))
        }
        Notice::NoSign { worker, after, .. } => format!(
            "{} has given no sign that it is ready for {} (it neither listens through the cluster, nor sends \
             the message `ready`, nor says READY=1 to NOTIFY_SOCKET): taken as ready; --ready SECONDS does so sooner",
            who(*worker),
            time(*after)
        ),
        Notice::NotReadyYet { worker, path, answer, .. } => format!(
            "{} is not ready yet: GET {path} is to be answered with 2xx, and {}",
            who(*worker),
            plain(&answer.to_string())
        ),
        Notice::Died { worker, age, cause, then, .. } => {
            let who = who(*worker);
            let cause = explained(cause, last_words);
            let died = match was_ready {
                _ if is_work_done(then) => format!("{who} has ended after {}", time(*age)),
                false if *then == Then::GangEnds => format!("{who} died before it was ready"),
                false => format!("{who} died {} after its start", time(*age)),
                true => format!("{who} died after {}", time(*age)),
            };
            match then {
                Then::ReplacedBy(next) => format!("{died}: {cause}; replaced by worker {next}"),
                Then::RetryIn(pause) => format!("{died}: {cause}; trying again in {}", time(*pause)),
                Then::StaysVacant(last) => {
                    format!("{died}: {cause}; not started again ({})", change::no_restart(last.why))
                }
                Then::GangEnds | Then::Nothing => format!("{died}: {cause}"),
            }
        }
        Notice::StaysVacant { slot, why } => {
            format!("slot {slot} stays vacant ({})", change::no_restart(*why))
        }
        Notice::Ill { worker, illness, replaced_by, .. } => {
            let what = match illness {
                Illness::ChannelClosed => "has closed its channel and lives on",
                Illness::Leaving => "leaves of its own accord",
                Illness::Panicked => "has panicked and takes nothing more",
            };
            let replaced = replaced_by.map(|next| format!("; replaced by worker {next}")).unwrap_or_default();
            format!("{} {what}: it may finish what it has{replaced}", who(*worker))
        }
        Notice::Killed { worker, after, .. } => {
            format!("{} did not leave within {}: killed", who(*worker), time(*after))
        }
        Notice::StartFailed { slot, error, retry_in } => {
            let retry = retry_in.map(|pause| format!("; trying again in {}", time(pause)));
            format!("{error} (slot {slot}){}", retry.unwrap_or_default())
        }
        Notice::RestartsSpaced { limit } => format!(
            "more than {} restarts within {}: from now on they are at least 1 s apart (--restart-limit)",
            limit.count,
            time(limit.within)
        ),
        Notice::Reloading { workers } => format!("reloading {}", many(*workers as usize)),
        Notice::ReloadQueued => "the reload follows when the one before it is over".into(),
        Notice::TooLate(Request::Reload) => "not reloaded: the gang is stopping".into(),
        Notice::TooLate(Request::Scale(to)) => {
            format!("not changed to {}: the gang is stopping", many(*to as usize))
        }
        Notice::ReloadFailed { who, unfit, done, kept, after } => {
            let unfit = change::unfit(*who, unfit, *pid, group.as_deref(), last_words);
            let others = match done {
                0 => "the old workers serve on".to_owned(),
                1 => format!("1 worker is new, {kept} of the old ones serve on"),
                done => format!("{done} workers are new, {kept} of the old ones serve on"),
            };
            format!("reload failed after {}: {unfit}; {others}", time(*after))
        }
        Notice::Recycled { worker, why, replaced_by, .. } => {
            format!("{} {}: replaced by worker {replaced_by}", who(*worker), change::why(why))
        }
        Notice::NotRecycled { worker, slot, why, heir, unfit, retry_in } => {
            let heir = Newcomer::Worker { slot: *slot, worker: *heir };
            let unfit = change::unfit(heir, unfit, None, None, last_words);
            format!(
                "worker {worker} {} and was to be replaced, but {unfit}; it goes on, and it is tried again in {}",
                change::why(why),
                time(*retry_in)
            )
        }
        Notice::StopDelayed { by } => {
            format!("not ready any more, and serving on for {} (--drain-delay)", time(*by))
        }
        Notice::Scaled { from, to } => format!("from {} to {to}", many(*from as usize)),
        Notice::Paused { slot, paused: true } => format!("slot {slot} gets no connections any more"),
        Notice::Paused { slot, paused: false } => format!("slot {slot} gets connections again"),
        Notice::Silent { worker, after, watchdog, .. } => {
            let then = match watchdog {
                Some(watchdog) => format!("after {} it is replaced", time(*watchdog)),
                None => "--watchdog would replace it".into(),
            };
            format!("{} has answered nothing for {} ({then})", who(*worker), time(*after))
        }
        Notice::Answers { worker, after, .. } => {
            format!("{} answers again, after {}", who(*worker), time(*after))
        }
        Notice::Agent(notice) => return agent_sentence(notice, *pid, *was_ready, last_words),
        // The deaths and the readiness around it say the same; who was asked to go goes.
        Notice::Started { .. } | Notice::GangReady { .. } | Notice::Left { .. } => return None,
        _ => return None,
    })
}

fn agent_sentence(
    notice: &AgentNotice,
    pid: Option<i32>,
    was_ready: bool,
    last_words: &[String],
) -> Option<String> {
    let who = the_agent(pid);
    Some(match notice {
        AgentNotice::Ready { after, .. } => format!("{who} is ready after {}", time(*after)),
        AgentNotice::NoSign { after, .. } => format!(
            "{who} has given no sign that it is ready for {} (it has neither sent the message `ready` nor said \
             READY=1 to NOTIFY_SOCKET): taken as ready",
            time(*after)
        ),
        AgentNotice::Died { age, cause, then, .. } => {
            let cause = explained(cause, last_words);
            let died = match was_ready {
                false if *then == Then::GangEnds => "died before it was ready".to_owned(),
                false => format!("died {} after its start", time(*age)),
                true => format!("died after {}", time(*age)),
            };
            let then = match then {
                Then::RetryIn(pause) => format!("; started again in {}", time(*pause)),
                _ => String::new(),
            };
            format!("{who} {died}: {cause}{then}")
        }
        AgentNotice::Ill { .. } => {
            format!("{who} has closed its channel and lives on: it is ended, and started again")
        }
        AgentNotice::Killed { after, .. } => format!("{who} did not leave within {}: killed", time(*after)),
        AgentNotice::StartFailed { error, retry_in } => {
            let retry = retry_in.map(|pause| format!("; trying again in {}", time(pause)));
            format!("{error} (agent){}", retry.unwrap_or_default())
        }
        // That it is ready, or why it is not, comes soon enough.
        _ => return None,
    })
}

fn the_agent(pid: Option<i32>) -> String {
    pid.map_or_else(|| "agent".to_owned(), |pid| format!("agent (pid {pid})"))
}

/// Whether a worker has done what it had to.
pub(super) fn is_work_done(then: &Then) -> bool {
    matches!(then, Then::StaysVacant(LastEnd { failed: false, .. }))
}

/// The cause, and what the process itself said last where that may be why.
fn explained(cause: &Cause, last_words: &[String]) -> String {
    // Of what was done to it it knows nothing, and its panic has been told.
    let gist = gist(last_words).filter(|_| matches!(cause, Cause::Exit(_) | Cause::Left | Cause::Asked));
    let gist = gist.map(|gist| format!(" ({})", plain(&gist))).unwrap_or_default();
    format!("{}{gist}", describe(cause))
}

/// What else of a death a person wants to know at once: how its memory grew, where it hung.
fn known(death: &DeathReport) -> Option<String> {
    match death.cause {
        Cause::OutOfMemory { .. } => death.memory_in_words().map(|memory| format!("its memory: {memory}")),
        Cause::Unresponsive { .. } | Cause::StartTimeout { .. } | Cause::Unproven(_) => {
            death.evidence.as_ref().map(|evidence| format!("when it was killed it was {evidence}"))
        }
        _ => None,
    }
}

/// A worker's words as part of a line of ours: they cannot end it or recolour it.
fn plain(words: &str) -> String {
    words.chars().map(|char| if char.is_control() && char != '\t' { '\u{fffd}' } else { char }).collect()
}

fn who(worker: WorkerId, pid: Option<i32>, group: Option<&str>) -> String {
    match (group, pid) {
        (None, Some(pid)) => format!("worker {worker} (pid {pid})"),
        (None, None) => format!("worker {worker}"),
        (Some(group), Some(pid)) => format!("worker {worker} ({group}, pid {pid})"),
        (Some(group), None) => format!("worker {worker} ({group})"),
    }
}

/// Why there are so many workers.
fn because(mark: &str, why: Option<&str>) -> String {
    why.map(|why| format!("{mark}auto: {why}")).unwrap_or_default()
}

/// The groups of a gang, below one another.
fn table(parts: &[Starting]) -> impl Iterator<Item = String> {
    let names = aligned(parts.iter().map(|part| part.group.clone().unwrap_or_default()).collect());
    let digits = parts.iter().map(|part| part.workers.to_string().len()).max().unwrap_or(0);
    parts.iter().zip(names).map(move |(Starting { program, workers, why, .. }, name)| {
        let why = why.as_deref().map(|why| format!(" ({})", because("", Some(why)))).unwrap_or_default();
        format!("{name} {workers:>digits$} × {program}{why}")
    })
}

/// Names that take the same room.
pub(super) fn aligned(names: Vec<String>) -> Vec<String> {
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    names.into_iter().map(|name| format!("{name:width$}")).collect()
}

fn bind_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has it: end that one, or take another port".into(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address".into(),
        io::ErrorKind::PermissionDenied => {
            "no permission (ports below 1024 need root or CAP_NET_BIND_SERVICE)".into()
        }
        _ => error.to_string(),
    }
}

fn many(workers: usize) -> String {
    if workers == 1 { "1 worker".into() } else { format!("{workers} workers") }
}

fn list(pids: &[i32]) -> String {
    pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}

/// As long as it is worth knowing: `0.004 s`, `0.09 s`, `3.1 s`, `25 s`, `12 min`, `5 h`, `3 days`.
fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.01 => format!("{seconds:.3} s"),
        ..1.0 => format!("{seconds:.2} s"),
        ..10.0 if time.subsec_millis() >= 50 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests;
