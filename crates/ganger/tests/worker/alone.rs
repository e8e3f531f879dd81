//! A Rust worker without a primary: a server like any other.

use std::{env, net::TcpListener, os::fd::OwnedFd, os::unix::net::UnixListener};

use ganger::process::{Child, ChildOutput, Command, Stdio};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpStream, UdpSocket, UnixDatagram, UnixStream},
};

use crate::support::{self, Directory, exchange};

/// Says that this program is a worker, though nothing else says so.
pub(crate) const VARIABLE: &str = "GANGER_TEST_ALONE";

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    let mut alone = |name: &str, test: fn() -> std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        trials.push(Trial::test(format!("{name} alone"), move || {
            support::run(test());
            Ok(())
        }));
    };
    alone("serving", || Box::pin(it_serves_and_stops()));
    alone("second signal", || Box::pin(a_second_signal_ends_it()));
    alone("default signal", || Box::pin(who_does_not_ask_for_signals_is_ended_by_them()));
    alone("waiting connections", || Box::pin(what_waits_is_served_before_the_end()));
    alone("messages", || Box::pin(there_is_nobody_to_talk_to()));
    alone("leaving", || Box::pin(it_may_leave()));
    alone("datagrams", || Box::pin(datagrams_are_served()));
    alone("path", || Box::pin(a_path_is_served_and_removed()));
    alone("inherited sockets", || Box::pin(inherited_sockets_are_taken()));
    alone("test-dgram-bind-fd-error", || Box::pin(a_descriptor_is_what_it_is()));
    alone("inherited for another", || Box::pin(what_is_for_another_is_left()));
    alone("test-dgram-bind-fd", || Box::pin(a_descriptor_is_named()));
    alone("without a channel", || Box::pin(a_gang_without_channels_has_names()));
    alone("notify socket", || Box::pin(without_a_channel_it_says_how_it_is()));
}

/// A worker, which gets its orders by stdin.
struct Loner {
    child: Child,
    answers: Lines<BufReader<ChildOutput>>,
}

/// This program as a worker.
fn command(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(part).env(VARIABLE, "1").guarded(true).stderr(Stdio::Inherit);
    command
}

impl Loner {
    fn new() -> Self {
        Self::start(&mut command("alone"))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, answers }
    }

    /// With these sockets, as systemd hands them over: from descriptor 3 on.
    fn with_sockets(sockets: Vec<OwnedFd>) -> Self {
        // The pid is known in the process itself.
        let mut shell = Command::new("sh");
        let script = format!(
            "LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES=ignored {VARIABLE}=1 exec \"$0\" alone",
            sockets.len()
        );
        shell.args(["-c".into(), script.into(), env::current_exe().unwrap().into_os_string()]);
        Self::start(hand_over(&mut shell, sockets))
    }

    async fn answer(&mut self) -> Value {
        let line = self.answers.next_line().await.unwrap().expect("it has ended");
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, order: Value) -> Value {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        self.answer().await
    }

    async fn listen(&mut self, place: impl Into<Value>) -> String {
        let answer = self.ask(json!(["listen", place.into()])).await;
        assert_eq!(answer[0], "listening", "{answer}");
        answer[1].as_str().unwrap().to_owned()
    }

    async fn serve(&mut self, index: usize) {
        assert_eq!(self.ask(json!(["serve", index])).await, json!(["serving"]));
    }

    /// How it ends.
    async fn end(mut self) -> String {
        self.child.wait().await.unwrap().to_string()
    }
}

/// Gives a command descriptors from 3 on.
fn hand_over(command: &mut Command, sockets: Vec<OwnedFd>) -> &mut Command {
    command.guarded(true).stderr(Stdio::Inherit);
    for (number, socket) in (3..).zip(sockets) {
        command.descriptor(number, Stdio::from_fd(socket));
    }
    command
}

async fn it_serves_and_stops() {
    for signal in [2, 15] {
        let mut loner = Loner::new();
        assert_eq!(loner.answer().await, json!(["started", 0, 0, true]));
        let address = loner.listen("127.0.0.1:0").await;
        loner.serve(0).await;
        let again = loner.ask(json!(["listen", address])).await;
        assert_eq!(again, json!(["error", "address in use", 98]));

        let mut client = TcpStream::connect(&address).await.unwrap();
        assert_eq!(exchange(&mut client, "before").await, "0 before");
        loner.child.kill(signal).unwrap();
        assert_eq!(loner.answer().await, json!(["stopping"]));
        assert_eq!(exchange(&mut client, "after").await, "0 after");
        drop(client);
        assert_eq!(loner.end().await, "exit code 0");
    }
}

async fn a_second_signal_ends_it() {
    for (signal, end) in [(2, "exit code 130"), (15, "exit code 143")] {
        let mut loner = Loner::new();
        loner.answer().await;
        let address = loner.listen("127.0.0.1:0").await;
        loner.serve(0).await;
        let mut client = TcpStream::connect(&address).await.unwrap();
        exchange(&mut client, "x").await;
        loner.child.kill(signal).unwrap();
        assert_eq!(loner.answer().await, json!(["stopping"]));
        loner.child.kill(signal).unwrap();
        assert_eq!(loner.end().await, end);
    }
}

async fn who_does_not_ask_for_signals_is_ended_by_them() {
    for (signal, end) in [(2, "signal SIGINT"), (15, "signal SIGTERM")] {
        let mut child = command("deaf-alone").spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(answers.next_line().await.unwrap().unwrap(), "deaf");
        child.kill(signal).unwrap();
        assert_eq!(child.wait().await.unwrap().to_string(), end);
    }
}

/// Nobody else would serve them.
async fn what_waits_is_served_before_the_end() {
    let mut loner = Loner::new();
    loner.answer().await;
    let address = loner.listen("127.0.0.1:0").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(TcpStream::connect(&address).await.unwrap());
    }
    assert_eq!(loner.ask(json!(["serve when it stops", 0])).await, json!(["waiting"]));
    loner.child.kill(15).unwrap();
    for mut client in clients {
        assert_eq!(exchange(&mut client, "x").await, "0 x");
    }
    assert_eq!(loner.end().await, "exit code 0");
}

async fn there_is_nobody_to_talk_to() {
    let mut loner = Loner::new();
    loner.answer().await;
    assert_eq!(loner.ask(json!(["say", "hello"])).await, json!([true, null]));
    let address = loner.listen("127.0.0.1:0").await;
    // What would be lost comes back.
    let answer = loner.ask(json!(["say with a socket", address])).await;
    assert_eq!(answer, json!("ERR_IPC_CHANNEL_CLOSED"));
    assert_eq!(loner.ask(json!(["nothing comes"])).await, json!(true));
}

async fn it_may_leave() {
    let mut loner = Loner::new();
    loner.answer().await;
    loner.listen("127.0.0.1:0").await;
    loner.serve(0).await;
    assert_eq!(loner.ask(json!(["disconnect"])).await, json!(null));
    assert_eq!(loner.answer().await, json!(["stopping"]));
    assert_eq!(loner.end().await, "exit code 0");
}

async fn datagrams_are_served() {
    let mut loner = Loner::new();
    loner.answer().await;
    let bound = loner.ask(json!(["bind only", "127.0.0.1:0"])).await;
    loner.ask(json!(["echo datagrams"])).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(bound[1].as_str().unwrap()).await.unwrap();
    client.send(b"ping").await.unwrap();
    let mut buffer = [0; 16];
    let count = client.recv(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..count], b"0 ping");
    loner.child.kill(15).unwrap();
    assert_eq!(loner.end().await, "exit code 0");
}

async fn a_path_is_served_and_removed() {
    let directory = Directory::new();
    let path = directory.path("app.sock");
    let mut loner = Loner::new();
    loner.answer().await;
    assert_eq!(loner.listen(path.to_str().unwrap()).await, path.to_str().unwrap());
    loner.serve(0).await;
    assert_eq!(exchange(&mut UnixStream::connect(&path).await.unwrap(), "x").await, "0 x");
    loner.child.kill(15).unwrap();
    assert_eq!(loner.end().await, "exit code 0");
    assert!(!path.exists());
}

async fn inherited_sockets_are_taken() {
    let directory = Directory::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let path = directory.path("app.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = udp.local_addr().unwrap();
    let mut loner = Loner::with_sockets(vec![tcp.into(), unix.into(), udp.into()]);
    loner.answer().await;

    // The port is enough: which address is a matter of whoever has made the socket.
    let port = address.port().to_string();
    assert_eq!(loner.listen(port.clone()).await, address.to_string());
    let again = loner.ask(json!(["listen", port])).await;
    assert_eq!(again, json!(["error", "address in use", 98]));
    assert_eq!(loner.listen(path.to_str().unwrap()).await, path.to_str().unwrap());
    let bound = loner.ask(json!(["bind only", datagrams.to_string()])).await;
    assert_eq!(bound, json!(["bound", datagrams.to_string()]));
    for index in [0, 1] {
        loner.serve(index).await;
    }
    assert_eq!(exchange(&mut TcpStream::connect(address).await.unwrap(), "x").await, "0 x");
    assert_eq!(exchange(&mut UnixStream::connect(&path).await.unwrap(), "x").await, "0 x");

    // Closed, it waits for the next time.
    assert_eq!(loner.ask(json!(["drop", 0])).await, json!(["dropped"]));
    let mut waiting = TcpStream::connect(address).await.unwrap();
    assert_eq!(loner.listen(address.to_string()).await, address.to_string());
    loner.serve(2).await;
    assert_eq!(exchange(&mut waiting, "x").await, "0 x");
    drop(waiting);

    // Another port is its own affair.
    assert_ne!(loner.listen("127.0.0.1:0").await, address.to_string());
    // And its children know nothing of it.
    assert_eq!(
        loner.ask(json!(["run", ["sh", "-c", "echo [$LISTEN_PID$LISTEN_FDS$LISTEN_FDNAMES]"]])).await,
        "[]"
    );
    assert_eq!(
        loner.ask(json!(["run", ["ls", "/proc/self/fd"]])).await,
        "0\n1\n2\n3",
        "the directory is the last"
    );
    loner.child.kill(15).unwrap();
    assert_eq!(loner.end().await, "exit code 0");
    assert!(path.exists(), "it is not ours to remove");
}

/// The variables came through a process that has nothing to do with them.
async fn what_is_for_another_is_left() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let mut command = command("alone");
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let mut loner = Loner::start(hand_over(&mut command, vec![tcp.into()]));
    loner.answer().await;
    assert_eq!(loner.ask(json!(["listen", address])).await, json!(["error", "address in use", 98]));
}

async fn a_descriptor_is_named() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = udp.local_addr().unwrap().to_string();
    let mut command = command("alone");
    let mut loner = Loner::start(hand_over(&mut command, vec![tcp.into(), udp.into()]));
    loner.answer().await;
    assert_eq!(loner.listen(3).await, address);
    loner.serve(0).await;
    assert_eq!(loner.ask(json!(["bind only", 4])).await, json!(["bound", datagrams]));
    assert_eq!(exchange(&mut TcpStream::connect(address).await.unwrap(), "x").await, "0 x");
}

async fn a_descriptor_is_what_it_is() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut command = command("alone");
    let mut loner = Loner::start(hand_over(&mut command, vec![tcp.into(), udp.into()]));
    loner.answer().await;
    let unfit = json!(["error", "invalid input parameter", 22]);
    assert_eq!(loner.ask(json!(["bind only", 3])).await, unfit);
    assert_eq!(loner.ask(json!(["listen", 4])).await, unfit);
    assert_eq!(loner.ask(json!(["listen", 1000])).await[2], 9);
}

/// `ganger run --channel off`: no primary to talk to, and a place in the gang all the same.
async fn a_gang_without_channels_has_names() {
    let mut command = command("alone");
    command.env("GANGER_ROLE", "worker").env("GANGER_SLOT", "2").env("GANGER_ID", "host/name/2/7");
    let mut loner = Loner::start(&mut command);
    assert_eq!(loner.answer().await, json!(["started", 7, 2, true]));
    // Also where the same program could be a primary.
    let mut command = self::command("late-primary");
    command.env("GANGER_ROLE", "worker").env("GANGER_SLOT", "2").env("GANGER_ID", "host/name/2/7");
    let mut child = command.spawn().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(answers.next_line().await.unwrap().unwrap(), "deaf");
    child.kill(9).unwrap();
}

async fn without_a_channel_it_says_how_it_is() {
    let directory = Directory::new();
    let path = directory.path("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut buffer = [0; 64];
    let mut said = async || {
        let length = socket.recv(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut command = command("alone");
    command.env("GANGER_ROLE", "worker").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let mut loner = Loner::start(&mut command);
    loner.answer().await;
    assert_eq!([said().await, said().await], ["WATCHDOG=1", "WATCHDOG=1"]);
    assert_eq!(loner.ask(json!(["env"])).await, json!([]));
    for _ in 0..2 {
        loner.listen("127.0.0.1:0").await;
    }
    while said().await != "READY=1" {}
    // Not once a listener, and that it is there as before.
    assert_eq!([said().await, said().await], ["WATCHDOG=1", "WATCHDOG=1"]);
    drop(loner);

    // Whoever is started by nobody of that sort may use it.
    let mut command = self::command("alone");
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let mut loner = Loner::start(&mut command);
    loner.answer().await;
    assert_eq!(loner.ask(json!(["env"])).await.as_array().unwrap().len(), 2);
}
