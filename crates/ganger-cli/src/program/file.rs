//! What a file is, by its name and its first line: a script for the runtime, a runtime, an interpreter.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Programs that run JavaScript and understand Node's channel.
const RUNTIMES: [&str; 4] = ["node", "nodejs", "bun", "deno"];
/// The one among them that hints are for, by its names.
const NODE: [&str; 2] = ["node", "nodejs"];
/// Programs that run others' code and know nothing of Node's channel; a digit or a dot may follow the name.
/// A helper in Node that such a program starts would take the channel for its own and abort.
const INTERPRETERS: [&str; 31] = [
    "python", "pypy", "ruby", "jruby", "perl", "php", "php-fpm", "sh", "bash", "dash", "zsh", "ksh", "mksh",
    "fish", "ash", "busybox", "java", "lua", "luajit", "tclsh", "wish", "Rscript", "R", "julia", "elixir",
    "erl", "escript", "dotnet", "mono", "guile", "racket",
];

/// Whether the word names a JavaScript runtime.
pub(super) fn is_runtime(word: &OsStr) -> bool {
    stem(word).is_some_and(|name| RUNTIMES.contains(&name))
}

/// A program's name without its directory and its version: `python3.12` is `python`.
pub(super) fn stem(word: &OsStr) -> Option<&str> {
    let name = Path::new(word).file_name()?.to_str()?;
    Some(name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-'))
}

/// The file that Node takes when it is given `path`: itself, with an extension, or a directory's main file
/// (`lib/internal/modules/cjs/loader.js`, `Module._findPath`).
pub(super) fn required(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.into());
    }
    let with = |extension: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(extension);
        Some(PathBuf::from(name)).filter(|path| path.is_file())
    };
    [".js", ".json", ".node"].into_iter().find_map(with).or_else(|| super::package::main(path))
}

/// The interpreter that executes this program, if it is one that gets no channel: by the name that was
/// typed, by the file's own behind its links, or by its `#!` line.
pub(super) fn interpreter(word: &OsStr, found: &Path) -> Option<String> {
    let real = found.canonicalize().unwrap_or_else(|_| found.into());
    let first_line = first_line(&real);
    let hash_bang = first_line.as_deref().and_then(hash_bang);
    if hash_bang.is_some_and(|name| is_runtime(name.as_ref())) {
        return None;
    }
    let names = [stem(word), stem(real.as_os_str()), hash_bang.and_then(|name| stem(name.as_ref()))];
    names.into_iter().flatten().find(|name| INTERPRETERS.contains(name)).map(str::to_owned)
}

/// The Node that a file's `#!` line names, and the options that stand there: so the kernel, and `env` for it, would start it. None
/// if it names anything else, or says more than words can.
pub(super) fn node_behind(found: &Path) -> Option<(String, Vec<String>)> {
    let line = first_line(found)?;
    let (interpreter, rest) = split(line.strip_prefix("#!")?.trim());
    // The kernel passes on what follows as one word, `env -S` as several.
    let words: Vec<&str> = match (interpreter.ends_with("/env"), rest.strip_prefix("-S")) {
        (true, Some(rest)) => rest.split_whitespace().collect(),
        (true, None) => vec![rest],
        (false, _) if rest.is_empty() => vec![interpreter],
        (false, _) => vec![interpreter, rest],
    };
    let (node, options) = words.split_first()?;
    let is_node = NODE.contains(&Path::new(node).file_name()?.to_str()?);
    let is_word = |word: &&str| !word.contains(|c: char| c.is_whitespace() || "\"'\\$=#".contains(c));
    let is_option = |word: &&str| word.starts_with('-') && !word.contains(char::is_whitespace);
    let plain = match interpreter.ends_with("/env") {
        true => words.iter().all(is_word),
        false => options.iter().all(is_option),
    };
    (is_node && plain).then(|| ((*node).to_owned(), options.iter().map(|word| (*word).to_owned()).collect()))
}

/// The first word of a line, and the rest of it.
fn split(line: &str) -> (&str, &str) {
    line.split_once(char::is_whitespace).map_or((line, ""), |(first, rest)| (first, rest.trim_start()))
}

/// The program that a `#!` line names, also behind `env`.
fn hash_bang(line: &str) -> Option<&str> {
    let mut words = line.strip_prefix("#!")?.split_whitespace();
    let program = words.next()?;
    if !program.ends_with("/env") {
        return Some(program);
    }
    words.find(|word| !word.starts_with('-') && !word.contains('='))
}

fn first_line(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.split(|byte| *byte == b'\n').next()?;
    String::from_utf8(line.into()).ok()
}

#[cfg(test)]
mod tests {
    use ganger::process::is_script;

    use super::*;

    #[test]
    fn names_of_scripts_and_runtimes() {
        for name in ["a.js", "/x/a.mjs", "a.cjs", "a.ts", "a.mts", "a.b.cts"] {
            assert!(is_script(Path::new(name)), "{name}");
        }
        for name in ["js", "a.json", "a.jsx", ".js", "a.js/b"] {
            assert!(!is_script(Path::new(name)), "{name}");
        }
        for name in ["node", "/usr/bin/nodejs", "node24", "bun", "deno"] {
            assert!(is_runtime(name.as_ref()), "{name}");
        }
        for name in ["nodemon", "wiretap", "no"] {
            assert!(!is_runtime(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn a_hash_bang_line_names_its_interpreter() {
        let check = |line, expected| assert_eq!(hash_bang(line), expected, "{line}");
        check("#!/bin/sh", Some("/bin/sh"));
        check("#! /usr/bin/python3 -u", Some("/usr/bin/python3"));
        check("#!/usr/bin/env node", Some("node"));
        check("#!/usr/bin/env -S A=b ruby -w", Some("ruby"));
        check("#!/usr/bin/env", None);
        check("\u{7f}ELF", None);
    }

    #[test]
    fn a_node_behind_a_hash_bang_line_is_started_as_the_kernel_would() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cli");
        let check = |line: &str, expected: Option<&str>| {
            std::fs::write(&path, format!("{line}\nserve();\n")).unwrap();
            let words = node_behind(&path).map(|(node, options)| [vec![node], options].concat().join(" "));
            assert_eq!(words.as_deref(), expected, "{line}");
        };
        check("#!/usr/bin/env node", Some("node"));
        check("#! /usr/bin/env  nodejs ", Some("nodejs"));
        check(
            "#!/usr/bin/env -S node --no-warnings --enable-source-maps",
            Some("node --no-warnings --enable-source-maps"),
        );
        check("#!/opt/node/bin/node", Some("/opt/node/bin/node"));
        check(
            "#!/opt/node/bin/node --max-old-space-size=99",
            Some("/opt/node/bin/node --max-old-space-size=99"),
        );
        for other in [
            "",
            "#!",
            "#!/usr/bin/env",
            "#!/usr/bin/env node --no-warnings",
            "#!/usr/bin/env -S A=b node",
            "#!/usr/bin/env -S node --title='a b'",
            "#!/usr/bin/env -i node",
            "#!/usr/bin/node --one --two",
            "#!/usr/bin/env bun",
            "#!/usr/bin/nodemon",
            "#!/bin/sh",
            "serve();",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn interpreters_are_known_by_name_by_link_and_by_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let check = |name: &str, text: &str, expected: Option<&str>| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(interpreter(name.as_ref(), &path).as_deref(), expected, "{name}");
        };
        check("python3.12", "ELF", Some("python"));
        check("serve", "#!/usr/bin/env python3\n", Some("python"));
        check("start", "#!/bin/bash\nexec x\n", Some("bash"));
        check("tool", "#!/usr/bin/env node\n", None);
        check("rustd", "ELF", None);
        check("shell", "ELF", None);
        let link = directory.path().join("py");
        std::os::unix::fs::symlink("python3.12", &link).unwrap();
        assert_eq!(interpreter("py".as_ref(), &link).as_deref(), Some("python"));
    }
}
