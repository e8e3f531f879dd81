//! What can be typed: the commands, their options and defaults, and the values that options take.
//!
//! Everything is parsed here, once; what comes out needs no second look. Nothing here looks at files.

pub(crate) mod keys;
mod values;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueHint};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use ganger::{
    cluster::Policy,
    guard::{Readiness, Restart},
};

pub(crate) use values::{MOST_WORKERS, RestartLimit, Workers, name, workers};
use values::{bytes, duration, exit_code, probe, ready, restart, schedule, some_time, variable};

/// Run any program as a guarded gang of workers on shared ports
#[derive(Debug, Parser)]
#[command(name = "ganger", version, subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
struct Ganger {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program in the foreground: for containers, systemd and people
    Run(Box<Run>),
}

/// The options of `ganger run`.
#[derive(Debug, Parser)]
#[command(override_usage = USAGE, after_help = AFTER_HELP)]
pub(crate) struct Run {
    /// How many workers; auto: one a CPU, as far as the memory limit allows 256 MB for each
    #[arg(short = 'n', long, value_name = "N|auto", default_value = "auto", value_parser = workers)]
    pub(crate) workers: Workers,

    /// Who picks the worker of a connection. ganger: in turn (rr), the one with the fewest open (least-conn), the same
    /// client to the same worker (sticky, by address; sticky=header:NAME, sticky=cookie:NAME). The kernel: from one
    /// socket for all (shared, also none), or from one a worker (reuseport)
    /// [default: NODE_CLUSTER_SCHED_POLICY, else rr]
    #[arg(long, value_name = "POLICY", value_parser = schedule)]
    pub(crate) schedule: Option<Policy>,

    /// What the gang is called [default: the name in the nearest package.json, else the directory's]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: Option<String>,

    /// Set a variable in the workers' environment; can be repeated [default: none]
    #[arg(long, value_name = "K=V", value_parser = OsStringValueParser::new().try_map(variable))]
    pub(crate) env: Vec<(OsString, OsString)>,

    /// A process beside the workers, ready before them and ended after them; what is said of PROGRAM is so of it
    /// [default: none]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) agent: Option<OsString>,

    /// Carry letters between workers, as with --agent (docs/messenger.md) [default: off]
    #[arg(long)]
    pub(crate) messenger: bool,

    /// Leave Node workers without the file that tells ganger how busy they are and leads their clients elsewhere before
    /// they go (it stands as --require before the program) [default: off]
    #[arg(long)]
    pub(crate) no_hints: bool,

    /// Have Node workers survive an uncaught exception that their program does not handle for as long as it takes to
    /// answer what else is open, at most 30 s [default: off]
    #[arg(long, conflicts_with = "no_hints")]
    pub(crate) graceful: bool,

    /// How long a stop may take before workers are killed (25, 25s, 500ms, 2m)
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = duration)]
    pub(crate) stop_timeout: Duration,

    /// How long the gang serves on after a stop signal before it stops, while it is not ready any more: for load balancers
    /// that take their time to send clients elsewhere
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) drain_delay: Duration,

    /// What shows that a worker is ready: its first sign (auto), one of them (it listens, it sends the message `ready`, it says
    /// READY=1 to NOTIFY_SOCKET), or that it has lived for so long
    #[arg(long, value_name = "auto|listening|message|notify|DURATION", default_value = "auto", value_parser = ready)]
    pub(crate) ready: Readiness,

    /// How long a worker may take to get ready
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) start_timeout: Duration,

    /// A new worker is not ready before it has answered a GET of this path with 2xx, over plain HTTP/1 and on a connection of
    /// ganger's own as if to the first address (TCP or Unix) that it opened. It has 5 s for an answer, and
    /// is asked again a second after one that is not good, or missing, until --start-timeout. It gets no other connections
    /// before, unless the kernel picks (shared, reuseport) [default: off]
    #[arg(long, value_name = "PATH", value_parser = probe)]
    pub(crate) probe: Option<String>,

    /// How long a worker that is replaced may finish what it has before it is killed
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,

    /// How many workers are reloaded at a time
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: u32,

    /// A reload goes on only while at most so many old workers are finishing [default: a quarter of them, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32))]
    pub(crate) max_draining: Option<u32>,

    /// A worker that answers nothing for so long is killed and replaced [default: off, told after 10s]
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub(crate) watchdog: Option<Duration>,

    /// A worker that uses more memory is replaced, the new one first (512M, 1G) [default: off]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) max_memory: Option<u64>,

    /// So long a worker serves before it is replaced, ± 10 %, one at a time [default: off]
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub(crate) max_lifetime: Option<Duration>,

    /// Whether a worker that has ended is started again: always, on-failure (unless it ended with code 0) or no. When
    /// none is left that may be, the gang has ended, with 0 if all of them did
    #[arg(long, value_name = "always|on-failure|no", default_value = "always", value_parser = restart)]
    pub(crate) restart: Restart,

    /// Exit codes by which the program says that it is not to be started again, whatever --restart is: the slot stays
    /// vacant until the next reload or change of their number (64,78). With --restart always, one that has said before
    /// that it leaves or is ill is replaced already then, whatever it ends with [default: none]
    #[arg(long, value_name = "CODES", value_delimiter = ',', value_parser = exit_code)]
    pub(crate) no_restart_codes: Vec<u8>,

    /// Above so many restarts in that time they are spaced 1 s apart
    #[arg(long, value_name = "N/TIME|off", default_value = "60/60s")]
    pub(crate) restart_limit: RestartLimit,

    /// What runs JavaScript and TypeScript
    #[arg(long, value_name = "node|bun|deno|PATH", default_value = "node", value_hint = ValueHint::ExecutablePath)]
    pub(crate) runtime: OsString,

    /// How ganger's own lines on stderr are written
    #[arg(long, value_name = "text|json", default_value = "text", hide_possible_values = true)]
    pub(crate) log_format: LogFormat,

    /// Only warnings and errors [default: off]
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// PROGRAM and what follows it; nothing, where a ganger.toml says it.
    #[arg(value_name = "PROGRAM", num_args = 1.., trailing_var_arg = true, hide = true)]
    pub(crate) command: Vec<OsString>,
}

pub(crate) const USAGE: &str = "ganger run [OPTIONS] [--] [PROGRAM [ARG…]]";

const AFTER_HELP: &str = "\
PROGRAM: a .js, .mjs, .cjs or .ts file, or a directory with a package.json, runs under the runtime;
anything else is executed as it is, found on PATH if it has no slash. What follows goes to it.
Without PROGRAM the nearest ganger.toml, from here upward, says what is run: `program`, or several
`[[worker]]` groups. Every option is a key of the same name there; what is typed wins.

Signals: TERM, INT and QUIT stop gracefully, a second one at once. HUP reloads (where stdin is a
terminal, it stops); TTIN and TTOU add a worker and take one away.

Exit status: 0 after a requested stop, or when all workers ended with 0 and none is to be started
again; 1 if the gang failed, 2 if what was typed cannot be run.";

/// How our own lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Parses a command line, the program's own name included.
pub(crate) fn parse(typed: &[OsString]) -> Result<Command, clap::Error> {
    Ganger::try_parse_from(typed).map(|ganger| ganger.command)
}

/// A parse error as one line.
pub(crate) fn brief(error: &clap::Error) -> String {
    const HELP: &str = "see `ganger run --help`";
    let rendered = error.render().to_string();
    let mut paragraphs = rendered.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let message: Vec<&str> = first.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let message = message.join(" ");
    let similar = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("tip: a similar "));
    let similar = similar.map(|tip| format!("; a similar {}", tip.lines().next().unwrap_or_default()));
    format!("{}{} ({HELP})", message.strip_prefix("error: ").unwrap_or(&message), similar.unwrap_or_default())
}

/// The first of our own options that stands behind PROGRAM, if no `--` says that it is meant to.
/// `typed` is the whole command line, `command` the part of it that begins with PROGRAM.
pub(crate) fn misplaced<'a>(typed: &[OsString], command: &'a [OsString]) -> Option<&'a OsStr> {
    let before = typed.len().checked_sub(command.len() + 1).and_then(|index| typed.get(index));
    if before.is_some_and(|word| word == "--") {
        return None;
    }
    let ganger = Ganger::command();
    let run = ganger.find_subcommand("run")?;
    let is_ours = |word: &OsStr| {
        let word = word.as_bytes();
        run.get_arguments().any(|arg| {
            let long = arg.get_long().is_some_and(|long| {
                let rest = word.strip_prefix(b"--").and_then(|word| word.strip_prefix(long.as_bytes()));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
            });
            let short = arg.get_short().is_some_and(|short| {
                let rest = word.strip_prefix(b"-").and_then(|word| word.strip_prefix(&[short as u8]));
                rest.is_some_and(|rest| rest.iter().all(u8::is_ascii_digit))
            });
            long || short
        })
    };
    command
        .iter()
        .skip(1)
        .map(OsString::as_os_str)
        .take_while(|word| *word != "--")
        .find(|word| is_ours(word))
}

#[cfg(test)]
mod tests {
    use ganger::guard::{Limit, Sign};

    use super::*;

    fn typed(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn parsed(line: &str) -> Run {
        let Command::Run(run) = parse(&typed(line)).unwrap();
        *run
    }

    fn refused(line: &str) -> String {
        brief(&parse(&typed(line)).unwrap_err())
    }

    #[test]
    fn the_definition_holds_together() {
        Ganger::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let run = parsed("ganger run hello.js");
        assert_eq!(run.workers, Workers::Auto);
        assert_eq!((run.schedule, run.ready), (None, Readiness::Auto));
        assert_eq!(run.stop_timeout, Duration::from_secs(25));
        let limit = Limit { count: 60, within: Duration::from_secs(60) };
        assert_eq!(run.restart_limit, RestartLimit(Some(limit)));
        assert_eq!(run.runtime, "node");
        assert_eq!(run.log_format, LogFormat::Text);
        assert!(!run.quiet && run.name.is_none() && run.env.is_empty());
    }

    #[test]
    fn every_option_is_shown_with_its_default() {
        let mut ganger = Ganger::command();
        let help = ganger.find_subcommand_mut("run").unwrap().render_long_help().to_string();
        for option in ["workers", "schedule", "name", "env", "stop-timeout", "restart-limit"] {
            let at = help.find(&format!("--{option} ")).unwrap_or_else(|| panic!("--{option}: {help}"));
            let text = help[at..].split("\n\n").take(2).collect::<String>();
            assert!(text.contains("[default: "), "--{option}: {text}");
        }
        for option in ["--runtime", "--no-hints", "--graceful", "--log-format", "--quiet"] {
            assert!(help.contains(option), "{option}: {help}");
        }
        let run = ganger.find_subcommand("run").unwrap();
        let options = run.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "help"));
        // A line may end behind the colon.
        assert_eq!(help.matches("[default:").count(), options.count(), "{help}");
        assert!(help.contains("Exit status: 0 after a requested stop"), "{help}");
    }

    #[test]
    fn what_follows_the_program_is_the_programs() {
        let run = parsed("ganger run -n 3 app.js -n 4 --schedule x --bogus -- y");
        assert_eq!(run.workers, Workers::Count(3));
        assert_eq!(run.command, typed("app.js -n 4 --schedule x --bogus -- y"));
        assert_eq!(parsed("ganger run -- app.js --bogus").command, typed("app.js --bogus"));
        assert_eq!(parsed("ganger run -- -odd -q").command, typed("-odd -q"));
    }

    #[test]
    fn our_options_behind_the_program_are_noticed() {
        let check = |line: &str, expected: Option<&str>| {
            let (typed, run) = (typed(line), parsed(line));
            assert_eq!(misplaced(&typed, &run.command), expected.map(OsStr::new), "{line}");
        };
        check("ganger run app.js -n 4", Some("-n"));
        check("ganger run app.js -n4", Some("-n4"));
        check("ganger run app.js x --schedule=rr", Some("--schedule=rr"));
        check("ganger run app.js -q", Some("-q"));
        check("ganger run -q app.js --port 80 -x", None);
        check("ganger run -- app.js -n 4", None);
        check("ganger run app.js -- -n 4", None);
        check("ganger run app.js --environment=x -new", None);
    }

    #[test]
    fn values() {
        let durations = [("25", 25_000), ("25s", 25_000), ("500ms", 500), ("2m", 120_000), ("0", 0)];
        for (typed, expected) in durations {
            assert_eq!(duration(typed), Ok(Duration::from_millis(expected)), "{typed}");
        }
        for typed in ["", "s", "1.5s", "-1", "2h", "5 s", "99999999999999999999"] {
            assert!(duration(typed).is_err(), "{typed}");
        }
        assert_eq!("off".parse(), Ok(RestartLimit(None)));
        let limit = Limit { count: 5, within: Duration::from_secs(120) };
        assert_eq!("5/2m".parse(), Ok(RestartLimit(Some(limit))));
        for typed in ["5", "0/60s", "5/0", "x/60s", "/", "60/x"] {
            assert!(typed.parse::<RestartLimit>().is_err(), "{typed}");
        }
        assert_eq!(schedule("none"), Ok(Policy::Shared));
        assert_eq!(
            (ready("notify"), ready("auto")),
            (Ok(Readiness::Sign(Sign::Notify)), Ok(Readiness::Auto))
        );
        assert_eq!(ready("5"), Ok(Readiness::After(Duration::from_secs(5))));
        assert!(ready("soon").is_err() && ready("").is_err());
        assert_eq!((bytes("512"), bytes("3K"), bytes("2G")), (Ok(512), Ok(3 << 10), Ok(2 << 30)));
        for typed in ["", "M", "0", "1.5G", "-1", "1T", "99999999999999G"] {
            assert!(bytes(typed).is_err(), "{typed}");
        }
        let run = parsed("ganger run --env A=b=c --env B= x");
        assert_eq!(run.env, [("A".into(), "b=c".into()), ("B".into(), "".into())]);
        let run = parsed("ganger run --no-restart-codes 64,78 --no-restart-codes 3 x");
        assert_eq!(run.no_restart_codes, [64, 78, 3]);
        assert_eq!(restart("on-failure"), Ok(Restart::OnFailure));
        assert!(restart("never").is_err());
        assert_eq!(probe("/health?deep=1"), Ok("/health?deep=1".into()));
        for typed in ["", "health", "/a b", "/a\r\nX: y", "/é"] {
            assert!(probe(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn each_refusal_is_one_clear_line() {
        let help = "(see `ganger run --help`)";
        let check = |line: &str, expected: &str| assert_eq!(refused(line), format!("{expected} {help}"));
        check("ganger run --bogus x", "unexpected argument '--bogus' found");
        check(
            "ganger run --worker 3 x",
            "unexpected argument '--worker' found; a similar argument exists: '--workers'",
        );
        check("ganger run -n 0 x", "invalid value '0' for '--workers <N|auto>': at least one, or auto");
        check("ganger run -n x x", "invalid value 'x' for '--workers <N|auto>': a number or auto");
        check(
            "ganger run --schedule sticky=path:x x",
            "invalid value 'sticky=path:x' for '--schedule <POLICY>': rr, least-conn, \
             sticky[=ip|=header:NAME|=cookie:NAME], shared (also none) or reuseport",
        );
        check(
            "ganger run --no-restart-codes 256 x",
            "invalid value '256' for '--no-restart-codes <CODES>': exit codes are numbers from 0 to 255",
        );
        check("ganger run --env =x y", "invalid value '=x' for '--env <K=V>': not of the form K=V");
        assert!(!refused("ganger rum x").contains('\n'));
        assert!(!refused("ganger run --log-format xml x").contains('\n'));
    }
}
