//! Rows `sync`.

use std::time::{Duration, Instant};

use ganger::process::{Command, Exit, Failure, Stdio, exec_file_sync, exec_sync, spawn_sync};
use libtest_mimic::Trial;

use crate::{part, row, support::Directory};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        row("test-child-process-execfilesync-maxbuf", exec_file_max_buffer),
        row("test-child-process-execsync-maxbuf", exec_max_buffer),
        row("test-child-process-spawnsync-args", args),
        row("test-child-process-spawnsync-env", environment),
        row("test-child-process-spawnsync-input", input),
        row("test-child-process-spawnsync-maxbuf", spawn_max_buffer),
        row("test-child-process-spawnsync-shell", shell),
        row("test-child-process-spawnsync-timeout", timeout),
        row("test-child-process-spawnsync", spawn),
        row("a blocking wait for who ignores the signal", ignored_signal),
    ]
}

async fn exec_file_max_buffer() {
    let error = Command::new("echo").arg("this is stdout").max_buffer(1).exec_sync().unwrap_err();
    assert_eq!((error.code(), error.failure.errno()), (Some("ENOBUFS"), Some(105)));
    assert_eq!(error.stdout, "this is stdout\n");
    let mut command = Command::new("echo");
    assert_eq!(command.arg("this is stdout").max_buffer(usize::MAX).exec_sync().unwrap(), "this is stdout\n");
    let error = exec_file_sync("sh", ["-c", &too_much(1 << 20)]).unwrap_err();
    assert_eq!(error.code(), Some("ENOBUFS"));
}

fn too_much(count: usize) -> String {
    format!("head -c {count} /dev/zero; echo")
}

async fn exec_max_buffer() {
    let error = Command::shell("echo hello world").max_buffer(1).exec_sync().unwrap_err();
    assert_eq!((error.code(), error.stdout.text()), (Some("ENOBUFS"), "hello world\n".into()));
    Command::shell("echo hello world").max_buffer(usize::MAX).exec_sync().unwrap();
    assert_eq!(exec_sync(too_much(1 << 20)).unwrap_err().code(), Some("ENOBUFS"));
    assert_eq!(exec_sync(too_much((1 << 20) - 1)).unwrap().len(), 1 << 20);
}

async fn args() {
    let finished = Command::new("pwd").cwd("/dev").spawn_sync().unwrap();
    assert!(finished.stdout().unwrap().starts_with(b"/dev") && finished.stderr().unwrap().is_empty());
}

async fn environment() {
    let finished = Command::shell("echo $foo").env("foo", "bar").spawn_sync().unwrap();
    assert_eq!(*finished.stdout().unwrap(), "bar\n");
}

async fn input() {
    for input in ["hello", "", &"long ".repeat(100_000)] {
        let finished = Command::new("cat").input(input).spawn_sync().unwrap();
        assert_eq!((finished.exit, finished.stderr().unwrap().len()), (Exit::Code(0), 0));
        assert!(*finished.stdout().unwrap() == *input);
    }
    // Who does not read it may leave it.
    let finished = Command::new("true").input("x".repeat(300_000)).spawn_sync().unwrap();
    assert_eq!(finished.exit, Exit::Code(0));
    // `inherit`, and what the throwing form does with stderr.
    let output = part::command("blocking inherit").exec().await.unwrap();
    assert_eq!((output.stdout.text(), output.stderr.text()), ("to stdout\n".into(), "to stderr\n".into()));
}

async fn spawn_max_buffer() {
    let finished = Command::new("echo").arg("this is stdout").max_buffer(1).spawn_sync().unwrap();
    let failure = finished.failure.as_ref().unwrap();
    assert_eq!((failure.code(), failure.errno()), (Some("ENOBUFS"), Some(105)));
    assert_eq!(*finished.stdout().unwrap(), "this is stdout\n");
    let finished = Command::shell(too_much(1 << 20)).spawn_sync().unwrap();
    assert!(matches!(finished.failure, Some(Failure::NoBuffers)));
    let finished = Command::shell(too_much((1 << 20) - 1)).spawn_sync().unwrap();
    assert!(finished.failure.is_none());
    // All streams count together.
    let both = "head -c 700 /dev/zero; head -c 700 /dev/zero >&2; read x";
    let finished = Command::shell(both).max_buffer(1000).spawn_sync().unwrap();
    assert!(matches!(finished.failure, Some(Failure::NoBuffers)));
}

async fn shell() {
    let finished = Command::shell("does-not-exist").spawn_sync().unwrap();
    assert_eq!((finished.exit, finished.failure.is_none()), (Exit::Code(127), true));
    let line = |command: &mut Command| exec_line(command);
    assert_eq!(line(&mut Command::shell("echo foo")), "foo\n");
    assert_eq!(line(&mut Command::shell("echo bar | cat")), "bar\n");
    assert_eq!(line(Command::shell("echo $BAZ").env("BAZ", "buzz")), "buzz\n");
    // The arguments follow on the line, unquoted.
    assert_eq!(line(Command::shell("echo").args(["a  b", "$0"])), "a b /bin/sh\n");
    assert_eq!(
        line(Command::new("tr '\\0' ' ' </proc/$$/cmdline").use_shell("/bin/bash")),
        "/bin/bash -c tr '\\0' ' ' </proc/$$/cmdline "
    );
}

fn exec_line(command: &mut Command) -> String {
    command.exec_sync().unwrap().into_text()
}

async fn timeout() {
    let begin = Instant::now();
    let mut command = Command::shell("echo so far; exec tail -f /dev/null");
    let finished = command.timeout(Duration::from_millis(1000)).spawn_sync().unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(1000));
    let failure = finished.failure.as_ref().unwrap();
    assert_eq!((failure.code(), failure.errno()), (Some("ETIMEDOUT"), Some(110)));
    assert_eq!(finished.exit, Exit::Signal { signal: 15, core_dumped: false });
    assert_eq!(*finished.stdout().unwrap(), "so far\n");
    let error = Command::new("tail").args(["-f", "/dev/null"]).timeout(Duration::from_millis(5)).exec_sync();
    assert_eq!(error.unwrap_err().code(), Some("ETIMEDOUT"));
}

async fn spawn() {
    assert_eq!(spawn_sync("sleep", ["0"]).unwrap().exit, Exit::Code(0));
    let error = spawn_sync("command_does_not_exist", ["bar"]).unwrap_err();
    assert_eq!((error.code(), error.errno()), ("ENOENT", Some(2)));
    assert_eq!((error.program.to_str(), &*error.args), (Some("command_does_not_exist"), &["bar".into()][..]));
    let directory = Directory::new();
    let path = std::fs::canonicalize(directory.path("")).unwrap();
    let finished = Command::new("pwd").cwd(&path).spawn_sync().unwrap();
    assert_eq!(finished.stdout().unwrap().text().trim_end(), path.to_str().unwrap());
    assert!(finished.output[0].is_none());
    // Further pipes are read as well.
    let finished = Command::shell("echo fourth >&4").descriptor(4, Stdio::Pipe).spawn_sync().unwrap();
    assert_eq!(finished.output[4].as_ref().unwrap(), &"fourth\n");
}

/// It is waited for, as in Node: the limit sends a signal, and no more.
async fn ignored_signal() {
    let mut command = Command::shell("trap '' TERM; echo ready; sleep 1.5 >&- 2>&-; exit 3");
    let finished = command.timeout(Duration::from_millis(1000)).spawn_sync().unwrap();
    assert_eq!(finished.exit, Exit::Code(3));
    assert_eq!(finished.failure.unwrap().code(), Some("ETIMEDOUT"));
}
