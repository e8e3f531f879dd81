//! What this program does as a child, beside what [`kid`](crate::kid) has in common with Node children.

use std::{
    env,
    io::{Read, Write},
    os::fd::AsFd,
};

use ganger::process::{Command, Stdio, exec_sync, spawn_sync};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::io::AsyncReadExt;

use crate::{handle::listen_fd, kid, other_user, stress};

/// Says the part.
pub(crate) const VARIABLE: &str = "GANGER_TEST_PART";

/// This program in a part.
pub(crate) fn command(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(VARIABLE, part);
    command
}

pub(crate) fn play(part: &str) {
    if let Some(name) = part.strip_prefix("kid ") {
        return kid::play(name);
    }
    if let Some(length) = part.strip_prefix("chain ") {
        return chain(length.parse().unwrap());
    }
    match part {
        "print environment" => print!("{}", spawn_sync("env", [""; 0]).unwrap().stdout().unwrap()),
        "non-blocking stdout" => non_blocking_stdout(),
        "inherit cat" => inherit("cat", &[]),
        "inherit a shell after a look at stdin" => {
            let mut byte = [0];
            std::io::stdin().lock().read_exact(&mut byte).unwrap();
            // What the buffer of our own stdin took is put back: the file's position is shared.
            rustix::fs::seek(std::io::stdin(), rustix::fs::SeekFrom::Start(0)).unwrap();
            inherit("sh", &[]);
        }
        "blocking inherit" => {
            exec_sync("echo to stderr >&2").unwrap();
            let mut command = Command::shell("echo to stdout");
            command.stdio([Stdio::Pipe, Stdio::Inherit, Stdio::Inherit]).spawn_sync().unwrap();
        }
        "ping-pong" => ping_pong(),
        "write until it breaks" => write_until_it_breaks(),
        "deploy early" => deploy(true),
        "deploy late" => deploy(false),
        "where am I" => print!("{}", env::current_exe().unwrap().display()),
        "refused" => other_user::refused(),
        "stress" => stress::play(),
        "listen and leave" => listen_fd::listen_and_leave(),
        "serve one on descriptor 3" => listen_fd::serve_one(),
        other => panic!("no such part: {other:?}"),
    }
}

/// Starts a program with our own standard streams, and exits as it does.
fn inherit(program: &str, args: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut command = Command::new(program);
    command.args(args).stdio([Stdio::Inherit, Stdio::Inherit, Stdio::Inherit]);
    let exit = runtime.block_on(async { command.spawn().unwrap().wait().await.unwrap() });
    assert_eq!(exit.to_string(), "exit code 0");
}

/// Another release takes this program's place, and is forked.
fn deploy(early: bool) {
    if early {
        assert_eq!(ganger::ipc::role().unwrap(), None);
    }
    let [old, new] = ["OLD", "NEW"].map(|name| env::var_os(name).unwrap());
    if env::var_os("LINK").is_some_and(|link| !link.is_empty()) {
        std::fs::remove_file(&old).unwrap();
        std::os::unix::fs::symlink(&new, &old).unwrap();
    } else {
        std::fs::rename(new, old).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut command = Command::fork_self("any");
    command.env(VARIABLE, "where am I");
    runtime.block_on(async { command.spawn().unwrap().wait().await.unwrap() });
}

/// A parent whose stdout does not block, and a child that writes more to it than a pipe holds.
fn non_blocking_stdout() {
    let stdout = std::io::stdout();
    let flags = fcntl_getfl(stdout.as_fd()).unwrap();
    fcntl_setfl(stdout.as_fd(), flags | OFlags::NONBLOCK).unwrap();
    inherit("sh", &["-c", "head -c 100000 /dev/zero"]);
}

/// Starts the next process of the chain, and ends when its stdout has.
fn chain(length: u32) {
    if length == 0 {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut next = command(&format!("chain {}", length - 1));
        next.stdin(Stdio::Ignore).stderr(Stdio::Ignore);
        let mut child = next.spawn().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(child.wait().await.unwrap().to_string(), "exit code 0");
        println!("{text}{length}");
    });
}

/// Answers each number of its stdin on its stdout; tells what it heard on stderr.
fn ping_pong() {
    let mut input = String::new();
    while std::io::stdin().read_line(&mut input).unwrap() > 0 {
        eprint!("{}", input.trim_end());
        println!("{}", input.trim_end());
        input.clear();
    }
}

/// The left side of a pipe whose right side ends: an error, and no signal.
fn write_until_it_breaks() {
    let mut stdout = std::io::stdout();
    let error = loop {
        if let Err(error) = stdout.write_all(&[b'x'; 4096]).and_then(|()| stdout.flush()) {
            break error;
        }
    };
    eprint!("{:?}", error.kind());
}
