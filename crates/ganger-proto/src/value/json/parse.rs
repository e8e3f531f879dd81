//! `JSON.parse`. serde_json's strings hold no lone surrogates, and Node sends them.

use memchr::memchr2;

use super::MAX_DEPTH;
use crate::value::{Heap, Item, JsString, Slot, Value};

/// Text that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON from byte {offset} on")]
pub struct FromJsonError {
    /// The byte that does not fit.
    pub offset: usize,
}

/// What `JSON.parse` makes of a text. Nested deeper than 500 levels it is an error.
pub fn from_json(json: &str) -> Result<Value, FromJsonError> {
    let mut parser = Parser { json, at: 0, heap: Heap::default() };
    let root = parser.value(0);
    parser.space();
    match root {
        Some(root) if parser.at == json.len() => Ok(Value { root, heap: parser.heap }),
        _ => Err(FromJsonError { offset: parser.at }),
    }
}

/// All of its methods stop where it goes wrong.
struct Parser<'a> {
    json: &'a str,
    at: usize,
    heap: Heap,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Option<Slot> {
        self.space();
        match self.peek()? {
            b'{' if depth < MAX_DEPTH => self.object(depth),
            b'[' if depth < MAX_DEPTH => self.array(depth),
            b'"' => self.string().map(Slot::String),
            b'n' => self.word("null").then_some(Slot::Null),
            b't' => self.word("true").then_some(Slot::Bool(true)),
            b'f' => self.word("false").then_some(Slot::Bool(false)),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Slot> {
        let object = self.heap.add(Item::Object(Vec::new()));
        let mut properties = Vec::new();
        self.at += 1;
        self.space();
        if !self.word("}") {
            loop {
                self.space();
                let key = self.string()?;
                self.space();
                if !self.word(":") {
                    return None;
                }
                properties.extend([Slot::String(key), self.value(depth + 1)?]);
                if !self.goes_on("}")? {
                    break;
                }
            }
        }
        self.put(object, Item::Object(properties))
    }

    fn array(&mut self, depth: usize) -> Option<Slot> {
        let array = self.heap.add(Item::Object(Vec::new()));
        let mut slots = Vec::new();
        self.at += 1;
        self.space();
        if !self.word("]") {
            loop {
                slots.push(self.value(depth + 1)?);
                if !self.goes_on("]")? {
                    break;
                }
            }
        }
        let length = u32::try_from(slots.len()).ok()?;
        self.put(array, Item::Array { length, slots })
    }

    /// Whether a comma comes, and not the end.
    fn goes_on(&mut self, end: &str) -> Option<bool> {
        self.space();
        if self.word(",") { Some(true) } else { self.word(end).then_some(false) }
    }

    fn put(&mut self, slot: Slot, item: Item) -> Option<Slot> {
        let Slot::Object(number) = slot else { return None };
        self.heap.items[number as usize] = item;
        Some(slot)
    }

    fn string(&mut self) -> Option<u32> {
        if !self.word("\"") {
            return None;
        }
        let (json, start) = (self.json, self.at);
        let end = start + memchr2(b'"', b'\\', &json.as_bytes()[start..])?;
        if json.as_bytes()[start..end].iter().any(|byte| *byte < b' ') {
            return None;
        }
        self.at = end;
        if self.word("\"") {
            return Some(self.heap.add_string(&json[start..end]));
        }
        let mut units: Vec<u16> = json[start..end].encode_utf16().collect();
        loop {
            let char = self.json[self.at..].chars().next()?;
            self.at += char.len_utf8();
            match char {
                '"' => return Some(self.heap.add_string(JsString::from_utf16(&units))),
                '\\' => units.push(self.escape()?),
                '\0'..'\x20' => return None,
                char => units.extend_from_slice(char.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        let escaped = self.peek()?;
        self.at += 1;
        Some(match escaped {
            b'"' | b'\\' | b'/' => escaped.into(),
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'u' => {
                let digits = self.json.get(self.at..self.at + 4)?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                self.at += 4;
                u16::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        })
    }

    fn number(&mut self) -> Option<Slot> {
        let start = self.at;
        self.word("-");
        let whole = self.at;
        if self.digits() == 0 || self.at > whole + 1 && self.json.as_bytes()[whole] == b'0' {
            return None;
        }
        if self.word(".") && self.digits() == 0 {
            return None;
        }
        if self.word("e") || self.word("E") {
            let _ = self.word("+") || self.word("-");
            if self.digits() == 0 {
                return None;
            }
        }
        self.json[start..self.at].parse().ok().map(Slot::Number)
    }

    fn digits(&mut self) -> usize {
        let rest = &self.json.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn space(&mut self) {
        let rest = &self.json.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    /// Goes past this word if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let comes = self.json.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if comes { word.len() } else { 0 };
        comes
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::to_json;

    #[test]
    fn what_is_read_is_written_again() {
        for json in [
            "null",
            "-0.5",
            "1e+21",
            r#"{"a":[1,[],{}],"b":"é","c":true,"d":false,"":null}"#,
            r#""\"\\\b\f\n\r\t\u0001\ud800é""#,
            r#"["\ud83d\ude00x"]"#,
        ] {
            let written = to_json(from_json(&format!(" {json}\r\n")).unwrap().root()).unwrap().unwrap();
            assert_eq!(written, json.replace("\\ud83d\\ude00", "😀"));
        }
        assert_eq!(from_json("1E2"), Ok(Value::from(100)));
        assert_eq!(from_json(r#""\/""#), Ok(Value::from("/")));
        assert_eq!(from_json("-0"), Ok(Value::from(-0.0)));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "nul",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u+123\"",
            "\"\n\"",
            "\"a\\n\n\"",
            "[1,]",
            "[1",
            "{\"a\"}",
            "{\"a\":1,}",
            "{a:1}",
            "1 2",
            "undefined",
            "\u{feff}1",
        ] {
            assert!(from_json(text).is_err(), "{text}");
            assert!(!crate::wire::json::is_valid(text), "{text}");
        }
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(from_json(&deep(MAX_DEPTH)).is_ok() && from_json(&deep(MAX_DEPTH + 1)).is_err());
    }
}
