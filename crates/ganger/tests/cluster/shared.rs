//! Rows cluster-shared: the workers accept from one socket.

use ganger::cluster::Policy;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    rows::{Kid, rows},
    rr,
    sockets::Sockets,
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        rows("test-cluster-server-restart-none", server_restart),
        rows("test-cluster-shared-handle-bind-error", bind_error),
        rows("test-cluster-net-listen-ipv6only-none", ipv6_only),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn server_restart(kid: Kid) {
    rr::restart(kid, Policy::Shared).await;
}

async fn bind_error(kid: Kid) {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sockets = Sockets::new(kid, Policy::Shared);
    let worker = sockets.fork().await;
    let options = json!({ "host": "127.0.0.1", "port": taken.local_addr().unwrap().port() });
    assert_eq!(sockets.ask(worker, "listen", "it", options).await, json!(["error", "EADDRINUSE"]));
    sockets.end(worker).await;
}

async fn ipv6_only(kid: Kid) {
    rr::ipv6_alone(kid, Policy::Shared).await;
}
