//! What `cargo xtask bench` measures of child processes: `CONTENDER WHAT SECONDS [BALLAST]`.
//!
//! Starts `/bin/true` and waits for its exit event, one child after the other, for so many seconds; or reads 1 GiB
//! of a child's output. Prints how much it was and how many seconds it took. BALLAST is so many MiB of resident
//! memory that the parent has beside.

use std::{
    error::Error,
    process::{Command as StdCommand, Stdio as StdStdio},
    time::{Duration, Instant},
};

use ganger::process::{Command, Event, Stdio};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command as TokioCommand,
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const TRUE: &str = "/bin/true";

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [contender, what, seconds, rest @ ..] = &args[..] else {
        return Err("usage: CONTENDER WHAT SECONDS [BALLAST]".into());
    };
    let time = Duration::from_secs_f64(seconds.parse()?);
    let ballast: usize = rest.first().map_or(Ok(0), |megabytes| megabytes.parse())?;
    // Written to, so that it is there.
    let ballast = vec![1_u8; ballast << 20];
    let pipes = what == "pipes";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let count = runtime.block_on(async {
        match (contender.as_str(), what.as_str()) {
            ("ganger", "output") => {
                let mut command = Command::new("head");
                command
                    .args(["-c", &GIB.to_string(), "/dev/zero"])
                    .stdin(Stdio::Ignore)
                    .stderr(Stdio::Ignore);
                let mut child = command.spawn()?;
                read(child.stdout.take().ok_or("no stdout")?).await
            }
            ("tokio", "output") => {
                let mut command = TokioCommand::new("head");
                command.args(["-c", &GIB.to_string(), "/dev/zero"]).stdin(StdStdio::null());
                let mut child = command.stdout(StdStdio::piped()).stderr(StdStdio::null()).spawn()?;
                let read = read(child.stdout.take().ok_or("no stdout")?).await;
                child.wait().await?;
                read
            }
            ("ganger", _) => {
                let stdio = if pipes { Stdio::Pipe } else { Stdio::Ignore };
                let mut command = Command::new(TRUE);
                command.stdio([stdio.clone(), stdio.clone(), stdio]);
                let mut count = 0;
                while began.elapsed() < time {
                    let mut child = command.spawn()?;
                    while !matches!(child.next().await, Some(Event::Exit(_))) {}
                    count += 1;
                }
                Ok(f64::from(count))
            }
            ("tokio", _) => {
                let stdio = || if pipes { StdStdio::piped() } else { StdStdio::null() };
                let mut count = 0;
                while began.elapsed() < time {
                    let mut command = TokioCommand::new(TRUE);
                    command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn()?.wait().await?;
                    count += 1;
                }
                Ok(f64::from(count))
            }
            ("std", _) => {
                let stdio = || if pipes { StdStdio::piped() } else { StdStdio::null() };
                let mut count = 0;
                while began.elapsed() < time {
                    let mut command = StdCommand::new(TRUE);
                    command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn()?.wait()?;
                    count += 1;
                }
                Ok(f64::from(count))
            }
            (other, _) => Err(format!("no such contender: {other}").into()),
        }
    })?;
    println!("{count} {}", began.elapsed().as_secs_f64());
    drop(ballast);
    Ok(())
}

/// Reads to the end with a buffer of 64 KiB, and returns how many MiB it was.
async fn read(mut stream: impl AsyncRead + Unpin) -> Result<f64> {
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(bytes as f64 / f64::from(1 << 20)),
            count => bytes += count,
        }
    }
}

const GIB: u64 = 1 << 30;
