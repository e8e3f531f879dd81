//! The command where only root can put it: as PID 1 of a namespace of its own, like in a container, in a memory cgroup, and as nobody.

mod memory;
mod privileged;

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// A worker leaves an orphan behind, which comes to PID 1, and says so when nothing is left of it, not even
/// a zombie.
const ORPHAN: &str = r#"
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const parent = (pid) => fs.readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ')[1];

execFile('sh', ['-c', 'sleep 0.3 >/dev/null 2>&1 & echo $!'], (error, stdout) => {
  if (error) throw error;
  const orphan = stdout.trim();
  console.log(`orphan of ${parent(orphan)}`);
  const timer = setInterval(() => {
    if (fs.existsSync(`/proc/${orphan}`)) return;
    clearInterval(timer);
    console.log('reaped');
  }, 20);
});
require('node:http').createServer(() => {}).listen(0);
"#;

/// The first worker has a child and is killed; the second one says so when nothing is left of either, not even a zombie.
const KILLED: &str = r#"
const fs = require('node:fs');
require('node:http').createServer(() => {}).listen(0, () => {
  if (!fs.existsSync('dead')) {
    const { pid } = require('node:child_process').spawn('tail', ['-f', '/dev/null'], { stdio: 'ignore' });
    fs.writeFileSync('dead', `${process.pid} ${pid}`);
    // It is ready when the primary knows that it listens.
    return process.send('ready', () => process.kill(process.pid, 'SIGKILL'));
  }
  const dead = fs.readFileSync('dead', 'latin1').split(' ');
  console.log(`killed ${dead.length}`);
  const timer = setInterval(() => {
    if (dead.some((pid) => fs.existsSync(`/proc/${pid}`))) return;
    clearInterval(timer);
    console.log('reaped');
  }, 20);
});
"#;

#[test]
fn as_pid_1_it_leaves_nothing_of_a_killed_worker() {
    assert_eq!(lines_as_pid_1(KILLED), ["killed 2", "reaped"]);
}

/// It hangs, and the watchdog finds it.
#[test]
fn as_pid_1_it_leaves_nothing_of_a_worker_that_hung() {
    let hung = KILLED.replace("process.kill(process.pid, 'SIGKILL')", "{ for (;;); }");
    assert_eq!(lines_as_pid_1(&hung), ["killed 2", "reaped"]);
}

#[test]
fn as_pid_1_it_reaps_the_orphans_of_its_workers() {
    assert_eq!(lines_as_pid_1(ORPHAN), ["orphan of 1", "reaped"]);
}

/// What a program writes under a `ganger` that is PID 1, until it says `reaped`.
fn lines_as_pid_1(program: &str) -> Vec<String> {
    let nodes = std::env::var_os("GANGER_TEST_NODES").expect("the tests are run by `cargo xtask test`");
    let node = PathBuf::from(nodes).join("24/bin/node");
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("app.js");
    std::fs::write(&script, program).unwrap();

    let mut gang = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_ganger"))
        .args(["run", "-n", "1", "--watchdog", "1s", "--runtime"])
        .args([&node, &script])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare of util-linux");
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(gang.stdout.take().unwrap());
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));

    let mut seen = Vec::new();
    while !seen.contains(&"reaped".to_owned()) {
        match lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) => seen.push(line),
            Err(error) => {
                gang.kill().unwrap();
                let mut stderr = String::new();
                gang.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("{error}; it said {seen:?}\n{stderr}");
            }
        }
    }
    gang.kill().unwrap();
    gang.wait().unwrap();
    seen
}
