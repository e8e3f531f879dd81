//! Children with a channel, in Node and in Rust, that do the same.

use std::{env, path::PathBuf, time::Duration};

use ganger::{
    Channel,
    channel::Received,
    process::{Child, Command, Event},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    handle, lane, part, rows,
    support::{Directory, node},
};

pub(crate) use crate::rows::{Kid, NODES, rows};

impl Kid {
    /// A fork of this one in a part of [`PARTS`].
    pub(crate) fn command(self, directory: &Directory, part: &str) -> Command {
        match self {
            Self::Rust => {
                let mut command = Command::fork(env::current_exe().unwrap());
                command.env(part::VARIABLE, format!("kid {part}"));
                command
            }
            Self::Node(major) => {
                let mut command = Command::fork(directory.write("kid.js", script(part)));
                command.exec_path(node(major));
                command
            }
        }
    }
}

/// The test of a row with a Node parent and a Rust child. The script finds `fork(part, args, options)`, and ends with
/// exit code 0 if all is as it should be.
pub(crate) fn rows_under_node(name: &str, script: &'static str) -> Vec<Trial> {
    rows::rows_under_node(name, FORK, &[("PART", part::VARIABLE)], script)
}

const FORK: &str = r"
const child_process = require('child_process');
const fork = (part, args = [], options = {}) => child_process.fork('unused.js', args, {
  execPath: process.env.RUST, execArgv: [], ...options,
  env: { ...process.env, ...options.env, [process.env.PART]: `kid ${part}` },
});
";

/// What a child does, as a script.
fn script(part: &str) -> &'static str {
    let parts = PARTS.iter().chain(handle::part::PARTS);
    { parts }.find(|(name, _)| *name == part).unwrap_or_else(|| panic!("no such part: {part}")).1
}

/// The same, in Rust.
pub(crate) fn play(part: &str) {
    match part {
        "nothing" => return,
        "echo where it is no worker" => {
            let primary = async |_| echo_in_a_cluster().await;
            return ganger::main(primary, async |_| echo_in_a_cluster().await).unwrap();
        }
        "say the role" => {
            // In either order; asked again, the role is the same.
            let role = ganger::ipc::role().unwrap();
            assert_eq!(ganger::ipc::role().unwrap(), role);
            let parent = ganger::ipc::parent().unwrap().expect("a channel");
            parent.send(&json!([role, env::args().nth(1)])).unwrap();
            return;
        }
        "too late" => {
            let thread = std::thread::spawn(std::thread::park);
            eprintln!("{}", ganger::ipc::parent().unwrap_err());
            assert!(ganger::ipc::role().is_err());
            thread.thread().unpark();
            thread.join().unwrap();
            std::process::exit(7);
        }
        _ => {}
    }
    let parent = ganger::ipc::parent().unwrap().expect("a channel");
    assert!(ganger::ipc::parent().unwrap().is_none(), "it is there once");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(act(part, parent));
}

const PARTS: [(&str, &str); 11] = [
    ("nothing", ""),
    ("say hello", "process.send('hello');"),
    (
        "send environment",
        "process.send(process.env, () => process.disconnect());",
    ),
    (
        "send arguments",
        "process.send({ argv: process.argv.slice(2), execArgv: process.execArgv, execPath: process.execPath }, () => process.disconnect());",
    ),
    (
        "two and a farewell",
        "process.send(1); process.on('message', () => process.send(2)); process.on('disconnect', () => console.log('3'));",
    ),
    (
        "echo",
        "process.on('message', (message) => process.send(message));",
    ),
    (
        "echo late",
        "setTimeout(() => process.on('message', (message) => process.send(message)), 20);",
    ),
    (
        "echo from descriptor 4",
        "const socket = new (require('net').Socket)({ fd: 4 });
         console.error('to stderr');
         socket.on('data', (data) => process.send(data.toString()));
         process.on('disconnect', () => socket.destroy());",
    ),
    (
        "talk and wait",
        "console.log('to stdout'); console.error('to stderr'); process.on('message', (message) => process.send(message));",
    ),
    (
        "write into a broken pipe",
        "process.stdout.on('error', () => {});
         process.on('message', () => { console.log('nobody reads this'); process.disconnect(); });",
    ),
    (
        "spawn without a channel",
        "const { spawn } = require('child_process');
         process.on('message', () => {});
         spawn(process.execPath, ['-e', 'process.exitCode = process.env.NODE_CHANNEL_FD || process.connected ? 1 : 0'], { stdio: 'inherit' })
           .on('exit', (code) => { process.send(code, () => process.disconnect()); });",
    ),
];

async fn act(part: &str, mut parent: Channel) {
    let leave = async |mut parent: Channel| {
        parent.flush().await.unwrap();
        parent.disconnect();
    };
    match part {
        "say hello" => assert!(parent.send("hello").unwrap()),
        "write to what the lane brings" => {
            lane::write_to_what_it_brings(&mut parent.take_lane().unwrap()).await;
            parent.send("written").unwrap();
            leave(parent).await;
        }
        "send four large buffers" => {
            for fill in 0..4 {
                parent.send_value(&ganger::Value::buffer(vec![fill; 8 << 20]), None).unwrap();
            }
            leave(parent).await;
        }
        "send 5000" => {
            for number in 0..5000 {
                parent.send(&json!([number, "x".repeat(100)])).unwrap();
            }
            leave(parent).await;
        }
        "send environment" => {
            let env: serde_json::Map<String, Value> =
                env::vars().map(|(name, value)| (name, value.into())).collect();
            parent.send(&env).unwrap();
            leave(parent).await;
        }
        "send arguments" => {
            let argv: Vec<String> = env::args().skip(1).collect();
            parent
                .send(&json!({ "argv": argv, "execArgv": [], "execPath": env::current_exe().unwrap() }))
                .unwrap();
            leave(parent).await;
        }
        "two and a farewell" => {
            parent.send(&1).unwrap();
            while parent.recv().await.is_some() {
                parent.send(&2).unwrap();
            }
            println!("3");
        }
        "echo late" => {
            tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await.unwrap_err();
            echo(parent).await;
        }
        "echo" => echo(parent).await,
        "talk and wait" => {
            println!("to stdout");
            eprintln!("to stderr");
            echo(parent).await;
        }
        "echo from descriptor 4" => echo_from_descriptor_4(parent).await,
        "write into a broken pipe" => {
            message(&mut parent).await;
            use std::io::Write;
            // An error, and no signal.
            assert!(writeln!(std::io::stdout(), "nobody reads this").is_err());
        }
        "spawn without a channel" => {
            let mut command = Command::new("sh");
            command.args(["-c", "test -z \"$NODE_CHANNEL_FD\""]);
            let exit = command.spawn().unwrap().wait().await.unwrap();
            parent.send(&(exit.to_string() != "exit code 0")).unwrap();
            leave(parent).await;
        }
        other => handle::part::act(other, parent).await,
    }
}

async fn echo(mut parent: Channel) {
    while let Some(received) = parent.recv().await {
        let Received::Message(mut message) = received else { panic!("{received:?}") };
        // As it came: not every string of JavaScript's is one of Rust's.
        let handle = message.handle.take();
        parent.send_payload(message.payload(), handle).unwrap();
    }
}

/// In a program that has asked for its role in the cluster first.
async fn echo_in_a_cluster() -> ganger::Result {
    let open = std::process::Command::new("ls").arg("/proc/self/fd").output()?;
    assert_eq!(String::from_utf8(open.stdout)?, "0\n1\n2\n3\n", "the directory is the last");
    echo(ganger::ipc::parent()?.ok_or("no channel")?).await;
    Ok(())
}

async fn echo_from_descriptor_4(mut parent: Channel) {
    use tokio::io::AsyncReadExt;

    eprintln!("to stderr");
    let socket = ganger::sys::fd::adopt(4).unwrap();
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).unwrap();
    let mut socket = tokio::net::UnixStream::from_std(socket).unwrap();
    let mut buffer = [0; 64];
    loop {
        tokio::select! {
            count = socket.read(&mut buffer) => {
                let text = String::from_utf8_lossy(&buffer[..count.unwrap()]).into_owned();
                parent.send(&text).unwrap();
            }
            received = parent.recv() => if received.is_none() { return },
        }
    }
}

/// The next message on a channel.
pub(crate) async fn message(channel: &mut Channel) -> Value {
    match channel.recv().await {
        Some(Received::Message(message)) => message.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// All that happens to a child from here on, as text: `spawn`, `message …`, `exit …`, `close …`.
pub(crate) async fn story(child: &mut Child) -> Vec<String> {
    let mut story = Vec::new();
    while let Some(event) = child.next().await {
        story.push(told(&event));
    }
    story
}

/// An event as text.
pub(crate) fn told(event: &Event) -> String {
    match event {
        Event::Spawn => "spawn".into(),
        Event::Message(message) => format!("message {}", message.as_json()),
        Event::Error(error) => format!("error {error}"),
        Event::Disconnect => "disconnect".into(),
        Event::Exit(exit) => format!("exit {exit}"),
        Event::Close(exit) => format!("close {}", exit.map_or("unknown".into(), |exit| exit.to_string())),
        other => format!("{other:?}"),
    }
}

/// Waits for a child's next message.
pub(crate) async fn message_of(child: &mut Child) -> Value {
    loop {
        match child.next().await {
            Some(Event::Message(message)) => return message.parse().unwrap(),
            Some(Event::Spawn) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A copy of a program under another name.
pub(crate) fn copy_of(program: PathBuf, directory: &Directory, name: &str) -> PathBuf {
    let copy = directory.path(name);
    // Not here: a child that another test starts meanwhile would have it open for writing for a moment, and what is
    // written cannot be executed.
    let status = ganger::spawn_sync("cp", [program.as_os_str(), copy.as_os_str()]).unwrap();
    assert_eq!(status.exit.to_string(), "exit code 0");
    copy
}
