//! Long messages, which are not copied on their way out.

use ganger_proto::{
    Payload, Serialization, Session,
    session::{Event, Limits},
};
use proptest::prelude::*;
use serde_json::value::RawValue;

fn payload(serialization: Serialization, length: usize) -> Payload {
    Payload::of(serialization, &"x".repeat(length)).expect("text can be written")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn messages_of_any_length_keep_their_order(
        advanced: bool,
        lengths in prop::collection::vec(prop_oneof![0usize..40, 16_300usize..16_500, 40_000usize..300_000], 1..8),
        most in prop_oneof![1usize..4000, Just(usize::MAX)],
        between: bool,
    ) {
        let serialization = if advanced { Serialization::Advanced } else { Serialization::Json };
        let mut from = Session::<()>::with_serialization(serialization, Limits::default());
        let mut to = Session::<()>::with_serialization(serialization, Limits::default());
        let mut sent = Vec::new();
        for length in lengths {
            let payload = payload(serialization, length);
            sent.push(payload.clone());
            prop_assert!(from.send_owned(payload, None).is_ok());
            if between {
                pass(&mut from, &mut to, most, 1);
            }
        }
        pass(&mut from, &mut to, most, usize::MAX);
        prop_assert_eq!((from.queued(), from.wants_write()), (0, false));
        for payload in sent {
            prop_assert_eq!(to.poll_event(), Some(Event::Message { payload, handle: None }));
        }
    }
}

/// So many writes.
fn pass(from: &mut Session<()>, to: &mut Session<()>, most: usize, writes: usize) {
    for _ in 0..writes {
        let Some(transmit) = from.poll_transmit() else { return };
        let count = transmit.bytes.len().min(most);
        to.handle_input(&transmit.bytes[..count], None);
        from.transmitted(count);
    }
}

#[test]
fn the_length_of_a_message_is_never_written_alone() {
    let mut session = Session::<()>::with_serialization(Serialization::Advanced, Limits::default());
    assert!(session.send_owned(payload(Serialization::Advanced, 1 << 20), None).is_ok());
    assert!(session.poll_transmit().expect("it waits").bytes.len() > 1024);
}

#[test]
fn lines_of_raw_json_are_made_one() {
    for length in [1, 100_000] {
        let raw = RawValue::from_string(format!("[\n{}1]", "1,\n".repeat(length))).expect("it is JSON");
        let payload = Payload::of(Serialization::Json, &raw).expect("it is JSON");
        assert!(Session::<()>::new(Limits::default()).send_owned(payload, None).is_ok());
        let lines = Payload::json(raw.get());
        let refused = Session::<()>::new(Limits::default()).send_owned(lines, None);
        assert!(refused.is_err(), "a message of several lines");
    }
}
