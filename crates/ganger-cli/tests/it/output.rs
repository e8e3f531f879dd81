//! What workers write, and what ganger says.

use serde_json::Value;

use super::harness::{Process, Setup, client, example};

#[test]
fn lines_of_workers_stay_whole_in_a_pipe() {
    let app = "
        const text = 'é'.repeat(3000);
        process.on('message', () => {});
        for (let line = 0; line < 200; line++) {
          const json = JSON.stringify({ worker: require('cluster').worker.id, line, text });
          console.log(json);
          console.error(json);
        }";
    let mut gang = Setup::new("24").file("app.js", app).start("run -n 2 app.js");
    for stdout in [true, false] {
        let lines = gang.lines().wait_for(stdout, 400, |line| !line.starts_with("ganger: "));
        let mut expected = [0, 0];
        for line in lines {
            let object: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let worker: usize = object["worker"].as_u64().unwrap().try_into().unwrap();
            assert_eq!(object["line"], expected[worker - 1], "of worker {worker}");
            expected[worker - 1] += 1;
        }
        assert_eq!(expected, [200, 200]);
    }
    gang.stop();
}

#[test]
fn a_terminal_gets_a_prefix_and_colours_unless_they_are_not_wanted() {
    let app = "console.log('here'); process.on('message', () => {});";
    let mut gang =
        Setup::new("24").file("app.js", app).env("TERM", "xterm").terminal().start("run -n 1 app.js");
    assert_eq!(gang.prints("here"), "\x1b[36m1 │\x1b[0m here");
    gang.prints("\x1b[36mganger:\x1b[0m ");
    gang.stop();

    let plain = Setup::new("24").file("app.js", app).env("NO_COLOR", "1").terminal();
    let mut gang = plain.start("run -n 1 app.js");
    assert_eq!(gang.prints("here"), "1 │ here");
    gang.stop();
    assert!(!gang.lines().to_string().contains('\x1b'), "{}", gang.lines());
}

#[test]
fn a_reader_that_stops_reading_holds_up_neither_the_gang_nor_its_end() {
    let app = "
        require('http').createServer((request, response) => response.end(String(process.pid)))
          .listen(0, '127.0.0.1', function () { console.log('port', this.address().port); });";
    let mut gang = Setup::new("24").file("app.js", app).deaf().start("run -n 1 app.js");
    let port = gang.prints("port ").trim_start_matches("port ").parse().unwrap();
    // Each death is told where nobody listens, and each replacement is served all the same.
    for _ in 0..3 {
        let worker = Process::of(client::get(port, "/").unwrap().parse().unwrap());
        worker.kill();
        worker.ends();
    }
    client::get(port, "/").unwrap();
    gang.stop();
}

#[test]
fn quiet_leaves_warnings_and_errors() {
    let mut gang = Setup::new("24").start(&format!("run -q -n 1 {}", example("hello.js")));
    let started = gang.prints("started");
    let pid = started.split(' ').nth(1).unwrap().parse().unwrap();
    // It may not be ready yet: the second worker may be started after a pause.
    let worker = Process::of(pid);
    gang.signal(rustix::process::Signal::USR1);
    gang.says("SIGUSR1 is ignored");
    gang.stop();
    worker.ends();
    assert_eq!(gang.lines().of(false).len(), 1, "{}", gang.lines());
}

#[test]
fn json_lines_tell_everything() {
    let plain = example("plain.js");
    let mut gang = Setup::new("24").start(&format!("run -n 2 --log-format json --name shop {plain}"));
    let ready: Value = serde_json::from_str(&gang.says(r#""event":"ready""#)).unwrap();
    let victim = ready["pids"][0].as_i64().unwrap();
    Process::of(victim.try_into().unwrap()).kill();
    let died: Value = serde_json::from_str(&gang.says(r#""event":"worker-died""#)).unwrap();
    let expected: [(&str, Value); 5] = [
        ("worker", 1.into()),
        ("slot", 0.into()),
        ("pid", victim.into()),
        ("cause", "signal SIGKILL".into()),
        ("level", "warning".into()),
    ];
    for (key, value) in expected {
        assert_eq!(died[key], value, "{key} of {died}");
    }
    assert!(died["age"].is_f64() && died["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{died}");
    gang.stop();
    let events: Vec<String> = gang.lines().of(false).iter().map(|line| name(line)).collect();
    assert_eq!(events.first().map(String::as_str), Some("starting"), "{}", gang.lines());
    assert_eq!(events.last().map(String::as_str), Some("stopped"), "{}", gang.lines());
    let once = |name: &str| assert_eq!(events.iter().filter(|event| *event == name).count(), 1, "{name}");
    ["starting", "listening", "ready", "worker-died", "stopping", "stopped"].into_iter().for_each(once);
}

/// The event of a line, which must be an object.
fn name(line: &str) -> String {
    let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    object["event"].as_str().unwrap_or_else(|| panic!("no event: {line}")).to_owned()
}
