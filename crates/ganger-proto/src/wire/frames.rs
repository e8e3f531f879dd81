//! Payloads behind their length, as Node frames its `advanced` serialization
//! (`lib/internal/child_process/serialization.js`, `advanced`): four bytes, big-endian, which do not count
//! themselves. The twin of [`Lines`](super::json::Lines).
//!
//! Payloads are handed out as they lie in the read buffer; only the unfinished end of a chunk is copied, and
//! each byte of it once. Room is made for what has come, not for what the length promises.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The longest payload that is taken unless set otherwise: 64 MiB.
pub const DEFAULT_LIMIT: usize = 64 << 20;

const PREFIX: usize = 4;

/// Cuts a stream of chunks into payloads.
#[derive(Debug, Serialize, Deserialize)]
pub struct Frames {
    /// The unfinished frame at the end of what came so far, without its length once that is known.
    tail: Vec<u8>,
    /// How long its payload will be, if that has come.
    length: Option<usize>,
    limit: usize,
}

/// A payload longer than the limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes, more than {limit}")]
pub struct FrameTooLong {
    /// What its length says.
    pub length: usize,
    /// The limit.
    pub limit: usize,
}

impl Frames {
    /// Payloads of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { tail: Vec::new(), length: None, limit }
    }

    /// Takes the next chunk and hands every payload that it completes to `each`, without its length. An
    /// empty payload is handed out too; it is no value. One that came in pieces is handed over with its memory.
    /// After an error nobody knows where the next one begins.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Cow<'_, [u8]>)) -> Result<(), FrameTooLong> {
        let mut rest = chunk;
        if self.pending() > 0 {
            if self.length.is_none() {
                if !self.fill(&mut rest, PREFIX) {
                    return Ok(());
                }
                self.length = Some(length(&std::mem::take(&mut self.tail), self.limit)?);
            }
            let length = self.length.unwrap_or_default();
            if !self.fill(&mut rest, length) {
                return Ok(());
            }
            self.length = None;
            // An idle channel must not keep the memory of its largest message.
            each(std::mem::take(&mut self.tail).into());
        }
        while rest.len() >= PREFIX {
            let length = length(rest, self.limit)?;
            let end = PREFIX + length;
            if rest.len() < end {
                self.length = Some(length);
                rest = &rest[PREFIX..];
                break;
            }
            each(rest[PREFIX..end].into());
            rest = &rest[end..];
        }
        self.tail.extend_from_slice(rest);
        Ok(())
    }

    /// How many bytes of an unfinished frame are held.
    pub fn pending(&self) -> usize {
        self.tail.len() + if self.length.is_some() { PREFIX } else { 0 }
    }

    /// How many bytes of the next chunk still belong to the frame that is unfinished.
    pub fn continued(&self, chunk: &[u8]) -> usize {
        if self.pending() == 0 {
            return 0;
        }
        let length = self.length.or_else(|| {
            let mut prefix: Vec<u8> = self.tail.iter().chain(chunk).take(PREFIX).copied().collect();
            // A length that is not all there yet: whatever comes belongs to it.
            prefix.resize(PREFIX, 0xff);
            length(&prefix, self.limit).ok()
        });
        let end = length.map_or(usize::MAX, |length| PREFIX + length);
        chunk.len().min(end.saturating_sub(self.pending()))
    }

    /// Moves bytes until the tail has `length` of them; false if there were not enough.
    fn fill(&mut self, rest: &mut &[u8], length: usize) -> bool {
        let wanted = length.saturating_sub(self.tail.len()).min(rest.len());
        let (taken, left) = rest.split_at(wanted);
        let room = self.tail.len() + wanted;
        if room > self.tail.capacity() {
            // Twice as much each time, but no more than it will be.
            let room = (2 * self.tail.capacity()).min(length).max(room);
            self.tail.reserve_exact(room - self.tail.len());
        }
        self.tail.extend_from_slice(taken);
        *rest = left;
        self.tail.len() >= length
    }
}

/// The length that stands at the beginning of `frame`, if it is all there.
fn length(frame: &[u8], limit: usize) -> Result<usize, FrameTooLong> {
    let prefix = frame.first_chunk().copied().unwrap_or_default();
    let length = u32::from_be_bytes(prefix) as usize;
    if length > limit { Err(FrameTooLong { length, limit }) } else { Ok(length) }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

/// What stands before a payload. Both belong into one write: Node 18 stalls where the length is split.
pub fn prefix(payload: &[u8]) -> Result<[u8; PREFIX], FrameTooLong> {
    let too_long = |_| FrameTooLong { length: payload.len(), limit: u32::MAX as usize };
    u32::try_from(payload.len()).map(u32::to_be_bytes).map_err(too_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut framing = Frames::default();
        let mut out = Vec::new();
        for chunk in chunks {
            framing.feed(chunk, |payload| out.push(payload.to_vec())).unwrap();
        }
        assert_eq!(framing.pending(), 0);
        out
    }

    #[test]
    fn a_frame_may_come_in_any_pieces() {
        let stream = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c";
        let expected: [&[u8]; 3] = [b"ab", b"", b"c"];
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            for more in 0..=b.len() {
                let (b, c) = b.split_at(more);
                assert_eq!(payloads(&[a, b, c]), expected, "cut at {cut} and {more} after");
            }
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_before_it_is_kept() {
        let mut framing = Frames::new(4);
        assert_eq!(framing.feed(b"\0\0\0\x041234\0\0\0", |_| ()), Ok(()));
        assert_eq!(framing.feed(b"\x05", |_| ()), Err(FrameTooLong { length: 5, limit: 4 }));
        assert_eq!(Frames::new(4).feed(b"\xff\0\0\0x", |_| ()).unwrap_err().length, 0xff00_0000);
    }

    #[test]
    fn the_end_of_a_frame_is_known_before_it_comes() {
        let check = |come: &[u8], next: &[u8], expected: usize| {
            let mut framing = Frames::default();
            framing.feed(come, |_| ()).unwrap();
            assert_eq!(framing.continued(next), expected, "{come:?} {next:?}");
        };
        check(b"", b"\0\0\0\x01a", 0);
        check(b"\0\0\0\x01a", b"\0\0\0\x01a", 0);
        check(b"\0\0", b"\0", 1);
        check(b"\0\0", b"\0\x02abc", 4);
        check(b"\0\0\0\x03a", b"bcd", 2);
        check(b"\0\0\0\x03a", b"b", 1);
        check(b"\0\0", b"\0\0x", 2);
    }

    #[test]
    fn room_is_made_for_what_has_come() {
        let mut framing = Frames::default();
        framing.feed(b"\x03\0\0\0abc", |_| unreachable!()).unwrap();
        assert_eq!(framing.pending(), 7);
        assert!(framing.tail.capacity() < 64);
    }
}
