//! Tells fast that a line is JSON, where it is written as programs write it: without spaces, escapes and exponents.

/// Whether `json` is surely one value. `false` says nothing: it may be written in some other way.
pub(super) fn is_plain(json: &str) -> bool {
    Plain { rest: json.as_bytes() }.one_value().is_some()
}

/// What is not looked at yet.
struct Plain<'a> {
    rest: &'a [u8],
}

impl Plain<'_> {
    /// Whether there is one value, and nothing behind it.
    fn one_value(mut self) -> Option<()> {
        // What the value stands in, a bit each, the innermost lowest: whether it is an object. The highest is the end.
        let mut within = OUTERMOST;
        'value: loop {
            match self.next()? {
                b'{' if self.skip(b'}') => {}
                b'{' => {
                    within = deeper(within)? | OBJECT;
                    self.key()?;
                    continue;
                }
                b'[' if self.skip(b']') => {}
                b'[' => {
                    within = deeper(within)?;
                    continue;
                }
                first => self.scalar(first)?,
            }
            // One is complete, and so may be what it stands in.
            while within != OUTERMOST {
                match (self.next()?, within & OBJECT) {
                    (b',', OBJECT) => {
                        self.key()?;
                        continue 'value;
                    }
                    (b',', _) => continue 'value,
                    (b'}', OBJECT) | (b']', 0) => within >>= 1,
                    _ => return None,
                }
            }
            return self.rest.is_empty().then_some(());
        }
    }

    fn scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.string(),
            b'-' => {
                let digit = self.next()?;
                self.number(digit)
            }
            b't' => self.word(b"rue"),
            b'f' => self.word(b"alse"),
            b'n' => self.word(b"ull"),
            digit => self.number(digit),
        }
    }

    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.skip(b'.') {
            self.next().filter(u8::is_ascii_digit)?;
            self.digits();
        }
        Some(())
    }

    fn digits(&mut self) {
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn key(&mut self) -> Option<()> {
        self.word(b"\"")?;
        self.string()?;
        self.word(b":")
    }

    /// What follows the first quote, the last one included.
    fn string(&mut self) -> Option<()> {
        while let Some((piece, rest)) = self.rest.split_first_chunk() {
            let piece = u64::from_le_bytes(*piece);
            let found = zeros(piece ^ QUOTES) | zeros(piece ^ BACKSLASHES) | zeros(piece & CONTROL);
            if found != 0 {
                self.rest = &self.rest[found.trailing_zeros() as usize / 8..];
                return self.word(b"\"");
            }
            self.rest = rest;
        }
        let end = self.rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
        self.rest = &self.rest[end..];
        self.word(b"\"")
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn skip(&mut self, byte: u8) -> bool {
        let there = self.rest.first() == Some(&byte);
        self.rest = &self.rest[usize::from(there)..];
        there
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }
}

/// The highest bit of each byte that is zero, and perhaps of some above the lowest of these.
fn zeros(bytes: u64) -> u64 {
    bytes.wrapping_sub(LOWEST) & !bytes & (LOWEST << 7)
}

/// Room for one more; none where it is deeper than programs write.
fn deeper(within: u64) -> Option<u64> {
    (within.leading_zeros() > 0).then_some(within << 1)
}

const OUTERMOST: u64 = 1;
const OBJECT: u64 = 1;
const LOWEST: u64 = u64::MAX / 0xff;
const QUOTES: u64 = LOWEST * b'"' as u64;
const BACKSLASHES: u64 = LOWEST * b'\\' as u64;
/// The bits of which a control character has none.
const CONTROL: u64 = LOWEST * 0xe0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn what_programs_write_is_plain() {
        let words = "0 -0 10 -1.50 true false null [] {}".split(' ');
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        let composed = [
            r#"[[],{},[1,-2.5,""]]"#,
            r#"{"id":1000000,"kind":"thumbnail","path":"/srv/media/2026/portrait 1.png","size":[640,480]}"#,
            r#"{"":{"a":[{"b":null}]},"c":[true,[false]]}"#,
            &nested(64),
        ];
        let texts = [r#""""#, r#""1234567""#, r#""a string of some length, é日本""#];
        for json in words.chain(texts).chain(composed) {
            assert!(is_plain(json) && is_json(json), "{json}");
        }
        assert!(!is_plain(&nested(65)));
    }

    #[test]
    fn what_is_no_json_or_written_otherwise_is_not() {
        let words = r#"01 - -a 1. 1.e .5 1e5 +1 tru nul True NaN é " "a "a"b "\n" [ ] { } [1 [1, [1,] [,1] [1} {1} {"a"}
            {"a":} {"a":1 {"a":1,} {"a":1] {"a";1} {a:1} [1]] {}{} 1,2 [1{}] [1[]] {"a":1"b":2} {"a":1,2} [1,,2] [:]"#;
        for json in words.split_whitespace().chain(["", " 1", "1 ", "[1, 2]", "{\"a\" :1}", "\"\n\""]) {
            assert!(!is_plain(json), "{json}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_taken_for_json(text in r#"([\[\]{}:,"]|"a":|true|null|[-0.19ée \\\n]|"[^"]{0,20}"){0,12}"#) {
            prop_assert!(!is_plain(&text) || is_json(&text));
        }

        #[test]
        fn what_is_no_json_any_more_is_noticed(at in 0..44usize, to in r#"[\[\]{}:,"0-9a-c.-]?"#) {
            let mut text = r#"{"a":[1,{"b":null},"text"],"c":-0.5,"d":[]}"#.to_string();
            text.replace_range(at..(at + 1).min(text.len()), &to);
            prop_assert_eq!(is_plain(&text), is_json(&text));
        }
    }
}
