//! Frames behind their length, however they are cut.

use ganger_proto::wire::frames::{self, FrameTooLong, Frames};

/// The longest payload that is taken here.
const LIMIT: usize = 300;

/// The first byte says how large the chunks are; the rest is the stream.
pub(crate) fn check(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = feed(stream, usize::MAX);
    assert_eq!(feed(stream, usize::from(*size).max(1)), whole, "it depends on the chunks");
    assert_eq!(feed(stream, 1), whole, "it depends on the chunks");

    let (payloads, pending, end) = whole;
    let mut written = Vec::new();
    for payload in &payloads {
        assert!(payload.len() <= LIMIT);
        written.extend_from_slice(&frames::prefix(payload).expect("it is short"));
        written.extend_from_slice(payload);
    }
    assert!(stream.starts_with(&written), "what was cut is what came");
    match end {
        Ok(()) => assert_eq!(written.len() + pending, stream.len(), "every byte is somewhere"),
        Err(FrameTooLong { length, limit }) => assert!(length > LIMIT && limit == LIMIT),
    }
}

type Cut = (Vec<Vec<u8>>, usize, Result<(), FrameTooLong>);

/// The payloads, how much of the next one has come, and how it ended.
fn feed(stream: &[u8], size: usize) -> Cut {
    let mut framing = Frames::new(LIMIT);
    let mut payloads = Vec::new();
    for chunk in stream.chunks(size.min(stream.len().max(1))) {
        let continued = framing.continued(chunk);
        let (earlier, rest) = chunk.split_at(continued);
        let before = payloads.len();
        if let Err(end) = framing.feed(earlier, |payload| payloads.push(payload.to_vec())) {
            return (payloads, 0, Err(end));
        }
        assert!(payloads.len() - before <= 1, "what goes on is one frame");
        assert!(rest.is_empty() || framing.pending() == 0, "the frame goes on beyond its end");
        if let Err(end) = framing.feed(rest, |payload| payloads.push(payload.to_vec())) {
            return (payloads, 0, Err(end));
        }
        assert!(framing.pending() < LIMIT + 4, "more is held than a frame may have");
    }
    (payloads, framing.pending(), Ok(()))
}
