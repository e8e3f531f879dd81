//! An axum server as a worker. The same program works in three ways:
//!
//! - alone: `cargo run --example axum --features axum`; Ctrl-C stops it, and it finishes what it has;
//! - as several workers under the guard: `ganger run -n 4 target/debug/examples/axum`;
//! - as a worker of Node's own cluster: `cluster.setupPrimary({ exec: 'target/debug/examples/axum' })`, with
//!   `process.execPath` the same program.

use std::env;

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::header::{CONNECTION, HeaderValue},
    middleware,
    response::Response,
    routing::get,
};
use ganger::cluster::{Endpoint, Listen, Worker};

fn main() -> ganger::Result {
    ganger::worker(serve)
}

async fn serve(worker: Worker) -> ganger::Result {
    let place: Listen = env::var("PORT").unwrap_or_else(|_| "8000".into()).parse()?;
    let listener = worker.listen(place).await?;
    println!("worker {} listens on {}", worker.id(), listener.local_addr());

    let (id, leaving) = (worker.id(), worker.clone());
    let app = Router::new()
        .route("/", get(move || async move { format!("hello from worker {id}\n") }))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<Endpoint>| async move { peer.to_string() }))
        // Answers when the worker is to leave: what is under way is finished first.
        .route(
            "/last",
            get(move || async move {
                println!("worker {id} owes an answer");
                leaving.stopping().await;
                "the last answer\n"
            }),
        );
    let app = app.layer(middleware::map_response_with_state(worker.clone(), last_of_its_connection));
    let app = app.into_make_service_with_connect_info::<Endpoint>();
    axum::serve(listener, app).with_graceful_shutdown(worker.closing()).await?;
    Ok(())
}

/// A worker that is to leave lets its clients know with each answer.
async fn last_of_its_connection(State(worker): State<Worker>, mut response: Response) -> Response {
    if worker.is_stopping() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
