//! The values that options take, each with what is wrong with one that is not.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::time::Duration;

use ganger::{
    cluster::Policy,
    guard::{Limit, Readiness, Restart, Sign},
};

pub(crate) const MOST_WORKERS: u32 = 4096;
const DURATION: &str = "a duration is a number with s, ms or m (25, 25s, 500ms, 2m)";

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    /// As many as the machine has room for.
    Auto,
    /// So many; not 0.
    Count(u32),
}

/// Above how many restarts they are spaced; `None` = never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartLimit(pub(crate) Option<Limit>);

/// A number of workers as it is written.
pub(crate) fn workers(typed: &str) -> Result<Workers, String> {
    match typed.parse() {
        _ if typed == "auto" => Ok(Workers::Auto),
        Ok(0) => Err("at least one, or auto".into()),
        Ok(count) if count <= MOST_WORKERS => Ok(Workers::Count(count)),
        Ok(_) => Err(format!("more than {MOST_WORKERS} workers are too many")),
        Err(_) => Err("a number or auto".into()),
    }
}

pub(super) fn schedule(typed: &str) -> Result<Policy, String> {
    // What was typed stands in the line already.
    typed.parse().map_err(|_| {
        "rr, least-conn, sticky[=ip|=header:NAME|=cookie:NAME], shared (also none) or reuseport".to_owned()
    })
}

pub(super) fn restart(typed: &str) -> Result<Restart, String> {
    match typed {
        "always" => Ok(Restart::Always),
        "on-failure" => Ok(Restart::OnFailure),
        "no" => Ok(Restart::No),
        _ => Err("always, on-failure or no".into()),
    }
}

/// What may stand in the first line of a request.
pub(super) fn probe(typed: &str) -> Result<String, String> {
    if typed.starts_with('/') && typed.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(typed.into())
    } else {
        Err("a path begins with a slash and has neither white space nor anything beyond ASCII".into())
    }
}

pub(super) fn exit_code(typed: &str) -> Result<u8, String> {
    typed.parse().map_err(|_| "exit codes are numbers from 0 to 255".into())
}

/// What shows that a worker is ready.
pub(super) fn ready(typed: &str) -> Result<Readiness, String> {
    Ok(match typed {
        "auto" => Readiness::Auto,
        "listening" => Readiness::Sign(Sign::Listening),
        "message" => Readiness::Sign(Sign::Message),
        "notify" => Readiness::Sign(Sign::Notify),
        _ => {
            let time = duration(typed)
                .map_err(|_| "auto, listening, message, notify, or a time (5, 500ms)".to_owned())?;
            Readiness::After(time)
        }
    })
}

/// An amount of memory: a number of bytes, or with K, M or G.
pub(super) fn bytes(typed: &str) -> Result<u64, String> {
    let refused = || "a number of bytes, or with K, M or G".to_owned();
    let (digits, shift) = match typed.as_bytes().last() {
        Some(b'K' | b'k') => (&typed[..typed.len() - 1], 10),
        Some(b'M' | b'm') => (&typed[..typed.len() - 1], 20),
        Some(b'G' | b'g') => (&typed[..typed.len() - 1], 30),
        _ => (typed, 0),
    };
    let number: u64 = digits.parse().map_err(|_| refused())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(refused)
}

/// A gang's name, or a group's.
pub(crate) fn name(typed: &str) -> Result<String, String> {
    if typed.is_empty() || typed.starts_with('.') {
        return Err("a name is not empty and does not begin with a dot".into());
    }
    if typed.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err("no slashes and no white space in a name".into());
    }
    Ok(typed.into())
}

pub(super) fn variable(typed: OsString) -> Result<(OsString, OsString), String> {
    let bytes = typed.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        None | Some(0) => Err("not of the form K=V".into()),
        Some(at) => Ok((OsStr::from_bytes(&bytes[..at]).into(), OsStr::from_bytes(&bytes[at + 1..]).into())),
    }
}

/// A duration that is one.
pub(super) fn some_time(typed: &str) -> Result<Duration, String> {
    duration(typed).and_then(|time| if time.is_zero() { Err("more than 0".into()) } else { Ok(time) })
}

pub(super) fn duration(typed: &str) -> Result<Duration, String> {
    let unit_at = typed.find(|c: char| !c.is_ascii_digit()).unwrap_or(typed.len());
    let (number, unit) = typed.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| DURATION)?;
    match unit {
        "" | "s" => Ok(Duration::from_secs(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(|| DURATION.into()),
        _ => Err(DURATION.into()),
    }
}

impl FromStr for RestartLimit {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        if typed == "off" {
            return Ok(Self(None));
        }
        let (count, within) = typed.split_once('/').ok_or("N/TIME (60/60s) or off")?;
        let count = count.parse().ok().filter(|count| *count > 0);
        let count = count.ok_or("N in N/TIME is a number from 1 on")?;
        let within = duration(within)?;
        if within.is_zero() {
            return Err("TIME in N/TIME is more than 0".into());
        }
        Ok(Self(Some(Limit { count, within })))
    }
}
