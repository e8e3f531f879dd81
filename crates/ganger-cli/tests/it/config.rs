//! `ganger.toml`: found, obeyed, refused; gangs of several programs.

use std::path::Path;

use super::harness::{Gang, Process, Setup, client::get, on_every_node, rust_example};

fn node_example(name: &str) -> String {
    super::harness::example(name)
}

/// Starts `ganger` in a directory below the working directory.
fn start_in(setup: Setup, directory: &str, words: &str) -> Gang {
    let directory = setup.path().join(directory);
    std::fs::create_dir_all(&directory).unwrap();
    let directory = directory.to_str().unwrap().to_owned();
    let ganger = ["-C", &directory, env!("CARGO_BIN_EXE_ganger")];
    setup.start_program("env", ganger.into_iter().chain(words.split_whitespace()))
}

/// Asks until both programs have answered.
fn both_answer(gang: &Gang, port: u16) {
    let (mut node, mut rust) = (false, false);
    while !(node && rust) {
        match get(port, "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines())).as_str() {
            "hello world\n" => rust = true,
            answer if answer.starts_with("hello from process ") => node = true,
            answer => panic!("{answer}: {}", gang.lines()),
        }
    }
}

fn mixed(setup: Setup, schedule: &str) -> Setup {
    let (node, rust) = (node_example("plain.js"), rust_example("hello"));
    setup.file(
        "ganger.toml",
        &format!(
            "name = 'shop'\n\
             schedule = '{schedule}'\n\
             [[worker]]\nname = 'web'\nprogram = '{node}'\n\
             [[worker]]\nname = 'rust'\nprogram = '{rust}'\ncount = 2"
        ),
    )
}

#[test]
fn node_and_rust_serve_one_port_and_come_back_as_what_they_were() {
    on_every_node("mixed gang by ganger.toml", |major| {
        let mut gang = mixed(Setup::new(major), "rr").start("run");
        gang.says("ganger.toml says what is run");
        gang.says("shop: starting 3 workers (rr)");
        let table = [
            format!("web  1 × node {}", node_example("plain.js")),
            format!("rust 2 × {}", rust_example("hello")),
        ];
        table.iter().for_each(|line| drop(gang.says(line)));
        let (pids, port) = (gang.ready(), gang.port());
        both_answer(&gang, port);

        for (worker, group) in [(1, "web"), (3, "rust")] {
            let process = Process::of(pids[worker - 1]);
            let program = program_of(pids[worker - 1]);
            process.kill();
            gang.says(&format!("worker {worker} ({group}, pid {}) died", pids[worker - 1]));
            let ready = gang.lines().wait(
                false,
                |line| line.contains(&format!("({group}, pid ")) && line.contains("is ready after"),
                "the replacement",
            );
            let (_, pid) = ready.split_once(", pid ").unwrap();
            let pid = pid.split(')').next().unwrap().parse().unwrap();
            assert_eq!(program_of(pid), program, "{}", gang.lines());
            both_answer(&gang, port);
        }
        gang.stop();
    });
}

fn program_of(pid: i32) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

#[test]
fn the_example_of_a_mixed_gang_works() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/mixed");
    let text = std::fs::read_to_string(directory.join("ganger.toml")).unwrap();
    // Where cargo builds for the tests, and where the file is.
    let text = text.replace("../../target/debug/examples/hello", &rust_example("hello"));
    let text =
        text.replace("../node", Path::new(&node_example("plain.js")).parent().unwrap().to_str().unwrap());
    let mut gang = Setup::new("24").file("ganger.toml", &text).start("run");
    gang.ready();
    both_answer(&gang, gang.port());
    gang.stop();
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
