//! Rows `stdio`: what flows.

use ganger::process::{Command, Exit, Stdio, exec, spawn};
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    kid::story,
    row,
    support::{Directory, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        row("test-child-process-can-write-to-stdout", one_line),
        row("test-child-process-ipc", greeting_and_echo),
        row("test-child-process-stdin", stdin),
        row("test-child-process-stdout-flush-exit", all_of_it),
        row("test-child-process-stdout-flush", much_of_it),
        row("test-stdout-cannot-be-closed-child-process-pipe", the_end_of_stdout),
        row("test-pipe-unref", a_server_that_holds_nobody),
        row("output that nobody reads", unread_output),
        row("an output without an end", back_pressure),
    ]
}

async fn one_line() {
    let mut child = spawn("echo", ["hello, world!"]).unwrap();
    let stdout = child.stdout.take().unwrap();
    assert_eq!(read(stdout).await, "hello, world!\n");
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
}

async fn greeting_and_echo() {
    let mut child = Command::shell("printf 'hello world\\r\\n'; exec cat").spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut buffer = [0; 64];
    let count = stdout.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..count], b"hello world\r\n");
    stdin.write_all(b"echo me\r\n").await.unwrap();
    let count = stdout.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..count], b"echo me\r\n");
    drop(stdin);
    assert_eq!(stdout.read(&mut buffer).await.unwrap(), 0);
    assert_eq!(read(child.stderr.take().unwrap()).await, "");
}

async fn stdin() {
    let mut child = spawn("cat", [""; 0]).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for part in ["hello", " ", "world"] {
        stdin.write_all(part.as_bytes()).await.unwrap();
    }
    drop(stdin);
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    assert_eq!((read(stdout).await, read(stderr).await), ("hello world".into(), String::new()));
    assert_eq!(story(&mut child).await, ["spawn", "exit exit code 0", "close exit code 0"]);
}

async fn all_of_it() {
    let line = "echo hello; i=0; while [ $i -lt 100 ]; do echo filler; i=$((i + 1)); done; echo goodbye";
    let text = exec(line).await.unwrap().stdout.into_text();
    assert!(text.starts_with("hello\n") && text.ends_with("goodbye\n") && text.lines().count() == 102);
}

async fn much_of_it() {
    let mut child = Command::shell("head -c 500000 /dev/zero").spawn().unwrap();
    let (mut stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let mut bytes = Vec::new();
    let (count, errors, story) =
        tokio::join!(stdout.read_to_end(&mut bytes), read(stderr), story(&mut child));
    assert_eq!((count.unwrap(), errors.as_str()), (500_000, ""));
    assert_eq!(story.last().unwrap(), "close exit code 0");
}

async fn the_end_of_stdout() {
    let output = exec("printf foo; exec >&-; exit 0").await.unwrap();
    assert_eq!((output.stdout.text(), output.stderr.text()), ("foo".into(), "".into()));
}

/// A child whose socket holds it no longer ends by itself: here, the runtime is all that it waits for.
async fn a_server_that_holds_nobody() {
    let directory = Directory::new();
    let script = directory.write(
        "server.js",
        "require('net').createServer().listen(process.argv[2], function () { this.unref(); });",
    );
    let mut command = Command::fork(script);
    command.exec_path(crate::support::node(crate::support::NODE)).arg(directory.path("socket"));
    let mut child = command.spawn().unwrap();
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
}

/// Nobody takes the streams, and the end comes all the same, however much was written into them.
async fn unread_output() {
    let mut child = Command::shell("echo out; echo err >&2; head -c 60000 /dev/zero").spawn().unwrap();
    assert_eq!(story(&mut child).await, ["spawn", "exit exit code 0", "close exit code 0"]);

    // Taken and not read, they hold it up; dropped, they do not.
    let mut child = spawn("echo", ["out"]).unwrap();
    let stdout = child.stdout.take().unwrap();
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
    let closed = story(&mut child);
    tokio::pin!(closed);
    let early = std::future::poll_fn(|cx| std::task::Poll::Ready(closed.as_mut().poll(cx).is_ready())).await;
    assert!(!early);
    drop(stdout);
    assert_eq!(closed.await.last().unwrap(), "close exit code 0");
}

const READ: usize = 1 << 20;
/// The size of a pipe.
const PIPE: usize = 64 << 10;

fn proc(pid: i32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

/// A child that writes faster than anybody reads waits: nothing is buffered beyond the pipe.
async fn back_pressure() {
    let mut child = Command::new("yes").stdin(Stdio::Ignore).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut some = vec![0; READ];
    stdout.read_exact(&mut some).await.unwrap();
    // When it sleeps it has filled the pipe, of which a page may be partly read.
    crate::support::until(|| proc(child.pid(), "stat").contains(") S ")).await;
    let io = proc(child.pid(), "io");
    let written: usize = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap();
    assert!(written <= READ + PIPE, "{written} bytes were written, {READ} read");
    // Its reader leaves, and so it does: `yes` dies of SIGPIPE, which is not ignored in a child of ours.
    drop(stdout);
    assert_eq!(child.wait().await.unwrap(), Exit::Signal { signal: 13, core_dumped: false });
}
