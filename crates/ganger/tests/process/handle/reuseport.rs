//! Processes that share a port by `SO_REUSEPORT`: nothing travels but the number.

use std::net::{Ipv4Addr, SocketAddr};

use libtest_mimic::Trial;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket, sockopt};
use serde_json::json;

use super::{ends_well, start};
use crate::{
    kid::{Kid, message_of},
    rows::rows_of,
    support::Directory,
};

pub(super) fn trials() -> Vec<Trial> {
    // Node has had the option since 22.12.
    let kids = || Kid::all().filter(|kid| !matches!(kid, Kid::Node("18" | "20")));
    let mut trials = rows_of(kids(), "test-child-process-net-reuseport", |kid| share(kid, "net"));
    trials.extend(rows_of(kids(), "test-child-process-dgram-reuseport", |kid| share(kid, "dgram")));
    trials
}

/// Two children listen beside us, at the same time.
async fn share(kid: Kid, what: &'static str) {
    let directory = Directory::new();
    let (socket, port) = listen_on(what, 0);
    let mut children = [(); 2].map(|()| start(kid, &directory, "share a port"));
    for child in &mut children {
        child.send(&json!([what, port])).unwrap();
        assert_eq!(message_of(child).await, json!(port));
    }
    for child in &mut children {
        child.send("leave").unwrap();
        ends_well(child).await;
    }
    drop(socket);
}

/// A socket of ours on a port that others may have too, and the port.
pub(super) fn listen_on(what: &str, port: u16) -> (std::os::fd::OwnedFd, u16) {
    let kind = if what == "net" { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket(AddressFamily::INET, kind, None).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    if what == "net" {
        listen(&socket, 16).unwrap();
    }
    let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address.port())
}
