//! docs/policies.md.

use std::{env, fmt::Write, fs, time::Duration};

use super::{Outcome, WORKERS};

/// Writes the page anew.
const UPDATE: &str = "GANGER_UPDATE";

type Row<'a> = (&'a str, [Outcome; WORKERS.len()]);

pub(super) fn check(rows: &[Row<'_>]) {
    let page = render(rows);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policies.md");
    if env::var_os(UPDATE).is_some_and(|value| !value.is_empty()) {
        fs::write(path, page).expect("the page can be written");
        return;
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/policies.md is out of date: run this test with {UPDATE}=1");
}

fn render(rows: &[Row<'_>]) -> String {
    let mut page = HEAD.to_owned();
    table(&mut page, "Wait of the slowest hundredth (p99), in ms", rows, |outcome| shown(outcome.most));
    table(&mut page, "Wait of half of the clients (p50), in ms", rows, |outcome| shown(outcome.half));
    let percent = |outcome: &Outcome| format!("{:.0} %", outcome.variation * 100.0);
    table(&mut page, "Unevenness of the workers' shares", rows, percent);
    page.push_str(TAIL);
    page
}

fn table(page: &mut String, title: &str, rows: &[Row<'_>], cell: impl Fn(&Outcome) -> String) {
    let workers = WORKERS.map(|workers| format!("{workers} workers")).join(" | ");
    let line = "---:|".repeat(WORKERS.len());
    writeln!(page, "\n### {title}\n\n| | {workers} |\n|---|{line}").expect("a string takes all");
    for (name, outcomes) in rows {
        let cells: Vec<String> = outcomes.iter().map(&cell).collect();
        writeln!(page, "| {name} | {} |", cells.join(" | ")).expect("a string takes all");
    }
}

/// Two digits that count.
fn shown(wait: Duration) -> String {
    let ms = wait.as_secs_f64() * 1e3;
    match ms {
        0.0 => "0".into(),
        0.0..0.095 => "< 0.1".into(),
        0.095..9.95 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

const HEAD: &str = "\
# How the policies compare

<!-- Made by `cargo test -p ganger-proto --test sim policies`, which fails where it says something else than what comes of
     the simulation. With GANGER_UPDATE=1 in its environment the test writes this page anew. -->

How long does a client wait until a worker takes its connection, and do all workers get the same? That depends on the
policy (`--schedule`), on how many workers there are, and on how different the clients are. These figures are of a
simulation, always the same: they compare the policies with each other, and are no promise for a machine.

## Which policy is for what

| policy | for |
|---|---|
| `rr` | requests that take about the same time, and Node's own semantics. It gives to each worker in turn, also to one that is at work for long: who comes then waits behind it, however many others have nothing to do. |
| `least-conn` | connections that last, and requests of very different length: who has nothing open gets the next one. |
| `sticky` | sessions that live in one worker. A client waits for its worker, also if others are free, unless 128 of them wait (then it goes to one that has room) or its worker has answered nothing for 5 s. |
| `shared` | the shortest wait and the least work for a connection: who is free takes it. Those that are awake get more than their share, the more so the less there is to do. |
| `reuseport` | the most connections a second, from many short ones. The kernel gives by hash and asks nobody: a client waits for the slot that it fell to. |

## What `least-conn` counts

Rust workers say when they close a connection, and Node workers with [hints](../README.md#hints) say how many they have. What others
have open the kernel is asked for (`inet_diag`), every 100 ms while there is something; what was handed over since then is added. A
kernel that does not tell (the module `tcp_diag` is missing, or a sandbox refuses sockets of the family netlink) leaves only what
such a worker has not answered for. `ganger run` says so in one line, a library's user gets `Event::NoSurvey` or
`Report::NoSurvey` once, and `Snapshot::least_conn_by` has it at any moment.

## What came of it
";

const TAIL: &str = "
The unevenness is the standard deviation of how many clients each worker gets, in per cent of the mean, counted anew for each
20 clients a worker. Where a worker is drawn for each client it is 22 %, if there are many. It is not nought in turn either:
who is at work for long gets nobody meanwhile.

## The model

- A worker does one thing at a time, as an event loop does with what keeps it busy. It takes a connection when it has
  nothing to do, and answers for it then; what is in its channel or in its slot's socket waits meanwhile.
- How long clients take differs as it does in practice, where a few take most of the time: a bounded Pareto distribution
  with exponent 4/3, from 3 ms to 318 ms, 10 ms in the mean. A tenth of the clients takes more than 17 ms.
- Clients come at random (a Poisson process), so many that the workers are at work for 70 % of the time.
- `rr`, `least-conn` and `sticky` are the primary itself, the machine that `ganger run` uses. *One hand-off at a time* is what
  it does with workers of which nothing is known, as Node does; *as the queue asks* is up to 32 under way to a worker, as with
  Node and with Rust workers. `least-conn` hears of each close at once, as from Rust workers. For `sticky` there are a
  thousand clients a worker, each as frequent as the others.
- `shared` and `reuseport` are up to the kernel, which is modelled: of the workers that wait at one socket it wakes the one
  that began to wait last; of several sockets on a port it picks one at random.

What it is not: nothing takes time but the clients themselves, neither accepting, nor handing over, nor switching between
processes, and there are as many processors as workers. Connections that stay open and do nothing are not in it, nor are
workers that serve many clients at the same time while they wait for something else: both make the waits shorter, and
`least-conn` more worth its while. What a hand-off costs on a machine is measured by `cargo xtask bench`.
";
