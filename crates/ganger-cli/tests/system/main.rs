//! The command where only root can put it: as PID 1 of a namespace of its own, like in a container, and in a memory cgroup.

mod memory;

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

#[test]
fn as_pid_1_it_reaps_the_orphans_of_its_workers() {
    let nodes = std::env::var_os("GANGER_TEST_NODES").expect("the tests are run by `cargo xtask test`");
    let node = PathBuf::from(nodes).join("24/bin/node");
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("orphan.js");
    std::fs::write(&script, ORPHAN).unwrap();

    let mut gang = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_ganger"))
        .args(["run", "-n", "1", "--runtime"])
        .args([&node, &script])
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
    assert_eq!(seen, ["orphan of 1", "reaped"]);
}
