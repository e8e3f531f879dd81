//! What `cargo xtask bench` measures of channels, with ganger: `OURS THEIRS MESSAGE SERIALIZATION SECONDS [NODE]`.
//!
//! Parent and child play a part each: one of them sends and the other counts, or one pings and the other echoes.
//! Whoever counts prints how much it was in how many seconds. The child is this program, or `channel.js` beside this
//! file under the given Node.

mod meter;

use std::{
    error::Error,
    net::{Ipv4Addr, TcpListener as StdTcpListener},
};

use ganger::{
    Channel, Serialization, Value,
    channel::{Message, Received, SendError},
    process::Command,
};
use meter::Meter;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let role = ganger::ipc::role()?;
    let parent = ganger::ipc::parent()?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        match (role, parent, &args[..]) {
            (Some(part), Some(channel), [message, seconds]) => play(&part, channel, message, seconds).await,
            (_, _, [ours, theirs, message, serialization, seconds, rest @ ..]) => {
                let mut command = match rest.first() {
                    Some(node) => {
                        let mut command = Command::fork("xtask/contenders/channel.js");
                        command.exec_path(*node).arg(*theirs);
                        command
                    }
                    None => Command::fork_self(*theirs),
                };
                command.args([*message, *seconds]);
                command.serialization(Serialization::named(serialization).ok_or("no such serialization")?);
                let mut child = command.spawn()?;
                let channel = child.take_channel().ok_or("no channel")?;
                play(ours, channel, message, seconds).await?;
                child.wait().await?;
                Ok(())
            }
            _ => Err("usage: OURS THEIRS MESSAGE SERIALIZATION SECONDS [NODE]".into()),
        }
    })
}

async fn play(part: &str, mut channel: Channel, message: &str, seconds: &str) -> Result {
    let content = Content::named(message)?;
    // A clock that is looked at for each of the small ones would be measured too.
    let mut meter =
        Meter::new(seconds, if message == "small" && !part.starts_with("ping") { 64 } else { 1 })?;
    match part {
        "send" => loop {
            let sent = content.send(&channel);
            // Who counts has counted enough, and has gone.
            if sent.is_err() || (!sent? && channel.flush().await.is_err()) {
                return Ok(());
            }
        },
        "count" | "parse" => loop {
            let received = receive(&mut channel).await?.ok_or("the channel has ended")?;
            if part == "parse" {
                received.parse::<Job>()?;
            }
            if let Some(result) = meter.count(1) {
                println!("{result}");
                return Ok(());
            }
        },
        "ping" | "ping-parsed" => loop {
            content.send(&channel)?;
            let received = receive(&mut channel).await?.ok_or("the channel has ended")?;
            if part == "ping-parsed" {
                received.parse::<Job>()?;
            }
            if let Some(result) = meter.count(1) {
                println!("{result}");
                return Ok(());
            }
        },
        // Passed on as it came.
        "echo" => {
            while let Some(received) = receive(&mut channel).await? {
                channel.send_payload(received.payload(), None)?;
            }
            Ok(())
        }
        "echo-parsed" => {
            while let Some(received) = receive(&mut channel).await? {
                channel.send(&received.parse::<Job>()?)?;
            }
            Ok(())
        }
        "send-listeners" => {
            let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            loop {
                let sent = channel.send_with("listener", Some(listener.try_clone()?.into()));
                if sent.is_err() || (!sent? && channel.flush().await.is_err()) {
                    return Ok(());
                }
            }
        }
        "take-listeners" => loop {
            let received = receive(&mut channel).await?.ok_or("the channel has ended")?;
            TcpListener::try_from(received.handle.ok_or("no handle")?).map_err(|_| "no listener")?;
            if let Some(result) = meter.count(1) {
                println!("{result}");
                return Ok(());
            }
        },
        other => Err(format!("no such part: {other}").into()),
    }
}

async fn receive(channel: &mut Channel) -> Result<Option<Message>> {
    match channel.recv().await {
        Some(Received::Message(message)) => Ok(Some(message)),
        None => Ok(None),
        Some(other) => Err(format!("{other:?}").into()),
    }
}

/// What is sent.
enum Content {
    Job(Job),
    Text(String),
    Buffer(Value),
}

/// A message of 100 bytes.
#[derive(Serialize, Deserialize)]
struct Job {
    id: u32,
    kind: String,
    path: String,
    size: [u32; 2],
}

impl Content {
    fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "small" => Self::Job(Job {
                id: 1_000_000,
                kind: "thumbnail".into(),
                path: "/srv/media/2026/03/portrait-00000042.png".into(),
                size: [640, 480],
            }),
            "text" => Self::Text(TEXT.repeat(MIB / TEXT.len())),
            "buffer" => Self::Buffer(Value::buffer(vec![b'x'; MIB])),
            other => return Err(format!("no such message: {other}").into()),
        })
    }

    fn send(&self, channel: &Channel) -> std::result::Result<bool, SendError> {
        match self {
            Self::Job(job) => channel.send(job),
            Self::Text(text) => channel.send(text),
            Self::Buffer(value) => channel.send_value(value, None),
        }
    }
}

/// As often as it takes for 1 MiB.
const TEXT: &str = "It was a bright cold day in May ";
const MIB: usize = 1 << 20;
