//! Writes one JSON object, field by field in the order given: Node's order is part of its wire.

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
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out.extend_from_slice(json.as_bytes());
        self
    }

    pub(super) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.raw(name, &serde_json::Value::from(text).to_string())
    }

    pub(super) fn number(&mut self, name: &str, number: impl Into<i64>) -> &mut Self {
        self.raw(name, &number.into().to_string())
    }

    pub(super) fn flag(&mut self, name: &str, flag: bool) -> &mut Self {
        self.raw(name, if flag { "true" } else { "false" })
    }

    pub(super) fn end(&mut self) {
        self.out.push(b'}');
    }
}
