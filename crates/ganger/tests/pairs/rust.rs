//! One side of a pair in Rust: what `program.cjs` does for the others, feature by feature.

mod counted;
mod sockets;
mod values;

use std::{env, future::Future, pin::pin};

use ganger::{
    Channel, Handle, Serialization,
    channel::Received,
    process::{Child, Command, Exit, Stdio},
    value::JsString,
};
use serde::Serialize;
use serde_json::Value;

use crate::PART;

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Parent,
    Child,
}

/// What comes of a part goes wrong with a panic.
pub(crate) fn play(part: &str) {
    let (side, feature) = part.split_once(' ').unwrap();
    // First of all, before there are other threads.
    let channel = ganger::ipc::parent().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match side {
            "child" => child(feature, Line(channel.expect("a channel"))).await,
            _ => parent(feature).await,
        }
    });
}

async fn parent(feature: &str) {
    let mut child = start(feature);
    let mut line = Line(child.take_channel().unwrap());
    let expected = Exit::Code(if matches!(feature, "disconnect-by-parent" | "exit") { 7 } else { 0 });
    {
        let mut acting = pin!(act(feature, Side::Parent, &mut line));
        let early = tokio::select! {
            () = &mut acting => None,
            exit = child.wait() => Some(exit.unwrap()),
        };
        if let Some(exit) = early {
            assert_eq!(exit, expected, "how the child ended, before its time");
            acting.await;
        }
    }
    line.0.disconnect();
    while line.take().await.is_some() {}
    assert_eq!(child.wait().await.unwrap(), expected, "how the child ended");
}

async fn child(feature: &str, mut line: Line) {
    act(feature, Side::Child, &mut line).await;
    // The parent closes it.
    while line.take().await.is_some() {}
    if feature == "disconnect-by-parent" {
        std::process::exit(7);
    }
}

/// A child in the same feature.
fn start(feature: &str) -> Child {
    let words: Vec<String> = serde_json::from_str(&env::var("GANGER_TEST_CHILD").unwrap()).unwrap();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(PART, format!("child {feature}")).kill_on_drop(true).kill_signal(9);
    command.stdio([Stdio::Inherit, Stdio::Inherit, Stdio::Inherit, Stdio::Ipc]);
    if feature == "advanced" {
        command.serialization(Serialization::Advanced);
    }
    command.spawn().unwrap()
}

async fn act(feature: &str, side: Side, line: &mut Line) {
    let parent = side == Side::Parent;
    match feature {
        "messages" => values::messages(side, line).await,
        "large-integer" => values::back(side, line, 9_007_199_254_740_992_f64.into()).await,
        "lone-surrogate" => {
            let lone = JsString::from_utf16(&[0x61, 0xd800, 0x62]);
            values::back(side, line, lone.into()).await;
        }
        "advanced" => values::advanced(line).await,
        "disconnect-by-parent" if parent => {
            line.hear("ready").await;
            line.0.disconnect();
            assert!(!line.0.is_connected() && line.take().await.is_none());
        }
        "disconnect-by-parent" => line.say("ready"),
        "disconnect-by-child" if parent => {
            line.say("leave");
            line.hear("bye").await;
            assert!(line.take().await.is_none());
            assert!(line.0.send("too late").is_err());
        }
        "disconnect-by-child" => {
            line.hear("leave").await;
            line.say("bye");
            line.0.disconnect();
            assert!(line.take().await.is_none());
        }
        "exit" if parent => {
            let mut killed = start(feature);
            let mut other = Line(killed.take_channel().unwrap());
            other.hear("ready").await;
            assert!(killed.kill(9).unwrap());
            assert_eq!(killed.wait().await.unwrap(), Exit::Signal { signal: 9, core_dumped: false });
            line.hear("ready").await;
            line.say("exit");
        }
        "exit" => {
            line.say("ready");
            line.hear("exit").await;
            std::process::exit(7);
        }
        "count" if parent => counted::own(line).await,
        "count" => counted::hold(line).await,
        "count-by-child" if parent => counted::hold(line).await,
        "count-by-child" => counted::own(line).await,
        feature => sockets::act(feature, side, line).await,
    }
}

/// The channel, in either role.
struct Line(Channel);

impl Line {
    /// The next message and what came with it; none at the end.
    async fn take(&mut self) -> Option<(Value, Option<Handle>)> {
        match self.0.recv().await? {
            Received::Message(mut message) => {
                let handle = message.handle.take();
                Some((message.parse().unwrap(), handle))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits for this message.
    async fn hear(&mut self, expected: &str) {
        let (message, handle) = self.take().await.unwrap_or_else(|| panic!("the end, and not {expected:?}"));
        assert!(message == expected && handle.is_none(), "{message}, {handle:?}, and not {expected:?}");
    }

    /// Waits for this message, with a socket.
    async fn hear_with<T: TryFrom<Handle, Error = Handle>>(&mut self, expected: &str) -> T {
        let (message, handle) = self.take().await.unwrap_or_else(|| panic!("the end, and not {expected:?}"));
        assert_eq!(message, expected);
        let handle = handle.expect("a socket");
        T::try_from(handle).unwrap_or_else(|handle| panic!("not a {:?}", handle.kind()))
    }

    fn say<T: Serialize + ?Sized>(&self, message: &T) {
        self.0.send(message).unwrap();
    }

    fn give(&self, message: &str, handle: impl TryInto<Handle, Error: std::fmt::Debug>) {
        self.0.send_with(message, Some(handle.try_into().unwrap())).unwrap();
    }
}

/// What comes of a future that is looked at once.
async fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}
