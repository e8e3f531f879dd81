//! Child processes: how they end, what they inherit, who goes with whom.

use std::env;

use ganger::{
    process::{Command, Exit, Stdio},
    sys::spawn::Step,
};

use crate::support::{Fixture, is_fixture, read, run};

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// What the command writes to its stdout, line by line, until nobody has it any more.
async fn output(command: &mut Command) -> Vec<String> {
    let output = command.stdin(Stdio::Inherit).exec().await.unwrap();
    output.stdout.text().lines().map(str::to_owned).collect()
}

#[test]
fn an_exit_code_and_a_signal_are_told_apart() {
    run(async {
        assert_eq!(sh("exit 7").spawn().unwrap().wait().await.unwrap(), Exit::Code(7));
        let killed = sh("kill -KILL $$").spawn().unwrap().wait().await.unwrap();
        assert_eq!(killed, Exit::Signal { signal: 9, core_dumped: false });
        assert_eq!(killed.to_string(), "signal SIGKILL");
    });
}

#[test]
fn a_signal_reaches_the_child() {
    run(async {
        let mut child = sh("exec tail -f /dev/null").spawn().unwrap();
        child.kill(15).unwrap();
        let exit = child.wait().await.unwrap();
        assert_eq!(exit, Exit::Signal { signal: 15, core_dumped: false });
    });
}

#[test]
fn a_missing_program_and_a_missing_directory_are_told_apart() {
    run(async {
        let check = |command: &Command, step, code, text: &str| {
            let error = command.spawn().unwrap_err();
            assert_eq!((error.step(), error.code(), error.to_string().as_str()), (Some(step), code, text));
        };
        let nowhere = "/nowhere/program";
        let missing = "cannot start /nowhere/program: there is no such file (ENOENT)";
        check(&Command::new(nowhere), Step::Exec, "ENOENT", missing);
        let directory = "cannot start true: its working directory /nowhere does not exist (ENOENT)";
        check(Command::new("true").cwd("/nowhere"), Step::Chdir, "ENOENT", directory);
        let unfit = "cannot start /etc/passwd: it is not executable (EACCES)";
        check(&Command::new("/etc/passwd"), Step::Exec, "EACCES", unfit);
    });
}

#[test]
fn the_environment_is_ours_with_changes() {
    run(async {
        let mut command = Command::new("env");
        command.env("GANGER_ADDED", "1").env("HOME", "/elsewhere").env_remove("PWD");
        let env = output(&mut command).await;
        assert!(env.contains(&"GANGER_ADDED=1".to_owned()), "{env:?}");
        assert_eq!(
            env.iter().filter(|line| line.starts_with("HOME=")).collect::<Vec<_>>(),
            ["HOME=/elsewhere"]
        );
        assert!(!env.iter().any(|line| line.starts_with("PWD=")), "{env:?}");
        assert!(env.iter().any(|line| line.starts_with("PATH=")), "{env:?}");
    });
}

#[test]
fn the_parents_channel_is_not_passed_on() {
    const OURS: [&str; 3] = ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID"];
    run(async {
        if !is_fixture() {
            let test = "process::the_parents_channel_is_not_passed_on";
            let env = OURS.map(|name| (name, "17"));
            // Node's own way to hand out a channel: it is not passed on by accident, so it has to be meant.
            let mut fixture = Fixture::start(test, &env);
            fixture.said("inherited nothing").await;
            assert_eq!(fixture.child.wait().await.unwrap(), Exit::Code(0));
            return;
        }
        assert!(OURS.iter().all(|name| env::var(name).is_ok_and(|value| value == "17")));
        let channel = |env: Vec<String>| -> Vec<String> {
            env.into_iter().filter(|line| OURS.iter().any(|our| line.starts_with(our))).collect()
        };
        assert_eq!(channel(output(&mut Command::new("env")).await), [""; 0]);
        let with_one = channel(output(Command::new("env").descriptor(3, Stdio::Ipc)).await);
        assert_eq!(with_one, ["NODE_CHANNEL_FD=3", "NODE_CHANNEL_SERIALIZATION_MODE=json"]);
        println!("inherited nothing");
    });
}

#[test]
fn no_other_descriptor_is_inherited() {
    run(async {
        // One that somebody forgot to close on exec.
        let leaky = rustix::io::dup(std::io::stdin()).unwrap();
        // `ls` itself opens the directory, at the lowest free number.
        assert_eq!(output(Command::new("ls").arg("/proc/self/fd")).await, ["0", "1", "2", "3"]);
        let with_channel = output(Command::new("ls").arg("/proc/self/fd").descriptor(3, Stdio::Ipc)).await;
        assert_eq!(with_channel, ["0", "1", "2", "3", "4"]);
        drop(leaky);
    });
}

#[test]
fn killing_the_group_takes_grandchildren() {
    run(async {
        let mut child = sh("tail -f /dev/null & echo started; wait").guarded(true).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut started = [0; 8];
        tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut started).await.unwrap();
        assert!(child.kill_group(9).unwrap());
        // The end comes when the last of them is gone.
        assert_eq!(read(stdout).await, "");
        assert_eq!(child.wait().await.unwrap(), Exit::Signal { signal: 9, core_dumped: false });
    });
}

#[test]
fn a_guarded_child_dies_with_its_parent() {
    run(async {
        if !is_fixture() {
            let mut fixture = Fixture::start("process::a_guarded_child_dies_with_its_parent", &[]);
            fixture.said("child started").await;
            fixture.child.kill(9).unwrap();
            // Nobody has the pipe any more: neither the parent, nor the child in its own process group.
            assert_eq!(fixture.rest().await, [""; 0]);
            return;
        }
        let mut command = sh("echo child started; exec tail -f /dev/null");
        let mut child = command.guarded(true).stdout(Stdio::Inherit).spawn().unwrap();
        child.wait().await.unwrap();
        panic!("the child ended before its parent");
    });
}
