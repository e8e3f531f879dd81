//! What was typed → what is executed.
//!
//! Everything that can be wrong with a program is found here, before anything is started; each with one
//! line that says what to do. Starts nothing.

mod file;
mod package;
mod search;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use ganger::process::is_script;
use search::{Found, Search};

/// What was typed, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Typed<'a> {
    /// PROGRAM and its arguments.
    pub(crate) command: &'a [OsString],
    /// The value of `--runtime`.
    pub(crate) runtime: &'a OsStr,
    /// The working directory.
    pub(crate) cwd: &'a Path,
    /// The `PATH` that the workers will have.
    pub(crate) path: &'a OsStr,
}

/// What is executed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// The program, as the system's spawn takes it.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Variables that a package's script sets.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Where it runs, if not here.
    pub(crate) cwd: Option<PathBuf>,
    /// Whether it gets a channel.
    pub(crate) channel: bool,
    /// What a gang of it is called.
    pub(crate) name: String,
    /// What the user should know of the choice that was made.
    pub(crate) notes: Vec<Note>,
}

/// A remark on what is executed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// So it is.
    Info(String),
    /// So it is, and it may not be what is wanted.
    Warning(String),
}

/// What was typed cannot be run; one line for the user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unusable(String);

impl Unusable {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

/// What a gang is called whose programs are all here.
pub(crate) fn name_of(directory: &Path) -> String {
    package::name_near(directory)
}

/// Finds out what to execute.
pub(crate) fn resolve(typed: Typed<'_>) -> Result<Program, Unusable> {
    let Some((word, args)) = typed.command.split_first() else {
        return Err(Unusable("PROGRAM is missing".into()));
    };
    let path = typed.cwd.join(word);
    if package::Manager::named(word).is_some() {
        return package::script_of_manager(typed, word, args);
    }
    if path.is_dir() {
        let search = Search { path: typed.path, cwd: typed.cwd };
        if path.join(package::FILE).is_file() {
            return package::directory(typed, word, args);
        }
        if is_path(word) || !matches!(search.find(word), Found::At(_)) {
            return Err(Unusable(format!(
                "{} is a directory without a package.json: name the program in it",
                shown(word)
            )));
        }
    }
    if is_script(&path) {
        return script(typed, &path, word, args);
    }
    executable(typed, word, args)
}

/// A script that runs under the runtime.
fn script(typed: Typed<'_>, path: &Path, word: &OsStr, args: &[OsString]) -> Result<Program, Unusable> {
    if !path.is_file() {
        return Err(missing(word));
    }
    check_runtime(typed, typed.runtime)?;
    let options: &[&str] = if is_deno(typed.runtime) { &["run", "-A"] } else { &[] };
    let mut all: Vec<OsString> = options.iter().map(OsString::from).collect();
    // A name that begins with a dash would be an option of the runtime.
    all.push(if word.as_encoded_bytes().starts_with(b"-") { path.into() } else { word.into() });
    all.extend_from_slice(args);
    Ok(Program {
        program: typed.runtime.into(),
        args: all,
        channel: true,
        name: package::name_near(path),
        ..Program::default()
    })
}

/// A program that is executed as it is; `node … app.js` among them.
fn executable(typed: Typed<'_>, word: &OsStr, args: &[OsString]) -> Result<Program, Unusable> {
    let mut program =
        Program { program: word.into(), args: args.into(), channel: true, ..Program::default() };
    if file::is_runtime(word) {
        check_runtime(typed, word)?;
        let script = script_argument(typed, word, args)?;
        program.name = package::name_near(&script.unwrap_or_else(|| typed.cwd.join(word)));
        return Ok(program);
    }
    let search = Search { path: typed.path, cwd: typed.cwd };
    let found = match search.find(word) {
        Found::At(found) => found,
        Found::NotExecutable(file) => return Err(not_executable(word, &file)),
        Found::Nowhere if is_path(word) => return Err(missing(word)),
        Found::Nowhere if typed.cwd.join(word).is_file() => {
            let word = shown(word);
            return Err(Unusable(format!(
                "there is no {word} on PATH; for the file in this directory write ./{word}"
            )));
        }
        Found::Nowhere => {
            return Err(Unusable(format!("there is no {} here and none on PATH", shown(word))));
        }
    };
    if let Some((node, options)) = file::node_behind(&found) {
        check_runtime(typed, node.as_ref())?;
        program.program = node.into();
        // The file as the kernel would name it; a name that begins with a dash would be an option.
        let is_named = is_path(word) && !word.as_encoded_bytes().starts_with(b"-");
        let script = if is_named { word.into() } else { found.clone().into_os_string() };
        program.args = options.into_iter().map(OsString::from).chain([script]).chain(program.args).collect();
    }
    let interpreter = file::interpreter(word, &found);
    program.channel = interpreter.is_none();
    // What an interpreter runs, and a program found on PATH, is named after where it is used.
    let argument = args.iter().map(|arg| typed.cwd.join(arg)).find(|arg| arg.is_file());
    program.name = package::name_near(&match argument {
        Some(script) if interpreter.is_some() => script,
        _ if is_path(word) => found,
        _ => typed.cwd.join(word),
    });
    Ok(program)
}

/// The script among the arguments of `node …`, where it can be told from its options.
fn script_argument(
    typed: Typed<'_>,
    runtime: &OsStr,
    args: &[OsString],
) -> Result<Option<PathBuf>, Unusable> {
    let Some(first) = args.first() else {
        let runtime = shown(runtime);
        return Err(Unusable(format!(
            "{runtime} without a script only waits for input: ganger run {runtime} app.js"
        )));
    };
    let as_script = |arg: &OsString| file::required(&typed.cwd.join(arg));
    let is_node = file::stem(runtime).is_some_and(|name| name.starts_with("node"));
    // Behind an option it may be the option's value.
    if is_node && !first.as_encoded_bytes().starts_with(b"-") && first != "inspect" {
        return as_script(first).map(Some).ok_or_else(|| missing(first));
    }
    Ok(args.iter().find_map(as_script))
}

fn check_runtime(typed: Typed<'_>, runtime: &OsStr) -> Result<(), Unusable> {
    let search = Search { path: typed.path, cwd: typed.cwd };
    let get = match runtime.to_str() {
        Some("node" | "nodejs") => "install Node.js (https://nodejs.org)",
        Some("bun") => "install Bun (https://bun.sh)",
        Some("deno") => "install Deno (https://deno.com)",
        _ => "look at its spelling",
    };
    match search.find(runtime) {
        Found::At(_) => Ok(()),
        Found::NotExecutable(file) => Err(not_executable(runtime, &file)),
        Found::Nowhere if is_path(runtime) => {
            Err(Unusable(format!("the runtime {} does not exist: {get}", shown(runtime))))
        }
        Found::Nowhere => Err(Unusable(format!(
            "the runtime {} is not on PATH: {get} or name it with --runtime PATH",
            shown(runtime)
        ))),
    }
}

fn missing(word: &OsStr) -> Unusable {
    Unusable(format!("{} does not exist: look at its spelling and at where it is looked for", shown(word)))
}

fn not_executable(word: &OsStr, file: &Path) -> Unusable {
    let (word, shown_file) = (shown(word), file.display());
    Unusable(match file.is_dir() {
        true => format!("{word} is a directory"),
        false => format!("{word} is not executable: chmod +x {shown_file}, or name what runs it"),
    })
}

/// Whether a word names a file, and not a program on PATH.
fn is_path(word: &OsStr) -> bool {
    word.as_encoded_bytes().contains(&b'/')
}

fn is_deno(runtime: &OsStr) -> bool {
    file::stem(runtime) == Some("deno")
}

fn shown(word: &OsStr) -> impl fmt::Display {
    Path::new(word).display()
}

#[cfg(test)]
mod tests;
