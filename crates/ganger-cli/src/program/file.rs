//! What a file is, by its name and its first line: a script for the runtime, a runtime, an interpreter.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Programs that run JavaScript and understand Node's channel.
const RUNTIMES: [&str; 4] = ["node", "nodejs", "bun", "deno"];
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
