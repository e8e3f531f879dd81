//! Two thousand children, a hundred at a time, and nothing is left of them.

use ganger::{
    process::{Command, Event, Exit, Stdio},
    sys::fd::count_open,
};
use libtest_mimic::Trial;
use tokio::{io::AsyncReadExt, task::JoinSet};

use crate::{part, row};

const CHILDREN: usize = 2000;
const AT_A_TIME: usize = 100;

pub(crate) fn trials() -> Vec<Trial> {
    vec![row("two thousand children", || async {
        // In a process of its own: what is left is to be its alone.
        let mut command = part::command("stress");
        let exit = command.stderr(Stdio::Inherit).spawn().unwrap().wait().await.unwrap();
        assert_eq!(exit, Exit::Code(0));
    })]
}

pub(crate) fn play() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // With the thread that waits for who was left behind, which stays.
        for number in 0..4 {
            one(number).await;
        }
        crate::support::until(|| children().is_empty()).await;
        let before = count_open().unwrap();
        let mut running = JoinSet::new();
        for number in 0..CHILDREN {
            if running.len() == AT_A_TIME {
                running.join_next().await.unwrap().unwrap();
            }
            running.spawn(one(number));
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
        // Who was left behind ends in its own time.
        crate::support::until(|| children().is_empty()).await;
        assert_eq!(count_open().unwrap(), before);
    });
}

/// A child of one of four kinds: read to its end, killed, left behind, or with a channel.
async fn one(number: usize) {
    match number % 4 {
        0 => {
            let mut child = Command::new("echo").arg("x").spawn().unwrap();
            let mut text = String::new();
            child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "x\n");
            while let Some(event) = child.next().await {
                if let Event::Exit(exit) = event {
                    assert_eq!(exit, Exit::Code(0));
                }
            }
        }
        1 => {
            let mut child = Command::new("cat").kill_group(true).spawn().unwrap();
            assert!(child.kill(9).unwrap());
            assert_eq!(child.wait().await.unwrap(), Exit::Signal { signal: 9, core_dumped: false });
        }
        2 => drop(Command::new("cat").spawn().unwrap()),
        _ => {
            let mut child = Command::new("true").descriptor(3, Stdio::Ipc).spawn().unwrap();
            assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
        }
    }
}

/// The children of this process, zombies among them.
fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|list| list.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
