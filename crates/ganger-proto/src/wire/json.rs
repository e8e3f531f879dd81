//! Newline-delimited JSON, Node's default serialization
//! (`lib/internal/child_process/serialization.js`, `kJSON`).
//!
//! JSON never holds a raw newline, so splitting at 0x0A is exact, and a character that was split over two
//! reads is whole again before anybody decodes it. Lines are handed out as they lie in the read buffer;
//! only the unfinished end of a chunk is copied.

mod plain;
mod write;

use std::borrow::Cow;

use memchr::memchr;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

pub use write::to_string;

/// The longest line that is taken unless set otherwise: 64 MiB.
pub const DEFAULT_LIMIT: usize = 64 << 20;

/// Cuts a stream of chunks into lines.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lines {
    /// The unfinished line at the end of what came so far; holds no newline.
    tail: Vec<u8>,
    limit: usize,
}

/// A line grew past the limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {limit} bytes")]
pub struct LineTooLong {
    /// The limit.
    pub limit: usize,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { tail: Vec::new(), limit }
    }

    /// Takes the next chunk and hands every line that it completes to `each`, without its newline.
    /// One that came in pieces is handed over with its memory.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Cow<'_, [u8]>)) -> Result<(), LineTooLong> {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            self.check(end)?;
            if self.tail.is_empty() {
                each(rest[..end].into());
            } else {
                self.tail.extend_from_slice(&rest[..end]);
                // An idle channel must not keep the memory of its largest message.
                each(std::mem::take(&mut self.tail).into());
            }
            rest = &rest[end + 1..];
        }
        self.check(rest.len())?;
        self.tail.extend_from_slice(rest);
        Ok(())
    }

    /// How many bytes of an unfinished line are held.
    pub fn pending(&self) -> usize {
        self.tail.len()
    }

    fn check(&self, more: usize) -> Result<(), LineTooLong> {
        if self.tail.len() + more > self.limit { Err(LineTooLong { limit: self.limit }) } else { Ok(()) }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

/// The line as text; bytes that are not UTF-8 become U+FFFD, as in Node's `StringDecoder`.
pub fn text<'a>(line: impl Into<Cow<'a, [u8]>>) -> Cow<'a, str> {
    // What is UTF-8, as nearly all is, is told far faster than what is not is mended.
    let mend = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    match line.into() {
        Cow::Borrowed(line) => std::str::from_utf8(line).map_or_else(|_| mend(line).into(), Cow::from),
        Cow::Owned(line) => String::from_utf8(line).unwrap_or_else(|error| mend(error.as_bytes())).into(),
    }
}

/// Whether `json` is one valid JSON value.
pub fn is_valid(json: &str) -> bool {
    check(json).is_ok()
}

/// The same, with what is wrong with it.
///
/// # Errors
/// Those of `serde_json`.
pub fn check(json: &str) -> Result<(), serde_json::Error> {
    if plain::is_plain(json) {
        return Ok(());
    }
    serde_json::from_str::<IgnoredAny>(json).map(drop)
}

/// Picks the named fields out of an object in one pass, unparsed. The last one of a name wins, as in
/// JavaScript. `Ok(None)` is valid JSON that is not an object.
pub fn fields<'a, const N: usize>(
    json: &'a str,
    names: &[&str; N],
) -> Result<Option<[Option<&'a RawValue>; N]>, serde_json::Error> {
    if !json.trim_start().starts_with('{') {
        return serde_json::from_str::<IgnoredAny>(json).map(|_| None);
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let picked = (&mut deserializer).deserialize_map(Pick { names })?;
    deserializer.end()?;
    // Read as bytes, a name may hold control characters as they are, which JSON does not have.
    // All of them are looked at, which is quicker than to look for the first.
    if json.bytes().fold(false, |found, byte| found | (byte < b' ')) {
        check(json)?;
    }
    Ok(Some(picked))
}

struct Pick<'n, const N: usize> {
    names: &'n [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut picked = [None; N];
        while let Some(known) = map.next_key_seed(Position { names: self.names })? {
            match known {
                Some(at) => picked[at] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(picked)
    }
}

/// Reads a key as its place in the list of names, without keeping it.
struct Position<'n> {
    names: &'n [&'n str],
}

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // As bytes, since half a surrogate pair is no text.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|name| name.as_bytes() == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut framing = Lines::default();
        let mut out = Vec::new();
        for chunk in chunks {
            framing.feed(chunk, |line| out.push(line.to_vec())).unwrap();
        }
        out
    }

    #[test]
    fn the_last_field_of_a_name_wins() {
        let [a, b] = fields(r#" {"a":1,"x":{"a":2},"a":3} "#, &["a", "b"]).unwrap().unwrap();
        assert_eq!(a.map(RawValue::get), Some("3"));
        assert!(b.is_none());
    }

    #[test]
    fn a_name_may_be_no_text() {
        let [a] = fields(r#"{"\ud800":0,"\t\n":1,"\u0061":2}"#, &["a"]).unwrap().unwrap();
        assert_eq!(a.map(RawValue::get), Some("2"));
        assert!(fields("\t{\r\n\"b\" : 1 }", &["a"]).is_ok());
    }

    #[test]
    fn other_values_are_not_objects_and_garbage_is_an_error() {
        assert!(fields("[1]", &["a"]).unwrap().is_none());
        assert!(fields("\"a\"", &["a"]).unwrap().is_none());
        for garbage in ["", "x", "{", "{\"a\":1}}", "{\"a\":}", "undefined", "{\"\u{1}\":1}", "{\"a\tb\":1}"]
        {
            assert!(fields(garbage, &["a"]).is_err(), "{garbage}");
        }
    }

    #[test]
    fn a_line_may_come_in_any_pieces() {
        let stream = "{\"é\":1}\n[]\n\"日本\"\n".as_bytes();
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(lines(&[a, b]), lines(&[stream]), "cut at {cut}");
        }
    }

    #[test]
    fn a_line_above_the_limit_is_refused_before_it_is_kept() {
        let mut framing = Lines::new(4);
        assert!(framing.feed(b"1234\n12", |_| ()).is_ok());
        assert_eq!(framing.feed(b"345", |_| ()), Err(LineTooLong { limit: 4 }));
        assert_eq!(framing.pending(), 2);
    }
}
