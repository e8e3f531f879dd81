//! Lines captured from Node, read and written.

use super::super::{Line, decode};
use super::*;

/// `json`, captured from Node, is read as `act` and written again as it was.
fn check(json: &str, seq: u64, act: Act) {
    let message = ClusterMessage { seq: Some(Seq(seq)), act };
    assert_eq!(decode(json).unwrap(), Line::Cluster(message.clone()), "{json}");
    let mut out = Vec::new();
    message.write(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), json);
}

#[test]
fn what_workers_say() {
    check(r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#, 0, Act::Online { ganger: None });
    let tcp = Target::Tcp { host: Some("127.0.0.1".into()), port: 0, ipv6_only: false };
    check(
        r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4,"flags":0,"backlog":0,"seq":1}"#,
        1,
        Act::QueryServer(Query::new(&tcp, None)),
    );
    let udp = Target::Udp { host: "0.0.0.0".into(), port: 45675, ipv6_only: false, reuse_addr: true };
    check(
        r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"0.0.0.0","port":45675,"addressType":"udp4","fd":-1,"flags":4,"seq":1}"#,
        1,
        Act::QueryServer(Query::new(&udp, None)),
    );
    let unix = Target::Unix { path: "/app/s.sock".into(), readable_all: true, writable_all: true };
    check(
        r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"/app/s.sock","port":-1,"addressType":-1,"backlog":0,"readableAll":true,"writableAll":true,"seq":1}"#,
        1,
        Act::QueryServer(Query::new(&unix, None)),
    );
    check(
        r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":null,"addressType":null,"fd":10,"backlog":0,"seq":1}"#,
        1,
        Act::QueryServer(Query::new(&Target::Fd(10), None)),
    );
    check(r#"{"cmd":"NODE_CLUSTER","act":"close","key":"k","seq":4}"#, 4, Act::Close { key: "k".into() });
    check(
        r#"{"cmd":"NODE_CLUSTER","ack":1,"accepted":true,"seq":3}"#,
        3,
        Act::Accepted { ack: Seq(1), accepted: true },
    );
    check(r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":3}"#, 3, Act::ExitedAfterDisconnect);
}

#[test]
fn what_the_primary_says() {
    check(
        r#"{"cmd":"NODE_CLUSTER","errno":null,"key":"k","ack":1,"data":{"ticketKeys":"2b"},"sockname":{"address":"127.0.0.1","family":"IPv4","port":37425},"seq":0}"#,
        0,
        Act::QueryReply {
            ack: Seq(1),
            key: "k".into(),
            errno: None,
            data: Some(r#"{"ticketKeys":"2b"}"#.into()),
            sockname: Some(Sockname { address: "127.0.0.1".into(), family: "IPv4".into(), port: 37425 }),
            tell_closes: false,
        },
    );
    check(
        r#"{"cmd":"NODE_CLUSTER","errno":-98,"key":"k","ack":1,"data":null,"seq":0}"#,
        0,
        Act::QueryReply {
            ack: Seq(1),
            key: "k".into(),
            errno: Some(-98),
            data: None,
            sockname: None,
            tell_closes: false,
        },
    );
    check(r#"{"cmd":"NODE_CLUSTER","act":"newconn","key":"k","seq":1}"#, 1, Act::NewConn { key: "k".into() });
    check(r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":2}"#, 2, Act::Disconnect);
    check(r#"{"cmd":"NODE_CLUSTER","ack":3,"seq":1}"#, 1, Act::Ack { ack: Seq(3) });
}

#[test]
fn keys_are_nodes() {
    let key = |target: Target| Query::new(&target, None).key().to_string();
    let tcp =
        |host: Option<&str>, port| key(Target::Tcp { host: host.map(Into::into), port, ipv6_only: false });
    assert_eq!(tcp(Some("127.0.0.1"), 8080), "127.0.0.1:8080:4:undefined");
    assert_eq!(tcp(None, 0), "null:0:4:undefined:0");
    assert_eq!(key(Target::Fd(10)), "null:null:null:10");
    assert_eq!(
        key(Target::Unix { path: "/app/s.sock".into(), readable_all: false, writable_all: false }),
        "/app/s.sock:-1:-1:undefined"
    );
    assert_eq!(
        key(Target::Udp { host: "0.0.0.0".into(), port: 45675, ipv6_only: false, reuse_addr: false }),
        "0.0.0.0:45675:udp4:-1"
    );
}

#[test]
fn odd_queries_are_understood_or_refused_but_never_a_fault() {
    let query = |json: &str| match decode(json).unwrap() {
        Line::Cluster(ClusterMessage { act: Act::QueryServer(query), .. }) => query,
        other => panic!("{other:?}"),
    };
    let target = |json: &str| query(json).target();
    // Node 18 asks this when it was sent a server.
    let bogus = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","address":null,"port":-1,"addressType":-1}"#;
    assert_eq!(target(bogus), None);
    let huge = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","address":"::1","port":70000,"addressType":6}"#;
    assert_eq!(target(huge), None);
    let text = r#"{"cmd":"NODE_CLUSTER","act":"queryServer","address":"::1","port":"53","addressType":"udp6","fd":-1,"backlog":false}"#;
    assert_eq!(
        target(text),
        Some(Target::Udp { host: "::1".into(), port: 53, ipv6_only: false, reuse_addr: false })
    );
    for (backlog, meant) in
        [("0", None), ("null", None), ("7", Some(7)), ("-1", Some(u32::MAX)), ("1e9", Some(1_000_000_000))]
    {
        let text = text.replace("false", backlog);
        assert_eq!(query(&text).backlog, meant, "{text}");
    }
}

#[test]
fn an_abstract_name_is_the_same_for_whoever_asks() {
    let target = Target::Unix { path: "\0name".into(), readable_all: false, writable_all: false };
    let plain = Query::new(&target, None);
    let of_node = Query { address: Some("/srv/app/\0name".into()), ..plain.clone() };
    assert_eq!((of_node.key(), of_node.target()), (plain.key(), Some(target)));
    // Nothing else has names.
    let tcp = Query { address_type: AddressType::V4, port: Some(80), ..of_node };
    assert_ne!(tcp.key(), Query { address: plain.address, ..tcp.clone() }.key());
}
