//! The Rust worker of `cargo xtask soak guard`: it answers with its process, in several ways. `worker.js` is the same in
//! JavaScript.

use std::{convert::Infallible, env, process, time::Duration};

use ganger::cluster::{Listen, Worker};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::time::sleep;

fn main() -> ganger::Result {
    ganger::worker(serve)
}

async fn serve(worker: Worker) -> ganger::Result {
    let place: Listen = env::var("PORT")?.parse()?;
    let mut listener = worker.listen(place).await?;

    let open = GracefulShutdown::new();
    while let Some(connection) = listener.accept().await {
        let worker = worker.clone();
        let answer = service_fn(move |request| answer(worker.clone(), request));
        let http = http1::Builder::new().serve_connection(TokioIo::new(connection), answer);
        tokio::spawn(open.watch(http));
    }
    worker.closing().await;
    open.shutdown().await;
    Ok(())
}

async fn answer(worker: Worker, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let mut text = format!("{}\n", process::id());
    match request.uri().path() {
        "/slow" => sleep(Duration::from_millis(20)).await,
        "/large" => text.push_str(&".".repeat(256 << 10)),
        "/fail" => panic!("asked to fail"),
        "/leak" => drop(tokio::spawn(leak())),
        _ => {}
    }
    let mut response = Response::new(text);
    if worker.is_stopping() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Touched, so that it is there; not so fast that nobody sees it grow.
async fn leak() {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
        sleep(Duration::from_millis(10)).await;
    }
}
