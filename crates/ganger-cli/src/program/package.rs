//! `package.json`: the package's name, its main file, its scripts; and `npm start` and its like.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Note, Program, Typed, Unusable, file, script, shown};

/// The file's name.
pub(super) const FILE: &str = "package.json";

/// What is read of a package.json.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Package {
    name: Option<String>,
    main: Option<PathBuf>,
    scripts: std::collections::BTreeMap<String, String>,
}

impl Package {
    /// `Ok(None)` without a package.json.
    fn read(directory: &Path) -> Result<Option<Self>, Unusable> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Unusable(format!("cannot read {}: {error}", path.display()))),
        };
        let parsed = serde_json::from_slice(&text);
        parsed.map(Some).map_err(|error| Unusable(format!("cannot understand {}: {error}", path.display())))
    }

    /// The package of the nearest directory that has one, from `directory` upward.
    fn nearest(directory: &Path) -> Result<Option<(PathBuf, Self)>, Unusable> {
        for directory in directory.ancestors() {
            if let Some(package) = Self::read(directory)? {
                return Ok(Some((directory.into(), package)));
            }
        }
        Ok(None)
    }

    /// The file that Node takes for the directory.
    fn main(&self, directory: &Path) -> Option<PathBuf> {
        let main = self.main.as_ref().map(|main| directory.join(main));
        let named = main.and_then(|main| match main.is_dir() {
            true => Some(main.join("index.js")).filter(|index| index.is_file()),
            false => file::required(&main),
        });
        named.or_else(|| Some(directory.join("index.js")).filter(|index| index.is_file()))
    }
}

/// What a gang of this program is called: the name in the nearest package.json (without its scope), else
/// that package's directory; without a package the program's.
pub(super) fn name_near(program: &Path) -> String {
    let program = program.canonicalize().unwrap_or_else(|_| program.into());
    let directory = if program.is_dir() { &program } else { program.parent().unwrap_or(&program) };
    // An unreadable package.json has no name; what it matters for besides says so.
    let (directory, package) =
        Package::nearest(directory).ok().flatten().unwrap_or_else(|| (directory.into(), Package::default()));
    let name = package.name.as_deref().and_then(|name| name.rsplit('/').next());
    if let Some(name) = name.filter(|name| !name.is_empty() && !name.contains(char::is_whitespace)) {
        return name.to_owned();
    }
    let name = directory.file_name().unwrap_or_else(|| "root".as_ref());
    name.to_string_lossy().replace(char::is_whitespace, "-")
}

/// The main file of a directory, if it is a package with one or has an index.js.
pub(super) fn main(directory: &Path) -> Option<PathBuf> {
    Package::read(directory).ok()?.unwrap_or_default().main(directory)
}

/// A directory with a package.json: what its start script says, if that is simply `node X`; else its main
/// file.
pub(super) fn directory(typed: Typed<'_>, word: &OsStr, args: &[OsString]) -> Result<Program, Unusable> {
    let directory = typed.cwd.join(word);
    let package = Package::read(&directory)?.unwrap_or_default();
    if let Some(start) = package.scripts.get("start")
        && let Some(simple) = NodeScript::parse(start)
    {
        let said = format!("the start script of {} is `{start}`", shown(word));
        return simple.program(typed, &directory, args, said);
    }
    let Some(main) = package.main(&directory) else {
        return Err(Unusable(format!(
            "{} has neither a main file nor an index.js: name the file to run",
            directory.join(FILE).display()
        )));
    };
    let main = main.strip_prefix(typed.cwd).unwrap_or(&main);
    script(typed, &typed.cwd.join(main), main.as_os_str(), args)
}

/// What starts scripts of a package.json, and keeps the channel to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    Npm,
    Yarn,
    Pnpm,
    Npx,
}

impl Manager {
    pub(super) fn named(word: &OsStr) -> Option<Self> {
        match Path::new(word).file_name()?.to_str()? {
            "npm" => Some(Self::Npm),
            "yarn" => Some(Self::Yarn),
            "pnpm" => Some(Self::Pnpm),
            "npx" => Some(Self::Npx),
            _ => None,
        }
    }

    /// The script that these arguments start, and what is left for it.
    fn script(self, args: &[OsString]) -> Option<(&str, &[OsString])> {
        let (first, rest) = args.split_first()?;
        let (script, rest) = match first.to_str()? {
            _ if self == Self::Npx => return None,
            "run" | "run-script" => {
                let (script, rest) = rest.split_first()?;
                (script.to_str()?, rest)
            }
            script @ "start" => (script, rest),
            script if self != Self::Npm => (script, rest),
            _ => return None,
        };
        let rest = match rest.split_first() {
            Some((dashes, rest)) if dashes == "--" => rest,
            _ => rest,
        };
        (!script.starts_with('-')).then_some((script, rest))
    }
}

/// `npm start` and its like.
pub(super) fn script_of_manager(
    typed: Typed<'_>,
    word: &OsStr,
    args: &[OsString],
) -> Result<Program, Unusable> {
    const ADVICE: &str = "keeps the workers' channel to itself: name the program that it ends up starting";
    let typed_line = line(std::iter::once(word).chain(args.iter().map(OsString::as_os_str)));
    let script = Manager::named(word).and_then(|manager| manager.script(args));
    let Some((name, rest)) = script else {
        return Err(Unusable(format!("{typed_line} {ADVICE}")));
    };
    let Some((directory, package)) = Package::nearest(typed.cwd)? else {
        return Err(Unusable(format!("{typed_line}: there is no package.json here or above")));
    };
    let by_default = (name == "start" && directory.join("server.js").is_file()).then_some("node server.js");
    let Some(command) = package.scripts.get(name).map(String::as_str).or(by_default) else {
        return Err(Unusable(format!("{} has no script {name}", directory.join(FILE).display())));
    };
    let Some(simple) = NodeScript::parse(command) else {
        return Err(Unusable(format!("{typed_line} runs `{command}` and {ADVICE}")));
    };
    let mut program = simple.program(typed, &directory, rest, format!("{typed_line} is `{command}`"))?;
    for hook in [format!("pre{name}"), format!("post{name}")] {
        if package.scripts.contains_key(&hook) {
            program.notes.push(Note::Warning(format!("the script {hook} is not run")));
        }
    }
    Ok(program)
}

/// A script that is nothing but `[K=V…] node X…`, without anything that needs a shell.
#[derive(Debug, PartialEq, Eq)]
struct NodeScript<'a> {
    env: Vec<(&'a str, &'a str)>,
    args: Vec<&'a str>,
}

impl<'a> NodeScript<'a> {
    fn parse(script: &'a str) -> Option<Self> {
        if script.contains(|c| "&|;<>()$`\\\"'*?[]#~{}!\n".contains(c)) {
            return None;
        }
        let mut words = script.split_whitespace().peekable();
        let mut env = Vec::new();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            env.push((name, value));
            words.next();
        }
        let node = words.next()?;
        let args: Vec<&str> = words.collect();
        (matches!(node, "node" | "nodejs") && !args.is_empty()).then_some(Self { env, args })
    }

    /// Runs in the package's directory, as under npm. What was said is what is told.
    fn program(
        self,
        typed: Typed<'_>,
        directory: &Path,
        args: &[OsString],
        said: String,
    ) -> Result<Program, Unusable> {
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.into());
        let moved = Typed { cwd: &directory, ..typed };
        let all: Vec<OsString> = self.args.iter().map(OsString::from).chain(args.iter().cloned()).collect();
        super::check_runtime(typed, typed.runtime)?;
        let script = super::script_argument(moved, "node".as_ref(), &all)?;
        Ok(Program {
            program: typed.runtime.into(),
            args: all,
            env: self.env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            name: name_near(script.as_deref().unwrap_or(&directory)),
            cwd: (directory != typed.cwd).then_some(directory),
            channel: true,
            notes: vec![Note::Info(said)],
        })
    }
}

fn line<'a>(words: impl Iterator<Item = &'a OsStr>) -> String {
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_call_of_node_is_seen_through() {
        let parse = NodeScript::parse;
        assert_eq!(parse("node app.js"), Some(NodeScript { env: vec![], args: vec!["app.js"] }));
        let options = parse("NODE_ENV=production  node -r dotenv/config app.js 1").unwrap();
        assert_eq!(options.env, [("NODE_ENV", "production")]);
        assert_eq!(options.args, ["-r", "dotenv/config", "app.js", "1"]);
        for script in ["node", "next start", "nodemon app.js", "tsc && node x.js", "node \"a.js\"", "", "A=b"]
        {
            assert_eq!(parse(script), None, "{script}");
        }
    }

    #[test]
    fn the_script_that_a_manager_starts() {
        let check = |line: &str, expected: Option<(&str, &str)>| {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let found = Manager::named(&words[0]).unwrap().script(&words[1..]);
            let found =
                found.map(|(script, rest)| (script, super::line(rest.iter().map(OsString::as_os_str))));
            assert_eq!(found, expected.map(|(script, rest)| (script, rest.to_owned())), "{line}");
        };
        check("npm start", Some(("start", "")));
        check("npm run serve -- -p 1", Some(("serve", "-p 1")));
        check("/usr/bin/npm run-script x", Some(("x", "")));
        check("yarn serve 1", Some(("serve", "1")));
        check("pnpm run x", Some(("x", "")));
        check("npm test", None);
        check("npm run", None);
        check("npm --silent start", None);
        check("pnpm --filter a start", None);
        check("npx serve", None);
        check("npm", None);
    }
}
