//! A listener that axum takes as its own.

use std::io;

use axum::{
    extract::connect_info::Connected,
    serve::{self, IncomingStream},
};

use super::{Connection, Listener};
use crate::cluster::Endpoint;

/// `axum::serve(listener, app).with_graceful_shutdown(worker.closing())` is all that is needed. Where the worker is to
/// leave, no connection comes any more, and the shutdown ends the serving; what was handed over and not accepted goes
/// to the other workers.
impl serve::Listener for Listener {
    type Io = Connection;
    type Addr = Endpoint;

    async fn accept(&mut self) -> (Connection, Endpoint) {
        loop {
            match Self::accept(self).await {
                Some(connection) => {
                    // Who has no address any more has gone.
                    if let Ok(peer) = connection.peer_addr() {
                        return (connection, peer);
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Endpoint> {
        Ok(Self::local_addr(self).clone())
    }
}

/// For `Router::into_make_service_with_connect_info::<Endpoint>()`.
impl Connected<IncomingStream<'_, Listener>> for Endpoint {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}
