//! The options as keys of a file: every one that can be typed has a key of the same name, without more ado.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};

use clap::builder::ValueHint;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches};

use super::{Ganger, Run};

/// An option, seen as a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: String,
    /// What stands behind it.
    pub(crate) takes: Takes,
    /// Whether it names an executable: with a slash it is a path, and relative to the file. An option says so by its
    /// value hint.
    pub(crate) executable: bool,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `true` or `false`.
    Flag,
    /// A value.
    One,
    /// A value or an array of them.
    Many,
}

/// All keys, in the order of `--help`.
pub(crate) fn keys() -> Vec<Key> {
    let ganger = Ganger::command();
    let run = ganger.find_subcommand("run").into_iter().flat_map(|run| run.get_arguments());
    run.filter_map(key).collect()
}

fn key(arg: &Arg) -> Option<Key> {
    let takes = match arg.get_action() {
        ArgAction::Set => Takes::One,
        ArgAction::Append => Takes::Many,
        ArgAction::SetTrue => Takes::Flag,
        _ => return None,
    };
    let executable = arg.get_value_hint() == ValueHint::ExecutablePath;
    Some(Key { name: arg.get_long()?.to_owned(), takes, executable })
}

/// An option as it would be typed.
pub(crate) fn typed(key: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(format!("--{key}="));
    word.push(value);
    word
}

/// Whether an option takes the value.
///
/// # Errors
/// What it takes, in words.
pub(crate) fn check(key: &str, value: &OsStr) -> Result<(), String> {
    let line = ["ganger".into(), "run".into(), typed(key, value)];
    let Err(error) = Ganger::command().try_get_matches_from(line) else { return Ok(()) };
    let allowed = match (error.kind(), error.get(ContextKind::ValidValue)) {
        (ErrorKind::InvalidValue, Some(ContextValue::Strings(values))) => values.join(", "),
        _ => error.source().map_or_else(|| super::brief(&error), ToString::to_string),
    };
    Err(allowed)
}

/// The value of an option where it was typed, and is not the default.
pub(crate) fn typed_value(line: &[OsString], key: &str) -> Option<OsString> {
    let matches = Ganger::command().try_get_matches_from(line).ok()?;
    let (_, run) = matches.subcommand()?;
    // Options are called by their fields' names.
    let id = key.replace('-', "_");
    let typed = run.value_source(&id) == Some(ValueSource::CommandLine);
    typed.then(|| run.get_raw(&id)?.next_back().map(OsStr::to_owned)).flatten()
}

/// Parses a command line once more, with a file's options before what was typed, which wins.
pub(crate) fn with_options_of_file(line: &[OsString], options: &[OsString]) -> Result<Run, clap::Error> {
    Run::from_arg_matches(&matches(line, options)?)
}

/// The keys whose values differ between two files, as far as what was typed does not decide.
pub(crate) fn changed(line: &[OsString], before: &[OsString], now: &[OsString]) -> Vec<String> {
    let (Ok(before), Ok(now)) = (matches(line, before), matches(line, now)) else { return Vec::new() };
    let differs = |key: &Key| {
        let id = key.name.replace('-', "_");
        let value = |matches: &ArgMatches| -> Vec<OsString> {
            matches.get_raw(&id).into_iter().flatten().map(OsStr::to_owned).collect()
        };
        value(&before) != value(&now)
    };
    keys().into_iter().filter(differs).map(|key| key.name).collect()
}

/// What a command line says of `run`, with a file's options before what was typed.
fn matches(line: &[OsString], options: &[OsString]) -> Result<ArgMatches, clap::Error> {
    // The program's own name and the command.
    let (command, typed) = line.split_at(line.len().min(2));
    let all = command.iter().chain(options).chain(typed);
    let ganger = Ganger::command().mut_subcommand("run", |run| run.args_override_self(true));
    let mut matches = ganger.try_get_matches_from(all)?;
    Ok(match matches.remove_subcommand() {
        Some((_, run)) => run,
        None => matches,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Workers;
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn every_option_is_a_key() {
        let keys = keys();
        let find = |name: &str| keys.iter().find(|key| key.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(find("workers").takes, Takes::One);
        assert_eq!(find("env").takes, Takes::Many);
        assert_eq!(find("quiet").takes, Takes::Flag);
        assert!(find("runtime").executable && !find("name").executable);
        assert!(keys.iter().all(|key| !["help", "version"].contains(&key.name.as_str())));
    }

    #[test]
    fn what_is_typed_wins() {
        let file = words("--workers=3 --stop-timeout=1s --env=A=file --env=B=file");
        let run = with_options_of_file(&words("ganger run -n 5 --env A=typed -q"), &file).unwrap();
        assert_eq!(run.workers, Workers::Count(5));
        assert_eq!(run.stop_timeout.as_secs(), 1);
        assert!(run.quiet);
        let env = run.env.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap()));
        assert_eq!(env.collect::<Vec<_>>(), [("A", "file"), ("B", "file"), ("A", "typed")]);
    }

    #[test]
    fn what_has_changed() {
        let differ = |before: &str, now: &str| {
            changed(&words("ganger run --batch 2 --env A=typed x"), &words(before), &words(now))
        };
        assert_eq!(differ("--batch=1 --workers=2", "--batch=3 --workers=2"), [""; 0]);
        assert_eq!(
            differ("--watchdog=5s --env=A=b", "--env=A=c --graceful --drain-timeout=60s"),
            ["env", "graceful", "watchdog"]
        );
    }

    #[test]
    fn a_default_is_not_typed() {
        let line = words("ganger run -n auto --stop-timeout=3 x");
        assert_eq!(typed_value(&line, "workers"), Some("auto".into()));
        assert_eq!(typed_value(&line, "stop-timeout"), Some("3".into()));
        assert_eq!(typed_value(&line, "runtime"), None);
    }

    #[test]
    fn a_refusal_says_what_is_allowed() {
        let refused = |key: &str, value: &str| check(key, value.as_ref()).unwrap_err();
        assert_eq!(check("workers", "auto".as_ref()), Ok(()));
        assert_eq!(refused("workers", "many"), "a number or auto");
        assert_eq!(refused("log-format", "xml"), "text, json");
        assert!(refused("stop-timeout", "soon").starts_with("a duration is"));
    }
}
