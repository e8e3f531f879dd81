//! What cannot be run is refused before anything is started: one line, exit status 2.

use super::harness::Setup;

fn refused(setup: Setup, words: &str, expected: &str) {
    let before = files(&setup);
    let mut gang = setup.start(words);
    let code = gang.ends();
    assert_eq!(code, Some(2), "{}", gang.lines());
    let said = gang.lines().of(false);
    assert!(said.len() == 1 && said[0].starts_with("ganger: "), "not one line of ours: {}", gang.lines());
    assert!(said[0].contains(expected), "no {expected:?} in {}", gang.lines());
    assert!(gang.lines().of(true).is_empty(), "{}", gang.lines());
    assert_eq!(std::fs::read_dir(gang.path()).unwrap().count(), before, "left behind: {}", gang.lines());
}

fn files(setup: &Setup) -> usize {
    std::fs::read_dir(setup.path()).unwrap().count()
}

#[test]
fn options_that_make_no_sense() {
    let empty = Setup::without_node;
    refused(empty(), "run", "name a PROGRAM (ganger run app.js), or write a ganger.toml here or above");
    refused(empty(), "run -n 0 x", "at least one, or auto");
    refused(empty(), "run --bogus x", "unexpected argument '--bogus'");
    refused(empty(), "run --schedule sticky=path:x x", "rr, least-conn, sticky");
    refused(empty(), "run --stop-timeout 1h x", "a duration is a number with s, ms or m");
    refused(empty(), "rum x", "unrecognized subcommand 'rum'");
}

#[test]
fn programs_that_cannot_be_run() {
    let empty = Setup::without_node;
    refused(empty(), "run nope.js", "nope.js does not exist");
    refused(empty(), "run ./nope", "./nope does not exist");
    refused(empty(), "run no-such-program-anywhere", "none on PATH");
    refused(empty().file("notes", ""), "run ./notes", "./notes is not executable: chmod +x");
    refused(empty().file("app/x", ""), "run app", "app is a directory without a package.json");
    refused(empty().file("app.js", ""), "run --runtime ./none app.js", "the runtime ./none does not exist");
    refused(empty().file("app.js", "").env("PATH", "/nowhere"), "run app.js", "install Node.js");
    refused(empty().env("PATH", "/nowhere"), "run node app.js", "install Node.js");
    let vite = r#"{"scripts":{"start":"vite"}}"#;
    refused(empty().file("package.json", vite), "run npm start", "npm start runs `vite`");
}

#[test]
fn nothing_but_the_refusal_is_said_in_json() {
    let mut gang = Setup::without_node().start("run --log-format json nope.js");
    assert_eq!(gang.ends(), Some(2), "{}", gang.lines());
    let said = gang.lines().of(false);
    let object: serde_json::Value = serde_json::from_str(&said[0]).unwrap();
    assert_eq!((said.len(), &object["event"]), (1, &"usage".into()));
    assert_eq!(
        object["message"],
        "nope.js does not exist: look at its spelling and at where it is looked for"
    );
}

#[test]
fn help_goes_to_stdout() {
    for words in ["run --help", "--help", "--version"] {
        let mut gang = Setup::without_node().start(words);
        assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
        assert!(!gang.lines().of(true).is_empty() && gang.lines().of(false).is_empty(), "{}", gang.lines());
    }
}

#[test]
fn an_option_behind_the_program_is_warned_of_and_goes_to_the_program() {
    let app = "process.on('message', () => {}); console.log(JSON.stringify(process.argv.slice(2)));";
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 1 app.js -n 7");
    gang.says("-n stands behind the program and goes to it");
    assert_eq!(gang.prints("7"), r#"["-n","7"]"#);
    gang.stop();
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 1 -- app.js -n 7");
    assert_eq!(gang.prints("7"), r#"["-n","7"]"#);
    gang.stop();
    assert!(!gang.lines().to_string().contains("stands behind"), "{}", gang.lines());
}
