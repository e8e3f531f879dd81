//! A worker that opens sockets as it is told, for the rows about sockets.

use std::collections::BTreeMap;

use ganger::{
    WorkerId,
    cluster::{Address, Event, Listen, Listener, Policy, UdpSocket, Worker},
    sys::socket::show_ip,
};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::{
    part::Part,
    rows::Kid,
    support::{Directory, Gang},
};

/// Orders are `[what, NAME, OPTIONS]`, with Node's options; answers `[NAME, what, …]`. A server says its worker's number,
/// and ends the connection; a UDP socket says it to whoever writes to it.
pub(crate) const SOCKETS: Part = Part {
    name: "sockets",
    node: "
        const { worker } = require('cluster'), net = require('net'), dgram = require('dgram');
        const all = {};
        const address = (at) => typeof at === 'string' ? at : [at.address, at.port];
        const orders = {
          listen: (name, options) => {
            const server = all[name] = net.createServer((socket) => socket.on('error', () => {}).end(String(worker.id)));
            server.on('error', ({ code }) => process.send([name, 'error', code]));
            const listening = () => setImmediate(() => process.send([name, 'listening', address(server.address())]));
            options ? server.listen(options, listening) : server.listen(listening);
          },
          bind: (name, { type, ipv6Only, reuseAddr, reusePort, ...options }) => {
            const socket = all[name] = dgram.createSocket({ type, ipv6Only, reuseAddr, reusePort });
            socket.on('error', ({ code }) => process.send([name, 'error', code]));
            socket.on('message', (data, { port, address }) => socket.send(String(worker.id), port, address));
            socket.bind(options, () => setImmediate(() => process.send([name, 'listening', address(socket.address())])));
          },
          'bind and close': (name, options) => {
            const socket = dgram.createSocket('udp4');
            socket.on('error', ({ code }) => process.send([name, 'error', code]));
            socket.on('close', () => process.send([name, 'closed']));
            socket.on('listening', () => socket.close()).bind(options);
          },
          close: (name) => all[name].close(() => process.send([name, 'closed'])),
          disconnect: () => worker.disconnect(),
        };
        process.on('message', ([what, ...rest]) => orders[what](...rest));",
    rust: |worker| Box::pin(obey(worker)),
};

/// What stays open in a Rust worker.
enum Open {
    Server(AbortHandle),
    Datagrams(AbortHandle),
}

async fn obey(worker: Worker) -> ganger::Result {
    let mut all = BTreeMap::new();
    let mut stopping = std::pin::pin!(worker.stopping());
    loop {
        let message = tokio::select! {
            biased;
            () = &mut stopping => return Ok(()),
            message = worker.recv() => message,
        };
        let Some(message) = message else { return Ok(()) };
        let order = message.parse::<Vec<Value>>()?;
        let name = order.get(1).and_then(Value::as_str).unwrap_or_default().to_owned();
        let options = order.get(2).cloned().unwrap_or_default();
        let opened = match order[0].as_str().unwrap_or_default() {
            "listen" => worker.listen(place(&options)?).await.map(|listener| {
                let address = match listener.local_addr().ip() {
                    Some(address) => json!([show_ip(address), address.port()]),
                    None => json!(listener.local_addr().path()),
                };
                let task = tokio::spawn(serve(worker.id(), listener));
                (Open::Server(task.abort_handle()), address)
            }),
            "bind" => worker.bind_udp(place(&options)?).await.and_then(|socket| {
                let address = socket.local_addr()?;
                let task = tokio::spawn(answer(worker.id(), socket));
                Ok((Open::Datagrams(task.abort_handle()), json!([show_ip(address), address.port()])))
            }),
            "bind and close" => {
                drop(worker.bind_udp(place(&options)?).await?);
                worker.send(&(name, "closed"))?;
                continue;
            }
            "close" => {
                let (Open::Server(task) | Open::Datagrams(task)) = all.remove(&name).ok_or("not open")?;
                task.abort();
                while !task.is_finished() {
                    tokio::task::yield_now().await;
                }
                worker.send(&(name, "closed"))?;
                continue;
            }
            "disconnect" => {
                worker.disconnect();
                continue;
            }
            other => return Err(format!("no such order: {other}").into()),
        };
        let reply = match opened {
            Ok((open, address)) => {
                all.insert(name.clone(), open);
                json!([name, "listening", address])
            }
            Err(error) => json!([name, "error", crate::part::code_of(&error)]),
        };
        worker.send(&reply)?;
    }
}

/// Node's options as ours.
fn place(options: &Value) -> ganger::Result<Listen> {
    let text = |name: &str| options[name].as_str();
    let flag = |name: &str| options[name].as_bool().unwrap_or(false);
    let port: u16 = options["port"].as_u64().unwrap_or(0).try_into()?;
    let place = match (text("path"), text("host").or(text("address"))) {
        _ if options["fd"].is_i64() => Listen::descriptor(options["fd"].as_i64().unwrap_or(-1).try_into()?),
        (Some(path), _) => Listen::path(path),
        (None, Some(host)) if host.contains('%') => format!("[{host}]:{port}").parse::<Listen>()?,
        (None, Some(host)) => (host.parse::<std::net::IpAddr>()?, port).into(),
        // Node's `udp6` has an address of its own.
        (None, None) if text("type") == Some("udp6") => {
            (std::net::IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED), port).into()
        }
        (None, None) => Listen::port(port),
    };
    let place = match options["backlog"].as_u64() {
        Some(backlog) => place.backlog(backlog.try_into()?),
        None => place,
    };
    Ok(place
        .exclusive(flag("exclusive"))
        .reuse_port(flag("reusePort"))
        .reuse_addr(flag("reuseAddr"))
        .ipv6_only(flag("ipv6Only"))
        .readable_all(flag("readableAll"))
        .writable_all(flag("writableAll")))
}

async fn serve(id: WorkerId, mut listener: Listener) {
    use tokio::io::AsyncWriteExt;
    while let Some(mut connection) = listener.accept().await {
        let _ = connection.write_all(id.to_string().as_bytes()).await;
    }
}

async fn answer(id: WorkerId, socket: UdpSocket) {
    let mut buffer = [0; 64];
    while let Ok(Some((_, peer))) = socket.receive(&mut buffer).await {
        let _ = socket.send_to(id.to_string().as_bytes(), peer).await;
    }
}

/// Workers with sockets.
pub(crate) struct Sockets {
    pub(crate) gang: Gang,
    pub(crate) directory: Directory,
}

impl Sockets {
    pub(crate) fn new(kid: Kid, policy: Policy) -> Self {
        let directory = Directory::new();
        let gang = Gang::new(kid.settings(&directory, policy, &SOCKETS));
        Self { gang, directory }
    }

    pub(crate) async fn fork(&self) -> WorkerId {
        self.gang.fork().await.id
    }

    pub(crate) async fn tell(&self, worker: WorkerId, what: &str, name: &str, options: Value) {
        self.gang.send(worker, json!([what, name, options])).await;
    }

    /// Tells a worker something, and returns its answer, without the name.
    pub(crate) async fn ask(&mut self, worker: WorkerId, what: &str, name: &str, options: Value) -> Value {
        self.tell(worker, what, name, options).await;
        let (from, mut answer) = self.gang.message().await;
        assert_eq!((from, answer[0].as_str()), (worker, Some(name)), "{answer}");
        answer.as_array_mut().unwrap().remove(0);
        answer
    }

    /// Has a worker open a socket; where it is.
    pub(crate) async fn open(&mut self, worker: WorkerId, what: &str, name: &str, options: Value) -> Value {
        let answer = self.ask(worker, what, name, options).await;
        assert_eq!(answer[0], "listening", "{answer}");
        answer[1].clone()
    }

    /// Has a worker close a socket.
    pub(crate) async fn close(&mut self, worker: WorkerId, name: &str) {
        assert_eq!(self.ask(worker, "close", name, Value::Null).await, json!(["closed"]));
    }

    /// Has the primary end a worker, which it does with exit code 0.
    pub(crate) async fn end(&mut self, worker: WorkerId) {
        self.gang.disconnect(worker).await;
        self.ended(worker).await;
    }

    /// Waits for the end of a worker that leaves by itself.
    pub(crate) async fn ended(&mut self, worker: WorkerId) {
        let (ended, exit, asked) = self.gang.exit().await;
        assert_eq!((ended, exit.to_string().as_str(), asked), (worker, "exit code 0", true));
    }

    /// Has a worker listen; what the primary is told of that.
    pub(crate) async fn told(&mut self, worker: WorkerId, options: Value) -> Address {
        self.tell(worker, "listen", "it", options).await;
        let listening = |event| match event {
            Event::Listening { address, .. } => Some(address),
            _ => None,
        };
        let address = self.gang.find(listening).await;
        assert_eq!(self.gang.message().await.1[1], "listening");
        address
    }
}
