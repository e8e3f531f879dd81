//! A stream of events (SSE): each client gets one a second, for ever. When its worker is replaced, the connection ends at some
//! moment between half and three quarters of `--drain-timeout`, one client's after another's, and its EventSource comes back.
//! `examples/node/events.js` is the same program in JavaScript.
//!
//! `ganger run -n 2 --drain-timeout 10s target/debug/examples/events`, and `curl -N localhost:8000`

use std::{
    convert::Infallible,
    env,
    pin::Pin,
    process,
    task::{Context, Poll, ready},
    time::Duration,
};

use ganger::cluster::{Listen, Worker};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::time::{Interval, interval};

fn main() -> ganger::Result {
    ganger::worker(serve)
}

async fn serve(worker: Worker) -> ganger::Result {
    let place: Listen = env::var("PORT").unwrap_or_else(|_| "8000".into()).parse()?;
    let mut listener = worker.listen(place).await?;

    let open = GracefulShutdown::new();
    while let Some(connection) = listener.accept().await {
        let http = http1::Builder::new().serve_connection(TokioIo::new(connection), service_fn(subscribe));
        tokio::spawn(open.watch(http));
    }
    worker.closing().await;
    open.shutdown().await;
    Ok(())
}

async fn subscribe(_: Request<Incoming>) -> Result<Response<Events>, Infallible> {
    let events = Events { count: 0, next: interval(Duration::from_secs(1)) };
    let response = Response::builder().header(CONTENT_TYPE, "text/event-stream");
    Ok(response.body(events).expect("its header is valid"))
}

/// One a second.
struct Events {
    count: u64,
    next: Interval,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.next.poll_tick(cx));
        self.count += 1;
        let event = format!("id: {}\ndata: from process {}\n\n", self.count, process::id());
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
