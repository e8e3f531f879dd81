//! Places where nobody may listen: the worker hears Node's code, and the primary is told once.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use ganger::{
    cluster::{Event, Policy, StickyBy},
    sys::socket::show_ip,
};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    alone,
    part::{NOBODY, for_everybody, fork},
    rows::{Kid, rows},
    sockets::SOCKETS,
    support::{Directory, Gang},
};

/// Each opens its sockets in its own way.
static POLICIES: [Policy; 5] =
    [Policy::RoundRobin, Policy::LeastConn, Policy::Sticky(StickyBy::Ip), Policy::Shared, Policy::ReusePort];
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = rows("an address in use is told once", address_in_use);
    trials.extend(rows("an address that is not here is told once", address_elsewhere));
    trials.extend(rows("an interface that is not here is told once", no_interface));
    trials.extend(privileged("test-cluster-bind-privileged-port", |kid| not_for_everybody(kid, "rr")));
    let shared = |kid| not_for_everybody(kid, "none");
    trials.extend(privileged("test-cluster-shared-handle-bind-privileged-port", shared));
    trials
}

async fn address_in_use(kid: Kid) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    told_once(kid, "listen", taken.local_addr().unwrap(), "EADDRINUSE").await;
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    told_once(kid, "bind", taken.local_addr().unwrap(), "EADDRINUSE").await;
}

/// Reserved, so that no host has it.
async fn address_elsewhere(kid: Kid) {
    let nowhere = SocketAddr::from(([240, 0, 0, 1], 0));
    told_once(kid, "listen", nowhere, "EADDRNOTAVAIL").await;
    told_once(kid, "bind", nowhere, "EADDRNOTAVAIL").await;
}

/// To Node the name of an interface that is not there is none at all.
async fn no_interface(kid: Kid) {
    let nowhere: SocketAddr = format!("[fe80::1%{}]:0", u32::MAX).parse().unwrap();
    told_once(kid, "listen", nowhere, "EINVAL").await;
    told_once(kid, "bind", nowhere, "EINVAL").await;
}

async fn told_once(kid: Kid, what: &str, place: SocketAddr, code: &str) {
    let (host, port) = (show_ip(place), place.port());
    let flow = if place.is_ipv4() { "udp4" } else { "udp6" };
    let order = json!([what, "it", { "type": flow, "host": host, "address": host, "port": port }]);
    for policy in &POLICIES {
        let directory = Directory::new();
        let mut gang = Gang::new(kid.settings(&directory, policy.clone(), &SOCKETS));
        let mut told = Vec::new();
        for _ in 0..2 {
            fork(&gang).await.send(&order).unwrap();
            let answer = gang
                .find(|event| match event {
                    Event::BindFailed { worker, address, error } => {
                        told.push((worker.id.0, address.to_string(), error.to_string()));
                        None
                    }
                    Event::Message { message, .. } => Some(message.parse::<Value>().unwrap()),
                    _ => None,
                })
                .await;
            assert_eq!(answer, json!(["it", "error", code]), "{policy:?}");
        }
        assert!(matches!(&told[..], [(1, address, _)] if address.ends_with(&place.to_string())), "{told:?}");
    }
}

/// Rows whose primary is not root.
fn privileged<F: Future<Output = ()> + 'static>(name: &str, test: fn(Kid) -> F) -> Vec<Trial> {
    unless_anybody_may(rows(name, test)).collect()
}

/// Trials that are left out where anybody may have the port.
pub(crate) fn unless_anybody_may(trials: Vec<Trial>) -> impl Iterator<Item = Trial> {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let anybody_may = first.trim().parse::<u16>().unwrap() <= alone::PRIVILEGED;
    trials.into_iter().map(move |trial| trial.with_ignored_flag(anybody_may))
}

/// By a primary that is nobody, with two workers one after the other.
async fn not_for_everybody(kid: Kid, policy: &str) {
    let directory = Directory::new();
    let settings = kid.settings(&directory, Policy::RoundRobin, &SOCKETS);
    let this = for_everybody(&std::env::current_exe().unwrap(), &directory);
    let program = for_everybody(settings.program.as_ref(), &directory);
    let mut command = alone::command_of(&this, "listen where one may not");
    command.arg(program).args(settings.args).cwd("/");
    command.env("NODE_CLUSTER_SCHED_POLICY", policy);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.exec().await.unwrap();
    let said = output.stdout.text();
    let refused = r#"["it","error","EACCES"]"#;
    let told = "worker 1 cannot listen on 127.0.0.1:42: Permission denied (os error 13)";
    assert_eq!(said.lines().collect::<Vec<_>>(), [told, refused, refused, "exit code 0", "exit code 0"]);
}
