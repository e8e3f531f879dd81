//! Signals to the primary: how it ends, and that nothing outlives it.

use rustix::process::Signal;

use super::harness::{Gang, Process, Setup, client::get, example, on_every_node, rust_example};

/// Leaves neither when it is asked to nor when it is told to; says so first.
const STUBBORN: &str = "
    process.on('SIGTERM', () => {});
    process.on('disconnect', () => {});
    setInterval(() => {}, 1000);
    require('http').createServer().listen(0);";

fn processes(workers: Vec<i32>) -> Vec<Process> {
    workers.into_iter().map(Process::of).collect()
}

#[test]
fn each_stop_signal_ends_the_gang_gracefully() {
    for schedule in ["rr", "shared"] {
        on_every_node(&format!("graceful stop ({schedule})"), |major| {
            for (signal, name) in
                [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT"), (Signal::QUIT, "SIGQUIT")]
            {
                let plain = example("plain.js");
                let mut gang = Setup::new(major).start(&format!("run -n 2 --schedule {schedule} {plain}"));
                let workers = processes(gang.ready());
                gang.signal(signal);
                assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
                gang.says(&format!("stopping ({name}): 2 workers"));
                gang.says("stopped after");
                workers.iter().for_each(Process::ends);
            }
        });
    }
}

/// It has a session of its own, so that it is not killed with its worker, and ends when nobody reads it.
#[test]
fn a_descendant_that_writes_for_ever_does_not_hold_up_the_end() {
    let app = "
        const { spawn } = require('child_process');
        spawn('sh', ['-c', 'while echo more; do sleep 0.05; done'], { detached: true, stdio: 'inherit' }).unref();
        require('http').createServer().listen(0);";
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 1 app.js");
    gang.ready();
    gang.prints("more");
    gang.signal(Signal::TERM);
    assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    gang.says("stopped after");
}

#[test]
fn a_request_under_way_is_finished() {
    on_every_node("request finished in a stop", |major| {
        let app = "
            const fs = require('fs');
            require('http').createServer((request, response) => {
              console.log('asked');
              (function wait() { if (fs.existsSync('go')) response.end('finished'); else setTimeout(wait, 5); })();
            }).listen(0);";
        let mut gang = Setup::new(major).file("app.js", app).start("run -n 1 app.js");
        gang.ready();
        let port = gang.port();
        let client = std::thread::spawn(move || get(port, "/"));
        gang.prints("asked");
        gang.signal(Signal::TERM);
        gang.says("stopping (SIGTERM): 1 worker");
        std::fs::write(gang.path().join("go"), "").unwrap();
        assert_eq!(client.join().unwrap().unwrap(), "finished", "{}", gang.lines());
        assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    });
}

#[test]
fn it_serves_on_for_the_drain_delay() {
    let words = format!("run -n 2 --drain-delay 2m {}", example("plain.js"));
    let mut gang = Setup::new("24").start(&words);
    let workers = gang.ready();
    gang.signal(Signal::TERM);
    gang.says("stopping (SIGTERM): 2 workers");
    gang.says("not ready any more, and serving on for 2 min (--drain-delay)");
    for _ in 0..4 {
        get(gang.port(), "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
    }
    Process::of(workers[0]).kill();
    gang.says("worker 3 (pid ");
    get(gang.port(), "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
    // Enough of that.
    gang.signal(Signal::TERM);
    assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    gang.says("stopping at once (SIGTERM again)");
}

#[test]
fn after_the_drain_delay_it_stops() {
    let mut gang =
        Setup::without_node().start(&format!("run -n 1 --drain-delay 300ms {}", rust_example("hello")));
    gang.ready();
    gang.signal(Signal::TERM);
    gang.says("serving on for 0.30 s");
    assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    gang.says("stopped after ");
}

/// The second worker listens to the signal, and shows when it would have been sent to the first one as well.
#[test]
fn a_program_that_does_not_listen_to_the_signal_finishes_its_requests_all_the_same() {
    let app = "
        const fs = require('fs');
        if (process.env.GANGER_SLOT === '1') process.on('SIGTERM', () => console.log('told'));
        require('http').createServer((request, response) => {
          console.log('asked');
          (function wait() { if (fs.existsSync('go')) response.end('finished'); else setTimeout(wait, 5); })();
        }).listen(0);";
    for major in ["18", "26"] {
        let mut gang = Setup::new(major).file("app.js", app).start("run -n 2 app.js");
        gang.ready();
        let port = gang.port();
        let clients = [(); 2].map(|()| std::thread::spawn(move || get(port, "/")));
        gang.lines().wait_for(true, 2, |line| line.contains("asked"));
        gang.signal(Signal::TERM);
        gang.prints("told");
        std::fs::write(gang.path().join("go"), "").unwrap();
        for client in clients {
            assert_eq!(client.join().unwrap().unwrap(), "finished", "{}", gang.lines());
        }
        assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut gang = Setup::new("24").file("app.js", STUBBORN).start("run -n 2 --stop-timeout 2m app.js");
    let workers = processes(gang.ready());
    gang.signal(Signal::TERM);
    gang.says("stopping (SIGTERM): 2 workers");
    gang.signal(Signal::INT);
    assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    gang.says("stopping at once (SIGINT again)");
    workers.iter().for_each(Process::ends);
}

#[test]
fn who_does_not_leave_in_time_is_killed() {
    let mut gang = Setup::new("24").file("app.js", STUBBORN).start("run -n 1 --stop-timeout 500ms app.js");
    let workers = processes(gang.ready());
    gang.stop();
    gang.says("did not leave within 0.5");
    workers.iter().for_each(Process::ends);
}

#[test]
fn workers_do_not_outlive_a_killed_primary() {
    on_every_node("no orphans", |major| {
        // One of them in an endless loop, which never sees that its channel closes.
        let app = "
            require('http').createServer(() => { console.log('busy'); for (;;); }).listen(0);";
        let mut gang = Setup::new(major).file("app.js", app).start("run -n 2 app.js");
        let workers = processes(gang.ready());
        let port = gang.port();
        let client = std::thread::spawn(move || get(port, "/"));
        gang.prints("busy");
        gang.signal(Signal::KILL);
        gang.ends();
        workers.iter().for_each(Process::ends);
        client.join().unwrap().unwrap_err();
    });
}

fn still_serves(gang: &mut Gang) {
    get(gang.port(), "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
    gang.stop();
}

#[test]
fn signals_for_what_is_not_there_yet_change_nothing() {
    let mut gang = Setup::new("24").start(&format!("run -n 1 {}", example("plain.js")));
    gang.ready();
    let signals = [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")];
    for (signal, name) in signals {
        gang.signal(signal);
        gang.says(&format!("{name} is ignored: "));
    }
    still_serves(&mut gang);
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_so() {
    let command =
        format!("trap '' HUP; exec {} run -n 1 {}", env!("CARGO_BIN_EXE_ganger"), example("plain.js"));
    let mut gang = Setup::new("24").start_program("sh", ["-c", &command].into_iter());
    gang.ready();
    gang.signal(Signal::HUP);
    gang.signal(Signal::USR1);
    gang.says("SIGUSR1 is ignored");
    assert!(!gang.lines().to_string().contains("SIGHUP"), "{}", gang.lines());
    still_serves(&mut gang);
}

#[test]
fn a_hangup_of_the_terminal_stops() {
    let mut gang = Setup::new("24").terminal().start(&format!("run -n 1 {}", example("plain.js")));
    gang.prints("ready in");
    gang.signal(Signal::HUP);
    assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
    gang.prints("stopping (SIGHUP)");
}
