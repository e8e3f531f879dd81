//! What this program does as a worker or an agent.

use std::{env, pin::pin};

use ganger::cluster::{Connection, Listen, Listener, Primary, UdpSocket, Worker};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use crate::{agent, by_hand};

/// Plays the part that the arguments say; returns the exit code.
pub(crate) fn play(args: &[&str]) -> i32 {
    let result = match args {
        ["remote", ..] => ganger::main(no_primary, remote),
        ["alone", ..] => ganger::worker(alone),
        ["several-threads", ..] => several_threads(),
        ["deaf-alone", ..] => ganger::worker(deaf_alone),
        ["late-primary", ..] => ganger::main(no_primary, deaf_alone),
        ["relay", ..] => agent::relay(),
        ["late", ..] => late(),
        ["listen", ..] => ganger::main(no_primary, listen),
        ["deaf", ..] => ganger::main(no_primary, deaf),
        ["leave", ..] => ganger::main(no_primary, leave),
        ["listen-in-stop", ..] => ganger::main(no_primary, listen_in_stop),
        ["by-hand", part] => {
            by_hand::play(part);
            Ok(())
        }
        _ => Err(format!("no such part: {args:?}").into()),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{args:?}: {error}");
            1
        }
    }
}

pub(crate) async fn no_primary(_: Primary) -> ganger::Result {
    Err("this process was started as a worker".into())
}

/// Asks for its role when another thread runs; exit code 7 if the error says so.
fn late() -> ganger::Result {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv());
    let error = ganger::main(no_primary, remote).unwrap_err().to_string();
    let expected = "the environment must be taken before the first thread starts (2 threads run): call this first thing in main";
    assert_eq!(error, expected);
    assert!(env::var_os("NODE_CHANNEL_FD").is_some(), "nothing is taken by halves");
    drop(done);
    let _ = thread.join();
    std::process::exit(7);
}

/// Says who it is, and then looks at nothing any more.
async fn deaf(worker: Worker) -> ganger::Result {
    worker.send(&std::process::id())?;
    std::future::pending().await
}

/// The same for who has nobody to say it to.
async fn deaf_alone(_: Worker) -> ganger::Result {
    println!("deaf");
    std::future::pending().await
}

/// As programs do it that know nothing of being asked to leave.
async fn listen(worker: Worker) -> ganger::Result {
    let mut listener = worker.listen(0).await?;
    let datagrams = worker.bind_udp(0).await?;
    while let Some(_connection) = listener.accept().await {}
    while let Some(_datagram) = datagrams.receive(&mut [0; 16]).await? {}
    Ok(())
}

/// Leaves at once.
async fn leave(worker: Worker) -> ganger::Result {
    worker.disconnect();
    while worker.recv().await.is_some() {}
    Ok(())
}

/// The same, where it has been told to leave.
async fn listen_in_stop(worker: Worker) -> ganger::Result {
    worker.stopping().await;
    listen(worker).await
}

/// The same orders from stdin, the answers on stdout.
async fn alone(worker: Worker) -> ganger::Result {
    let (orders, mut ordered) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = orders.send(line);
        }
    });
    let mut part = Part::new(worker.clone());
    let mut stopping = pin!(worker.stopping());
    println!("{}", json!(["started", worker.id(), worker.slot(), worker.is_alone()]));
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => break,
            Some(order) = ordered.recv() => {
                let answer = part.perform(serde_json::from_str(&order)?).await?;
                println!("{answer}");
            }
        }
    }
    println!("{}", json!(["stopping"]));
    part.finish().await;
    Ok(())
}

/// In a runtime of its own, with more than one thread.
fn several_threads() -> ganger::Result {
    let worker = ganger::cluster::worker()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(worker.run(|worker| {
        ganger::guard::graceful(&worker);
        remote(worker)
    }))
}

/// Does what the primary's messages say: `["listen", ADDRESS, OPTIONS]`, `["serve", LISTENER]`, …
async fn remote(worker: Worker) -> ganger::Result {
    let mut part = Part::new(worker.clone());
    let mut stopping = pin!(worker.stopping());
    loop {
        tokio::select! {
            biased;
            () = &mut stopping => break,
            message = worker.recv() => {
                let Some(message) = message else { break };
                let answer = part.perform(message.parse()?).await?;
                if !answer.is_null() {
                    worker.send(&answer)?;
                }
            }
        }
    }
    // Who has left of its own accord may have nobody to tell.
    let _ = worker.send(&json!(["stopping"]));
    part.finish().await;
    Ok(())
}

struct Part {
    worker: Worker,
    listeners: Vec<State>,
    sockets: Vec<UdpSocket>,
    serving: JoinSet<()>,
}

enum State {
    Idle(Listener),
    Serving(AbortHandle),
    Gone,
}

impl Part {
    fn new(worker: Worker) -> Self {
        Self { worker, listeners: Vec::new(), sockets: Vec::new(), serving: JoinSet::new() }
    }

    async fn finish(self) {
        drop(self.listeners);
        self.serving.join_all().await;
    }

    async fn perform(&mut self, message: Value) -> ganger::Result<Value> {
        let index = message[1].as_u64().unwrap_or(0) as usize;
        Ok(match message[0].as_str().unwrap_or_default() {
            "echo" => message[1].clone(),
            "id" => json!([self.worker.id(), self.worker.slot(), std::process::id()]),
            "args" => json!(env::args().skip(1).collect::<Vec<_>>()),
            "listen" => match self.worker.listen(place(&message)?).await {
                Ok(listener) => {
                    let address = listener.local_addr().to_string();
                    self.listeners.push(State::Idle(listener));
                    json!(["listening", address])
                }
                Err(error) => json!(["error", error.kind().to_string(), error.raw_os_error()]),
            },
            "bind" => {
                let socket =
                    self.worker.bind_udp(message[1].as_str().unwrap_or_default().parse::<Listen>()?).await?;
                let address = socket.local_addr()?.to_string();
                self.serving.spawn(answer_datagrams(self.worker.id().to_string(), socket));
                json!(["listening", address])
            }
            "bind only" => match self.worker.bind_udp(place(&message)?).await {
                Ok(socket) => {
                    let address = socket.local_addr()?.to_string();
                    self.sockets.push(socket);
                    json!(["bound", address])
                }
                Err(error) => json!(["error", error.kind().to_string(), error.raw_os_error()]),
            },
            // All sockets.
            "echo datagrams" => {
                let id = self.worker.id().to_string();
                for socket in self.sockets.drain(..) {
                    self.serving.spawn(answer_datagrams(id.clone(), socket));
                }
                json!(["serving"])
            }
            "close datagrams" => {
                self.sockets.clear();
                json!(["closed"])
            }
            "nothing comes" => json!(tokio::select! {
                biased;
                message = self.worker.recv() => message.is_none(),
                () = tokio::task::yield_now() => true,
            }),
            "serve" => {
                let state = std::mem::replace(&mut self.listeners[index], State::Gone);
                if let State::Idle(listener) = state {
                    let id = self.worker.id().to_string();
                    self.listeners[index] = State::Serving(self.serving.spawn(serve(id, listener)));
                }
                json!(["serving"])
            }
            "serve when it stops" => {
                let state = std::mem::replace(&mut self.listeners[index], State::Gone);
                if let State::Idle(listener) = state {
                    let (id, stopping) = (self.worker.id().to_string(), self.worker.stopping());
                    self.serving.spawn(async move {
                        stopping.await;
                        serve(id, listener).await;
                    });
                }
                json!(["waiting"])
            }
            "say" => json!([self.worker.send(&message[1])?, null]),
            "say with a socket" => {
                let address = message[1].as_str().unwrap_or_default();
                let socket = std::net::TcpStream::connect(address)?;
                let error = self.worker.send_with("", Some(socket.into())).err().ok_or("it was sent")?;
                let code = error.code();
                error.into_handle().ok_or("the socket is lost")?;
                json!(code)
            }
            "drop" => {
                let state = std::mem::replace(&mut self.listeners[index], State::Gone);
                if let State::Serving(task) = state {
                    task.abort();
                    let _ = self.serving.join_next().await;
                }
                json!(["dropped"])
            }
            "disconnect" => {
                self.worker.disconnect();
                Value::Null
            }
            "panic" => {
                tokio::spawn(async { fail_as_ordered() });
                Value::Null
            }
            "block" => loop {
                std::thread::park();
            },
            "panic at once" => fail_as_ordered(),
            "env" => {
                let names = env::vars().map(|(name, _)| name);
                let ours = [
                    "NODE_CHANNEL_FD",
                    "NODE_CHANNEL_SERIALIZATION_MODE",
                    "NODE_UNIQUE_ID",
                    "NOTIFY_SOCKET",
                    "WATCHDOG_USEC",
                ];
                json!(names.filter(|name| ours.contains(&name.as_str())).collect::<Vec<_>>())
            }
            "run" => {
                let words: Vec<&str> =
                    message[1].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let output = std::process::Command::new(words[0]).args(&words[1..]).output()?;
                json!(String::from_utf8(output.stdout)?.trim())
            }
            other => return Err(format!("no such order: {other}").into()),
        })
    }
}

#[inline(never)]
fn fail_as_ordered() -> ! {
    panic!("as ordered")
}

/// Where and how to listen: `[_, ADDRESS, OPTIONS]`; a number is a descriptor's.
fn place(order: &Value) -> ganger::Result<Listen> {
    let place = match order[1].as_i64() {
        Some(number) => Listen::descriptor(number.try_into()?),
        None => order[1].as_str().unwrap_or_default().parse()?,
    };
    let options = order[2].as_object().into_iter().flatten();
    options.into_iter().try_fold(place, |place, (name, value)| {
        Ok(match (name.as_str(), value.as_bool().unwrap_or(false)) {
            ("exclusive", on) => place.exclusive(on),
            ("reusePort", on) => place.reuse_port(on),
            ("reuseAddr", on) => place.reuse_addr(on),
            ("ipv6Only", on) => place.ipv6_only(on),
            ("readableAll", on) => place.readable_all(on),
            ("writableAll", on) => place.writable_all(on),
            ("backlog", _) => place.backlog(value.as_u64().unwrap_or(0).try_into()?),
            (other, _) => return Err(format!("no such option: {other}").into()),
        })
    })
}

/// Serves a listener until it is closed, and what it accepted until that is.
async fn serve(id: String, mut listener: Listener) {
    let mut open = JoinSet::new();
    while let Some(connection) = listener.accept().await {
        open.spawn(echo(id.clone(), connection));
    }
    open.join_all().await;
}

/// Says to each datagram who it is, then what it heard.
async fn answer_datagrams(id: String, socket: UdpSocket) {
    let mut buffer = [0; 1024];
    while let Ok(Some((count, sender))) = socket.receive(&mut buffer).await {
        let answer = [id.as_bytes(), b" ", &buffer[..count]].concat();
        // A client that has gone is no error of ours.
        let _ = socket.send_to(&answer, sender).await;
    }
}

/// Says who it is, then what it hears.
async fn echo(id: String, mut connection: Connection) {
    let mut buffer = [0; 1024];
    // A client that has gone is no error of ours.
    while let Ok(count @ 1..) = connection.read(&mut buffer).await {
        let answer = [id.as_bytes(), b" ", &buffer[..count]].concat();
        if connection.write_all(&answer).await.is_err() {
            return;
        }
    }
}
