//! Lines, however they are cut, and what they mean.

use ganger_proto::{
    node::{
        self, Line,
        advanced::{self, Frame},
    },
    value::{from_json, to_json},
    wire::{
        json::{self, LineTooLong, Lines},
        v8,
    },
};

/// The longest line that is taken here.
const LIMIT: usize = 4096;

/// The first byte says how large the chunks are; the rest is the stream.
pub(crate) fn check(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = feed(stream, usize::MAX);
    assert_eq!(feed(stream, usize::from(*size).max(1)), whole, "it depends on the chunks");

    let (lines, pending, end) = whole;
    let taken: usize = lines.iter().map(|line| line.len() + 1).sum();
    assert!(end.is_err() || taken + pending == stream.len(), "every byte is somewhere");
    for line in lines {
        assert!(line.len() <= LIMIT);
        look(&json::text(line.as_slice()));
    }
}

type Cut = (Vec<Vec<u8>>, usize, Result<(), LineTooLong>);

/// The lines, how much of the next one has come, and how it ended.
fn feed(stream: &[u8], size: usize) -> Cut {
    let mut framing = Lines::new(LIMIT);
    let mut lines = Vec::new();
    for chunk in stream.chunks(size.min(stream.len().max(1))) {
        let fed = framing.feed(chunk, |line| lines.push(line.to_vec()));
        if fed.is_err() {
            return (lines, 0, fed);
        }
        assert!(framing.pending() <= LIMIT, "more is held than a line may have");
    }
    (lines, framing.pending(), Ok(()))
}

/// Reads a line in every way, and writes it again.
fn look(line: &str) {
    let is_valid = json::is_valid(line);
    match from_json(line) {
        Ok(value) => {
            assert!(is_valid, "two parsers differ");
            let written = to_json(value.root()).expect("it came as JSON").expect("it is something");
            assert_eq!(from_json(&written).map(|again| to_json(again.root())), Ok(Ok(Some(written.clone()))));
            // An integer of JSON may be one of V8's.
            let payload = v8::write(value.root());
            assert_eq!(v8::read(&payload).as_ref(), Ok(&value));
            let _ = advanced::decode(&payload);
        }
        // Nested deeper than 500 levels, which takes as many brackets.
        Err(_) => assert!(!is_valid || line.matches(['[', '{']).count() > 500, "two parsers differ"),
    }
    match node::decode(line) {
        Ok(Line::User(same)) => assert_eq!(same, line),
        Ok(Line::Handle { kind, message }) => {
            assert!(is_valid);
            if !message.is_empty() {
                let _ = node::decode(message).expect("what is inside has been validated");
            }
            if let Ok(kind) = kind {
                let mut written = Vec::new();
                node::write_handle(&mut written, &kind, message);
                let written = json::text(written.as_slice());
                assert_eq!(node::decode(&written), Ok(Line::Handle { kind: Ok(kind), message }));
            }
        }
        Ok(Line::Cluster(message)) => {
            assert!(is_valid);
            let mut written = Vec::new();
            message.write(&mut written);
            assert!(!written.contains(&b'\n'), "a message is one line");
            // Node writes no backlog for UDP, whatever a peer may say.
            let Ok(Line::Cluster(said)) = node::decode(&json::text(written.as_slice())) else {
                panic!("{written:?}")
            };
            let mut again = Vec::new();
            said.write(&mut again);
            assert_eq!(again, written);
            if let Ok(payload) = advanced::cluster(&message) {
                // What is raw JSON in it is as JSON.stringify writes it now: 0 for -0, fewer digits. It stays so.
                let Ok(Frame::Cluster(said)) = advanced::decode(&payload) else { panic!("{payload:?}") };
                let again = advanced::cluster(&said).expect("it was written once");
                assert_eq!(advanced::decode(&again), Ok(Frame::Cluster(said)));
            }
        }
        Ok(Line::Lent(message)) => {
            assert!(is_valid);
            let mut written = Vec::new();
            message.write(&mut written);
            assert_eq!(node::decode(&json::text(written.as_slice())), Ok(Line::Lent(message)));
        }
        Ok(Line::Panic(panic)) => {
            assert!(is_valid);
            let mut written = Vec::new();
            panic.write(&mut written);
            assert_eq!(node::decode(&json::text(written.as_slice())), Ok(Line::Panic(panic)));
        }
        Ok(Line::HandleAck | Line::HandleNack | Line::Other) => assert!(is_valid),
        Err(bad) => assert!(!is_valid && line.starts_with(&bad.start)),
        Ok(other) => panic!("{other:?}"),
    }
}
