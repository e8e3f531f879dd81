//! What a peer can do wrong, and that the session survives it.

use ganger_proto::{
    Session,
    node::{HANDLE_ACK, HANDLE_NACK, HandleKind},
    session::{Attachment, Event, Fault, Limits, Order, Payload, SendErrorReason, Serialization},
};

const HANDLE: &str = r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":1}"#;

fn session() -> Session<u32> {
    Session::new(Limits { line: 200, queue: 1000, validate: true, ..Limits::default() })
}

fn input(session: &mut Session<u32>, lines: &[&str], handles: &[u32]) {
    let stream: String = lines.iter().map(|line| format!("{line}\n")).collect();
    session.handle_input(stream.as_bytes(), handles.iter().copied());
}

fn events(session: &mut Session<u32>) -> Vec<Event<u32>> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// All that waits to be written, taken as written.
fn written(session: &mut Session<u32>) -> String {
    let mut all = Vec::new();
    while let Some(transmit) = session.poll_transmit() {
        all.extend_from_slice(transmit.bytes);
        let count = transmit.bytes.len();
        session.transmitted(count);
    }
    String::from_utf8(all).unwrap()
}

fn plain(json: &str) -> Event<u32> {
    Event::Message { payload: Payload::json(json), handle: None }
}

fn with_handle(json: &str, handle: u32) -> Event<u32> {
    Event::Message { payload: Payload::json(json), handle: Some((HandleKind::NetNative, handle)) }
}

fn send(session: &mut Session<u32>, handle: u32, order: Order) {
    let attachment = Attachment { handle, kind: HandleKind::NetNative, tag: handle.into(), order };
    assert!(session.send_json("1", Some(attachment)).is_ok());
}

/// What the lines come to, with `handles` beside them, and what is answered.
#[track_caller]
fn check(lines: &[&str], handles: &[u32], expected: &[Event<u32>], answers: &[&str]) {
    let mut session = session();
    input(&mut session, lines, handles);
    assert_eq!(events(&mut session), expected);
    let answers: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    assert_eq!(written(&mut session), answers);
    // It goes on.
    input(&mut session, &["7"], &[]);
    assert_eq!(events(&mut session), [plain("7")]);
}

/// A real Node dies of it: `ERR_INTERNAL_ASSERTION`, thrown where nobody catches it.
#[test]
fn pitfall_06_an_answer_to_nothing_is_a_fault_and_no_more() {
    check(&[HANDLE_ACK, "1"], &[], &[Event::Fault(Fault::UnexpectedAck), plain("1")], &[]);
    check(&[HANDLE_NACK], &[], &[Event::Fault(Fault::UnexpectedAck)], &[]);
}

#[test]
fn an_answer_to_a_handle_that_has_not_left_is_a_fault() {
    let mut session = session();
    send(&mut session, 5, Order::Barrier);
    input(&mut session, &[HANDLE_ACK], &[]);
    assert_eq!(events(&mut session), [Event::Fault(Fault::UnexpectedAck)]);
    assert_eq!(session.take_undelivered().collect::<Vec<_>>(), [(5, 5)]);
}

/// A real Node dies of it.
#[test]
fn pitfall_06_a_second_answer_to_one_handle_is_a_fault() {
    let mut session = session();
    send(&mut session, 5, Order::Barrier);
    written(&mut session);
    input(&mut session, &[HANDLE_ACK, HANDLE_ACK], &[]);
    let delivered = Event::Delivered { tag: 5, handle: 5 };
    assert_eq!(events(&mut session), [delivered, Event::Fault(Fault::UnexpectedAck)]);
}

/// A real Node pairs them with the handle messages after them, for ever one off.
#[test]
fn pitfall_03_descriptors_that_nobody_announced_are_closed() {
    let unannounced = |count| Event::Fault(Fault::Unannounced { count });
    check(&[HANDLE], &[1, 2], &[with_handle("1", 1), unannounced(1)], &[HANDLE_ACK]);
    check(&["1"], &[1, 2], &[plain("1"), unannounced(2)], &[]);
    check(&["1", HANDLE], &[1], &[plain("1"), with_handle("1", 1)], &[HANDLE_ACK]);
    check(&[HANDLE, "1"], &[1], &[with_handle("1", 1), plain("1")], &[HANDLE_ACK]);
}

#[test]
fn half_a_line_does_not_gather_descriptors_for_ever() {
    let mut session = session();
    session.handle_input(b"[1,", 0..1000);
    let at_once = events(&mut session).len();
    assert!(at_once > 700, "only {at_once} were closed");
    session.handle_input(b"2]\n", []);
    let rest = Event::Fault(Fault::Unannounced { count: 1000 - at_once });
    assert_eq!(events(&mut session), [plain("[1,2]"), rest]);
}

#[test]
fn pitfall_06_a_handle_without_its_descriptor_is_refused_once() {
    check(&[HANDLE], &[], &[], &[HANDLE_NACK]);
    check(&[HANDLE, "1", HANDLE], &[4], &[with_handle("1", 4), plain("1")], &[HANDLE_ACK, HANDLE_NACK]);
}

/// A real Node answers twice, and the second answer kills a Node that sent it.
#[test]
fn pitfall_08_what_node_sends_again_is_wrapped_twice_and_answered_once() {
    let nested = format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{HANDLE}}}"#);
    check(&[&nested], &[4], &[with_handle("1", 4)], &[HANDLE_ACK]);
    check(&[&nested], &[], &[], &[HANDLE_NACK]);
}

#[test]
fn a_handle_of_an_unknown_type_is_taken_and_closed() {
    let unknown = r#"{"cmd":"NODE_HANDLE","type":"net.BoundSocket","msg":1}"#;
    let fault = Event::Fault(Fault::UnknownHandle { kind: "net.BoundSocket".into() });
    check(&[unknown], &[4], &[fault], &[HANDLE_ACK]);
    // What is told of it is no longer than a line.
    let long = format!(r#"{{"cmd":"NODE_HANDLE","type":"{}","msg":1}}"#, "x".repeat(120));
    let fault = Event::Fault(Fault::UnknownHandle { kind: "x".repeat(60) });
    check(&[&long], &[4], &[fault], &[HANDLE_ACK]);
}

/// A real Node dies of it, or loses the rest of the chunk; if the line began in an earlier one, all after it.
#[test]
fn pitfall_09_a_bad_line_spoils_no_other() {
    let bad = |start: &str| Event::Fault(Fault::NotJson { start: start.into() });
    check(&["1", "undefined", "2"], &[], &[plain("1"), bad("undefined"), plain("2")], &[]);
    check(&["", "2"], &[], &[bad(""), plain("2")], &[]);
    check(&[r#"{"cmd":"NODE_"#, "2"], &[], &[bad(r#"{"cmd":"NODE_"#), plain("2")], &[]);
}

/// It would be taken for the `undefined` of a handle that came without a message.
#[test]
fn pitfall_09_nothing_at_all_is_no_message() {
    for validate in [false, true] {
        let limits = Limits { validate, ..Limits::default() };
        let mut json = Session::<u32>::new(limits);
        json.handle_input(b"\n1\n", []);
        assert_eq!(events(&mut json), [Event::Fault(Fault::NotJson { start: String::new() }), plain("1")]);
        let mut advanced = Session::<u32>::with_serialization(Serialization::Advanced, limits);
        advanced.handle_input(b"\0\0\0\0\0\0\0\x03\xff\x0f0", []);
        let [Event::Fault(Fault::NotAdvanced { error }), Event::Message { .. }] = &events(&mut advanced)[..]
        else {
            panic!("an empty frame is a fault, and no more");
        };
        assert!(error.contains("no version"), "{error}");
    }
}

#[test]
fn what_has_gone_home_does_not_wait() {
    let mut session = session();
    send(&mut session, 5, Order::Barrier);
    send(&mut session, 6, Order::Barrier);
    assert!(session.queued() > 0);
    session.handle_eof();
    assert_eq!(session.take_undelivered().count(), 2);
    assert_eq!((session.queued(), session.is_flushed()), (0, true));
}

/// What ends the channel, and that nothing follows, neither from this chunk nor from later ones.
#[track_caller]
fn check_fatal(chunk: &[u8], fault: Fault) {
    let mut session = session();
    send(&mut session, 5, Order::Pipelined);
    written(&mut session);
    send(&mut session, 6, Order::Pipelined);
    session.handle_input(chunk, [1, 2]);
    session.handle_input(b"1\n", []);
    session.handle_eof();
    // Its ACK may stand in what is not read any more: it counts as delivered.
    let delivered = Event::Delivered { tag: 5, handle: 5 };
    assert_eq!(events(&mut session), [Event::Fault(fault), delivered, Event::Disconnected]);
    assert!(session.wants_close() && !session.is_connected());
    assert_eq!(session.take_undelivered().collect::<Vec<_>>(), [(6, 6)]);
}

#[test]
fn what_cannot_be_read_on_ends_the_channel() {
    check_fatal(b"\x02{}\n1\n", Fault::BunCluster);
    check_fatal(&[b' '; 201], Fault::TooLong { limit: 200 });
    check_fatal(&[&[b' '; 201], &b"\n1\n"[..]].concat(), Fault::TooLong { limit: 200 });
    check_fatal(&[&b"\x02{}\n"[..], &[b' '; 201]].concat(), Fault::BunCluster);
}

/// A real Node drops it and says nothing.
#[test]
fn pitfall_12_an_end_in_the_middle_of_a_line_is_told() {
    let mut session = session();
    session.handle_input(b"1\n{\"a", [3]);
    session.handle_eof();
    let truncated = Event::Fault(Fault::Truncated { bytes: 3 });
    assert_eq!(events(&mut session), [plain("1"), truncated, Event::Disconnected]);
}

#[test]
fn pitfall_19_a_peer_that_does_not_read_is_not_written_to_for_ever() {
    let mut session = session();
    let big = format!("\"{}\"", "x".repeat(700));
    assert!(session.send_json(&big, None).is_ok());
    let attachment = Attachment { handle: 3, kind: HandleKind::NetNative, tag: 3, order: Order::Barrier };
    let refused = session.send_json(&big, Some(attachment)).unwrap_err();
    assert_eq!((refused.reason, refused.handle), (SendErrorReason::QueueFull, Some(3)));
    written(&mut session);
    assert!(session.send_json(&big, None).is_ok());
}

#[test]
fn a_peer_is_not_deaf_because_we_say_much() {
    let mut session = session();
    let attachment =
        |handle| Attachment { handle, kind: HandleKind::NetNative, tag: 0, order: Order::Pipelined };
    while session.send_json("\"longer\"", Some(attachment(5))).is_ok() {}
    input(&mut session, &[HANDLE], &[4]);
    assert_eq!(events(&mut session), [with_handle("1", 4)]);
}

#[test]
fn nothing_follows_the_answer_that_nobody_reads() {
    for line in [HANDLE, r#"{"cmd":"NODE_HANDLE","type":"net.BoundSocket"}"#] {
        let mut session = session();
        let (mut told, mut handles) = (Vec::new(), 0..);
        while session.is_connected() {
            input(&mut session, &[line, line], &[handles.next().unwrap()]);
            told.append(&mut events(&mut session));
        }
        let end = &told[told.len() - 2..];
        assert!(matches!(end, [Event::Fault(Fault::Deaf { .. }), Event::Disconnected]), "{end:?}");
    }
}

#[test]
fn a_descriptor_may_come_with_any_part_of_its_line() {
    let stream = format!("0\n{HANDLE}\n2\n");
    let first = 2;
    for cut in first..first + HANDLE.len() + 1 {
        let (head, tail) = stream.as_bytes().split_at(cut);
        let (line_end, rest) = tail.split_at(first + HANDLE.len() + 1 - cut);
        for with_head in [true, false] {
            let mut session = session();
            let handle = |here: bool| here.then_some(4);
            session.handle_input(head, handle(with_head && cut > first));
            session.handle_input(line_end, handle(!(with_head && cut > first)));
            session.handle_input(rest, []);
            let expected = [plain("0"), with_handle("1", 4), plain("2")];
            assert_eq!(events(&mut session), expected, "cut at {cut}, with the head: {with_head}");
            assert_eq!(written(&mut session), format!("{HANDLE_ACK}\n"));
        }
    }
}

#[test]
fn pitfall_03_a_lost_descriptor_does_not_shift_the_ones_after_it() {
    let second = r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":2}"#;
    for cut in 1..=HANDLE.len() {
        let mut session = session();
        let (head, tail) = HANDLE.split_at(cut);
        // The kernel drops the first one's descriptor; the second chunk stops behind the second one's line.
        session.handle_input(head.as_bytes(), []);
        session.handle_input(format!("{tail}\n{second}\n").as_bytes(), [6]);
        assert_eq!(events(&mut session), [with_handle("2", 6)], "cut at {cut}");
        assert_eq!(written(&mut session), format!("{HANDLE_NACK}\n{HANDLE_ACK}\n"));
    }
}
