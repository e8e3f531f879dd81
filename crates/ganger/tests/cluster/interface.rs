//! Addresses on an interface, `fe80::1%eth0`: shared, and told, as Node does it.

use ganger::{
    cluster::Policy,
    sys::socket::{parse_ip, socket_addr},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UdpSocket};

use crate::{
    interfaces::addresses_on_interfaces,
    rows::{Kid, rows},
    sockets::Sockets,
    support::read,
};

pub(crate) fn trials() -> Vec<Trial> {
    rows("an address on an interface", everywhere)
}

async fn everywhere(kid: Kid) {
    for policy in [Policy::RoundRobin, Policy::Shared, Policy::ReusePort] {
        for host in addresses_on_interfaces() {
            shared(kid, policy.clone(), &host).await;
        }
    }
}

async fn shared(kid: Kid, policy: Policy, host: &str) {
    let mut sockets = Sockets::new(kid, policy);
    let (one, other) = (sockets.fork().await, sockets.fork().await);
    let place = json!({ "type": "udp6", "host": host, "address": host, "port": 0 });
    let mut ports = Vec::new();
    for what in ["listen", "bind"] {
        let address = sockets.open(one, what, what, place.clone()).await;
        assert_eq!(sockets.open(other, what, what, place.clone()).await, address);
        // The kernel keeps the interface where it is needed.
        let told = host.strip_suffix("%lo").unwrap_or(host);
        assert_eq!(address[0], told);
        ports.push(address[1].as_u64().and_then(|port| port.try_into().ok()).unwrap());
    }
    let (ip, scope) = parse_ip(host).unwrap();
    let server = |index: usize| socket_addr(ip, scope, ports[index]);
    let served = read(TcpStream::connect(server(0)).await.unwrap()).await;
    assert!(["1", "2"].contains(&served.as_str()), "{served}");
    let client = UdpSocket::bind("[::]:0").await.unwrap();
    client.connect(server(1)).await.unwrap();
    client.send(b"who?").await.unwrap();
    let mut answer = [0; 1];
    client.recv(&mut answer).await.unwrap();
    assert!([b"1", b"2"].contains(&&answer), "{answer:?}");
    for worker in [one, other] {
        sockets.close(worker, "listen").await;
        assert_eq!(sockets.ask(worker, "close", "bind", Value::Null).await, json!(["closed"]));
        sockets.end(worker).await;
    }
}
