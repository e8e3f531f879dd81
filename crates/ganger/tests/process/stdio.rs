//! Rows `stdio`: what the descriptors of a child are.

use std::{collections::BTreeSet, fs::File, io::Write};

use ganger::process::{Command, Exit, Stdio, spawn};
use libtest_mimic::Trial;
use tokio::io::AsyncWriteExt;

use crate::{
    kid::{Kid, rows, story},
    part, row,
    support::{Directory, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        row("test-child-process-validate-stdio", validate),
        row("test-stdio-pipe-stderr", stderr_to_a_file),
        row("test-stdin-from-file-spawn", stdin_from_a_file),
        row("test-child-process-stdio-inherit", inherit),
        row("test-child-process-stdio-overlapped", overlapped),
        row("test-child-process-stdio", lists),
        row("test-stdio-pipe-access", handed_down),
        row("test-child-process-pipe-dataflow", dataflow),
        row("test-stdio-pipe-redirect", redirect),
        row("/dev/stdout in a child", dev_stdout),
        row("pipes above the standard streams", further_pipes),
    ];
    trials.extend(rows("test-process-external-stdio-close-spawn", broken_stdout));
    trials
}

/// The descriptors that a child has, as `ls` shows them: its own on the directory is the lowest that was free.
async fn open(command: &mut Command) -> BTreeSet<u32> {
    let output = command.exec().await.unwrap();
    output.stdout.text().lines().map(|line| line.parse().unwrap()).collect()
}

fn ls() -> Command {
    let mut command = Command::new("ls");
    command.arg("/proc/self/fd");
    command
}

async fn validate() {
    assert_eq!(open(&mut ls()).await, BTreeSet::from([0, 1, 2, 3]));
    // A short list is filled up with pipes.
    let mut child = Command::new("cat").stdio([Stdio::Ignore]).spawn().unwrap();
    assert!(child.stdin.is_none() && child.stdout.is_some() && child.stderr.is_some());
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
    let two = [Stdio::Ipc, Stdio::Ignore, Stdio::Ignore, Stdio::Ipc];
    assert_eq!(Command::new("true").stdio(two).spawn().unwrap_err().code(), "ERR_IPC_ONE_PIPE");
    let one = [Stdio::Ipc];
    assert_eq!(Command::new("true").stdio(one).spawn_sync().unwrap_err().code(), "ERR_IPC_SYNC_FORK");
    // A command can be started again, its files with it.
    let directory = Directory::new();
    let mut command = Command::new("echo");
    command.arg("again").stdout(File::create(directory.path("out")).unwrap());
    for _ in 0..2 {
        assert_eq!(command.spawn().unwrap().wait().await.unwrap(), Exit::Code(0));
    }
    assert_eq!(std::fs::read_to_string(directory.path("out")).unwrap(), "again\nagain\n");
}

async fn stderr_to_a_file() {
    let directory = Directory::new();
    let file = File::create(directory.path("stderr")).unwrap();
    let finished = Command::new("cat").input("abc").stderr(file).spawn_sync().unwrap();
    assert_eq!((finished.exit, finished.stdout().unwrap().text()), (Exit::Code(0), "abc".into()));
    assert!(finished.stderr().is_none());
    assert_eq!(std::fs::read_to_string(directory.path("stderr")).unwrap(), "");
}

async fn stdin_from_a_file() {
    let directory = Directory::new();
    let file = directory.write("script", "echo from the file\n");
    let mut command = part::command("inherit a shell after a look at stdin");
    let output = command.stdin(File::open(file).unwrap()).exec().await.unwrap();
    assert_eq!(output.stdout, "from the file\n");
}

async fn inherit() {
    let mut child = part::command("inherit cat").spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"asdfasdf").await.unwrap();
    drop(stdin);
    let stdout = child.stdout.take().unwrap();
    assert_eq!(read(stdout).await, "asdfasdf");
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
}

/// Node's word for a pipe that Windows can wait for: one number each way, in turn.
async fn overlapped() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let mut child = part::command("ping-pong").spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 1..=4 {
        stdin.write_all(format!("{number}\n").as_bytes()).await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), number.to_string());
    }
    drop(stdin);
    assert_eq!(read(child.stderr.take().unwrap()).await, "1234");
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
}

async fn lists() {
    let mut child = Command::new("cat").stdio([Stdio::Pipe]).spawn().unwrap();
    assert!(child.stdout.is_some() && child.stderr.is_some());
    child.wait().await.unwrap();
    let mut child =
        Command::new("true").stdio([Stdio::Ignore, Stdio::Ignore, Stdio::Ignore]).spawn().unwrap();
    assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
    child.wait().await.unwrap();
    let output = spawn("echo", ["hi"]).unwrap().stdout.take().unwrap();
    assert_eq!(read(output).await, "hi\n");
    // What is ignored is /dev/null up to 2, and not open above.
    let mut command = ls();
    command
        .stdin(Stdio::Ignore)
        .stderr(Stdio::Ignore)
        .descriptor(4, Stdio::Ignore)
        .descriptor(5, Stdio::Pipe);
    assert_eq!(open(&mut command).await, BTreeSet::from([0, 1, 2, 3, 5]));
}

/// Streams that were pipes already are handed down once more, five times over.
async fn handed_down() {
    for _ in 0..5 {
        let mut child = part::command("inherit cat").spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        drop(stdin);
        assert_eq!(read(child.stdout.take().unwrap()).await, "");
        assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
    }
}

/// `cat file | grep x | wc -c`, where we never touch what flows.
async fn dataflow() {
    let directory = Directory::new();
    let path = directory.path("data");
    let mut file = File::create(&path).unwrap();
    for _ in 0..1024 {
        file.write_all(&[b'x'; 1023]).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.write_all(b"x").unwrap();
    let mut cat = Command::new("cat").arg(&path).spawn().unwrap();
    let from_cat = cat.stdout.take().unwrap().into_stdio().unwrap();
    let mut grep = Command::new("grep").arg("x").stdin(from_cat).spawn().unwrap();
    let from_grep = grep.stdout.take().unwrap().into_stdio().unwrap();
    let output = Command::new("wc").arg("-c").stdin(from_grep).exec().await.unwrap();
    // `grep` ends the last line.
    assert_eq!(output.stdout.text().trim(), "1048578");
    for child in [&mut cat, &mut grep] {
        assert_eq!(story(child).await.last().unwrap(), "close exit code 0");
    }
}

async fn redirect() {
    let mut consumer = spawn("wc", ["-c"]).unwrap();
    let to_consumer = consumer.stdin.take().unwrap().into_stdio().unwrap();
    let line = "i=0; while [ $i -lt 100 ]; do printf %0100d 0; i=$((i + 1)); done";
    let mut producer = Command::shell(line).stdout(to_consumer).spawn().unwrap();
    assert_eq!(producer.wait().await.unwrap(), Exit::Code(0));
    assert_eq!(read(consumer.stdout.take().unwrap()).await.trim(), "10000");
    assert_eq!(consumer.wait().await.unwrap(), Exit::Code(0));
}

/// A real pipe can be opened once more; a socket, which Node gives, cannot.
async fn dev_stdout() {
    let output = ganger::exec("echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin").await.unwrap();
    assert_eq!((output.stdout.text(), output.stderr.text()), ("out\n".into(), "err\n".into()));
}

async fn further_pipes() {
    let mut command = Command::shell("cat <&4 >&4");
    let mut child = command.descriptor(4, Stdio::Pipe).spawn().unwrap();
    assert!(child.take_pipe(3).is_none() && child.take_pipe(9).is_none());
    let mut pipe = child.take_pipe(4).unwrap();
    pipe.write_all(b"both ways").await.unwrap();
    pipe.shutdown().await.unwrap();
    assert_eq!(read(pipe).await, "both ways");
    assert_eq!(story(&mut child).await, ["spawn", "exit exit code 0", "close exit code 0"]);
}

async fn broken_stdout(kid: Kid) {
    let directory = Directory::new();
    let mut command = kid.command(&directory, "write into a broken pipe");
    command.stdio([Stdio::Pipe, Stdio::Pipe, Stdio::Pipe, Stdio::Ipc]);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    child.send("go").unwrap();
    let story = story(&mut child).await;
    assert_eq!(story.last().unwrap(), "close exit code 0", "{story:?}");
    assert!(story.contains(&"disconnect".to_owned()), "{story:?}");
}
