//! Who is not started again, and what becomes of the gang then.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Gang, Process, Setup, client::get, on_every_node, rust_example};

/// Ends with the code that it is asked for.
const ENDS: &str = "
    require('http').createServer((request, response) => {
      const [, path, code] = request.url.split('/');
      if (path === 'exit') process.exit(Number(code));
      response.end('one ' + process.pid);
    }).listen(process.env.PORT ?? 0);";

fn serves(gang: &Gang, port: u16) {
    for _ in 0..10 {
        get(port, "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
    }
}

#[test]
fn on_failure_only_who_failed_is_started_again() {
    on_every_node("restart on failure", |major| {
        let mut gang = Setup::new(major).file("app.js", ENDS).start("run -n 2 --restart on-failure app.js");
        gang.ready();
        let port = gang.port();
        get(port, "/exit/0").unwrap_err();
        let ended = gang.says("exit code 0; not started again (--restart on-failure)");
        assert!(ended.contains(" has ended after "), "{ended}");
        serves(&gang, port);
        get(port, "/exit/3").unwrap_err();
        gang.says(": exit code 3; ");
        gang.lines().wait_for(false, 1, |line| line.contains(" is ready after "));
        get(port, "/exit/0").unwrap_err();
        assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
        gang.says("ganger: all workers have ended");
    });
}

#[test]
fn a_rust_worker_that_panics_has_failed() {
    let words = format!("run -n 1 --restart on-failure {}", rust_example("graceful"));
    let mut gang = Setup::without_node().start(&words);
    gang.ready();
    get(gang.port(), "/panic").unwrap_err();
    gang.says("died after ");
    gang.says("ganger: worker 2 (pid ");
    assert_eq!(get(gang.port(), "/").unwrap(), "hello from worker 2\n");
    gang.stop();
}

#[test]
fn none_is_started_again_and_a_failure_is_the_gangs() {
    on_every_node("no restart", |major| {
        let mut gang = Setup::new(major).file("app.js", ENDS).start("run -n 2 --restart no app.js");
        let (pids, port) = (gang.ready(), gang.port());
        Process::of(pids[0]).kill();
        gang.says("signal SIGKILL; not started again (--restart no)");
        serves(&gang, port);
        get(port, "/exit/0").unwrap_err();
        assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
        gang.says("ganger: all workers have ended, 1 of them with a failure");
    });
}

#[test]
fn work_that_is_done_ends_the_gang_well() {
    // As a worker of a cluster a Node does not end for want of work: its channel keeps it.
    let done = "console.log('done', process.env.GANGER_SLOT)";
    for (restart, end, code) in [
        ("no", "process.exit()", 0),
        ("on-failure", "process.exit()", 0),
        ("on-failure", "process.disconnect()", 0),
        ("no", "process.exit(Number(process.env.GANGER_SLOT))", 1),
    ] {
        let setup = Setup::new("24").file("job.js", &format!("{done}; {end};"));
        let mut gang = setup.start(&format!("run -n 3 --restart {restart} job.js"));
        assert_eq!(gang.ends(), Some(code), "{}", gang.lines());
        (0..3).for_each(|slot| drop(gang.prints(&format!("done {slot}"))));
    }
    let mut gang = Setup::without_node().start("run -n 2 --restart on-failure true");
    assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    // A program that fails to start is no work.
    let mut gang = Setup::without_node().start("run -n 2 --restart on-failure false");
    assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
    gang.says("died before it was ready: exit code 1");
}

#[test]
fn a_program_may_say_that_it_is_not_to_be_started_again() {
    for schedule in ["rr", "shared", "reuseport"] {
        on_every_node(&format!("no-restart codes ({schedule})"), |major| {
            let rust = rust_example("hello");
            let file = format!(
                "schedule = '{schedule}'\n\
                 [[worker]]\nname = 'web'\nprogram = 'app.js'\nno-restart-codes = [64, 78]\n\
                 [[worker]]\nname = 'rust'\nprogram = '{rust}'"
            );
            let mut gang = Setup::new(major).file("app.js", ENDS).file("ganger.toml", &file).start("run");
            gang.ready();
            let port = gang.port();
            // Whoever answers, Node's is asked in the end.
            while get(port, "/exit/78").is_ok() {}
            let ended = gang.says("exit code 78; not started again (--no-restart-codes)");
            assert!(ended.starts_with("ganger: worker 1 (web, pid "), "{ended}");
            for _ in 0..10 {
                assert_eq!(get(port, "/").unwrap(), "hello world\n", "{}", gang.lines());
            }
            // A better program gets its chance.
            gang.signal(Signal::HUP);
            gang.says("reloaded 2 workers in ");
            while !get(port, "/").unwrap().starts_with("one ") {}
            gang.stop();
        });
    }
}

#[test]
fn with_one_worker_that_is_the_end() {
    let file = "program = 'app.js'\nworkers = 1\nno-restart-codes = 78";
    let setup = Setup::new("24").file("app.js", ENDS).file("ganger.toml", file);
    let mut gang = setup.start("run --log-format json");
    let listening: Value = serde_json::from_str(&gang.says(r#""event":"listening""#)).unwrap();
    let port = listening["address"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    gang.says(r#""event":"ready""#);
    get(port, "/exit/78").unwrap_err();
    assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
    let died: Value = serde_json::from_str(&gang.says(r#""event":"worker-died""#)).unwrap();
    assert_eq!((&died["exit_code"], &died["level"]), (&78.into(), &"warning".into()), "{died}");
    assert_eq!(died["not_restarted"], "--no-restart-codes", "{died}");
    let ended: Value = serde_json::from_str(&gang.says(r#""event":"ended""#)).unwrap();
    assert_eq!((&ended["failed"], &ended["level"]), (&1.into(), &"error".into()), "{ended}");
}

/// The codes are those of the program as it is now.
#[test]
fn a_reload_reads_the_codes_again() {
    let file = "program = 'app.js'\nworkers = 2\n";
    let mut gang = Setup::new("24").file("app.js", ENDS).file("ganger.toml", file).start("run");
    gang.ready();
    fs::write(gang.path().join("ganger.toml"), format!("{file}no-restart-codes = [78]")).unwrap();
    gang.signal(Signal::HUP);
    gang.says("reloaded 2 workers in ");
    get(gang.port(), "/exit/78").unwrap_err();
    gang.says("exit code 78; not started again (--no-restart-codes)");
    serves(&gang, gang.port());
    gang.stop();
}
