//! Rows `exec`.

use std::{future::IntoFuture, time::Duration};

use ganger::process::{CancellationToken, Command, Exit, Failure, Stdio, exec, exec_file};
use libtest_mimic::Trial;

use crate::{part, row};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        row("test-child-process-exec-cwd", cwd),
        row("test-child-process-exec-encoding", encoding),
        row("test-child-process-exec-env", environment),
        row("test-child-process-exec-error", error),
        row("test-child-process-exec-stdout-stderr-data-string", text),
        row("test-child-process-exec-timeout-expire", timeout_expires),
        row("test-child-process-exec-timeout-not-expired", timeout_does_not_expire),
        row("test-child-process-execFile-promisified-abortController", cancellation),
        row("test-child-process-execfile-maxbuf", max_buffer),
        row("test-child-process-promisified", promise),
        row("test-stdout-close-catch", the_right_side_ends),
        row("input for a command", input),
        row("a command that reads its stdin", stdin_ends),
    ]
}

const FOO_BAR: &str = "echo foo; echo bar >&2";

async fn cwd() {
    let output = Command::shell("pwd").cwd("/dev").exec().await.unwrap();
    assert!(output.stdout.starts_with(b"/dev"), "{}", output.stdout);
}

async fn encoding() {
    let output = exec(FOO_BAR).await.unwrap();
    assert_eq!((output.stdout.text(), output.stderr.text()), ("foo\n".into(), "bar\n".into()));
    assert_eq!((output.stdout.as_bytes(), output.stderr.as_bytes()), (&b"foo\n"[..], &b"bar\n"[..]));
    let broken = exec("printf 'a\\377'").await.unwrap().stdout;
    assert_eq!((broken.as_bytes(), broken.text()), (&b"a\xff"[..], "a\u{fffd}".into()));
}

async fn environment() {
    let output = Command::shell("/usr/bin/env").env_clear().env("HELLO", "WORLD").exec().await.unwrap();
    assert!(output.stdout.text().contains("HELLO=WORLD"), "{}", output.stdout);
}

async fn error() {
    let missing = "does-not-exist";
    let running = exec(missing);
    assert!(running.pid().is_some_and(|pid| pid > 0));
    let error = running.await.unwrap_err();
    assert_eq!((error.exit_code(), error.code(), error.killed), (Some(127), None, false));
    assert!(error.cmd.contains(missing));

    let running = exec_file(missing, ["x"]);
    assert!(running.pid().is_none() && running.killer().is_none());
    let error = running.await.unwrap_err();
    assert_eq!((error.code(), &*error.cmd), (Some("ENOENT"), "does-not-exist x"));
}

async fn text() {
    let error = exec("does-not-exist").await.unwrap_err();
    assert!(error.stderr.text().contains("not found"), "{error}");
    assert!(error.to_string().starts_with("command failed: does-not-exist: exit code 127\n"), "{error}");
}

async fn timeout_expires() {
    let line = "exec tail -f /dev/null";
    let error = Command::shell(line).timeout(Duration::from_millis(1)).exec().await.unwrap_err();
    assert!(matches!(error.failure, Failure::TimedOut(_)), "{error:?}");
    assert_eq!((error.killed, error.exit_code(), error.signal()), (true, None, Some("SIGTERM")));
    assert_eq!((&*error.cmd, error.code()), (line, Some("ETIMEDOUT")));
    assert_eq!((error.stdout, error.stderr), Default::default());
    // What had been written is there, and the signal is chosen.
    let mut command = Command::shell("echo so far; exec tail -f /dev/null");
    let error = command.timeout(Duration::from_millis(1500)).kill_signal(9).exec().await.unwrap_err();
    assert_eq!((error.signal(), error.stdout.text()), (Some("SIGKILL"), "so far\n".into()));
}

async fn timeout_does_not_expire() {
    let line = "sleep 0.1; echo child stdout; echo child stderr >&2";
    let output = Command::shell(line).timeout(Duration::from_millis(1 << 30)).exec().await.unwrap();
    assert_eq!((output.stdout, output.stderr), (text_of("child stdout\n"), text_of("child stderr\n")));
}

fn text_of(text: &str) -> ganger::process::Captured {
    text.as_bytes().to_vec().into()
}

async fn cancellation() {
    for early in [false, true] {
        let token = CancellationToken::new();
        if early {
            token.cancel();
        }
        let running = Command::new("tail").args(["-f", "/dev/null"]).cancellation(token.clone()).exec();
        let pid = running.pid().unwrap();
        token.cancel();
        let error = running.await.unwrap_err();
        assert_eq!((error.code(), error.killed), (Some("ABORT_ERR"), true));
        assert_eq!(error.to_string(), "command failed: tail -f /dev/null: it was aborted (ABORT_ERR)");
        crate::support::gone(pid).await;
    }
    // Afterwards it means nothing.
    let token = CancellationToken::new();
    Command::new("true").cancellation(token.clone()).exec().await.unwrap();
    token.cancel();
}

async fn max_buffer() {
    let print = |count: usize| Command::shell(format!("head -c {count} /dev/zero | tr '\\0' a; echo"));
    print((1 << 20) - 1).exec().await.unwrap();
    let error = print(1 << 20).exec().await.unwrap_err();
    assert_eq!(error.code(), Some("ERR_CHILD_PROCESS_STDIO_MAXBUFFER"));
    assert!(error.stdout.len() == 1 << 20 && error.killed);
    let output = print(3 << 20).max_buffer(usize::MAX).exec().await.unwrap();
    assert_eq!(output.stdout.len(), (3 << 20) + 1);

    let error = Command::new("echo").arg("hello world").max_buffer(5).exec().await.unwrap_err();
    assert_eq!(error.failure.to_string(), "stdout maxBuffer length exceeded");
    assert_eq!(error.stdout, "hello");
    Command::new("echo").arg("hello").max_buffer(6).exec().await.unwrap();

    let unicode = "中文测试";
    for (line, stream) in [(format!("echo {unicode}"), "stdout"), (format!("echo {unicode} >&2"), "stderr")] {
        let error = Command::shell(line).max_buffer(10).exec().await.unwrap_err();
        assert_eq!(error.failure.to_string(), format!("{stream} maxBuffer length exceeded"));
        let cut = if stream == "stdout" { error.stdout } else { error.stderr };
        assert_eq!(cut.as_bytes(), &unicode.as_bytes()[..10]);
    }
    // Further pipes have no reader.
    let mut command = Command::shell("head -c 1000000 /dev/zero 2>&- >&3; echo done");
    assert_eq!(command.descriptor(3, Stdio::Pipe).exec().await.unwrap().stdout, "done\n");
    // A writer without an end.
    let error = exec("while :; do echo more; done").await.unwrap_err();
    assert_eq!(error.stdout.len(), 1 << 20);
}

async fn promise() {
    let output = exec("echo 42; echo 43 >&2").await.unwrap();
    assert_eq!((output.stdout, output.stderr), (text_of("42\n"), text_of("43\n")));
    let running = exec_file("sh", ["-c", "read x; exit 3"]);
    assert!(running.pid().unwrap() > 0);
    assert_eq!(running.await.unwrap_err().exit_code(), Some(3));
    let error = exec("doesntexist").await.unwrap_err();
    assert!(error.to_string().contains("doesntexist"), "{error}");
    let error = exec("echo 42; echo 43 >&2; exit 1").await.unwrap_err();
    assert_eq!((error.exit_code(), error.stdout, error.stderr), (Some(1), text_of("42\n"), text_of("43\n")));

    let running = exec_file("tail", ["-f", "/dev/null"]);
    let killer = running.killer().unwrap();
    let (result, sent) = tokio::join!(running.into_future(), async { killer.kill(9) });
    let error = result.unwrap_err();
    assert_eq!((sent.unwrap(), error.signal(), error.code()), (true, Some("SIGKILL"), None));
    assert_eq!(error.exit, Some(Exit::Signal { signal: 9, core_dumped: false }));
}

/// `writer | reader`, as a shell would have it, where the reader leaves after the first bytes.
async fn the_right_side_ends() {
    let mut writer = part::command("write until it breaks").spawn().unwrap();
    let reader = writer.stdout.take().unwrap().into_stdio().unwrap();
    let output = Command::new("head").args(["-c", "10"]).stdin(reader).exec().await.unwrap();
    assert_eq!(output.stdout, "xxxxxxxxxx");
    let stderr = crate::support::read(writer.stderr.take().unwrap()).await;
    assert_eq!((stderr.as_str(), writer.wait().await.unwrap()), ("BrokenPipe", Exit::Code(0)));
}

async fn input() {
    let long = "x".repeat(300_000);
    let output = Command::new("cat").input(long.as_str()).exec().await.unwrap();
    assert!(output.stdout == *long);
    // Who does not want it may leave it.
    let output = Command::new("true").input(long.as_str()).exec().await.unwrap();
    assert_eq!(output.stdout, "");
}

async fn stdin_ends() {
    assert_eq!(exec("cat; echo done").await.unwrap().stdout, "done\n");
    // Unless somebody has it.
    let mut running = exec("cat");
    let mut stdin = running.stdin.take().unwrap();
    let write = async move {
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"by hand").await.unwrap();
    };
    let (output, ()) = tokio::join!(running.into_future(), write);
    assert_eq!(output.unwrap().stdout, "by hand");
}
