//! What was typed, or what a ganger.toml says → the programs of the gang, and how many workers run each.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use ganger::cluster::{AgentSettings, Group, Settings};

use crate::args::{Run, Workers, keys};
use crate::config::{self, Config, Entry, What};
use crate::program::{self, Note, Program, Typed, Unusable};
use crate::workers;

/// The gang to be.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What it is called.
    pub(crate) name: String,
    /// What its workers run; at least one.
    pub(crate) parts: Vec<Part>,
    /// What runs beside them.
    agent: Option<Part>,
}

/// Workers that run one program.
#[derive(Debug)]
pub(crate) struct Part {
    /// The group's name, if it is one.
    pub(crate) name: Option<String>,
    /// How many.
    pub(crate) workers: u32,
    /// Why so many, if that was found out.
    pub(crate) why: Option<String>,
    program: Program,
    /// All that is set for it, what counts most last.
    env: Vec<(OsString, OsString)>,
    /// The exit codes by which it says that it is not to be started again.
    no_restart_codes: Vec<u8>,
}

/// Where options come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    /// All of them.
    pub(crate) all: &'a Run,
    /// Those that were typed.
    pub(crate) typed: &'a Run,
    /// The whole command line.
    pub(crate) line: &'a [OsString],
}

impl Plan {
    /// Finds out what is to be run. `cwd` is where it was typed.
    pub(crate) fn new(options: Options<'_>, config: Option<&Config>, cwd: &Path) -> Result<Self, Unusable> {
        let mut plan = Self::without_agent(options, config, cwd)?;
        if let Some(agent) = &options.all.agent {
            // What a file says is relative to where it is.
            let file = config.filter(|_| options.typed.agent.is_none()).map(|config| &*config.directory);
            let place = file.unwrap_or(cwd);
            let runtime = typed_runtime(options.line, cwd);
            let mut agent =
                Part::resolve(options.all, runtime.as_deref(), std::slice::from_ref(agent), place, &[])
                    .map_err(|error| Unusable::new(format!("the agent: {error}")))?;
            // It may not be where the workers run.
            agent.runs_in(place);
            plan.agent = Some(agent);
        }
        Ok(plan)
    }

    fn without_agent(options: Options<'_>, config: Option<&Config>, cwd: &Path) -> Result<Self, Unusable> {
        let Options { all, typed, line } = options;
        let Some(config) = config else {
            let part = Part::resolve(all, None, &typed.command, cwd, &[])?;
            return Ok(Self::of_one(all, part));
        };
        let at_its_place = |entry: &Entry, part: Result<Part, Unusable>| {
            let spaced = entry.command[0].to_string_lossy().contains(char::is_whitespace);
            let hint = if spaced { "; what follows a program is its `args = [\"…\"]`" } else { "" };
            part.map_err(|error| Unusable::new(format!("{}: {error}{hint}", entry.place)))
        };
        let runtime = typed_runtime(line, cwd);
        match &config.what {
            What::Program(entry) => {
                let part = Part::resolve(all, runtime.as_deref(), &entry.command, &entry.cwd, &[]);
                let mut part = at_its_place(entry, part)?;
                part.runs_in(&entry.cwd);
                Ok(Self::of_one(all, part))
            }
            What::Groups(groups) => {
                if keys::typed_value(line, "workers").is_some() {
                    let text = "-n does not say of which [[worker]]: write its `count`";
                    return Err(Unusable::new(format!("{text} in {}", config.shown)));
                }
                let parts = groups.iter().map(|group| {
                    let own: Vec<_> = group.env.iter().chain(&typed.env).cloned().collect();
                    let (entry, runtime) = (&group.entry, runtime.as_ref().or(group.runtime.as_ref()));
                    let runtime = runtime.map(OsString::as_os_str);
                    let part = Part::resolve(all, runtime, &entry.command, &entry.cwd, &own);
                    let mut part = at_its_place(entry, part)?;
                    part.runs_in(&entry.cwd);
                    part.name = Some(group.name.clone());
                    part.no_restart_codes.extend(&group.no_restart_codes);
                    part.fill(group.count);
                    Ok(part)
                });
                let name = all.name.clone().unwrap_or_else(|| program::name_of(&config.directory));
                Ok(Self { name, parts: parts.collect::<Result<_, Unusable>>()?, agent: None })
            }
        }
    }

    fn of_one(options: &Run, mut part: Part) -> Self {
        part.fill(options.workers);
        let name = options.name.clone().unwrap_or_else(|| part.program.name.clone());
        Self { name, parts: vec![part], agent: None }
    }

    /// What the user should know of the choices that were made.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &Note> {
        self.parts.iter().chain(&self.agent).flat_map(|part| &part.program.notes)
    }

    /// The names of the groups, one a slot; none without groups.
    pub(crate) fn groups(&self) -> Vec<String> {
        let names = self.parts.iter().filter_map(|part| Some((part.name.as_ref()?, part.workers)));
        names.flat_map(|(name, workers)| (0..workers).map(|_| name.clone())).collect()
    }

    /// The same for the library.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.parts[0].program.program.clone());
        match &self.parts[..] {
            [part @ Part { name: None, .. }] => {
                let Program { args, cwd, channel, .. } = &part.program;
                settings.args.clone_from(args);
                settings.cwd.clone_from(cwd);
                settings.channel = *channel;
                settings.env.clone_from(&part.env);
                settings.no_restart_codes.clone_from(&part.no_restart_codes);
                settings.workers = part.workers;
            }
            parts => settings.groups = parts.iter().map(Part::group).collect(),
        }
        settings.name.clone_from(&self.name);
        settings.agent = self.agent.as_ref().map(Part::agent);
        settings
    }
}

impl Part {
    fn resolve(
        options: &Run,
        runtime: Option<&OsStr>,
        command: &[OsString],
        cwd: &Path,
        own: &[(OsString, OsString)],
    ) -> Result<Self, Unusable> {
        let env: Vec<_> = options.env.iter().chain(own).cloned().collect();
        let given = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
        let path = given.or_else(|| std::env::var_os("PATH")).unwrap_or_else(|| "/bin:/usr/bin".into());
        let runtime = runtime.unwrap_or(&options.runtime);
        let mut program = program::resolve(Typed { command, runtime, cwd, path: &path })?;
        // What somebody sets wins over what a package's script sets.
        let env = std::mem::take(&mut program.env).into_iter().chain(env).collect();
        let no_restart_codes = options.no_restart_codes.clone();
        Ok(Self { name: None, workers: 0, why: None, program, env, no_restart_codes })
    }

    /// Where its workers run, if the program itself does not say.
    fn runs_in(&mut self, cwd: &Path) {
        self.program.cwd.get_or_insert_with(|| cwd.into());
    }

    fn fill(&mut self, wanted: Workers) {
        (self.workers, self.why) = match wanted {
            Workers::Count(count) => (count, None),
            Workers::Auto => {
                let count = workers::auto();
                (count.workers, Some(count.why))
            }
        };
    }

    fn group(&self) -> Group {
        let Program { program, args, cwd, channel, .. } = &self.program;
        let mut group = Group::new(program.clone());
        group.name = self.name.clone().unwrap_or_default();
        group.args.clone_from(args);
        group.cwd.clone_from(cwd);
        group.channel = *channel;
        group.env.clone_from(&self.env);
        group.no_restart_codes.clone_from(&self.no_restart_codes);
        group.workers = self.workers;
        group
    }

    fn agent(&self) -> AgentSettings {
        let Program { program, args, cwd, channel, .. } = &self.program;
        let mut agent = AgentSettings::new(program.clone());
        agent.args.clone_from(args);
        agent.cwd.clone_from(cwd);
        agent.channel = *channel;
        agent.env.clone_from(&self.env);
        agent
    }

    /// What is executed, for people: words with white space in them are quoted.
    pub(crate) fn command_line(&self) -> String {
        let words = std::iter::once(&self.program.program).chain(&self.program.args).map(|word| {
            let word = word.to_string_lossy();
            if word.is_empty() || word.contains(char::is_whitespace) {
                format!("'{word}'")
            } else {
                word.into()
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The `--runtime` that was typed: where it is a path, from where it was typed.
fn typed_runtime(line: &[OsString], cwd: &Path) -> Option<OsString> {
    let runtime = keys::typed_value(line, "runtime")?;
    let is_path = runtime.as_encoded_bytes().contains(&b'/');
    Some(if is_path { cwd.join(runtime).into() } else { runtime })
}

/// The file that says what is run, where nothing that was typed does.
pub(crate) fn config(typed: &Run, cwd: &Path) -> Result<Option<Config>, Unusable> {
    if !typed.command.is_empty() {
        return Ok(None);
    }
    config::nearest(cwd)?.map(Some).ok_or_else(|| {
        Unusable::new(format!(
            "nothing to run: name a PROGRAM (ganger run app.js), or write a {} here or above (see `ganger run --help`)",
            config::FILE
        ))
    })
}
