//! From the text to what it says, and where it is wrong.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::{Config, Entry, Group, What};
use crate::args::{
    self, Workers,
    keys::{self, Key, Takes},
};
use crate::program::Unusable;

/// Keys of the file that are no options.
const OWN: [&str; 4] = ["program", "args", "cwd", "worker"];
/// Keys of a `[[worker]]` that are no options.
const OF_GROUP: [&str; 6] = ["name", "program", "args", "count", "cwd", "env"];
/// Options that a `[[worker]]` may have for itself.
const OPTIONS_OF_GROUP: [&str; 2] = ["no-restart-codes", "runtime"];
/// Keys that say of one program what each `[[worker]]` says for itself.
const OF_ONE_PROGRAM: [&str; 4] = ["program", "args", "cwd", "workers"];
/// From here on two names are alike.
const SIMILAR: f64 = 0.8;

type Name<'a> = Spanned<std::borrow::Cow<'a, str>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// Reads one file.
pub(super) struct Reader<'a> {
    shown: String,
    directory: &'a Path,
    text: &'a str,
    keys: Vec<Key>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shown: String, directory: &'a Path, text: &'a str) -> Self {
        Self { shown, directory, text, keys: keys::keys() }
    }

    pub(super) fn read(self) -> Result<Config, Unusable> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            self.refuse(&error.span().unwrap_or_default(), &message)
        })?;
        let (mut options, mut entry, mut groups) = (Vec::new(), self.entry(), None);
        let items = in_order(table.get_ref());
        for (name, value) in &items {
            match name.get_ref().as_ref() {
                "env" => {
                    options.extend(self.variables(name, value)?.into_iter().map(|(name, mut value)| {
                        value = [&name, OsStr::new("="), &value].into_iter().collect();
                        keys::typed("env", &value)
                    }));
                }
                "worker" => groups = Some(self.groups(value)?),
                key => match self.keys.iter().find(|known| known.name == key) {
                    Some(known) => self.option(known, name, value, &mut options)?,
                    None if self.part_of_entry(name, value, &mut entry)? => {}
                    None => {
                        let options = self.keys.iter().map(|key| key.name.as_str());
                        return Err(self.unknown(name, &options.chain(OWN).collect::<Vec<_>>()));
                    }
                },
            }
        }
        let what = match groups {
            Some(groups) => {
                let twice = items.iter().find(|(name, _)| OF_ONE_PROGRAM.contains(&name.get_ref().as_ref()));
                if let Some((name, _)) = twice {
                    let each = if name.get_ref() == "workers" { "count" } else { name.get_ref() };
                    let text =
                        format!("{} beside [[worker]]: each of those has its own {each}", name.get_ref());
                    return Err(self.refuse(&name.span(), &text));
                }
                What::Groups(groups)
            }
            None if entry.command.first().is_some_and(|program| !program.is_empty()) => What::Program(entry),
            None => {
                let text = "nothing to run: `program = \"app.js\"`, or a [[worker]] with a program";
                return Err(Unusable::new(format!("{}: {text}", self.shown)));
            }
        };
        Ok(Config { shown: self.shown, directory: self.directory.into(), options, what })
    }

    fn groups(&self, value: &Value<'_>) -> Result<Vec<Group>, Unusable> {
        let tables = match value.get_ref() {
            DeValue::Array(tables) if !tables.is_empty() => tables,
            _ => return Err(self.refuse(&value.span(), "worker: groups of workers are written [[worker]]")),
        };
        let mut groups: Vec<Group> = Vec::new();
        for value in tables.iter() {
            let DeValue::Table(table) = value.get_ref() else {
                return Err(self.refuse(&value.span(), "worker: groups of workers are written [[worker]]"));
            };
            let (group, named) = self.group(table, &value.span())?;
            if groups.iter().any(|other| other.name == group.name) {
                let text = format!("two groups are called {}: give one another `name`", group.name);
                return Err(self.refuse(&named, &text));
            }
            groups.push(group);
        }
        Ok(groups)
    }

    /// A group, and where its name comes from.
    fn group(&self, table: &DeTable<'_>, span: &Range<usize>) -> Result<(Group, Range<usize>), Unusable> {
        let mut named = None;
        let mut group = Group {
            name: String::new(),
            entry: self.entry(),
            count: Workers::Count(1),
            env: Vec::new(),
            no_restart_codes: Vec::new(),
            runtime: None,
        };
        for (name, value) in in_order(table) {
            match name.get_ref().as_ref() {
                "name" => {
                    let text = self.word(name, value)?;
                    group.name =
                        args::name(&text).map_err(|allowed| self.not_allowed(name, value, &allowed))?;
                    named = Some(value.span());
                }
                "count" => {
                    let text = self.word(name, value)?;
                    group.count =
                        args::workers(&text).map_err(|allowed| self.not_allowed(name, value, &allowed))?;
                }
                "env" => group.env = self.variables(name, value)?,
                "no-restart-codes" => group.no_restart_codes = self.exit_codes(name, value)?,
                "runtime" => group.runtime = Some(self.checked(self.key("runtime"), name, value)?),
                _ if self.part_of_entry(name, value, &mut group.entry)? => {}
                _ => return Err(self.unknown(name, &[&OF_GROUP[..], &OPTIONS_OF_GROUP].concat())),
            }
        }
        let Some(program) = group.entry.command.first().filter(|program| !program.is_empty()) else {
            return Err(self.refuse(span, "a [[worker]] without a program: `program = \"app.js\"`"));
        };
        if named.is_none() {
            let file = Path::new(program).file_name().unwrap_or(program);
            group.name = file.to_string_lossy().into_owned();
        }
        Ok((group, named.unwrap_or_else(|| span.clone())))
    }

    /// `no-restart-codes` of a group: one, or an array.
    fn exit_codes(&self, name: &Name<'_>, value: &Value<'_>) -> Result<Vec<u8>, Unusable> {
        let mut words = Vec::new();
        self.option(self.key("no-restart-codes"), name, value, &mut words)?;
        let run = keys::with_options_of_file(&["ganger".into(), "run".into()], &words);
        Ok(run.map(|run| run.no_restart_codes).unwrap_or_default())
    }

    fn entry(&self) -> Entry {
        Entry { cwd: self.directory.into(), ..Entry::default() }
    }

    /// What says what is run. `false` if the key is none of that.
    fn part_of_entry(&self, name: &Name<'_>, value: &Value<'_>, entry: &mut Entry) -> Result<bool, Unusable> {
        // The program stands before its arguments, whatever the order in the file.
        entry.command.resize(entry.command.len().max(1), OsString::new());
        match name.get_ref().as_ref() {
            "program" => {
                let DeValue::String(program) = value.get_ref() else {
                    let allowed = "the program as text; its arguments are `args = [\"…\"]`";
                    return Err(self.not_allowed(name, value, allowed));
                };
                entry.command[0] = program.as_ref().into();
                entry.place = self.place(&value.span());
            }
            "args" => {
                let DeValue::Array(args) = value.get_ref() else {
                    return Err(self.not_allowed(name, value, "an array: `args = [\"--port\", \"80\"]`"));
                };
                for arg in args.iter() {
                    entry.command.push(self.word(name, arg)?.into());
                }
            }
            "cwd" => {
                entry.cwd = self.directory.join(self.word(name, value)?);
                if !entry.cwd.is_dir() {
                    return Err(self.not_allowed(name, value, "a directory, seen from this file"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// An option: checked, and put down as it would be typed.
    fn option(
        &self,
        key: &Key,
        name: &Name<'_>,
        value: &Value<'_>,
        options: &mut Vec<OsString>,
    ) -> Result<(), Unusable> {
        match (key.takes, value.get_ref()) {
            (Takes::Flag, DeValue::Boolean(on)) => {
                options.extend(on.then(|| OsString::from(format!("--{}", key.name))));
            }
            (Takes::Flag, _) => return Err(self.not_allowed(name, value, "true or false")),
            (Takes::Many, DeValue::Array(values)) => {
                for value in values.iter() {
                    options.push(keys::typed(&key.name, &self.checked(key, name, value)?));
                }
            }
            (Takes::One | Takes::Many, _) => {
                options.push(keys::typed(&key.name, &self.checked(key, name, value)?));
            }
        }
        Ok(())
    }

    /// An option's value, as the option would take it from here.
    fn checked(&self, key: &Key, name: &Name<'_>, value: &Value<'_>) -> Result<OsString, Unusable> {
        let word = OsString::from(self.word(name, value)?);
        keys::check(&key.name, &word).map_err(|allowed| self.not_allowed(name, value, &allowed))?;
        let is_path = key.executable && word.as_encoded_bytes().contains(&b'/');
        Ok(if is_path { self.directory.join(word).into() } else { word })
    }

    fn key(&self, name: &str) -> &Key {
        let key = self.keys.iter().find(|key| key.name == name);
        key.unwrap_or_else(|| unreachable!("--{name} is an option"))
    }

    /// An `env` table.
    fn variables(&self, name: &Name<'_>, value: &Value<'_>) -> Result<Vec<(OsString, OsString)>, Unusable> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.not_allowed(name, value, "a table: `[env]`, and below it `NAME = \"value\"`"));
        };
        let variables = in_order(table).into_iter().map(|(name, value)| {
            let variable = name.get_ref();
            if variable.is_empty() || variable.contains(['=', '\0']) {
                return Err(self.refuse(&name.span(), "the name of a variable is not empty and has no `=`"));
            }
            Ok((variable.as_ref().into(), self.word(name, value)?.into()))
        });
        variables.collect()
    }

    /// A value as it would be typed.
    fn word(&self, name: &Name<'_>, value: &Value<'_>) -> Result<String, Unusable> {
        let word = match value.get_ref() {
            DeValue::String(text) => text.as_ref().to_owned(),
            DeValue::Integer(number) => integer(number),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return Err(self.not_allowed(name, value, "text or a number"));
            }
        };
        match word.contains('\0') {
            true => Err(self.not_allowed(name, value, "text without a null character")),
            false => Ok(word),
        }
    }

    fn not_allowed(&self, name: &Name<'_>, value: &Value<'_>, allowed: &str) -> Unusable {
        let written = self.text.get(value.span()).unwrap_or_default();
        let equals = if written.contains('\n') { String::new() } else { format!(" = {written}") };
        self.refuse(&value.span(), &format!("{}{equals}: {allowed}", name.get_ref()))
    }

    fn unknown(&self, name: &Name<'_>, known: &[&str]) -> Unusable {
        let unknown = name.get_ref().replace('_', "-");
        let alike = |known: &&str| strsim::jaro_winkler(&unknown, known);
        let nearest = known.iter().max_by(|one, other| alike(one).total_cmp(&alike(other)));
        let hint = match nearest {
            Some(nearest) if alike(nearest) >= SIMILAR => format!("did you mean {nearest}?"),
            _ => format!("there are {}", known.join(", ")),
        };
        self.refuse(&name.span(), &format!("unknown key {}: {hint}", name.get_ref().escape_debug()))
    }

    fn refuse(&self, span: &Range<usize>, text: &str) -> Unusable {
        Unusable::new(format!("{}: {text}", self.place(span)))
    }

    /// `ganger.toml:3:11`: line and column, from 1 on, the column in characters.
    fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.shown)
    }
}

/// A table's items as they stand in the file: what is wrong first is told first.
fn in_order<'t, 'a>(table: &'t DeTable<'a>) -> Vec<(&'t Name<'a>, &'t Value<'a>)> {
    let mut items: Vec<_> = table.iter().collect();
    items.sort_by_key(|(name, _)| name.span().start);
    items
}

/// In base 10, or as it was written if it is too large for anything.
fn integer(number: &DeInteger<'_>) -> String {
    i64::from_str_radix(number.as_str(), number.radix())
        .map_or_else(|_| number.to_string(), |number| number.to_string())
}
