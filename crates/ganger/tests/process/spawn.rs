//! Rows `spawn`.

use std::{collections::BTreeMap, env, time::Duration};

use ganger::process::{CancellationToken, Command, Event, Exit, Stdio, exec, exec_sync, spawn, spawn_sync};
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};

use crate::{
    kid::{story, told},
    part, row,
    support::{Directory, read},
};

const TERM: i32 = 15;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        row("test-child-process-constructor", constructor),
        row("test-child-process-default-options", default_options),
        row("test-child-process-destroy", destroy),
        row("test-child-process-double-pipe", double_pipe),
        row("test-child-process-env", environment),
        row("test-child-process-exit-code", exit_code),
        row("test-child-process-kill", kill),
        row("test-child-process-set-blocking", set_blocking),
        row("test-child-process-spawn-argv0", argv0),
        row("test-child-process-spawn-args", args),
        row("test-child-process-spawn-error", error),
        row("test-child-process-spawn-event", event),
        row("test-child-process-spawn-timeout-kill-signal", timeout_kill_signal),
        row("test-child-process-spawn-typeerror", values_that_make_no_sense),
        row("test-child-process-spawn-windows-batch-file", missing_files),
        row("test-child-process-reject-null-bytes", null_bytes),
        row("test-child-process-exit", chain),
        row("test-child-process-spawn-loop", many_one_after_the_other),
        row("an aborted child", aborted),
        row("a program without an executable bit", not_executable),
        row("arguments beyond all measure", too_long),
        row("a descriptor that is not open", not_open),
        row("a signal for the group", group),
        row("a dropped child", dropped),
    ]
}

fn signal(signal: i32) -> Exit {
    Exit::Signal { signal, core_dumped: false }
}

async fn constructor() {
    let mut child = spawn("cat", [""; 0]).unwrap();
    assert!(child.pid() > 0);
    assert_eq!(child.kill(1000).unwrap_err().raw_os_error(), Some(22));
    assert!(!child.killed());
    assert!(child.kill(0).unwrap(), "it runs");
    assert!(child.kill(TERM).unwrap());
    assert!(child.killed());
    let told = ["spawn", "exit signal SIGTERM", "close signal SIGTERM"];
    assert_eq!(story(&mut child).await, told);
    assert!(!child.kill(TERM).unwrap(), "nobody is there");
}

async fn default_options() {
    let output = part::command("print environment").env("HELLO", "WORLD").exec().await.unwrap();
    assert!(output.stdout.text().lines().any(|line| line == "HELLO=WORLD"), "{}", output.stdout);
}

/// Disposed of, it gets the signal once.
async fn destroy() {
    let mut command = Command::shell("trap 'echo TERM' TERM; echo ready; read x; read x; echo end");
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    // Our end of its stdin outlives it: the shell goes on reading after the signal.
    let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).await.unwrap();
    drop(child);
    let mut term = [0; 5];
    stdout.read_exact(&mut term).await.unwrap();
    assert_eq!(&term, b"TERM\n");
    drop(stdin);
    assert_eq!(read(stdout).await, "end\n");

    // Not chosen, it goes on.
    let mut child = spawn("cat", [""; 0]).unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    drop(child);
    stdin.write_all(b"still there").await.unwrap();
    drop(stdin);
    assert_eq!(read(stdout).await, "still there");
}

async fn double_pipe() {
    let mut grep = spawn("grep", ["o"]).unwrap();
    let mut sed = spawn("sed", ["s/o/O/"]).unwrap();
    let mut echo = spawn("echo", ["hello\nnode\nand\nworld"]).unwrap();
    let (mut from_echo, mut to_grep) = (echo.stdout.take().unwrap(), grep.stdin.take().unwrap());
    let (mut from_grep, mut to_sed) = (grep.stdout.take().unwrap(), sed.stdin.take().unwrap());
    let from_sed = sed.stdout.take().unwrap();
    let first = async move { copy(&mut from_echo, &mut to_grep).await.unwrap() };
    let second = async move { copy(&mut from_grep, &mut to_sed).await.unwrap() };
    let (_, _, text) = tokio::join!(first, second, read(from_sed));
    assert_eq!(text, "hellO\nnOde\nwOrld\n");
    for child in [&mut grep, &mut sed, &mut echo] {
        assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
    }
}

async fn environment() {
    let mut command = Command::new("/usr/bin/env");
    command.env_clear().env("HELLO", "WORLD").env("UNDEFINED", "x").env("NULL", "null").env("EMPTY", "");
    command.env("duplicate", "lowercase").env("DUPLICATE", "uppercase").env_remove("UNDEFINED");
    let output = command.exec().await.unwrap();
    let mut lines: Vec<String> = output.stdout.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["DUPLICATE=uppercase", "EMPTY=", "HELLO=WORLD", "NULL=null", "duplicate=lowercase"]);

    // Beside what we have ourselves.
    let output = Command::new("env").envs(BTreeMap::from([("HELLO", "WORLD")])).exec().await.unwrap();
    let path = format!("PATH={}", env::var("PATH").unwrap());
    assert!(["HELLO=WORLD", &path].iter().all(|line| output.stdout.text().lines().any(|it| it == *line)));
}

async fn exit_code() {
    let mut child = Command::shell("exit 23").spawn().unwrap();
    assert_eq!(story(&mut child).await, ["spawn", "exit exit code 23", "close exit code 23"]);
    assert_eq!(child.exit(), Some(Exit::Code(23)));

    let mut child = part::command("no such part").stderr(Stdio::Ignore).spawn().unwrap();
    assert!(matches!(child.wait().await.unwrap(), Exit::Code(1..)));
}

async fn kill() {
    let mut child = spawn("cat", [""; 0]).unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    assert!(!child.killed());
    assert!(child.kill(TERM).unwrap());
    assert!(child.killed());
    assert_eq!((read(stdout).await, read(stderr).await), (String::new(), String::new()));
    assert_eq!(child.wait().await.unwrap(), signal(TERM));

    let mut child = spawn("cat", [""; 0]).unwrap();
    assert!(child.kill(0).unwrap());
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));

    // From elsewhere, before and after its end.
    let mut child = spawn("cat", [""; 0]).unwrap();
    let killer = child.killer();
    assert!(
        tokio::spawn(async move { killer.kill(TERM).map(|sent| (sent, killer)) })
            .await
            .unwrap()
            .is_ok_and(|(sent, _)| sent)
    );
    let killer = child.killer();
    child.wait().await.unwrap();
    assert!(!killer.kill(TERM).unwrap());
}

async fn set_blocking() {
    let output = part::command("non-blocking stdout").exec().await.unwrap();
    assert_eq!(output.stdout.len(), 100_000);
}

async fn argv0() {
    let name = async |command: &mut Command| command.exec().await.unwrap().stdout.into_text();
    let mut command = Command::new("sh");
    command.args(["-c", "echo $0"]);
    assert_eq!(name(&mut command).await, "sh\n");
    assert_eq!(name(command.argv0("withArgv0")).await, "withArgv0\n");
}

async fn args() {
    let directory = Directory::new();
    let path = std::fs::canonicalize(directory.path("")).unwrap();
    let output = Command::new("pwd").cwd(&path).exec().await.unwrap();
    assert_eq!(output.stdout.text().trim_end(), path.to_str().unwrap());
    let output = Command::new("pwd").args([""; 0]).cwd(&path).exec().await.unwrap();
    assert_eq!(output.stdout.text().trim_end(), path.to_str().unwrap());
}

async fn error() {
    let error = spawn("foo123", ["bar"]).unwrap_err();
    assert_eq!((error.code(), error.errno()), ("ENOENT", Some(2)));
    assert_eq!((error.program.to_str(), &*error.args), (Some("foo123"), &["bar".into()][..]));
    assert_eq!(error.to_string(), "cannot start foo123 bar: there is no such program on its PATH (ENOENT)");
}

async fn event() {
    let mut child = spawn("echo", ["ok"]).unwrap();
    assert!(matches!(child.next().await, Some(Event::Spawn)));
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    assert_eq!((read(stdout).await, read(stderr).await), ("ok\n".into(), String::new()));
    assert_eq!(story(&mut child).await, ["exit exit code 0", "close exit code 0"]);
}

async fn timeout_kill_signal() {
    for (with, expected) in [(TERM, TERM), (9, 9)] {
        let token = CancellationToken::new();
        let mut command = Command::new("cat");
        command.timeout(Duration::from_millis(5)).kill_signal(with).cancellation(token.clone());
        let mut child = command.spawn().unwrap();
        // It is over in time, whoever looks: its stdout is all that is waited for.
        assert_eq!(read(child.stdout.take().unwrap()).await, "");
        assert_eq!(child.wait().await.unwrap(), signal(expected));
        assert!(child.timed_out() && !child.killed());
        // Nobody is there to be aborted any more.
        token.cancel();
        let end = format!("close {}", signal(expected));
        assert_eq!(story(&mut child).await.last(), Some(&end));
    }
}

async fn values_that_make_no_sense() {
    let code = |command: &Command| command.spawn().unwrap_err().code();
    assert_eq!(code(&Command::new("")), "ERR_INVALID_ARG_VALUE");
    assert_eq!(code(&Command::shell("")), "ERR_INVALID_ARG_VALUE");
    assert_eq!(code(&Command::fork("")), "ERR_INVALID_ARG_VALUE");
    assert_eq!(code(Command::new("true").uid(u32::MAX)), "ERR_OUT_OF_RANGE");
    assert_eq!(code(Command::new("true").gid(u32::MAX)), "ERR_OUT_OF_RANGE");
    for signal in [-1, 0, 65, 1000] {
        assert_eq!(code(Command::new("true").kill_signal(signal)), "ERR_UNKNOWN_SIGNAL");
    }
}

async fn missing_files() {
    let directory = Directory::new();
    for name in ["missing", "missing.bat", "missing.CMD"] {
        let path = directory.path(name);
        let error = exec(&path).await.unwrap_err();
        assert_eq!((error.exit_code(), error.code()), (Some(127), None));
        assert_eq!(exec_sync(&path).unwrap_err().exit_code(), Some(127));
        assert_eq!(spawn(&path, [""; 0]).unwrap_err().code(), "ENOENT");
        assert_eq!(spawn_sync(&path, [""; 0]).unwrap_err().code(), "ENOENT");
        assert_eq!(Command::shell(&path).spawn_sync().unwrap().exit, Exit::Code(127));
    }
}

async fn null_bytes() {
    let nul = "a\0b";
    let mut commands =
        vec![Command::new(nul), Command::shell(nul), Command::fork(nul), Command::fork_self(nul)];
    let base = || Command::new("true");
    let file = Directory::new();
    let module = file.write("module.js", "");
    let fork = || Command::fork(&module);
    commands.push(base().arg(nul).clone());
    commands.push(base().cwd(nul).clone());
    commands.push(base().argv0(nul).clone());
    commands.push(base().use_shell(nul).clone());
    commands.push(base().env(nul, "x").clone());
    commands.push(base().env("x", nul).clone());
    commands.push(fork().arg(nul).clone());
    commands.push(fork().exec_path(nul).clone());
    commands.push(fork().exec_argv([nul]).clone());
    for command in &commands {
        assert_eq!(command.spawn().unwrap_err().code(), "ERR_INVALID_ARG_VALUE", "{command:?}");
        assert_eq!(command.exec().await.unwrap_err().code(), Some("ERR_INVALID_ARG_VALUE"), "{command:?}");
    }
    for command in commands.iter().filter(|command| !format!("{command:?}").contains("Module")) {
        let sync = command.spawn_sync().unwrap_err().code();
        assert!(["ERR_INVALID_ARG_VALUE", "ERR_IPC_SYNC_FORK"].contains(&sync), "{command:?}: {sync}");
    }
}

async fn chain() {
    let output = part::command("chain 5").exec().await.unwrap();
    assert_eq!(output.stdout, "1\n2\n3\n4\n5\n");
}

async fn many_one_after_the_other() {
    for _ in 0..41 {
        let mut child = Command::shell("head -c 1024000 /dev/zero; echo").spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut bytes = Vec::new();
        let (count, story) = tokio::join!(stdout.read_to_end(&mut bytes), story(&mut child));
        assert_eq!(count.unwrap(), 1_024_001);
        assert_eq!(story, ["spawn", "exit exit code 0", "close exit code 0"]);
    }
}

async fn aborted() {
    let expected = ["spawn", "error the child was aborted", "exit signal SIGTERM", "close signal SIGTERM"];
    // While it runs, and before it was started.
    for early in [false, true] {
        let token = CancellationToken::new();
        if early {
            token.cancel();
        }
        let mut child = Command::new("cat").cancellation(token.clone()).spawn().unwrap();
        let spawn = child.next().await.map(|event| told(&event));
        token.cancel();
        let all: Vec<String> = spawn.into_iter().chain(story(&mut child).await).collect();
        assert_eq!(all, expected);
    }
}

async fn not_executable() {
    let directory = Directory::new();
    let path = directory.write("file", "");
    let error = spawn(&path, [""; 0]).unwrap_err();
    assert_eq!(error.code(), "EACCES");
    let path = directory.write("script", "#!/nowhere/interpreter\n");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = spawn(&path, [""; 0]).unwrap_err();
    assert!(error.to_string().contains("its interpreter"), "{error}");
}

async fn too_long() {
    let error = spawn("true", ["x".repeat(1 << 22)]).unwrap_err();
    assert_eq!((error.code(), error.errno()), ("E2BIG", Some(7)));
    assert!(error.to_string().len() < 400, "{error}");
}

async fn not_open() {
    let error = Command::new("true").stdout(Stdio::Number(1_000_000)).spawn().unwrap_err();
    assert_eq!((error.code(), error.errno()), ("EBADF", Some(9)));
    assert_eq!(error.to_string(), "cannot start true: descriptor 1000000 is not open here (EBADF)");
    assert_eq!(Command::new("true").descriptor(60_000, Stdio::Inherit).spawn().unwrap_err().code(), "EBADF");
}

async fn group() {
    // Without a group of its own it shares ours.
    let mut child = spawn("cat", [""; 0]).unwrap();
    assert_eq!(child.kill_group(TERM).unwrap_err().raw_os_error(), Some(1));
    child.kill(9).unwrap();

    for detached in [false, true] {
        let mut command = Command::shell("tail -f /dev/null & echo started; exit 7");
        let mut child = command.kill_group(!detached).detached(detached).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        assert_eq!(child.wait().await.unwrap(), Exit::Code(7));
        // The shell has gone, and its group is still its own.
        assert!(child.kill_group(9).unwrap());
        assert_eq!(read(stdout).await, "started\n");
        assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 7");
        assert!(!child.kill_group(9).unwrap());
    }
}

async fn dropped() {
    // Nobody waits for it, and nobody has to: the kernel forgets it.
    let mut child = spawn("cat", [""; 0]).unwrap();
    let (pid, stdin) = (child.pid(), child.stdin.take());
    drop(child);
    drop(stdin);
    crate::support::until(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
}
