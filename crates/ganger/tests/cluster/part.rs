//! What a worker does, once in Node's JavaScript and once in Rust.

use std::{
    env,
    future::Future,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::{Pin, pin},
    process,
};

use ganger::cluster::{Listener, Policy, Primary, Settings, Worker, WorkerHandle};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet};

use crate::{
    rows::Kid,
    support::{Directory, Gang},
};

/// What a worker does. Its arguments are behind the part's name: `process.argv.slice(2)`, `env::args().skip(2)`.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// As a script.
    pub(crate) node: &'static str,
    /// The same.
    pub(crate) rust: fn(Worker) -> Doing,
}

/// What a Rust worker does.
pub(crate) type Doing = Pin<Box<dyn Future<Output = ganger::Result>>>;

/// Parts that several groups of rows have.
pub(crate) const PARTS: &[Part] = &[OBEY];

/// Does what it is told in messages `[what, argument]`, and answers most of them.
pub(crate) const OBEY: Part = Part {
    name: "obey",
    node: "
        const cluster = require('cluster'), net = require('net');
        const { worker } = cluster;
        const orders = {
          echo: (what) => process.send(what),
          id: () => process.send(worker.id),
          args: () => process.send(process.argv.slice(2)),
          cwd: () => process.send(process.cwd()),
          user: () => process.send([process.getuid(), process.getgid(), process.getgroups()]),
          env: (names) => { if (worker.send(names.map((name) => process.env[name] ?? null)) !== true) throw new Error('not sent'); },
          state: () => process.send([worker.isConnected(), worker.isDead()]),
          // A server says `served`, and keeps the connection open until the client closes it.
          listen: (where) => {
            const server = net.createServer((socket) => socket.on('error', () => {}).resume().write('served'));
            server.on('error', ({ code }) => process.send(['error', code]));
            const [host, port] = where.split(':');
            // After what Node itself says.
            const listening = () => setImmediate(() => process.send(['listening', server.address().port ?? server.address()]));
            port ? server.listen({ port, host }, listening) : server.listen(where, listening);
          },
          'listen on what is bound': () => {
            const bound = net.createServer().listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
              const server = net.createServer((socket) => socket.end('served')).listen(bound._handle, () => {
                process.send(['listening', server.address().port]);
              });
            });
          },
          bind: (where) => {
            const [address, port] = where.split(':');
            require('dgram').createSocket('udp4').bind({ port, address });
          },
          disconnect: () => worker.disconnect(),
          exit: (code) => process.exit(code),
          'exit when told to leave': (code) => {
            worker.on('disconnect', () => process.exit(worker.isConnected() || worker.isDead() ? 1 : code));
            process.send('will do');
          },
          spin: () => { for (;;); },
          children: () => {
            const script = 'console.log(JSON.stringify([process.connected ?? false, require(\"cluster\").isWorker]))';
            process.send(JSON.parse(require('child_process').execFileSync(process.execPath, ['-e', script])));
          },
        };
        process.on('message', ([what, argument]) => orders[what](argument));",
    rust: |worker| Box::pin(obey(worker)),
};

async fn obey(worker: Worker) -> ganger::Result {
    let mut open = JoinSet::new();
    let mut bound = Vec::new();
    let mut exit_code = None;
    let mut stopping = pin!(worker.stopping());
    loop {
        let message = tokio::select! {
            biased;
            () = &mut stopping => break,
            message = worker.recv() => message,
        };
        let Some(message) = message else { break };
        let [what, argument] = <[Value; 2]>::try_from(message.parse::<Vec<Value>>()?)
            .or_else(|orders| <[Value; 1]>::try_from(orders).map(|[what]| [what, Value::Null]))
            .map_err(|orders| format!("no order: {orders:?}"))?;
        let answer = match what.as_str().unwrap_or_default() {
            "echo" => argument,
            "id" => json!(worker.id()),
            "args" => env::args().skip(2).collect(),
            "cwd" => json!(env::current_dir()?),
            "user" => {
                use rustix::process::{getgid, getgroups, getuid};
                let groups = getgroups()?.into_iter().map(|group| group.as_raw()).collect::<Vec<_>>();
                json!([getuid().as_raw(), getgid().as_raw(), groups])
            }
            "env" => {
                let names = argument.as_array().into_iter().flatten().filter_map(Value::as_str);
                names.map(|name| env::var(name).ok()).collect::<Vec<_>>().into()
            }
            "listen" => match listen(&worker, argument.as_str().unwrap_or_default()).await {
                Ok(listener) => {
                    let port = listener.local_addr().port();
                    open.spawn(serve(listener));
                    json!(["listening", port.map_or(argument, Value::from)])
                }
                Err(error) => json!(["error", code_of(&error)]),
            },
            "listen on what is bound" => {
                let bound = std::net::TcpListener::bind(("127.0.0.1", 0))?;
                bound.set_nonblocking(true)?;
                let listener = TcpListener::from_std(bound)?;
                let port = listener.local_addr()?.port();
                open.spawn(async move {
                    if let Ok((mut connection, _)) = listener.accept().await {
                        let _ = connection.write_all(b"served").await;
                    }
                });
                json!(["listening", port])
            }
            "bind" => {
                let address: SocketAddr = argument.as_str().unwrap_or_default().parse()?;
                bound.push(worker.bind_udp(address).await?);
                continue;
            }
            "disconnect" => {
                worker.disconnect();
                continue;
            }
            "exit" => process::exit(argument.as_i64().unwrap_or_default() as i32),
            "exit when told to leave" => {
                exit_code = argument.as_i64();
                json!("will do")
            }
            "spin" => loop {
                std::hint::spin_loop();
            },
            "children" => {
                let names = ["NODE_CHANNEL_FD", "NODE_UNIQUE_ID"].map(|name| format!("${{{name}-none}}"));
                let shell = ganger::exec_sync(format!("echo {}", names.join(" ")))?;
                json!([false, shell.text().trim() != "none none"])
            }
            other => return Err(format!("no such order: {other}").into()),
        };
        if !worker.send(&answer)? {
            return Err("an answer waits".into());
        }
    }
    if let Some(code) = exit_code {
        process::exit(code as i32);
    }
    drop(bound);
    open.join_all().await;
    Ok(())
}

async fn listen(worker: &Worker, place: &str) -> std::io::Result<Listener> {
    match place.parse::<SocketAddr>() {
        Ok(address) => worker.listen(address).await,
        Err(_) => worker.listen(PathBuf::from(place)).await,
    }
}

/// Node's code of an error.
pub(crate) fn code_of(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(13) => "EACCES",
        Some(22) => "EINVAL",
        Some(98) => "EADDRINUSE",
        Some(99) => "EADDRNOTAVAIL",
        _ => "another",
    }
}

async fn serve(mut listener: Listener) {
    let mut open = JoinSet::new();
    while let Some(mut connection) = listener.accept().await {
        open.spawn(async move {
            let mut nothing = tokio::io::sink();
            if connection.write_all(b"served").await.is_ok() {
                // Until the client has had enough.
                let _ = tokio::io::copy(&mut connection, &mut nothing).await;
            }
        });
    }
    open.join_all().await;
}

impl Kid {
    /// Workers of this kind that play a part.
    pub(crate) fn settings(self, directory: &Directory, policy: Policy, part: &Part) -> Settings {
        match self {
            Self::Node(major) => directory.workers(major, policy, part.node),
            Self::Rust => {
                let mut settings = Settings::new(env::current_exe().unwrap());
                settings.args = vec![part.name.into()];
                settings.policy = policy;
                settings
            }
        }
    }

    /// A primary at work whose workers are of this kind and play a part, with Node's default policy.
    pub(crate) fn gang(self, directory: &Directory, part: &Part) -> Gang {
        Gang::new(self.settings(directory, Policy::RoundRobin, part))
    }
}

/// A new worker of a gang.
pub(crate) async fn fork(gang: &Gang) -> WorkerHandle {
    gang.with(|primary| {
        let worker = primary.fork().unwrap();
        primary.worker(worker.id).unwrap()
    })
    .await
}

/// Tells a worker to do something, and returns what it says next.
pub(crate) async fn ask(gang: &mut Gang, worker: &WorkerHandle, order: Value) -> Value {
    worker.send(&order).unwrap();
    let (from, answer) = gang.message().await;
    assert_eq!(from, worker.id());
    answer
}

/// The user that owns nothing.
pub(crate) const NOBODY: u32 = 65_534;

/// A program where nobody is kept from it, as from the directory; its name is what it was.
pub(crate) fn for_everybody(program: &Path, directory: &Directory) -> PathBuf {
    std::fs::set_permissions(directory.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let program = program.canonicalize().unwrap();
    let there = directory.path(program.file_name().unwrap().to_str().unwrap());
    if !there.exists() && std::fs::hard_link(&program, &there).is_err() {
        // By a process of its own: whoever forks meanwhile would keep it open for writing, and then nobody can run it.
        let copied = ganger::spawn_sync("cp", [program.as_os_str(), there.as_os_str()]).unwrap();
        assert_eq!(copied.exit.to_string(), "exit code 0");
    }
    there
}

/// This program as a worker.
pub(crate) fn play(parts: &[&Part]) -> ! {
    let name = env::args().nth(1).unwrap_or_default();
    let part =
        parts.iter().find(|part| part.name == name).unwrap_or_else(|| panic!("no such part: {name:?}"));
    let no_primary = async |_: Primary| Err("this process was started as a worker".into());
    match ganger::main(no_primary, part.rust) {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("{name}: {error}");
            process::exit(1)
        }
    }
}
