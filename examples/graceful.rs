//! A server in which a request can go wrong: `/panic` panics. Only that request fails. The worker says what happened and is
//! replaced at once; what it was doing otherwise it finishes, and then it ends.
//!
//! `ganger run -n 2 target/debug/examples/graceful`, and ask for `/panic`

use std::{convert::Infallible, env};

use ganger::cluster::{Listen, Worker};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};

fn main() -> ganger::Result {
    ganger::worker(serve)
}

async fn serve(worker: Worker) -> ganger::Result {
    let place: Listen = env::var("PORT").unwrap_or_else(|_| "8000".into()).parse()?;
    let mut listener = worker.listen(place).await?;

    let open = GracefulShutdown::new();
    while let Some(connection) = listener.accept().await {
        let worker = worker.clone();
        let answer = service_fn(move |request| answer(worker.clone(), request));
        let http = http1::Builder::new().serve_connection(TokioIo::new(connection), answer);
        tokio::spawn(open.watch(http));
    }
    // Nobody new comes. Connections that wait for another request are closed, others after their answer.
    worker.closing().await;
    open.shutdown().await;
    Ok(())
}

async fn answer(worker: Worker, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let text = match request.uri().path() {
        "/panic" => panic!("nobody has thought of this"),
        // Answers when the worker is to leave.
        "/last" => {
            println!("worker {} owes an answer", worker.id());
            worker.stopping().await;
            "the last answer\n".into()
        }
        _ => format!("hello from worker {}\n", worker.id()),
    };
    let mut response = Response::new(text);
    if worker.is_stopping() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
