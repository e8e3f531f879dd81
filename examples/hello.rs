//! The classic cluster program, primary and workers in one source: one worker a CPU, all serving
//! `hello world` on one port. `examples/node/hello.js` is the same program in JavaScript.
//!
//! `cargo run --example hello`, or under the guard: `ganger run target/debug/examples/hello`

use std::{convert::Infallible, process, thread};

use ganger::cluster::{Event, Primary, Worker};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};

fn main() -> ganger::Result {
    ganger::main(primary, worker)
}

async fn primary(mut cluster: Primary) -> ganger::Result {
    println!("Primary {} is running", process::id());
    for _ in 0..thread::available_parallelism()?.get() {
        cluster.fork()?;
    }
    while let Some(event) = cluster.next().await {
        if let Event::Exit { worker, .. } = event {
            println!("worker {} died", worker.pid);
        }
    }
    Ok(())
}

async fn worker(worker: Worker) -> ganger::Result {
    let port: u16 = std::env::var("PORT").map_or(Ok(8000), |port| port.parse())?;
    let mut listener = worker.listen(port).await?;
    println!("Worker {} started", process::id());

    let open = GracefulShutdown::new();
    while let Some(connection) = listener.accept().await {
        let http = http1::Builder::new().serve_connection(TokioIo::new(connection), service_fn(hello));
        tokio::spawn(open.watch(http));
    }
    worker.closing().await;
    open.shutdown().await;
    Ok(())
}

async fn hello(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("hello world\n".into()))
}
