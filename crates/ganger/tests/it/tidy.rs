//! The repository's own rules.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The most lines that a source file may have.
const LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// The Rust files below each crate's `directory`, with their text.
fn files(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for krate in fs::read_dir(root().join("crates")).unwrap() {
        collect(&krate.unwrap().path().join(directory), &mut found);
    }
    assert!(!found.is_empty());
    found
}

fn collect(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
}

/// The lines of code for which `wrong` is so, as `file:line: text`.
fn lines(files: &[(String, String)], wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in files {
        for (number, line) in (1..).zip(text.lines()) {
            if !line.trim_start().starts_with("//") && wrong(name, line) {
                found.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    found
}

#[track_caller]
fn check(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

/// The crates that a crate of ours is built from, itself included.
fn dependencies(krate: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            krate,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{lib}",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert!(names.contains(&krate.replace('-', "_")), "{names:?}");
    names
}

#[test]
fn the_library_drags_no_framework_along() {
    let dependencies = dependencies("ganger");
    for framework in ["axum", "ratatui", "clap", "anyhow", "hyper"] {
        assert!(!dependencies.iter().any(|name| name == framework), "the library depends on {framework}");
    }
}

#[test]
fn the_core_does_no_io() {
    let dependencies = dependencies("ganger-proto");
    for io in ["tokio", "libc", "rustix", "mio"] {
        assert!(!dependencies.iter().any(|name| name == io), "the core depends on {io}");
    }
    let world = ["fs", "net", "env", "process", "thread", "os"].map(|module| format!("std::{module}"));
    let wrong = lines(&files("src"), |name, line| {
        name.starts_with("crates/ganger-proto/")
            && (world.iter().any(|module| line.contains(module.as_str()))
                || ["Instant::now", "SystemTime", "TcpListener", "TcpStream", "UdpSocket", "UnixStream"]
                    .iter()
                    .any(|word| line.contains(word)))
    });
    check("the core touches the world", &wrong);
}

/// A child and its channel are to be had without a cluster.
#[test]
fn lower_floors_know_nothing_of_upper_ones() {
    let all = files("src");
    let check_floor = |rooms: &[&str], above: &[&str]| {
        let wrong = lines(&all, |name, line| {
            let here = rooms.iter().any(|room| name.starts_with(&format!("crates/ganger/src/{room}")));
            // By its path, or within the braces of `use crate::{…}`.
            let uses = |room: &&str| {
                line.contains(&format!("crate::{room}")) || line.starts_with(&format!("    {room}::"))
            };
            here && above.iter().any(uses)
        });
        check("a lower floor uses an upper one", &wrong);
    };
    check_floor(&["sys", "handle"], &["channel", "process", "ipc", "cluster", "guard"]);
    check_floor(&["channel"], &["process", "ipc", "cluster", "guard"]);
    check_floor(&["process", "ipc"], &["cluster", "guard"]);
    check_floor(&["cluster"], &["guard"]);
}

#[test]
fn nodes_words_are_spelled_in_one_room() {
    let wrong = lines(&files("src"), |name, line| {
        // Applications have variables of that sort too.
        let line = line.replace("NODE_ENV", "");
        !name.starts_with("crates/ganger-proto/src/node") && line.contains("NODE_")
    });
    // A constant is named as one, and not by its text.
    let wrong: Vec<String> = wrong.into_iter().filter(|line| line.contains("\"NODE_")).collect();
    check("use the constants of ganger_proto::node", &wrong);
}

#[test]
fn nothing_is_waited_for_by_the_clock() {
    let sleep = concat!("sleep", "(");
    let mut all = files("tests");
    all.extend(files("src").into_iter().filter(|(name, _)| name.ends_with("tests.rs")));
    check("wait for what happens, not for time", &lines(&all, |_, line| line.contains(sleep)));
}

#[test]
fn unsafe_code_has_its_place() {
    let wrong = |name: &str, line: &str| {
        let code = ["{", "fn", "impl", "extern"].map(|what| format!("unsafe {what}"));
        !name.starts_with("crates/ganger/src/sys") && code.iter().any(|code| line.contains(code.as_str()))
    };
    let mut all = files("src");
    all.extend(files("tests").into_iter().filter(|(name, _)| !name.ends_with("it/tidy.rs")));
    check("unsafe code outside of ganger::sys", &lines(&all, wrong));
}

#[test]
fn files_are_short() {
    let long: Vec<String> = files("src")
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, count)| *count > LINES)
        .map(|(name, count)| format!("{name}: {count} lines"))
        .collect();
    check("a long file wants to be two", &long);
}

/// What the page says is checked is.
#[test]
fn conformance_is_no_mere_claim() {
    let page = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let tests = files("tests");
    let trials = |name: &str| tests.iter().map(|(_, text)| text.matches(name).count()).sum::<usize>();
    let mut missing = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| test-")) {
        let (name, verdict) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        let trial = format!("\"{name}\"");
        match verdict.split([' ', ',', ':', ';']).next().unwrap() {
            // On the wire there is one for each side.
            "checked" if trials(&trial) > usize::from(verdict.starts_with("checked on the wire")) => {}
            "no" if verdict.starts_with("no counterpart: ") => {}
            _ => missing.push(row.to_owned()),
        }
    }
    check("no test has this name, or not one for each side", &missing);
}

/// And what is checked is said.
#[test]
fn conformance_is_complete() {
    let page = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let quoted = |line: &str| -> Vec<String> {
        let names = line.split('"').skip(1).step_by(2).filter(|text| {
            text.strip_prefix("test-").is_some_and(|rest| rest.contains('-') && !rest.contains(' '))
        });
        names.map(|name| format!("| {name} |")).collect()
    };
    let mut tests = files("tests");
    tests.retain(|(name, _)| !name.ends_with("it/tidy.rs"));
    let wrong = lines(&tests, |_, line| quoted(line).iter().any(|row| !page.contains(row)));
    check("docs/conformance.md does not have this name", &wrong);
}

#[test]
fn the_changelog_has_the_version() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    assert!(
        changelog.lines().any(|line| line.split(" – ").next() == Some(heading.as_str())),
        "CHANGELOG.md has no heading {heading:?}"
    );
}
