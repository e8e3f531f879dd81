//! Lines out of chunks, messages out of lines.

use std::time::Duration;

use ganger_proto::{
    ListenerKey, Seq, Session,
    node::{self, Act, AddressType, ClusterMessage, Line, Query, Sockname, hints::Report},
    session::{Event, Limits, Payload},
    wire::json::Lines,
};
use proptest::prelude::*;

/// One JSON line, written as `serde_json` does.
fn line() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,12}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
    .prop_map(|value| value.to_string())
}

/// Cuts `bytes` at the given places (taken modulo what is left).
fn chunks<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for cut in cuts {
        let (chunk, rest) = bytes.split_at(cut % (bytes.len() + 1));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks.push(bytes);
    chunks
}

fn feed(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut framing = Lines::default();
    let mut lines = Vec::new();
    for chunk in chunks {
        framing.feed(chunk, |line| lines.push(line.to_vec())).expect("no line is near the limit");
    }
    assert_eq!(framing.pending(), 0);
    lines
}

fn option<T: Clone + std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::of(of)
}

fn seq() -> impl Strategy<Value = Seq> {
    (0..=i64::MAX as u64).prop_map(Seq)
}

fn key() -> impl Strategy<Value = ListenerKey> {
    ".{0,20}".prop_map(|key| ListenerKey::from(key.as_str()))
}

/// Raw JSON as it may stand in `data`; `null` there means none.
fn data() -> impl Strategy<Value = Option<Box<str>>> {
    option(line().prop_map(String::into_boxed_str)).prop_map(|data| data.filter(|data| &**data != "null"))
}

fn query() -> impl Strategy<Value = Query> {
    use AddressType::{Null, Pipe, Udp4, Udp6, V4, V6};
    let address_type = prop_oneof![Just(V4), Just(V6), Just(Pipe), Just(Udp4), Just(Udp6), Just(Null)];
    let numbers = (any::<u32>(), option(any::<i64>()), option(any::<i64>()), option(any::<i64>()));
    let rest = (data(), option(".{0,20}"), address_type, option(1..u32::MAX), any::<[bool; 2]>());
    (numbers, rest).prop_map(|((index, port, fd, flags), (data, address, address_type, backlog, modes))| {
        // For UDP there is no queue, and Node writes none.
        let backlog = backlog.filter(|_| !matches!(address_type, Udp4 | Udp6));
        let [readable_all, writable_all] = modes;
        Query { index, data, address, port, address_type, fd, flags, backlog, readable_all, writable_all }
    })
}

fn report() -> impl Strategy<Value = Report> {
    // What JavaScript can count to.
    let bytes = || option(0..1_u64 << 53);
    let numbers = (option(any::<u32>()), bytes(), bytes());
    let rest = (option(any::<u16>()), option(any::<u32>()), option(any::<bool>()));
    (numbers, rest).prop_map(|((connections, heap, heap_limit), (busy, late, term))| {
        let mut report = Report::default();
        (report.connections, report.heap, report.heap_limit) = (connections, heap, heap_limit);
        (report.busy, report.late, report.term) = (busy, late, term);
        report
    })
}

fn act() -> impl Strategy<Value = Act> {
    let sockname = ("[0-9a-f:.%]{0,20}", "IPv[46]", any::<u16>())
        .prop_map(|(address, family, port)| Sockname { address, family, port });
    prop_oneof![
        option(any::<u32>()).prop_map(|ganger| Act::Online { ganger }),
        query().prop_map(Act::QueryServer),
        query().prop_map(Act::Listening),
        key().prop_map(|key| Act::Close { key }),
        Just(Act::ExitedAfterDisconnect),
        (seq(), any::<bool>()).prop_map(|(ack, accepted)| Act::Accepted { ack, accepted }),
        ((seq(), key(), option(any::<i32>()), data(), option(sockname)), any::<bool>()).prop_map(
            |((ack, key, errno, data, sockname), tell_closes)| {
                Act::QueryReply { ack, key, errno, data, sockname, tell_closes }
            }
        ),
        key().prop_map(|key| Act::NewConn { key }),
        Just(Act::Disconnect),
        Just(Act::Drain),
        any::<u32>().prop_map(|over| Act::Shed { over: Duration::from_millis(over.into()) }),
        report().prop_map(Act::Report),
        any::<u32>().prop_map(|count| Act::Closes { count }),
        seq().prop_map(|ack| Act::Ack { ack }),
        Just(Act::Unknown),
    ]
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_chunks(lines in prop::collection::vec(line(), 0..12), cuts: Vec<usize>) {
        let stream: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let expected: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        prop_assert_eq!(feed(&chunks(stream.as_bytes(), &cuts)), expected.clone());
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        prop_assert_eq!(feed(&bytes), expected);
    }

    #[test]
    fn a_users_message_is_its_line(line in line(), cuts: Vec<usize>) {
        let mut session = Session::<u32>::new(Limits { validate: true, ..Limits::default() });
        let stream = format!("{line}\n");
        for chunk in chunks(stream.as_bytes(), &cuts) {
            session.handle_input(chunk, []);
        }
        prop_assert_eq!(session.poll_event(), Some(Event::Message { payload: Payload::json(line), handle: None }));
        prop_assert_eq!(session.poll_event(), None);
    }

    #[test]
    fn cluster_messages_survive_the_wire(seq in option(seq()), act in act()) {
        let message = ClusterMessage { seq, act };
        let mut wire = Vec::new();
        message.write(&mut wire);
        prop_assert!(!wire.contains(&b'\n'));
        let text = std::str::from_utf8(&wire).expect("JSON is UTF-8");
        prop_assert_eq!(node::decode(text).expect("it is JSON"), Line::Cluster(message));
    }

    #[test]
    fn no_bytes_upset_a_session(chunks in prop::collection::vec((bytes(), 0u32..3), 0..12)) {
        let limits = Limits { line: 200, ..Limits::default() };
        for validate in [false, true] {
            let mut session = Session::new(Limits { validate, ..limits });
            for (chunk, handles) in &chunks {
                session.handle_input(chunk, 0..*handles);
            }
            session.handle_eof();
            let events: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
            let ends = events.iter().filter(|event| matches!(event, Event::Disconnected)).count();
            prop_assert_eq!((ends, events.last()), (1, Some(&Event::Disconnected)));
        }
    }
}

/// Arbitrary bytes, with enough of the protocol's own words in them to get past the first check.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        Just(b"\n".to_vec()),
        Just(br#"{"cmd":"NODE_CLUSTER","#.to_vec()),
        Just(br#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":"#.to_vec()),
        Just(node::HANDLE_ACK.as_bytes().to_vec()),
        Just(node::HANDLE_NACK.as_bytes().to_vec()),
        Just(br#""act":"queryServer","port":1e400,"index":-1}"#.to_vec()),
        Just(br#""ack":18446744073709551616,"accepted":0}"#.to_vec()),
        Just(b"}".to_vec()),
    ];
    prop::collection::vec(word, 0..8).prop_map(|words| words.concat())
}
