//! What a child wrote: bytes, and text for who wants text.

use std::{borrow::Cow, fmt, ops::Deref};

/// Bytes that a child wrote to one of its streams. They are decoded only when somebody looks at them as text:
/// as UTF-8, in which what is none becomes U+FFFD, as in Node.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Captured(Vec<u8>);

impl Captured {
    /// The bytes, as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// As text.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// As text.
    pub fn into_text(self) -> String {
        match String::from_utf8(self.0) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }
}

impl From<Vec<u8>> for Captured {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for Captured {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text(), f)
    }
}

impl PartialEq<str> for Captured {
    fn eq(&self, text: &str) -> bool {
        self.0 == text.as_bytes()
    }
}

impl PartialEq<&str> for Captured {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_two_views() {
        let foo = Captured::from(b"foo\n".to_vec());
        assert_eq!(foo, "foo\n");
        assert_eq!(
            (foo.len(), foo.to_string(), format!("{foo:?}")),
            (4, "foo\n".into(), "\"foo\\n\"".into())
        );
        let broken = Captured::from(vec![b'a', 0xff]);
        assert_eq!(broken.text(), "a\u{fffd}");
        assert_eq!(broken.clone().into_text(), "a\u{fffd}");
        assert_eq!(broken.into_bytes(), [b'a', 0xff]);
    }
}
