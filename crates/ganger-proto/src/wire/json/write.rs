//! Rust's types as JSON: `serde_json` writes them, but for long strings, of which it looks at each byte by itself.
//! That costs more than all the rest of their way through a channel.

use std::{cell::RefCell, io};

use serde::{
    Serialize, Serializer,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// From this length on, in bytes, a string is ours.
const LONG: usize = 32;
/// The quotes, and what a line mostly has behind its last string.
const END: usize = 8;
/// So many bytes are looked at together.
const PIECE: usize = 64;

/// What `serde_json::to_string` makes of a value, byte for byte.
///
/// # Errors
/// As `serde_json::to_string`.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let out = Out(RefCell::new(Vec::with_capacity(128)));
    value.serialize(Watched { inner: &mut serde_json::Serializer::new(&out), out: &out })?;
    String::from_utf8(out.0.into_inner()).map_err(Error::custom)
}

/// What is written so far, by both.
struct Out(RefCell<Vec<u8>>);

impl io::Write for &Out {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One of `serde_json`'s serializers, or a value that is given to one, watched for strings.
struct Watched<'o, T> {
    inner: T,
    out: &'o Out,
}

impl<T: Serialize + ?Sized> Serialize for Watched<'_, &T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(Watched { inner: serializer, out: self.out })
    }
}

/// Passed on as they are.
macro_rules! plain {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

/// What holds others, which are watched in their turn.
macro_rules! nested {
    ($($method:ident($($name:ident: $type:ty),*) -> $compound:ident;)*) => {$(
        fn $method(self, $($name: $type),*) -> Result<Self::$compound, S::Error> {
            Ok(Watched { inner: self.inner.$method($($name),*)?, out: self.out })
        }
    )*};
}

impl<'o, S: Serializer> Serializer for Watched<'o, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Watched<'o, S::SerializeSeq>;
    type SerializeTuple = Watched<'o, S::SerializeTuple>;
    type SerializeTupleStruct = Watched<'o, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Watched<'o, S::SerializeTupleVariant>;
    type SerializeMap = Watched<'o, S::SerializeMap>;
    type SerializeStruct = Watched<'o, S::SerializeStruct>;
    type SerializeStructVariant = Watched<'o, S::SerializeStructVariant>;

    plain! {
        serialize_bool(bool);
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64); serialize_i128(i128);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_u128(u128);
        serialize_f32(f32); serialize_f64(f64); serialize_char(char);
        serialize_bytes(&[u8]); serialize_unit_struct(&'static str);
    }

    nested! {
        serialize_seq(length: Option<usize>) -> SerializeSeq;
        serialize_tuple(length: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, length: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> SerializeTupleVariant;
        serialize_map(length: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, length: usize) -> SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, length: usize)
            -> SerializeStructVariant;
    }

    fn serialize_str(self, text: &str) -> Result<S::Ok, S::Error> {
        if text.len() < LONG {
            return self.inner.serialize_str(text);
        }
        let start = self.out.0.borrow().len();
        // The quotes are theirs: there are none where a number or raw JSON comes as a string.
        let written = self.inner.serialize_str("")?;
        let mut out = self.out.0.borrow_mut();
        out.reserve(text.len() + END);
        if out.len() == start {
            out.extend_from_slice(text.as_bytes());
        } else {
            out.pop();
            escape(&mut out, text.as_bytes());
            out.push(b'"');
        }
        Ok(written)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Watched { inner: value, out: self.out })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Watched { inner: value, out: self.out })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = &Watched { inner: value, out: self.out };
        self.inner.serialize_newtype_variant(name, index, variant, value)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }
}

/// The parts of what holds others.
macro_rules! parts {
    ($($compound:ident: $method:ident($($key:ident: $type:ty)?);)*) => {$(
        impl<C: $compound> $compound for Watched<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $($key: $type,)? value: &T) -> Result<(), C::Error> {
                self.inner.$method($($key,)? &Watched { inner: value, out: self.out })
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeStruct: serialize_field(key: &'static str);
    SerializeStructVariant: serialize_field(key: &'static str);
}

impl<C: SerializeMap> SerializeMap for Watched<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&Watched { inner: value, out: self.out })
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

/// Appends what stands between the quotes.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    // Where what is not written yet begins.
    let mut start = 0;
    for (at, piece) in text.chunks(PIECE).enumerate() {
        // Without an early end, so that all are looked at together.
        if piece.iter().fold(false, |found, byte| found | is_escaped(*byte)) {
            out.extend_from_slice(&text[start..at * PIECE]);
            piece.iter().for_each(|byte| push(out, *byte));
            start = at * PIECE + piece.len();
        }
    }
    out.extend_from_slice(&text[start..]);
}

fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn push(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        0..b' ' => return out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        _ => return out.push(byte),
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;

    use super::*;

    #[derive(Serialize)]
    enum Shape<'a> {
        Unit,
        New(&'a str),
        Tuple(u8, &'a str),
        Struct { text: &'a str },
    }

    #[derive(Serialize)]
    struct All<'a> {
        shapes: Vec<Shape<'a>>,
        pair: (f64, &'a str),
        map: BTreeMap<&'a str, Option<&'a str>>,
        raw: Box<RawValue>,
        #[serde(flatten)]
        flat: BTreeMap<&'a str, char>,
        nothing: (),
    }

    #[test]
    fn everything_is_written_as_serde_json_writes_it() {
        let every: String = (0..0x500).filter_map(char::from_u32).collect();
        for length in [0, 1, 2, 3, 4, 10, 11, 20] {
            for unit in ["plain text", "\"\\\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f} é", "日本\u{1f600}", &every]
            {
                let text = &unit.repeat(length);
                let shapes =
                    vec![Shape::Unit, Shape::New(text), Shape::Tuple(1, text), Shape::Struct { text }];
                let raw = RawValue::from_string(format!("[{}1]", "1, ".repeat(length))).unwrap();
                let map = [("a", Some(text.as_str())), (text, None)].into();
                let flat = [("flat", '\n')].into();
                let all = All { shapes, pair: (-0.5, text), map, raw, flat, nothing: () };
                assert_eq!(to_string(&all).unwrap(), serde_json::to_string(&all).unwrap());
                assert_eq!(to_string(text).unwrap(), serde_json::to_string(text).unwrap());
            }
        }
        let impossible = BTreeMap::from([(vec![1], 1)]);
        assert!(to_string(&impossible).is_err());
    }
}
