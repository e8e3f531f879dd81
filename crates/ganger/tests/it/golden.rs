//! What our primary sends is what Node's own primary sends, line by line.

use std::{fs, path::Path};

use ganger::cluster::{Event, Policy, Settings};
use serde_json::value::RawValue;

use crate::support::{Directory, Gang, NODE, example, node, run};

/// The messages of `primary.js`.
const MESSAGES: [&str; 8] = [
    r#"{"hello":"worker"}"#,
    r#""a string""#,
    "42.5",
    "true",
    "null",
    "[]",
    concat!(
        r#"{"nested":{"list":[1,"two",null,{"three":3}]},"#,
        "\"text\":\"é 日本 \u{1f600} \\\" \\\\ \\n \u{2028} \\ud800\"}"
    ),
    r#"{"cmd":"NODE_"}"#,
];

#[test]
fn round_robin() {
    run(transcript(Policy::RoundRobin, "rr"));
}

#[test]
fn shared() {
    run(transcript(Policy::Shared, "none"));
}

/// Drives the worker of `primary.js` as that script's own primary does, with the wiretap in between.
async fn transcript(policy: Policy, name: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ganger-cli/tests/golden");
    let expected = fs::read_to_string(golden.join(format!("primary.{name}.txt"))).unwrap();
    let directory = Directory::new();
    let mut settings = Settings::new(example("wiretap"));
    settings.args = vec![golden.join("primary.js").into()];
    settings.env =
        vec![("WIRETAP_NODE".into(), node(NODE).into()), ("WIRETAP_OUT".into(), directory.path("").into())];
    settings.policy = policy;
    let mut gang = Gang::new(settings);
    let worker = gang.fork().await;
    gang.listening().await;
    for message in MESSAGES {
        let message = RawValue::from_string(message.into()).unwrap();
        gang.with(move |primary| primary.send(worker.id, &message).map(drop).unwrap()).await;
    }
    for _ in MESSAGES {
        gang.find(|event| matches!(event, Event::Message { .. }).then_some(())).await;
    }
    gang.disconnect(worker.id).await;
    gang.exit().await;
    let sent = fs::read_to_string(directory.path("1.primary")).unwrap();
    let (_comment, expected) = expected.split_once('\n').unwrap();
    assert_eq!(xtask::golden::normalise(&sent), expected);
}
