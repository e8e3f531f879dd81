//! The same in a real Node and here: children that end in odd ways end as Node's do.

use std::time::Duration;

use ganger::process::{Command, Event};
use libtest_mimic::Trial;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::{
    kid::{NODES, told},
    support::{self, Directory, node},
};

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |major: &'static str| {
        Trial::test(format!("odd ends are those of Node {major}"), move || {
            support::run(async {
                let directory = Directory::new();
                let script = directory.write("oracle.js", ORACLE);
                let mut oracle = Command::new(node(major));
                let output = oracle.arg(script).kill_group(true).exec().await.unwrap().stdout.into_text();
                let mut ours = Vec::new();
                for (name, script, what) in CASES {
                    ours.push(spawned(name, script, what).await);
                }
                let [one, two, three] = EXECS.map(|(name, script)| executed(name, script));
                ours.extend(<[String; 3]>::from(tokio::join!(one, two, three)));
                assert_eq!(comparable(&ours.join("\n")), comparable(output.trim_end()));
            });
            support::passed("odd ends of children", major);
            Ok(())
        })
    };
    NODES.into_iter().map(trial).collect()
}

/// Where a child's streams are open until it ends, which of the two is seen first is nobody's rule.
fn comparable(stories: &str) -> Vec<String> {
    let open_to_the_end =
        |story: &str| ["ignores TERM", "dies of"].iter().any(|name| story.starts_with(name));
    let lines = stories.lines();
    lines
        .map(|story| if open_to_the_end(story) { story.replace("end of stdout, ", "") } else { story.into() })
        .collect()
}

/// What is done when the child's first line has come.
#[derive(Clone, Copy)]
enum Then {
    /// It is given a line, so that it goes on.
    Write,
    /// It is sent TERM, then given a line.
    TermAndWrite,
    /// The process whose number the line is, is killed as soon as the child has ended.
    KillOther,
}

const CASES: [(&str, &str, Then); 4] = [
    ("closes its streams early", "echo first; exec >&- 2>&-; read x; exit 3", Then::Write),
    ("ignores TERM", "trap '' TERM; echo first; read x; exit 4", Then::TermAndWrite),
    ("leaves a grandchild with the pipe", "tail -f /dev/null & echo $!; exit 5", Then::KillOther),
    ("dies of its own signal", "echo first; read x; kill -USR1 $$", Then::Write),
];

/// Commands with a time limit.
const EXECS: [(&str, &str); 3] = [
    ("a shell that leaves its child behind", "tail -f /dev/null & echo $!; exec tail -f /dev/null"),
    ("a grandchild that holds the pipe of the dead", "tail -f /dev/null & echo $!; exit 0"),
    ("the same after a failure", "tail -f /dev/null & echo $!; exit 6"),
];

/// The limit, in both languages: long after the first line has come.
const LIMIT: Duration = Duration::from_millis(1500);

/// Prints a line a case: what happened, in order.
const ORACLE: &str = r#"
const { spawn, exec } = require('child_process');
const end = (code, signal) => signal ? `signal ${signal}` : `exit code ${code}`;
const spawned = (name, script, then) => new Promise((resolve) => {
  const child = spawn('sh', ['-c', script]);
  const story = [];
  let other;
  child.on('spawn', () => story.push('spawn'));
  child.stdout.once('data', (data) => {
    if (then === 'KillOther') { other = Number(String(data)); return; }
    if (then === 'TermAndWrite') story.push(`kill ${child.kill()}`);
    child.stdin.write('x\n');
  });
  child.stdout.on('end', () => story.push('end of stdout'));
  child.on('exit', (code, signal) => { story.push(`exit ${end(code, signal)}`); if (other) process.kill(other, 'SIGKILL'); });
  child.on('close', (code, signal) => { story.push(`close ${end(code, signal)}`); resolve(`${name}: ${story.join(', ')}`); });
});
const executed = (name, script) => new Promise((resolve) => {
  exec(script, { timeout: 1500 }, (error, stdout) => {
    if (!(Number(stdout) > 1)) throw new Error(`no number in time: ${stdout}`);
    process.kill(Number(stdout), 'SIGKILL');
    resolve(`${name}: ${error ? `${end(error.code, error.signal)}, killed ${error.killed}` : 'ok'}`);
  });
});
(async () => {
  console.log(await spawned('closes its streams early', 'echo first; exec >&- 2>&-; read x; exit 3', 'Write'));
  console.log(await spawned('ignores TERM', "trap '' TERM; echo first; read x; exit 4", 'TermAndWrite'));
  console.log(await spawned('leaves a grandchild with the pipe', 'tail -f /dev/null & echo $!; exit 5', 'KillOther'));
  console.log(await spawned('dies of its own signal', 'echo first; read x; kill -USR1 $$', 'Write'));
  const ends = await Promise.all([
    executed('a shell that leaves its child behind', 'tail -f /dev/null & echo $!; exec tail -f /dev/null'),
    executed('a grandchild that holds the pipe of the dead', 'tail -f /dev/null & echo $!; exit 0'),
    executed('the same after a failure', 'tail -f /dev/null & echo $!; exit 6'),
  ]);
  console.log(ends.join('\n'));
})();
"#;

async fn spawned(name: &str, script: &str, then: Then) -> String {
    let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut story = Vec::new();
    let mut other = None;
    let mut ended = false;
    loop {
        tokio::select! {
            biased;
            line = lines.next_line(), if !ended => match line.unwrap() {
                Some(line) => {
                    match then {
                        Then::KillOther => {
                            other = Some(ganger::sys::pidfd::PidFd::open(line.parse().unwrap()).unwrap());
                            continue;
                        }
                        Then::TermAndWrite => story.push(format!("kill {}", child.kill(15).unwrap())),
                        Then::Write => {}
                    }
                    stdin.write_all(b"x\n").await.unwrap();
                }
                None => {
                    ended = true;
                    story.push("end of stdout".to_owned());
                }
            },
            event = child.next() => {
                let Some(event) = event else { break };
                story.push(told(&event));
                if let (Event::Exit(_), Some(other)) = (&event, &other) {
                    other.kill(9).unwrap();
                }
            }
        }
    }
    format!("{name}: {}", story.join(", "))
}

async fn executed(name: &str, script: &str) -> String {
    let result = Command::shell(script).timeout(LIMIT).exec().await;
    let (told, stdout) = match result {
        Ok(output) => ("ok".to_owned(), output.stdout),
        Err(error) => {
            let exit = error.exit.unwrap();
            (format!("{exit}, killed {}", error.killed), error.stdout)
        }
    };
    let other = ganger::sys::pidfd::PidFd::open(stdout.text().trim().parse().unwrap()).unwrap();
    other.kill(9).unwrap();
    format!("{name}: {told}")
}
