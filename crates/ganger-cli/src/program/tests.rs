//! What was typed in a directory, and what comes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A directory with files, and a PATH with `node` and a few programs in it.
struct Place {
    directory: tempfile::TempDir,
    runtime: &'static str,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap(), runtime: "node" };
        for program in ["node", "python3", "serverd", "npm", "yarn"] {
            place.write(&format!("bin/{program}"), "ELF", 0o755);
        }
        for (path, text) in files {
            place.write(&format!("work/{path}"), text, 0o644);
        }
        fs::create_dir_all(place.cwd()).unwrap();
        place
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn cwd(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("work")
    }

    fn resolve(&self, line: &str) -> Result<Program, String> {
        let command: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let path = self.directory.path().join("bin");
        resolve(Typed {
            command: &command,
            runtime: self.runtime.as_ref(),
            cwd: &self.cwd(),
            path: path.as_os_str(),
        })
        .map_err(|error| error.to_string())
    }

    /// What is executed, as a line, with whether it has a channel and how it is called.
    fn check(&self, line: &str, executed: &str, channel: bool, name: &str) {
        let program = self.resolve(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut words = vec![program.program.to_str().unwrap()];
        words.extend(program.args.iter().map(|arg| arg.to_str().unwrap()));
        assert_eq!(words.join(" "), executed, "{line}");
        assert_eq!((program.channel, program.name.as_str()), (channel, name), "{line}");
    }

    fn refused(&self, line: &str, expected: &str) {
        assert_eq!(self.resolve(line).map(|_| ()), Err(expected.to_owned()), "{line}");
    }
}

#[test]
fn scripts_run_under_the_runtime() {
    let mut place =
        Place::new(&[("app.js", ""), ("lib/x.mts", ""), ("package.json", r#"{"name":"@a/shop"}"#)]);
    place.check("app.js -p 1", "node app.js -p 1", true, "shop");
    place.check("./lib/x.mts", "node ./lib/x.mts", true, "shop");
    place.refused("nope.js", "nope.js does not exist: look at its spelling and at where it is looked for");
    place.runtime = "bun";
    place.refused(
        "app.js",
        "the runtime bun is not on PATH: install Bun (https://bun.sh) or name it with --runtime PATH",
    );
    place.runtime = "../bin/serverd";
    place.check("app.js", "../bin/serverd app.js", true, "shop");
    place.runtime = "./app.js";
    let refused = place.resolve("app.js").unwrap_err();
    assert!(refused.starts_with("./app.js is not executable: chmod +x "), "{refused}");
    place.write("bin/deno", "ELF", 0o755);
    place.runtime = "deno";
    place.check("app.js x", "deno run -A app.js x", true, "shop");
    place.runtime = "/nowhere/node";
    place.refused("app.js", "the runtime /nowhere/node does not exist: look at its spelling");
    place.runtime = "node";
    fs::remove_file(place.directory.path().join("bin/node")).unwrap();
    place.refused(
        "app.js",
        "the runtime node is not on PATH: install Node.js (https://nodejs.org) or name it with --runtime PATH",
    );
}

#[test]
fn a_typed_runtime_keeps_its_options() {
    let place = Place::new(&[("app.js", ""), ("sub/index.js", "")]);
    place.check("node app.js -n", "node app.js -n", true, "work");
    place.check("node app", "node app", true, "work");
    place.check("node sub", "node sub", true, "sub");
    place.check("node --inspect -r x app.js", "node --inspect -r x app.js", true, "work");
    place.check("node -e 1", "node -e 1", true, "work");
    place.refused(
        "node nope.js",
        "nope.js does not exist: look at its spelling and at where it is looked for",
    );
    place.refused("node", "node without a script only waits for input: ganger run node app.js");
    let refused = place.resolve("bun app.js").unwrap_err();
    assert!(refused.starts_with("the runtime bun is not on PATH"), "{refused}");
}

#[test]
fn directories_run_their_start_script_or_their_main_file() {
    let place = Place::new(&[
        ("main/package.json", r#"{"main":"lib/server"}"#),
        ("main/lib/server.js", ""),
        ("index/package.json", r#"{"name":"by-index","main":"gone.js","scripts":{"start":"next start"}}"#),
        ("index/index.js", ""),
        ("start/package.json", r#"{"main":"x.js","scripts":{"start":"A=b node --flag y.js 1"}}"#),
        ("start/y.js", ""),
        ("empty/package.json", "{}"),
        ("bad/package.json", "{"),
        ("none/x.txt", ""),
    ]);
    place.check("main", "node main/lib/server.js", true, "main");
    place.check("./index/ x", "node index/index.js x", true, "by-index");
    place.check("start 2", "node --flag y.js 1 2", true, "start");
    let start = place.resolve("start").unwrap();
    assert_eq!(start.cwd, Some(place.cwd().join("start")));
    assert_eq!(start.env, [("A".into(), "b".into())]);
    let said = "the start script of start is `A=b node --flag y.js 1`";
    assert_eq!(start.notes, [Note::Info(said.into())]);
    let refused = place.resolve("empty").unwrap_err();
    assert!(refused.ends_with("has neither a main file nor an index.js: name the file to run"), "{refused}");
    assert!(place.resolve("bad").unwrap_err().starts_with("cannot understand "));
    place.refused("none", "none is a directory without a package.json: name the program in it");
}

#[test]
fn package_managers_are_seen_through_or_refused() {
    let place = Place::new(&[
        (
            "package.json",
            r#"{"name":"web","scripts":{"start":"node app.js","prestart":"x","dev":"vite","old":"node gone.js"}}"#,
        ),
        ("app.js", ""),
    ]);
    place.check("npm start", "node app.js", true, "web");
    place.check("yarn start 1", "node app.js 1", true, "web");
    let notes = place.resolve("npm start").unwrap().notes;
    let expected = [
        Note::Info("npm start is `node app.js`".into()),
        Note::Warning("the script prestart is not run".into()),
    ];
    assert_eq!(notes, expected);
    let advice = "keeps the workers' channel to itself: name the program that it ends up starting";
    place.refused("npm run dev", &format!("npm run dev runs `vite` and {advice}"));
    place.refused("npx serve", &format!("npx serve {advice}"));
    place
        .refused("npm run old", "gone.js does not exist: look at its spelling and at where it is looked for");
    let refused = place.resolve("npm run nope").unwrap_err();
    assert!(refused.ends_with("work/package.json has no script nope"), "{refused}");
}

#[test]
fn anything_else_is_executed_as_it_is() {
    let place = Place::new(&[("app.py", ""), ("notes", "")]);
    place.write("work/tool", "ELF", 0o755);
    place.write("work/run.sh", "#!/bin/sh\n", 0o755);
    place.write("work/cli", "#!/usr/bin/env node\n", 0o755);
    place.check("serverd -p 1", "serverd -p 1", true, "work");
    place.check("./tool", "./tool", true, "work");
    place.check("../bin/serverd", "../bin/serverd", true, "bin");
    place.check("python3 -u app.py", "python3 -u app.py", false, "work");
    place.check("./run.sh", "./run.sh", false, "work");
    place.check("./cli --port 1", "node ./cli --port 1", true, "work");
    place.write("bin/tool-of-npm", "#!/usr/bin/env -S node --no-warnings\n", 0o755);
    let found = place.directory.path().join("bin/tool-of-npm");
    place.check("tool-of-npm x", &format!("node --no-warnings {} x", found.display()), true, "work");
    place.write("work/other", "#!/opt/node/bin/node\n", 0o755);
    place.refused("./other", "the runtime /opt/node/bin/node does not exist: look at its spelling");
    place.write("work/own", "#!/usr/bin/env -S A=b node\n", 0o755);
    place.check("./own", "./own", true, "work");
    place.refused("nope", "there is no nope here and none on PATH");
    place.refused("./nope", "./nope does not exist: look at its spelling and at where it is looked for");
    place.refused("notes", "there is no notes on PATH; for the file in this directory write ./notes");
    let refused = place.resolve("./notes").unwrap_err();
    assert!(refused.starts_with("./notes is not executable: chmod +x "), "{refused}");
    assert!(refused.ends_with(", or name what runs it"), "{refused}");
}
