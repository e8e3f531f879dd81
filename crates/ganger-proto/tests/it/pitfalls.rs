//! What catches who implements Node's channel, each under a number of its own, as far as it takes no system:
//!
//! ```text
//!   2 messages have no boundaries    10 JSON as JavaScript has it
//!   3 a handle has its own write     11 what is internal
//!   6 one answer for one handle      12 the end of a channel
//!   7 nothing overtakes a handle     19 who writes has to read
//!   8 a handle sent again            20 the other serialization
//!   9 what is no message             23 labels          25 a peer that dies with a handle
//! ```
//!
//! Some are beside what they are about, in `session`; those that take the system are in the crate `ganger`. What a real
//! Node does is said where it is something else.

use ganger_proto::{
    Payload, Serialization, Session, Value,
    node::{self, HANDLE_ACK, HandleKind, Line},
    session::{Attachment, Event, Fault, Limits, Order, SendErrorReason},
    wire::v8,
};

const BOTH: [Serialization; 2] = [Serialization::Json, Serialization::Advanced];

fn session(serialization: Serialization) -> Session<u32> {
    Session::with_serialization(serialization, Limits::default())
}

fn events(session: &mut Session<u32>) -> Vec<Event<u32>> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// The next write, taken as written: its bytes, and the handle on them.
fn write(session: &mut Session<u32>) -> Option<(Vec<u8>, Option<u32>)> {
    let transmit = session.poll_transmit()?;
    let write = (transmit.bytes.to_vec(), transmit.handle.copied());
    session.transmitted(write.0.len());
    Some(write)
}

fn send(session: &mut Session<u32>, text: &str, handle: Option<u32>) {
    let attachment = handle.map(|handle| Attachment {
        handle,
        kind: HandleKind::NetSocket { key: None },
        tag: 0,
        order: Order::Barrier,
    });
    let payload = Payload::of(session.serialization(), text).expect("text can be written");
    assert!(session.send(&payload, attachment).is_ok());
}

/// The texts of the messages that came.
fn texts(session: &mut Session<u32>) -> Vec<String> {
    let text = |event| match event {
        Event::Message { payload, .. } => Some(payload.parse().expect("a text")),
        Event::Delivered { .. } => None,
        other => panic!("{other:?}"),
    };
    events(session).into_iter().filter_map(text).collect()
}

/// Also within a character, and within the length before a frame.
#[test]
fn pitfall_02_one_byte_at_a_time_is_enough() {
    let sent = ["é", "日本", "\u{1f600}", "", "\n"];
    for serialization in BOTH {
        let (mut one, mut other) = (session(serialization), session(serialization));
        sent.iter().for_each(|text| send(&mut one, text, None));
        while let Some((bytes, _)) = write(&mut one) {
            bytes.iter().for_each(|byte| other.handle_input(&[*byte], []));
        }
        assert_eq!(texts(&mut other), sent);
    }
}

/// A real Node that gets two handles in one write refuses the second, and pairs its descriptor with the next one.
#[test]
fn pitfall_03_a_handle_shares_its_write_with_nobody() {
    for serialization in BOTH {
        let mut one = session(serialization);
        send(&mut one, "before", None);
        send(&mut one, "with", Some(4));
        send(&mut one, "after", None);
        let (before, with) = (write(&mut one).expect("a write"), write(&mut one).expect("another"));
        assert_eq!((before.1, with.1, write(&mut one)), (None, Some(4), None));
        // It rides on the first byte of what announces it.
        let mut other = session(serialization);
        other.handle_input(&with.0, [4]);
        let [Event::Message { handle: Some((_, 4)), .. }] = events(&mut other)[..] else {
            panic!("a handle")
        };
    }
}

#[test]
fn pitfall_03_what_is_written_in_parts_carries_its_handle_once() {
    for serialization in BOTH {
        let (mut one, mut other) = (session(serialization), session(serialization));
        send(&mut one, "in parts", Some(4));
        let mut handles = Vec::new();
        while let Some(transmit) = one.poll_transmit() {
            let handle = transmit.handle.copied();
            other.handle_input(&transmit.bytes[..1], handle);
            handles.extend(handle);
            one.transmitted(1);
        }
        assert_eq!(handles, [4]);
        let [Event::Message { handle: Some((_, 4)), .. }] = events(&mut other)[..] else {
            panic!("a handle")
        };
    }
}

/// A real Node hands on the plain message that came in the same chunk as a handle before the handle's.
#[test]
fn pitfall_07_order_is_kept_around_a_handle() {
    for serialization in BOTH {
        let (mut one, mut other) = (session(serialization), session(serialization));
        send(&mut one, "first", None);
        send(&mut one, "second", Some(4));
        send(&mut one, "third", None);
        send(&mut other, "the other way", Some(5));
        let mut got = Vec::new();
        for _ in 0..3 {
            while let Some((bytes, handle)) = write(&mut one) {
                other.handle_input(&bytes, handle);
            }
            got.extend(texts(&mut other));
            while let Some((bytes, handle)) = write(&mut other) {
                one.handle_input(&bytes, handle);
            }
            // Their handles cross, and both are answered all the same.
            events(&mut one);
        }
        assert_eq!(got, ["first", "second", "third"]);
    }
}

/// A real Node dies of what is not JSON.
#[test]
fn pitfall_09_a_message_is_one_line() {
    let mut session = session(Serialization::Json);
    let lines = Payload::of_json(Serialization::Json, "[1,\n2]").expect("JSON");
    assert!(session.send(&lines, None).is_ok());
    assert_eq!(write(&mut session), Some((b"[1, 2]\n".to_vec(), None)));
    for refused in ["1\n2", ""] {
        let refused = session.send(&Payload::json(refused), None).unwrap_err();
        assert_eq!(refused.reason, SendErrorReason::Unspeakable);
    }
    for (payload, is_value) in [
        (Payload::json("[1,2]"), true),
        (Payload::json("undefined"), false),
        (Payload::advanced(b"\xff\x0f0"), true),
        (Payload::advanced(b"\xff\x100"), false),
    ] {
        assert_eq!(payload.check().is_ok(), is_value, "{payload:?}");
    }
}

/// `serde_json` refuses both, if it is asked for a struct.
#[test]
fn pitfall_10_the_last_of_two_fields_counts_and_texts_need_not_be_text() {
    let line = r#"{"cmd":"NODE_HANDLE_NACK","x":"\ud800","cmd":"NODE_HANDLE_ACK","\udc00":1}"#;
    assert!(matches!(node::decode(line), Ok(Line::User(_) | Line::HandleAck)));
    assert_eq!(node::decode(r#"{"cmd":"x","cmd":"NODE_HANDLE_ACK"}"#), Ok(Line::HandleAck));
    for serialization in BOTH {
        let (mut one, mut other) = (session(serialization), session(serialization));
        let lone = ganger_proto::value::from_json(r#"{"a":"\ud800","\udc00b":"😀\udbff"}"#).expect("JSON");
        let payload = Payload::of_value(serialization, &lone).expect("it can be written");
        assert!(one.send(&payload, None).is_ok());
        while let Some((bytes, _)) = write(&mut one) {
            other.handle_input(&bytes, []);
        }
        let [Event::Message { payload, .. }] = &events(&mut other)[..] else { panic!("a message") };
        assert_eq!(payload.to_value().expect("a value"), lone);
    }
}

#[test]
fn pitfall_10_numbers_are_javascripts() {
    let json = Payload::json("[9007199254740993,1e21,1e999,-0]");
    let value = json.to_value().expect("JSON");
    let at = |index| value.root().at(index).and_then(|number| number.as_f64()).expect("a number");
    assert_eq!((at(0), at(1), at(2)), (9007199254740992.0, 1e21, f64::INFINITY));
    assert!(at(3) == 0.0 && at(3).is_sign_negative());
}

/// As a real Node does, character by character.
#[test]
fn pitfall_10_what_is_not_utf_8_becomes_replacement_characters() {
    let mut json = session(Serialization::Json);
    json.handle_input(b"\"\xe6\x97", []);
    json.handle_input(b"x\xff\"\n\"\xe6\x97\xa5\xc3\"\n", []);
    assert_eq!(texts(&mut json), ["\u{fffd}x\u{fffd}", "日\u{fffd}"]);
    let mut advanced = session(Serialization::Advanced);
    advanced.handle_input(b"\0\0\0\x06\xff\x0fS\x02a\xff", []);
    assert_eq!(texts(&mut advanced), ["a\u{fffd}"]);
}

/// As garbage, as what may be internal, and as a message that somebody looks at: an answer, not the end of the stack.
#[test]
fn pitfall_10_no_depth_is_too_deep() {
    const LEVELS: usize = 100_000;
    let (open, close) = ("[".repeat(LEVELS), "]".repeat(LEVELS));
    for validate in [false, true] {
        let mut json = Session::<u32>::new(Limits { validate, ..Limits::default() });
        json.handle_input(format!("{open}{close}\n").as_bytes(), []);
        let [Event::Message { payload, .. }] = &events(&mut json)[..] else { panic!("a message") };
        assert!(payload.parse::<serde_json::Value>().is_err() && payload.to_value().is_err());
        assert_eq!(payload.to_json().expect("it is JSON").len(), 2 * LEVELS);

        for garbage in [&open, &format!(r#"{{"cmd":"NODE_CLUSTER","data":{open}"#)] {
            json.handle_input(format!("{garbage}\n").as_bytes(), []);
            let end = events(&mut json).pop();
            assert_eq!(
                matches!(end, Some(Event::Fault(Fault::NotJson { .. }))),
                validate || !garbage.starts_with('[')
            );
        }
        let query = format!(r#"{{"cmd":"NODE_CLUSTER","act":"queryServer","port":1,"data":{open}{close}}}"#);
        json.handle_input(format!("{query}\n").as_bytes(), []);
        let Some(Event::Cluster { message, .. }) = json.poll_event() else { panic!("a query") };
        assert!(node::advanced::cluster(&message).is_err());

        let mut advanced = Session::<u32>::with_serialization(
            Serialization::Advanced,
            Limits { validate, ..Limits::default() },
        );
        let levels = [&b"\xff\x0f"[..], &b"A\x01".repeat(LEVELS), b"0", &b"$\0\x01".repeat(LEVELS)].concat();
        let internal =
            [&b"\xff\x0fo\"\x03cmd\"\x0cNODE_CLUSTER\"\x04data"[..], &levels[2..], b"{\x02"].concat();
        let handle = [
            &b"\xff\x0fo\"\x03cmd\"\x0bNODE_HANDLE\"\x04type\"\x0anet.Native\"\x03msg"[..],
            &levels[2..],
            b"{\x03",
        ];
        let (garbage, handle) = (&levels[..2 * LEVELS], handle.concat());
        for payload in [&levels[..], garbage, &internal, &handle] {
            advanced.handle_input(&u32::to_be_bytes(payload.len() as u32), []);
            advanced.handle_input(payload, (payload == handle).then_some(4));
        }
        for event in events(&mut advanced) {
            match event {
                Event::Message { payload, .. } => {
                    assert!(payload.parse::<serde_json::Value>().is_err() && payload.to_json().is_err());
                }
                Event::Fault(Fault::NotAdvanced { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// As a real Node: what it does not know is not handed on.
#[test]
fn pitfall_11_what_begins_as_internal_is_internal() {
    for serialization in BOTH {
        let mut session = session(serialization);
        for cmd in ["NODE_", "node_x", "NODE_x", "NODE_HANDLES"] {
            let value = Value::object([("cmd", cmd)]);
            let payload = Payload::of_value(serialization, &value).expect("it can be written");
            let mut sender = self::session(serialization);
            assert!(sender.send(&payload, None).is_ok());
            while let Some((bytes, _)) = write(&mut sender) {
                session.handle_input(&bytes, []);
            }
        }
        let cmd = |event: &Event<u32>| match event {
            Event::Message { payload, .. } => payload
                .to_value()
                .expect("a value")
                .get("cmd")
                .and_then(|cmd| cmd.as_str().map(str::to_owned)),
            other => panic!("{other:?}"),
        };
        let cmds: Vec<_> = events(&mut session).iter().map(|event| cmd(event).expect("a cmd")).collect();
        assert_eq!(cmds, ["NODE_", "node_x"]);
    }
}

/// Node 18 stalls for ever where the length comes alone.
#[test]
fn pitfall_20_the_length_is_big_endian_and_in_one_write_with_its_payload() {
    let mut session = session(Serialization::Advanced);
    send(&mut session, "hi", None);
    assert_eq!(write(&mut session), Some((b"\0\0\0\x06\xff\x0f\"\x02hi".to_vec(), None)));
}

/// A real Node throws where nobody catches it; the frames after it are read all the same.
#[test]
fn pitfall_20_another_version_spoils_no_other_frame() {
    let mut session = Session::<u32>::with_serialization(
        Serialization::Advanced,
        Limits { validate: true, ..Limits::default() },
    );
    session.handle_input(b"\0\0\0\x03\xff\x100\0\0\0\x030\0\0\0\0\0\x03\xff\x0f0", []);
    let told = events(&mut session);
    let bad = |event: &Event<u32>| matches!(event, Event::Fault(Fault::NotAdvanced { .. }));
    assert!(told.len() == 3 && bad(&told[0]) && bad(&told[1]) && !bad(&told[2]), "{told:?}");
}

/// Node writes a field that it has not as `undefined` here, and leaves it out of JSON.
#[test]
fn pitfall_20_undefined_is_absent() {
    let mut query = Value::object([("cmd", "NODE_CLUSTER"), ("act", "queryServer")]);
    query = query.with("port", 80).with("fd", Value::undefined()).with("flags", Value::undefined());
    let Ok(node::advanced::Frame::Cluster(message)) = node::advanced::decode(&v8::write(query.root())) else {
        panic!("a query");
    };
    let node::Act::QueryServer(query) = message.act else { panic!("{message:?}") };
    assert_eq!((query.port, query.fd, query.flags), (Some(80), None, None));
}

/// Node's own has the port that was asked for, 0 as well, so it names nothing.
#[test]
fn pitfall_23_a_key_is_a_label_and_any_text() {
    for serialization in BOTH {
        for key in ["4:127.0.0.1:0", "", "é\"\\\n", "NODE_HANDLE_ACK"] {
            let (mut one, mut other) = (session(serialization), session(serialization));
            let kind = HandleKind::NetSocket { key: Some(key.into()) };
            let attachment = Attachment { handle: 4, kind: kind.clone(), tag: 0, order: Order::Barrier };
            let payload = Payload::of(serialization, "m").expect("text can be written");
            assert!(one.send(&payload, Some(attachment)).is_ok());
            while let Some((bytes, handle)) = write(&mut one) {
                other.handle_input(&bytes, handle);
            }
            assert_eq!(events(&mut other), [Event::Message { payload, handle: Some((kind, 4)) }]);
        }
    }
}

/// A real Node says nothing of the end, keeps what waits, and leaks the handle.
#[test]
fn pitfall_25_what_was_not_acknowledged_comes_home_and_the_end_is_told() {
    for serialization in BOTH {
        let mut session = session(serialization);
        send(&mut session, "with", Some(4));
        send(&mut session, "with", Some(5));
        assert!(write(&mut session).is_some());
        session.handle_eof();
        assert_eq!(events(&mut session), [Event::Disconnected]);
        assert_eq!(session.take_undelivered().map(|(_, handle)| handle).collect::<Vec<_>>(), [4, 5]);
        // Its answer is late.
        session.handle_input(format!("{HANDLE_ACK}\n").as_bytes(), []);
        assert_eq!(events(&mut session), []);
    }
}
