//! `ganger.toml`: found, obeyed, refused.

use rustix::process::Signal;

use super::harness::{Gang, Setup};

/// Starts `ganger` in a directory below the working directory.
fn start_in(setup: Setup, directory: &str, words: &str) -> Gang {
    let directory = setup.path().join(directory);
    std::fs::create_dir_all(&directory).unwrap();
    let directory = directory.to_str().unwrap().to_owned();
    let ganger = ["-C", &directory, env!("CARGO_BIN_EXE_ganger")];
    setup.start_program("env", ganger.into_iter().chain(words.split_whitespace()))
}

const SAYS: &str =
    "console.log(JSON.stringify([process.cwd(), process.argv.slice(2), process.env.A, process.env.B]));
    process.send('ready');";

#[test]
fn the_nearest_file_decides_and_its_paths_are_its_own() {
    let setup = Setup::new("24")
        .file("ganger.toml", "program = 'nope.js'")
        .file("app/ganger.toml", "program = 'src/app.js'\nargs = ['x', 1]\nworkers = 1\nenv = { A = 'file' }")
        .file("app/src/app.js", SAYS);
    let root = setup.path().canonicalize().unwrap();
    let mut gang = start_in(setup, "app/src/deep", "run");
    let app = root.join("app").display().to_string();
    gang.says(&format!("{app}/ganger.toml says what is run"));
    let said = serde_json::json!([app, ["x", "1"], "file", null]).to_string();
    gang.prints(&said);
    gang.stop();
}

#[test]
fn what_is_typed_is_relative_to_where_it_is_typed() {
    let setup = Setup::new("24")
        .file("ganger.toml", "runtime = 'none'\n[[worker]]\nruntime = 'none'\nprogram = 'app.js'")
        .file("app.js", SAYS)
        .file("below/agent.js", "console.log('agent in', process.cwd()); process.send('ready')");
    let root = setup.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("below/bin")).unwrap();
    std::os::unix::fs::symlink(super::harness::node("24"), root.join("below/bin/node")).unwrap();
    let mut gang = start_in(setup, "below", "run --runtime bin/node --agent agent.js");
    gang.prints(&format!("agent in {}", root.join("below").display()));
    gang.prints(&format!("[\"{}\",", root.display()));
    gang.stop();
}

#[test]
fn the_agent_is_a_key_as_well() {
    let setup = Setup::new("24")
        .file("ganger.toml", "program = 'app.js'\nworkers = 1\nagent = 'agent.js'\nmessenger = true")
        .file("app.js", SAYS)
        .file("agent.js", "console.log('agent in', process.cwd()); process.send('ready')");
    let root = setup.path().canonicalize().unwrap();
    let mut gang = start_in(setup, "below", "run");
    gang.prints(&format!("agent in {}", root.display()));
    gang.prints("[");
    gang.stop();
}

#[test]
fn a_program_that_is_typed_needs_no_file() {
    let setup = Setup::new("24").file("ganger.toml", "bogus").file("app.js", SAYS);
    let mut gang = setup.start("run -n 1 app.js");
    gang.prints("[");
    gang.stop();
}

#[test]
fn what_is_typed_wins() {
    let setup = Setup::new("24")
        .file(
            "ganger.toml",
            "name = 'shop'\nlog-format = 'json'\nenv = { A = 'file', B = 'file' }\n\
             [[worker]]\nprogram = 'app.js'\nenv = { B = 'group' }",
        )
        .file("app.js", SAYS);
    let mut gang = setup.start("run --log-format text --name other --env A=typed");
    gang.says("other: starting 1 worker (rr)");
    gang.prints(r#"[],"typed","group"]"#);
    gang.stop();
}

fn refused(file: &str, words: &str, expected: &str) {
    let mut gang = Setup::without_node().file("ganger.toml", file).start(words);
    let code = gang.ends();
    assert_eq!(code, Some(2), "{}", gang.lines());
    assert_eq!(gang.lines().of(false), [format!("ganger: {expected}")], "{}", gang.lines());
}

#[test]
fn what_is_wrong_is_one_line_with_its_place() {
    refused("stop-timout = 1", "run", "ganger.toml:1:1: unknown key stop-timout: did you mean stop-timeout?");
    refused("\nworkers = 'x'", "run", "ganger.toml:2:11: workers = 'x': a number or auto");
    refused("program = ", "run", "ganger.toml:1:11: string values must be quoted, expected literal string");
    refused(
        "program = 'node app.js'",
        "run",
        "ganger.toml:1:11: node app.js does not exist: look at its spelling and at where it is looked for; \
         what follows a program is its `args = [\"…\"]`",
    );
    refused(
        "[[worker]]\nprogram = '/none/api'",
        "run",
        "ganger.toml:2:11: /none/api does not exist: look at its spelling and at where it is looked for",
    );
    refused(
        "program = 'sh'\ncwd = 'none'",
        "run -q",
        "ganger.toml:2:7: cwd = 'none': a directory, seen from this file",
    );
    refused(
        "[[worker]]\nprogram = 'sh'",
        "run -n 2",
        "-n does not say of which [[worker]]: write its `count` in ganger.toml",
    );
}

#[test]
fn a_file_that_cannot_be_read_is_no_missing_one() {
    let mut gang = Setup::without_node().file("ganger.toml/x", "").start("run");
    assert_eq!(gang.ends(), Some(2), "{}", gang.lines());
    assert!(gang.lines().of(false)[0].starts_with("ganger: cannot read /"), "{}", gang.lines());
}

#[test]
fn a_reload_takes_what_it_can_and_names_the_rest() {
    let file = |rest: &str| format!("program = 'app.js'\nworkers = 1\n{rest}");
    let setup = Setup::new("24").file("ganger.toml", &file("env = { A = 'one' }")).file("app.js", SAYS);
    let mut gang = setup.start("run --drain-timeout 1s");
    gang.prints("\"one\",null]");
    let rest = "env = { A = 'two' }\nbatch = 2\nwatchdog = '5s'\ndrain-timeout = 9";
    std::fs::write(gang.path().join("ganger.toml"), file(rest)).unwrap();
    gang.signal(Signal::HUP);
    gang.says("a restart is needed for what has changed of batch, watchdog: until then it is as it was");
    gang.prints("\"two\",null]");
    gang.says("reloaded 1 worker in ");
    gang.stop();
}

#[test]
fn a_reload_that_fails_leaves_the_file_as_it_was_for_whoever_is_started_later() {
    let file = |program: &str, workers| format!("program = '{program}'\nworkers = {workers}");
    let setup =
        Setup::new("24").file("ganger.toml", &file("good.js", 2)).file("bad.js", "throw new Error('bad')");
    let mut gang = setup.file("good.js", SAYS).start("run");
    let pids = gang.ready();
    for (round, workers) in [3, 2].into_iter().enumerate() {
        std::fs::write(gang.path().join("ganger.toml"), file("bad.js", workers)).unwrap();
        gang.signal(Signal::HUP);
        gang.lines().wait_for(false, round + 1, |line| line.starts_with("ganger: reload failed after "));
    }
    let pid = rustix::process::Pid::from_raw(pids[0]).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    gang.lines().wait_for(true, 3, |line| line.contains("/good.js") || line.contains("[\""));
    std::fs::write(gang.path().join("ganger.toml"), file("good.js", 2)).unwrap();
    gang.signal(Signal::HUP);
    gang.says("reloaded 2 workers in ");
    gang.stop();
}

#[test]
fn a_slot_keeps_its_group_and_a_gang_its_agent() {
    let file = |agent: &str, first: u32, last: u32| {
        let group =
            |name: &str, count| format!("[[worker]]\nname = '{name}'\nprogram = 'app.js'\ncount = {count}\n");
        format!("{agent}\n{}{}", group("a", first), group("b", last))
    };
    let setup = Setup::new("24").file("ganger.toml", &file("", 1, 1)).file("app.js", SAYS);
    let mut gang = setup.start("run --max-draining 4");
    gang.ready();
    let reload = |agent, first, last| {
        std::fs::write(gang.path().join("ganger.toml"), file(agent, first, last)).unwrap();
        gang.signal(Signal::HUP);
    };
    reload("", 1, 2);
    gang.says("from 2 workers to 3");
    gang.says("reloaded 2 workers in ");
    reload("agent = 'app.js'", 2, 2);
    gang.says(
        "a restart is needed for what has changed of agent (that there is one), [[worker]] (which groups there are, and \
         their counts but the last one's): until then it is as it was",
    );
    gang.says("reloaded 3 workers in ");
    gang.stop();
}

#[test]
fn another_program_in_a_reload_has_a_channel_or_none_as_it_takes_one() {
    let setup = Setup::new("24").file("ganger.toml", "program = 'app.js'\nworkers = 1").file("app.js", SAYS);
    let mut gang = setup.start("run --stop-timeout 1s");
    gang.ready();
    let shell =
        "program = '/bin/sh'\nargs = ['-c', 'echo channel ${NODE_CHANNEL_FD:-none}; exec sleep 1000']";
    std::fs::write(gang.path().join("ganger.toml"), format!("{shell}\nworkers = 1")).unwrap();
    gang.signal(Signal::HUP);
    gang.prints("channel none");
    gang.stop();
}
