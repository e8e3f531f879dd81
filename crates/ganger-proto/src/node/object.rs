//! Writes one JSON object, field by field in the order given: Node's order is part of its wire.

use std::io::Write;

/// An object being appended to a buffer.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// A field whose value is written as it stands: it has to be JSON.
    pub(super) fn raw(&mut self, name: &str, json: &str) -> &mut Self {
        self.name(name).extend_from_slice(json.as_bytes());
        self
    }

    pub(super) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        let out = self.name(name);
        if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
        } else {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
        self
    }

    pub(super) fn number(&mut self, name: &str, number: impl Into<i64>) -> &mut Self {
        // Writing to a vector does not fail.
        let _ = write!(self.name(name), "{}", number.into());
        self
    }

    pub(super) fn flag(&mut self, name: &str, flag: bool) -> &mut Self {
        self.raw(name, if flag { "true" } else { "false" })
    }

    /// Begins a field; its value is to be appended.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(super) fn end(&mut self) {
        self.out.push(b'}');
    }
}
