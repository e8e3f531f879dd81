//! One server, three processes and no cluster: the parent opens it and sends it to two children, and all three accept on
//! the same port. When the parent has closed its own, the children go on serving.
//!
//! ```sh
//! cargo run --example share
//! ```

use std::net::SocketAddr;

use ganger::{
    channel::Received,
    process::{Command, Event},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn main() -> ganger::Result {
    // First of all, before there are other threads: the children's own variables are taken out of the environment.
    let role = ganger::ipc::role()?;
    let channel = ganger::ipc::parent()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match (role, channel) {
            (Some(name), Some(channel)) => child(&name, channel).await,
            _ => parent().await,
        }
    })
}

async fn parent() -> ganger::Result {
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    let mut children = Vec::new();
    for name in ["first child", "second child"] {
        let mut child = Command::fork_self(name).spawn()?;
        // What is sent is closed here when it has arrived; so it is a copy.
        child.send_with("server", Some(server.try_clone()?.into()))?;
        while !matches!(child.next().await.ok_or("a child has ended")?, Event::Message(_)) {}
        children.push(child);
    }

    server.set_nonblocking(true)?;
    let own = tokio::spawn(serve("parent".into(), TcpListener::from_std(server)?));
    println!("served by {}", ask(address, 3).await?.join(", "));

    // It ends, and the server that it has is closed.
    own.abort();
    let _ = own.await;
    println!("served by {}", ask(address, 2).await?.join(", "));

    for child in &mut children {
        // With its channel it has nothing else to do, and ends.
        child.disconnect();
        println!("a child has ended: {}", child.wait().await?);
    }
    Ok(())
}

async fn child(name: &str, mut parent: ganger::Channel) -> ganger::Result {
    let Some(Received::Message(message)) = parent.recv().await else { return Err("no message".into()) };
    let server = message.handle.ok_or("no server with it")?.try_into().map_err(|_| "not a server")?;
    parent.send("thanks")?;
    tokio::select! {
        served = serve(name.into(), server) => served.map_err(Into::into),
        _ = parent.recv() => Ok(()),
    }
}

/// Tells each client who serves it, one at a time.
async fn serve(name: String, server: TcpListener) -> std::io::Result<()> {
    loop {
        let (mut client, _) = server.accept().await?;
        client.write_all(name.as_bytes()).await?;
        client.shutdown().await?;
        // It has all when it closes.
        let _ = client.read(&mut [0]).await;
    }
}

/// Who serves so many clients that are there at the same time.
async fn ask(server: SocketAddr, count: usize) -> std::io::Result<Vec<String>> {
    let mut clients = Vec::new();
    let mut names = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(server).await?;
        let mut name = String::new();
        client.read_to_string(&mut name).await?;
        names.push(name);
        clients.push(client);
    }
    names.sort();
    Ok(names)
}
