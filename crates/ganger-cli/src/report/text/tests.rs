use ganger::cluster::Policy;
use ganger::guard::{Limit, Panic};

use super::*;
use ganger::{AgentId, Slot};

fn check(event: Event, expected: &str) {
    let expected = expected.lines().map(|line| format!("ganger: {}\n", line.trim_start_matches('|')));
    assert_eq!(lines(&event, false, false), Some(expected.collect()));
}

fn noticed(notice: Notice, was_ready: bool, last_words: &[&str]) -> Event {
    let last_words = last_words.iter().map(|&line| line.to_owned()).collect();
    let (pid, group, death, complete) = (Some(42), None, None, true);
    Event::Noticed(Noticed { notice, pid, group, was_ready, last_words, death, complete })
}

fn death(then: Then, age: f64) -> Notice {
    let age = Duration::from_secs_f64(age);
    Notice::Died { worker: WorkerId(3), slot: Slot(0), age, cause: Cause::Left, then }
}

#[test]
fn a_life() {
    let part = |group: Option<&str>, program: &str, why: Option<&str>, workers| Starting {
        group: group.map(str::to_owned),
        program: program.into(),
        workers,
        why: why.map(str::to_owned),
    };
    let gang = |parts| Event::Starting { name: "shop".into(), policy: Policy::Shared, parts };
    let starting = |why, workers| gang(vec![part(None, "node app.js", why, workers)]);
    check(starting(None, 1), "shop: starting 1 worker of node app.js (shared)");
    check(starting(Some("2 CPUs"), 2), "shop: starting 2 workers of node app.js (shared; auto: 2 CPUs)");
    check(
        gang(vec![
            part(Some("web"), "node app.js", Some("12 CPUs"), 12),
            part(Some("rust-api"), "./api", None, 1),
        ]),
        "shop: starting 13 workers (shared)\n\
         |  web      12 × node app.js (auto: 12 CPUs)\n\
         |  rust-api  1 × ./api",
    );
    let ready = |pids| Event::Ready { workers: 2, after: Duration::from_millis(91), pids };
    check(ready(vec![4, 5]), "2 workers ready in 0.09 s (pids 4, 5)");
    check(ready((1..20).collect()), "2 workers ready in 0.09 s (pids 1, 2, 3, 4, 5, 6, 7, 8 and 11 more)");
    check(Event::Stopping { signal: "SIGTERM", workers: 2, at_once: false }, "stopping (SIGTERM): 2 workers");
    check(Event::Stopping { signal: "SIGINT", workers: 2, at_once: true }, "stopping at once (SIGINT again)");
    check(
        Event::Ended { verdict: Verdict::Stopped, after: Duration::from_millis(3) },
        "stopped after 0.003 s",
    );
}

#[test]
fn deaths_with_their_last_words() {
    let left = describe(&Cause::Left);
    check(
        noticed(death(Then::ReplacedBy(WorkerId(4)), 12.0), true, &[]),
        &format!("worker 3 (pid 42) died after 12 s: {left}; replaced by worker 4"),
    );
    check(
        noticed(death(Then::RetryIn(Duration::from_millis(200)), 0.1), false, &["boom"]),
        &format!("worker 3 (pid 42) died 0.10 s after its start: {left} (boom); trying again in 0.20 s"),
    );
    check(
        noticed(death(Then::GangEnds, 0.1), false, &["a", "", "b"]),
        &format!(
            "worker 3 (pid 42) died before it was ready: {left} (b)\n\
             |  its last words:\n|    a\n|    b"
        ),
    );
}

#[test]
fn causes() {
    let check_cause = |cause: Cause, last_words: &[&str], expected: &str| {
        let notice = Notice::Died {
            worker: WorkerId(3),
            slot: Slot(0),
            age: Duration::from_secs(12),
            cause,
            then: Then::ReplacedBy(WorkerId(4)),
        };
        let line = format!("worker 3 (pid 42) died after 12 s: {expected}; replaced by worker 4");
        check(noticed(notice, true, last_words), &line);
    };
    let panic = Panic::new("boom", Some("src/main.rs:5:9"), Some("0: main"));
    check_cause(Cause::Panicked(panic), &["boom"], "panicked at src/main.rs:5:9: boom");
    check_cause(Cause::Panicked(Panic::new("no host", None, None)), &["x"], "failed: no host");
    let limit = Some(64 << 20);
    check_cause(
        Cause::OutOfMemory { limit },
        &["a remark"],
        "out of memory: killed by the kernel (64 MB are all there is for its cgroup)",
    );
    let after = Duration::from_secs(2);
    check_cause(Cause::Unresponsive { after }, &[], "it answered nothing for 2.0 s: killed");
    check_cause(Cause::StartTimeout { after }, &[], "not ready within 2 s of its start: killed");
    check_cause(Cause::Condemned("garbage".into()), &[], "garbage: killed");
    check_cause(Cause::Asked, &[], "it was asked to");
    let ill = Notice::Ill {
        worker: WorkerId(3),
        slot: Slot(0),
        illness: Illness::Panicked,
        replaced_by: Some(WorkerId(4)),
    };
    check(
        noticed(ill, true, &[]),
        "worker 3 (pid 42) has panicked and takes nothing more: it may finish what it has; replaced by worker 4",
    );
}

#[test]
fn what_a_person_has_just_read_is_not_repeated() {
    let event = noticed(death(Then::ReplacedBy(WorkerId(4)), 12.0), true, &["Error: boom", "  at x"]);
    let one = lines(&event, false, true).unwrap();
    assert!(one.ends_with("(Error: boom); replaced by worker 4\n") && one.lines().count() == 1, "{one}");
}

#[test]
fn other_notices() {
    let limit = Limit { count: 60, within: Duration::from_secs(60) };
    check(
        noticed(Notice::RestartsSpaced { limit }, false, &[]),
        "more than 60 restarts within 60 s: from now on they are at least 1 s apart (--restart-limit)",
    );
    check(
        Event::BindFailed {
            worker: WorkerId(1),
            pid: None,
            group: None,
            address: ":80".into(),
            error: io::ErrorKind::AddrInUse.into(),
        },
        "worker 1 cannot listen on :80: another program has it: end that one, or take another port",
    );
    check(
        Event::Absent { signal: "SIGHUP", meaning: "the reload" },
        "SIGHUP is ignored: the reload is not in this version",
    );
    for (request, line) in [
        (Request::Reload, "not reloaded: the gang is stopping"),
        (Request::Scale(3), "not changed to 3 workers: the gang is stopping"),
    ] {
        check(noticed(Notice::TooLate(request), false, &[]), line);
    }
    let started = Notice::Started { worker: WorkerId(1), slot: Slot(0) };
    assert_eq!(lines(&noticed(started, false, &[]), false, false), None);
}

#[test]
fn the_agent() {
    let agent = AgentId(1);
    let about = |notice| Notice::Agent(notice);
    let after = Duration::from_millis(120);
    let ready = AgentNotice::Ready { agent, after };
    check(noticed(about(ready), true, &[]), "agent (pid 42) is ready after 0.12 s");
    let died = |then| {
        let age = Duration::from_secs(12);
        about(AgentNotice::Died { agent, age, cause: Cause::Left, then })
    };
    let left = describe(&Cause::Left);
    check(
        noticed(died(Then::RetryIn(Duration::from_secs(1))), true, &["boom"]),
        &format!("agent (pid 42) died after 12 s: {left} (boom); started again in 1 s"),
    );
    check(
        noticed(died(Then::GangEnds), false, &["boom"]),
        &format!("agent (pid 42) died before it was ready: {left} (boom)"),
    );
    let error = "there is no such file".to_owned();
    let failed = AgentNotice::StartFailed { error, retry_in: None };
    check(noticed(about(failed), false, &[]), "there is no such file (agent)");
    let started = noticed(about(AgentNotice::Started { agent }), false, &[]);
    assert_eq!(lines(&started, false, false), None);
}

#[test]
fn colours() {
    let worker = Source::Worker(WorkerId(12), Slot(1));
    assert_eq!(prefix(worker, &[], false), "12 │ ");
    assert_eq!(prefix(worker, &["web".into(), "api".into()], false), "api 12 │ ");
    assert_eq!(prefix(worker, &[], true), "\x1b[35m12 │\x1b[0m ");
    assert_eq!(prefix(Source::Agent(AgentId(1)), &[], false), "agent │ ");
    let warning = lines(&Event::Warning("x".into()), true, false);
    assert_eq!(warning.as_deref(), Some("\x1b[33mganger:\x1b[0m x\n"));
}

#[test]
fn times() {
    let cases = [
        (0.0, "0.000 s"),
        (0.0912, "0.09 s"),
        (3.12, "3.1 s"),
        (2.0, "2 s"),
        (25.4, "25 s"),
        (130.0, "2 min"),
        (7300.0, "2 h"),
        (200_000.0, "2 days"),
    ];
    for (seconds, expected) in cases {
        assert_eq!(time(Duration::from_secs_f64(seconds)), expected);
    }
}
