//! The router's rules, with its members as numbers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::Value;

const PRIMARY: i32 = 1;
const AGENT: i32 = 90;

/// Workers 1 to `count` in slots 0 to `count - 1`, with the pids 101 and on; and an agent.
fn gang(count: u32) -> Messenger {
    let mut messenger = Messenger::new(PRIMARY, 7);
    for id in 1..=count {
        messenger.worker_joined(WorkerId(id), Slot(id - 1), 100 + id as i32);
    }
    messenger.agent_joined(AGENT);
    messenger
}

fn json(text: &str) -> Payload {
    Payload::json(text)
}

fn hear(messenger: &mut Messenger, from: Party, text: &str) -> Heard {
    messenger.handle(from, &json(text), false)
}

fn routed(messenger: &mut Messenger, from: Party, text: &str) -> Dispatch {
    match hear(messenger, from, text) {
        Heard::Letter(dispatch) => *dispatch,
        other => panic!("{text}: {other:?}"),
    }
}

fn workers(ids: &[u32]) -> Vec<Party> {
    ids.iter().map(|id| Party::Worker(WorkerId(*id))).collect()
}

#[test]
fn every_address_finds_its_receivers() {
    let mut gang = gang(3);
    let all: Vec<Party> = workers(&[1, 2, 3]).into_iter().chain([Party::Agent]).collect();
    let cases = [
        (r#""workers""#, workers(&[1, 2, 3])),
        (r#"{"worker":2}"#, workers(&[2])),
        (r#"{"pid":103}"#, workers(&[3])),
        (r#"{"pid":90}"#, vec![Party::Agent]),
        (r#"{"slot":0}"#, workers(&[1])),
        (r#""agent""#, vec![Party::Agent]),
        (r#""all""#, all),
        (r#""primary""#, vec![Party::Primary]),
    ];
    for (to, expected) in cases {
        for from in [Party::Worker(WorkerId(1)), Party::Agent] {
            let text = format!(r#"{{"to":{to},"action":"a","data":1}}"#);
            assert_eq!(routed(&mut gang, from, &text).receivers(), expected, "{to}");
        }
        let to: To = serde_json::from_str(to).unwrap();
        assert_eq!(gang.send(to, "a", json("1")).unwrap().receivers(), expected, "{to:?}");
    }
}

#[test]
fn what_it_carries_is_passed_on_as_it_was_written() {
    let mut gang = gang(1);
    // A number that no double holds, spaces, an escape, and a member said twice.
    let text =
        r#"{"x":0,"data":0,"action":"a\"b","to":"all","data":{"n":12345678901234567890, "s":"\u00e9"}}"#;
    let mut dispatch = routed(&mut gang, Party::Worker(WorkerId(1)), text);
    let written = dispatch.written(Serialization::Json).unwrap();
    let written = written.to_json().unwrap();
    assert_eq!(
        written,
        r#"{"action":"a\"b","data":{"n":12345678901234567890, "s":"\u00e9"},"from":{"role":"worker","id":1,"slot":0,"pid":101}}"#
    );
    let letter = Letter::read(&json(&written)).unwrap();
    assert_eq!(letter, dispatch.letter().unwrap());
    assert_eq!(letter.from, Sender::Worker { id: WorkerId(1), slot: Slot(0), pid: 101 });
    let nothing = routed(&mut gang, Party::Agent, r#"{"to":"primary","action":"a"}"#).letter().unwrap();
    assert!(nothing.data.is_empty());
    nothing.parse::<()>().unwrap();
    assert_eq!(nothing.from, Sender::Agent { pid: AGENT });
}

#[test]
fn it_is_rewritten_for_a_channel_of_the_other_serialization() {
    let mut gang = gang(1);
    let data = Value::object([("when", Value::date(1.0)), ("big", Value::from(u64::MAX))]);
    let when = Value::object([("when", Value::date(1.0))]);
    for (data, has_json) in [(data, false), (when, true)] {
        let sent =
            Value::object([("action", Value::from("a")), ("to", "agent".into())]).with("data", data.clone());
        let sent = Payload::of_value(Serialization::Advanced, &sent).unwrap();
        let Heard::Letter(mut dispatch) = gang.handle(Party::Worker(WorkerId(1)), &sent, false) else {
            panic!()
        };
        let written = dispatch.written(Serialization::Advanced).unwrap();
        let letter = Letter::read(written).unwrap();
        assert_eq!(letter.data.to_value().unwrap(), data);
        assert_eq!(letter.action, "a");
        assert_eq!(letter, dispatch.letter().unwrap());
        match dispatch.written(Serialization::Json) {
            Ok(written) if has_json => {
                let data = Letter::read(written).unwrap().data;
                assert_eq!(data, json(r#"{"when":"1970-01-01T00:00:00.001Z"}"#));
            }
            // A BigInt has none, in Node neither.
            Err(Refusal::Unspeakable) if !has_json => {}
            other => panic!("{other:?}"),
        }
    }
    let mut from_json = routed(&mut gang, Party::Agent, r#"{"to":"all","action":"a","data":[1]}"#);
    let letter = Letter::read(from_json.written(Serialization::Advanced).unwrap()).unwrap();
    assert_eq!(letter.parse::<Vec<u8>>().unwrap(), [1]);
}

#[test]
fn what_is_no_letter_is_the_primarys() {
    let mut gang = gang(1);
    let cases = [
        r#""ready""#,
        "1",
        "null",
        "[]",
        r#"["to","action"]"#,
        r#"{"to":"all"}"#,
        r#"{"action":"a","data":1}"#,
        r#"{"action":"a","data":{"to":"all"}}"#,
        r#"[{"to":"all","action":"a"}]"#,
    ];
    for text in cases {
        assert!(matches!(hear(&mut gang, Party::Agent, text), Heard::Message), "{text}");
    }
    for value in [Value::from("ready"), Value::array(["to", "action"]), Value::object([("to", "all")])] {
        let payload = Payload::of_value(Serialization::Advanced, &value).unwrap();
        assert!(matches!(gang.handle(Party::Agent, &payload, false), Heard::Message), "{value:?}");
    }
}

#[test]
fn a_bad_letter_is_refused_and_its_sender_told() {
    let mut gang = gang(2);
    let long = "x".repeat(LONGEST_ACTION + 1);
    let huge = format!(r#"{{"to":"all","action":"a","data":"{}"}}"#, "x".repeat(QUEUE));
    let cases = [
        (r#"{"to":"all","action":""}"#.to_owned(), "bad-action"),
        (r#"{"to":"all","action":7}"#.to_owned(), "bad-action"),
        (format!(r#"{{"to":"all","action":"{long}"}}"#), "bad-action"),
        (r#"{"to":"nobody","action":"a"}"#.to_owned(), "bad-address"),
        (r#"{"to":null,"action":"a"}"#.to_owned(), "bad-address"),
        (r#"{"to":["all"],"action":"a"}"#.to_owned(), "bad-address"),
        (r#"{"to":{"worker":-1},"action":"a"}"#.to_owned(), "bad-address"),
        (r#"{"to":{"worker":1.5},"action":"a"}"#.to_owned(), "bad-address"),
        (r#"{"to":{"worker":1,"slot":1},"action":"a"}"#.to_owned(), "bad-address"),
        (r#"{"to":{},"action":"a"}"#.to_owned(), "bad-address"),
        (r#"{"to":{"pid":99999999999999999999},"action":"a"}"#.to_owned(), "bad-address"),
        (r#"{"to":{"worker":3},"action":"a"}"#.to_owned(), "no-receiver"),
        (r#"{"to":{"pid":1},"action":"a"}"#.to_owned(), "no-receiver"),
        (r#"{"to":{"slot":2},"action":"a"}"#.to_owned(), "no-receiver"),
        (huge, "too-long"),
    ];
    let sender = Party::Worker(WorkerId(2));
    for (text, code) in cases {
        let text_shown: String = text.chars().take(60).collect();
        let Heard::Refused(refusal) = hear(&mut gang, sender, &text) else { panic!("{text_shown}") };
        assert_eq!(refusal.code(), code, "{text_shown}");
        assert_eq!(refusal.is_fault(), code != "no-receiver");
        let mut answer = gang.answer(sender, refusal).unwrap();
        assert_eq!(answer.receivers(), [sender]);
        let letter = Letter::read(answer.written(Serialization::Json).unwrap()).unwrap();
        assert_eq!((letter.action.as_str(), letter.from), (UNDELIVERED, Sender::Primary { pid: PRIMARY }));
        assert_eq!(letter.parse::<serde_json::Value>().unwrap()["code"], code);
    }
    let with_handle = gang.handle(sender, &json(r#"{"to":"all","action":"a"}"#), true);
    assert!(matches!(with_handle, Heard::Refused(Refusal::Handle)));
    assert!(gang.answer(Party::Primary, Refusal::NoReceiver).is_none());
}

#[test]
fn a_broadcast_to_nobody_is_no_error_and_a_letter_to_a_gone_agent_is_one() {
    let mut gang = gang(0);
    assert_eq!(gang.send(To::Workers, "a", json("1")).unwrap().receivers(), []);
    assert_eq!(gang.send(To::All, "a", json("1")).unwrap().receivers(), [Party::Agent]);
    gang.gone(Party::Agent);
    assert_eq!(gang.send(To::All, "a", json("1")).unwrap().receivers(), []);
    for to in [To::Agent, To::Random] {
        assert!(matches!(gang.send(to, "a", json("1")), Err(Refusal::NoReceiver)), "{to:?}");
    }
}

#[test]
fn a_slot_is_its_newest_worker_that_stays() {
    let mut gang = gang(1);
    gang.worker_leaves(WorkerId(1));
    let slot =
        |gang: &mut Messenger| gang.send(To::Slot(Slot(0)), "a", json("1")).unwrap().receivers().to_vec();
    assert_eq!(slot(&mut gang), workers(&[1]));
    gang.worker_joined(WorkerId(2), Slot(0), 102);
    assert_eq!(slot(&mut gang), workers(&[2]));
    assert_eq!(gang.send(To::Workers, "a", json("1")).unwrap().receivers(), workers(&[1, 2]));
    gang.gone(Party::Worker(WorkerId(2)));
    assert_eq!(slot(&mut gang), workers(&[1]));
}

/// It has no `from` yet, and a number in V8's format is shorter than in JSON.
#[test]
fn a_letter_that_is_too_long_as_it_would_arrive_is_refused_too() {
    let mut gang = gang(2);
    let sender = Party::Worker(WorkerId(2));
    let empty = r#"{"to":"all","action":"a","data":""}"#;
    let json = empty.replace("\"\"}", &format!("\"{}\"}}", "x".repeat(QUEUE - empty.len())));
    let numbers = Value::array(std::iter::repeat_n(Value::from(0.1 + 0.2), QUEUE / 16));
    let letter = Value::object([("to", "all"), ("action", "a")]).with("data", numbers);
    let advanced = Payload::of_value(Serialization::Advanced, &letter).unwrap();
    assert!(advanced.as_bytes().len() < QUEUE);
    for payload in [Payload::json(json).known(), advanced] {
        let Heard::Letter(mut dispatch) = gang.handle(sender, &payload, false) else { panic!("no letter") };
        for _ in 0..2 {
            let refusal = dispatch.written(Serialization::Json).unwrap_err();
            assert!(matches!(refusal, Refusal::TooLong { bytes } if bytes > QUEUE), "{refusal}");
        }
    }
}

#[test]
fn a_member_whose_name_is_no_text_does_not_matter() {
    let mut gang = gang(2);
    for odd in [r#""\ud800":1"#, r#""":1"#] {
        let text = format!(r#"{{{odd},"to":"workers","action":"a","data":"\ud800"}}"#);
        assert!(matches!(hear(&mut gang, Party::Agent, &text), Heard::Letter(_)), "{text}");
    }
}

#[test]
fn what_is_too_much_for_one_is_lost_for_it_and_told_once() {
    let mut gang = gang(2);
    let (slow, other) = (Party::Worker(WorkerId(1)), Party::Worker(WorkerId(2)));
    assert_eq!(gang.admit(slow, QUEUE - 10, 10), Admission::Send);
    assert_eq!(gang.admit(slow, QUEUE - 10, 11), Admission::Lost { first: true });
    assert_eq!(gang.admit(slow, usize::MAX, 11), Admission::Lost { first: false });
    assert_eq!(gang.admit(other, 0, 11), Admission::Send);
    assert_eq!((gang.lost(slow), gang.lost(other)), (2, 0));
    gang.gone(slow);
    assert_eq!(gang.lost(slow), 0);
}

#[test]
fn a_random_worker_is_any_of_them_equally_often() {
    let mut gang = gang(4);
    gang.worker_leaves(WorkerId(3));
    let mut drawn = [0; 5];
    for _ in 0..9000 {
        let [Party::Worker(WorkerId(id))] = *gang.send(To::Random, "a", json("1")).unwrap().receivers()
        else {
            panic!()
        };
        drawn[id as usize] += 1;
    }
    assert_eq!(drawn[3], 0);
    for id in [1, 2, 4] {
        assert!((2800..3200).contains(&drawn[id]), "{drawn:?}");
    }
    gang.gone(Party::Worker(WorkerId(1)));
    gang.gone(Party::Worker(WorkerId(2)));
    gang.gone(Party::Worker(WorkerId(4)));
    assert_eq!(gang.send(To::Random, "a", json("1")).unwrap().receivers(), workers(&[3]));
}

proptest! {
    /// Whoever comes and goes, a letter goes only to who is there, and once to each.
    #[test]
    fn receivers_are_there_and_differ(
        steps in prop::collection::vec((0..4_u8, 1..20_u32, 0..8_u8), 1..80),
        seed: u64,
    ) {
        let mut messenger = Messenger::new(PRIMARY, seed);
        let (mut there, mut leaving, mut agent) = (BTreeSet::new(), BTreeSet::new(), false);
        for (step, id, to) in steps {
            match step {
                0 if !there.contains(&id) => {
                    messenger.worker_joined(WorkerId(id), Slot(id % 5), 100 + id as i32);
                    there.insert(id);
                    leaving.remove(&id);
                }
                1 => {
                    messenger.gone(Party::Worker(WorkerId(id)));
                    there.remove(&id);
                }
                2 => {
                    messenger.worker_leaves(WorkerId(id));
                    leaving.insert(id);
                }
                _ => {
                    agent = !agent;
                    if agent { messenger.agent_joined(AGENT) } else { messenger.gone(Party::Agent) }
                }
            }
            let to = [To::Workers, To::All, To::Random, To::Agent, To::Worker(WorkerId(id)), To::Slot(Slot(id % 5)),
                To::Pid(100 + id as i32), To::Pid(AGENT)][to as usize];
            let receivers = match messenger.send(to, "a", json("1")) {
                Ok(dispatch) => dispatch.receivers().to_vec(),
                Err(refusal) => {
                    prop_assert_eq!(refusal, Refusal::NoReceiver);
                    Vec::new()
                }
            };
            for receiver in &receivers {
                match receiver {
                    Party::Worker(WorkerId(id)) => prop_assert!(there.contains(id)),
                    Party::Agent => prop_assert!(agent),
                    Party::Primary => prop_assert!(false),
                }
            }
            let different: BTreeSet<_> = receivers.iter().collect();
            prop_assert_eq!(different.len(), receivers.len());
            match to {
                To::Workers => prop_assert_eq!(receivers.len(), there.len()),
                To::All => prop_assert_eq!(receivers.len(), there.len() + usize::from(agent)),
                To::Random => prop_assert_eq!(receivers.len(), usize::from(!there.is_empty())),
                _ => prop_assert!(receivers.len() <= 1),
            }
        }
    }

    /// Whatever a process says, it is a message, a letter or refused; what is delivered can be read, and carries the same.
    #[test]
    fn whatever_is_said_has_an_outcome(
        to in "(\"[a-z]{0,8}\"|[0-9]{1,12}|\\{\"(worker|pid|slot)\":-?[0-9]{1,3}\\}|null)",
        action in "(\"[ -~]{0,8}\"|[0-9]{1,3})",
        data in "(\"[a-z ]{0,20}\"|[0-9]{1,30}|\\[1, 2\\]|true)",
    ) {
        let action = action.replace('\\', "/");
        let text = format!(r#"{{"to":{to},"action":{action},"data":{data}}}"#);
        if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
            return Ok(());
        }
        let mut gang = gang(3);
        if let Heard::Letter(mut dispatch) = hear(&mut gang, Party::Agent, &text) {
            let letter = Letter::read(dispatch.written(Serialization::Json).unwrap()).unwrap();
            prop_assert_eq!(&letter.data, &json(&data));
            prop_assert_eq!(&letter, &dispatch.letter().unwrap());
            let advanced = Letter::read(dispatch.written(Serialization::Advanced).unwrap()).unwrap();
            prop_assert_eq!(advanced.action, letter.action);
        }
    }
}

#[test]
fn what_a_program_sends_is_what_is_read() {
    let mut gang = gang(1);
    for serialization in [Serialization::Json, Serialization::Advanced] {
        let sent = Outgoing { to: To::Slot(Slot(0)), action: "a", data: &("x", 1) };
        let sent = Payload::of(serialization, &sent).unwrap();
        let Heard::Letter(mut dispatch) = gang.handle(Party::Agent, &sent, false) else { panic!() };
        assert_eq!(dispatch.receivers(), workers(&[1]));
        let letter = Letter::read(dispatch.written(serialization).unwrap()).unwrap();
        assert_eq!(letter.parse::<(String, u8)>().unwrap(), ("x".into(), 1));
    }
}
