//! `cargo xtask golden`: what Node's own primary sends, as golden transcripts.
//!
//! Each script in `crates/ganger-cli/tests/golden` is run by Node as primary and worker, with the
//! example `wiretap` between the two, under both scheduling policies. The lines that the primary sent
//! are normalised and must be the same for each of [`MAJORS`]; then they are written to
//! `<script>.<policy>.txt` beside the script.
//!
//! What differs from run to run is replaced by [`normalise`]; `seq` and `ack` do not, since each
//! script has one worker and does one thing after the other.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{fetch, process, workspace};

/// The release lines whose primaries must agree. Older ones put an index into every key.
pub const MAJORS: [&str; 3] = ["22", "24", "26"];

/// The values of `NODE_CLUSTER_SCHED_POLICY`.
pub const POLICIES: [&str; 2] = ["rr", "none"];

/// A script does its work in well under a second.
const LIMIT: Duration = Duration::from_secs(30);

/// Captures and writes the transcript of every script under every policy.
pub fn golden() -> Result<()> {
    fetch::fetch()?;
    workspace::run(&mut workspace::cargo(["build", "--quiet", "-p", "ganger", "--example", "wiretap"]))?;
    let scripts = scripts()?;
    ensure!(!scripts.is_empty(), "no scripts in {}", directory().display());
    for script in &scripts {
        for policy in POLICIES {
            let transcript = agreed_transcript(script, policy)?;
            let path = script.with_extension(format!("{policy}.txt"));
            let lines = transcript.lines().count();
            fs::write(&path, format!("{}\n{transcript}", header()))
                .with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}: {lines} lines", path.file_name().unwrap_or_default().display());
        }
    }
    Ok(())
}

/// Replaces what differs from run to run, so that transcripts can be compared as text:
///
/// - `"port":N` becomes `"port":"<port>"`, and `"pid":N` becomes `"pid":"<pid>"`;
/// - in `"key":"…"`, a part between colons that is a number from 1024 on becomes `<port>`,
///   and the directory of a Unix socket's path becomes `<directory>`.
pub fn normalise(transcript: &str) -> String {
    transcript.split_inclusive('\n').map(normalise_line).collect()
}

fn normalise_line(line: &str) -> String {
    let line = replace_values(line, "\"port\":", digits, |_| "\"<port>\"".to_owned());
    let line = replace_values(&line, "\"pid\":", digits, |_| "\"<pid>\"".to_owned());
    replace_values(&line, "\"key\":\"", |rest| rest.find('"').unwrap_or(rest.len()), normalise_key)
}

fn normalise_key(key: &str) -> String {
    if key.starts_with('/') {
        let name = key.rfind('/').map_or(key, |slash| &key[slash..]);
        return format!("<directory>{name}");
    }
    let is_port = |part: &str| part.parse::<u16>().is_ok_and(|number| number >= 1024);
    let parts: Vec<&str> = key.split(':').map(|part| if is_port(part) { "<port>" } else { part }).collect();
    parts.join(":")
}

/// Replaces each value that follows `prefix` and is `length` bytes long; one of no length stays.
fn replace_values(
    line: &str,
    prefix: &str,
    length: impl Fn(&str) -> usize,
    replace: impl Fn(&str) -> String,
) -> String {
    let mut replaced = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(prefix) {
        let (before, value) = rest.split_at(at + prefix.len());
        let (value, after) = value.split_at(length(value));
        replaced.push_str(before);
        if !value.is_empty() {
            replaced.push_str(&replace(value));
        }
        rest = after;
    }
    replaced + rest
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The first line of each transcript. Lines that begin with `#` are comments.
fn header() -> String {
    format!(
        "# Sent by the primary of Node {}; captured by `cargo xtask golden`; ports, pids and directories replaced",
        MAJORS.join(", ")
    )
}

/// The transcript of one script under one policy, the same for all of [`MAJORS`].
fn agreed_transcript(script: &Path, policy: &str) -> Result<String> {
    let mut agreed: Option<String> = None;
    for major in MAJORS {
        let transcript = capture(script, policy, major)?;
        match &agreed {
            Some(first) if *first != transcript => bail!(
                "{} under {policy}: Node {} and {major} differ:\n{first}\n--- {major}\n{transcript}",
                script.display(),
                MAJORS[0]
            ),
            Some(_) => {}
            None => agreed = Some(transcript),
        }
    }
    Ok(agreed.expect("MAJORS is not empty"))
}

/// Runs one script under one Node; what its primary sent to worker 1, normalised.
fn capture(script: &Path, policy: &str, major: &str) -> Result<String> {
    let name = script.file_stem().unwrap_or_default().display();
    let directory = workspace::target().join("golden").join(format!("{name}.{policy}.{major}"));
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot clear {}", directory.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;

    let node = fetch::node(major);
    let mut child = Command::new(&node)
        .arg(script)
        .current_dir(&directory)
        .env("WIRETAP", workspace::target().join("debug/examples/wiretap"))
        .env("WIRETAP_NODE", &node)
        .env("WIRETAP_OUT", &directory)
        .env("NODE_CLUSTER_SCHED_POLICY", policy)
        .env_remove("NODE_OPTIONS")
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", node.display()))?;
    let ended = process::wait(&mut child, LIMIT)?;
    let shown = format!("{} under {policy} and Node {major}", script.display());
    match ended {
        Some(status) => ensure!(status.success(), "{shown} failed: {status}"),
        None => {
            process::stop(&mut child, Duration::from_secs(1))?;
            bail!("{shown} did not end within {} s", LIMIT.as_secs());
        }
    }
    let transcript = directory.join("1.primary");
    let transcript = fs::read_to_string(&transcript)
        .with_context(|| format!("{shown} left no transcript {}", transcript.display()))?;
    Ok(normalise(&transcript))
}

fn directory() -> PathBuf {
    workspace::root().join("crates/ganger-cli/tests/golden")
}

fn scripts() -> Result<Vec<PathBuf>> {
    let directory = directory();
    let mut scripts = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("js")) {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

#[cfg(test)]
mod tests {
    use super::normalise;

    fn check(line: &str, expected: &str) {
        assert_eq!(normalise(line), expected);
    }

    #[test]
    fn ports_are_replaced() {
        check(
            r#"{"key":"127.0.0.1:0:4:undefined:0","ack":1,"sockname":{"address":"::","port":37425},"seq":0}"#,
            r#"{"key":"127.0.0.1:0:4:undefined:0","ack":1,"sockname":{"address":"::","port":"<port>"},"seq":0}"#,
        );
        check(
            r#"{"errno":-98,"key":"127.0.0.1:45671:4:undefined","ack":1}"#,
            r#"{"errno":-98,"key":"127.0.0.1:<port>:4:undefined","ack":1}"#,
        );
        check(r#"{"key":"null:0:4:undefined:1"}"#, r#"{"key":"null:0:4:undefined:1"}"#);
    }

    #[test]
    fn directories_and_pids_are_replaced() {
        check(
            r#"{"key":"/var/run/app/a.sock:-1:-1:undefined","pid":4711,"seq":2}"#,
            r#"{"key":"<directory>/a.sock:-1:-1:undefined","pid":"<pid>","seq":2}"#,
        );
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        let text = "{\"hello\":\"worker\"}\nnull\n{\"port\":null,\"key\":\"";
        check(text, text);
    }
}
