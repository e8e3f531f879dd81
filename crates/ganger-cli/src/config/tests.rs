use std::path::Path;

use super::*;

fn read(text: &str) -> Result<Config, String> {
    Reader::new(FILE.into(), Path::new("/"), text).read().map_err(|error| error.to_string())
}

fn options(text: &str) -> Vec<String> {
    let config = read(&format!("{text}\nprogram = 'x'")).unwrap_or_else(|error| panic!("{error}"));
    config.options.into_iter().map(|word| word.into_string().unwrap()).collect()
}

fn groups(text: &str) -> Vec<Group> {
    match read(text).unwrap_or_else(|error| panic!("{error}")).what {
        What::Groups(groups) => groups,
        other @ What::Program(_) => panic!("{other:?}"),
    }
}

fn refused(text: &str, expected: &str) {
    assert_eq!(read(text).unwrap_err(), expected, "{text}");
}

#[test]
fn options_are_keys_of_the_same_name() {
    assert_eq!(
        options("workers = 4\nstop-timeout = '500ms'\nquiet = true\nname = 'shop'"),
        ["--workers=4", "--stop-timeout=500ms", "--quiet", "--name=shop"]
    );
    assert_eq!(
        options("restart = 'no'\nno-restart-codes = [64, 78]"),
        ["--restart=no", "--no-restart-codes=64", "--no-restart-codes=78"]
    );
    assert_eq!(
        options("workers = 'auto'\nquiet = false\nstop-timeout = 0x10"),
        ["--workers=auto", "--stop-timeout=16"]
    );
}

#[test]
fn variables_are_a_table() {
    let text = "env.B = 'b = c'\nenv.A = 1\nenv.ON = true";
    assert_eq!(options(text), ["--env=B=b = c", "--env=A=1", "--env=ON=true"]);
    assert_eq!(read("program = 'x'\n[env]\nB = ''\nA = 'a'").unwrap().options, ["--env=B=", "--env=A=a"]);
}

#[test]
fn paths_are_the_files() {
    assert_eq!(options("runtime = './bin/node'"), ["--runtime=/./bin/node"]);
    assert_eq!(options("runtime = 'bun'"), ["--runtime=bun"]);
    let What::Program(entry) = read("cwd = 'usr'\nargs = ['-v', 3]\nprogram = 'a.js'").unwrap().what else {
        panic!("no program")
    };
    assert_eq!(entry.command, ["a.js", "-v", "3"]);
    assert_eq!(entry.cwd, Path::new("/usr"));
    assert_eq!(entry.place, "ganger.toml:3:11");
}

#[test]
fn groups_have_their_own_names_counts_and_environments() {
    let text = "
        runtime = 'node'
        [[worker]]
        program = 'web/server.js'
        count = 'auto'
        [[worker]]
        name = 'api'
        program = './api'
        args = ['--fast']
        count = 3
        cwd = '/usr'
        runtime = './bun'
        no-restart-codes = [64, '70,78']
        env = { A = 'b' }";
    let groups = groups(text);
    let [web, api] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!((web.name.as_str(), web.count), ("server.js", Workers::Auto));
    assert_eq!((&web.runtime, web.entry.cwd.as_path()), (&None, Path::new("/")));
    assert_eq!((api.name.as_str(), api.count), ("api", Workers::Count(3)));
    assert_eq!(api.entry.command, ["./api", "--fast"]);
    assert_eq!(api.entry.cwd, Path::new("/usr"));
    assert_eq!(api.runtime.as_deref(), Some("/./bun".as_ref()));
    assert_eq!(api.env, [("A".into(), "b".into())]);
    assert_eq!((&web.no_restart_codes[..], &api.no_restart_codes[..]), (&[][..], &[64, 70, 78][..]));
}

#[test]
fn a_group_is_one_worker_unless_it_says_more() {
    assert_eq!(groups("[[worker]]\nprogram = 'a'")[0].count, Workers::Count(1));
}

#[test]
fn what_is_wrong_is_one_line_with_its_place() {
    refused("", "ganger.toml: nothing to run: `program = \"app.js\"`, or a [[worker]] with a program");
    refused(
        "args = ['x']",
        "ganger.toml: nothing to run: `program = \"app.js\"`, or a [[worker]] with a program",
    );
    refused("program = 'x'\nworker_s = 3", "ganger.toml:2:1: unknown key worker_s: did you mean workers?");
    refused("stop_timeout = 3", "ganger.toml:1:1: unknown key stop_timeout: did you mean stop-timeout?");
    refused("# é\n  workers = 'é'", "ganger.toml:2:13: workers = 'é': a number or auto");
    refused("quiet = 'yes'", "ganger.toml:1:9: quiet = 'yes': true or false");
    refused("log-format = 'xml'", "ganger.toml:1:14: log-format = 'xml': text, json");
    refused("workers = [\n1]", "ganger.toml:1:11: workers: text or a number");
    refused("cwd = 'none/x'", "ganger.toml:1:7: cwd = 'none/x': a directory, seen from this file");
    refused(
        "no-restart-codes = [78, 256]",
        "ganger.toml:1:25: no-restart-codes = 256: exit codes are numbers from 0 to 255",
    );
    refused("name = '.x'", "ganger.toml:1:8: name = '.x': a name is not empty and does not begin with a dot");
    refused("env = 'A=b'", "ganger.toml:1:7: env = 'A=b': a table: `[env]`, and below it `NAME = \"value\"`");
    refused(
        "program = ['node', 'x']",
        "ganger.toml:1:11: program = ['node', 'x']: the program as text; its arguments are `args = [\"…\"]`",
    );
    refused("program = 'x\n", "ganger.toml:1:13: invalid literal string, expected `'`");
    refused("a = 1\na = 2", "ganger.toml:2:1: duplicate key");
    let unknown = read("zzz = 1").unwrap_err();
    assert!(unknown.starts_with("ganger.toml:1:1: unknown key zzz: there are workers, "), "{unknown}");
    assert!(unknown.contains("log-format") && unknown.ends_with("program, args, cwd, worker"), "{unknown}");
}

#[test]
fn what_is_wrong_with_a_group_is_said_as_well() {
    refused(
        "[[worker]]\nname = 'a'",
        "ganger.toml:1:1: a [[worker]] without a program: `program = \"app.js\"`",
    );
    refused(
        "workers = 2\n[[worker]]\nprogram = 'a'",
        "ganger.toml:1:1: workers beside [[worker]]: each of those has its own count",
    );
    refused(
        "[[worker]]\nprogram = 'a'\nconut = 2",
        "ganger.toml:3:1: unknown key conut: did you mean count?",
    );
    refused("[[worker]]\nprogram = 'a'\ncount = 0", "ganger.toml:3:9: count = 0: at least one, or auto");
    refused(
        "[[worker]]\nprogram = 'a'\n[[worker]]\nprogram = 'b/a'",
        "ganger.toml:3:1: two groups are called a: give one another `name`",
    );
    refused("[worker]\nprogram = 'a'", "ganger.toml:1:1: worker: groups of workers are written [[worker]]");
}

#[test]
fn the_nearest_file_counts() {
    let root = tempfile::tempdir().unwrap();
    let below = root.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    let write = |directory: &Path| std::fs::write(directory.join(FILE), "program = 'x'").unwrap();
    write(root.path());
    let far = nearest(&below).unwrap().unwrap();
    assert_eq!(far.directory, root.path());
    assert_eq!(far.shown, root.path().join(FILE).display().to_string());
    write(&below);
    let near = nearest(&below).unwrap().unwrap();
    assert_eq!((near.directory, near.shown), (below, FILE.into()));
}
