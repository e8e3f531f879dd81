//! JavaScript's strings: sequences of UTF-16 units, nearly always well-formed.

use std::{borrow::Cow, fmt};

/// A string. UTF-8 inside, unless it holds a lone surrogate, which Rust's strings cannot.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct JsString(Form);

/// Invariant: `Utf16` is not well-formed, so that equal strings have equal forms.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Utf8(Box<str>),
    Utf16(Box<[u16]>),
}

impl JsString {
    /// The string of these UTF-16 units.
    pub fn from_utf16(units: &[u16]) -> Self {
        match String::from_utf16(units) {
            Ok(text) => Self(Form::Utf8(text.into())),
            Err(_) => Self(Form::Utf16(units.into())),
        }
    }

    /// The string as Rust's, unless it holds a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Form::Utf8(text) => Some(text),
            Form::Utf16(_) => None,
        }
    }

    /// The string as Rust's; lone surrogates become U+FFFD.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Utf8(text) => Cow::Borrowed(text),
            Form::Utf16(units) => Cow::Owned(String::from_utf16_lossy(units)),
        }
    }

    /// The UTF-16 units.
    pub fn to_utf16(&self) -> Vec<u16> {
        match &self.0 {
            Form::Utf8(text) => text.encode_utf16().collect(),
            Form::Utf16(units) => units.to_vec(),
        }
    }

    /// How much room it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        match &self.0 {
            Form::Utf8(text) => text.len(),
            Form::Utf16(units) => units.len() * 2,
        }
    }

    /// [`array_index`].
    pub(crate) fn as_index(&self) -> Option<u32> {
        self.as_str().and_then(array_index)
    }
}

/// The number that a property's key is, if it is an array index: `"7"`, but not `"07"`.
pub(crate) fn array_index(text: &str) -> Option<u32> {
    let digits = matches!(text.as_bytes(), [b'0'] | [b'1'..=b'9', ..]) && text.len() <= 10;
    let index = digits.then(|| text.parse::<u32>().ok())??;
    (index != u32::MAX).then_some(index)
}

impl From<&str> for JsString {
    fn from(text: &str) -> Self {
        Self(Form::Utf8(text.into()))
    }
}

impl From<String> for JsString {
    fn from(text: String) -> Self {
        Self(Form::Utf8(text.into()))
    }
}

impl PartialEq<str> for JsString {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl fmt::Debug for JsString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Utf8(text) => text.fmt(f),
            Form::Utf16(units) => {
                f.write_str("\"")?;
                for unit in char::decode_utf16(units.iter().copied()) {
                    match unit {
                        Ok(char) => write!(f, "{}", char.escape_debug())?,
                        Err(lone) => write!(f, "\\u{{{:x}}}", lone.unpaired_surrogate())?,
                    }
                }
                f.write_str("\"")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lone_surrogate_is_kept_in_units() {
        assert_eq!(JsString::from_utf16(&[0xd83d, 0xde00]), JsString::from("😀"));
        let lone = JsString::from_utf16(&[0x61, 0xdc00]);
        assert_eq!((lone.as_str(), &*lone.to_string_lossy()), (None, "a\u{fffd}"));
        assert_eq!(lone.to_utf16(), [0x61, 0xdc00]);
        assert_eq!(format!("{lone:?}"), r#""a\u{dc00}""#);
    }

    #[test]
    fn an_index_is_written_as_javascript_writes_it() {
        for (text, index) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("4294967294", Some(u32::MAX - 1)),
            ("4294967295", None),
            ("07", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("", None),
        ] {
            assert_eq!(JsString::from(text).as_index(), index, "{text}");
        }
    }
}
