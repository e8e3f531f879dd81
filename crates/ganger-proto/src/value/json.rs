//! Values as JSON and back, by the rules of `JSON.stringify` and `JSON.parse`.

mod parse;

use super::{JsString, Kind, Ref, ViewKind, date, number, view};

pub use parse::{FromJsonError, from_json};

/// How deep objects may be nested, and thereby that none may stand in itself.
pub(crate) const MAX_DEPTH: usize = 500;
/// The most that is written, in bytes. A few bytes of a peer can name the same object again and again.
const MAX_LENGTH: usize = 64 << 20;

/// A value that cannot be written as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToJsonError {
    /// JSON has no bigints; JavaScript throws a `TypeError`.
    #[error("JSON has no bigints")]
    BigInt,
    /// An object that stands in itself, where JavaScript throws a `TypeError`, or more than 500 levels.
    #[error("nested too deep for JSON, or in itself")]
    TooDeep,
    /// More than 64 MiB.
    #[error("too long for JSON")]
    TooLong,
}

/// What `JSON.stringify` makes of a value; `None` where that is `undefined`. Buffers and dates are written
/// as their `toJSON` in Node does.
pub fn to_json(value: Ref<'_>) -> Result<Option<String>, ToJsonError> {
    let mut writer = Writer { out: String::new(), steps: 0 };
    Ok(writer.value(value, 0)?.then_some(writer.out))
}

struct Writer {
    out: String,
    /// What has been looked at and is not in the text: values, keys of what is `undefined`, holes.
    steps: usize,
}

impl Writer {
    /// Whether there was anything to write.
    fn value(&mut self, value: Ref<'_>, depth: usize) -> Result<bool, ToJsonError> {
        if depth > MAX_DEPTH {
            return Err(ToJsonError::TooDeep);
        }
        self.step()?;
        match value.kind() {
            Kind::Undefined => return Ok(false),
            Kind::Null => self.out.push_str("null"),
            Kind::Bool(bool) => self.out.push_str(if bool { "true" } else { "false" }),
            Kind::Number(number) => self.number(number),
            Kind::BigInt(_) => return Err(ToJsonError::BigInt),
            Kind::String(string) => self.string(string),
            Kind::Boxed(primitive) => return self.value(primitive, depth + 1),
            Kind::Date(milliseconds) => match date::to_iso(milliseconds) {
                Some(text) => self.string(&text.as_str().into()),
                None => self.out.push_str("null"),
            },
            Kind::Object => self.object(value, depth)?,
            Kind::Array { .. } => self.array(value, depth)?,
            Kind::View { kind: ViewKind::Buffer, bytes } => {
                self.out.push_str(r#"{"type":"Buffer","data":["#);
                self.list(bytes, |out, byte| out.push_str(&byte.to_string()))?;
                self.out.push_str("]}");
            }
            Kind::View { kind, bytes } if kind != ViewKind::DataView => self.view(kind, bytes)?,
            // They have no properties of their own.
            Kind::Map
            | Kind::Set
            | Kind::RegExp { .. }
            | Kind::ArrayBuffer { .. }
            | Kind::View { .. }
            | Kind::Error { .. } => self.out.push_str("{}"),
        }
        Ok(true)
    }

    fn object(&mut self, value: Ref<'_>, depth: usize) -> Result<(), ToJsonError> {
        let mut before = '{';
        for (key, member) in value.entries().into_iter().flatten() {
            let start = self.out.len();
            self.out.push(before);
            self.string(key);
            self.out.push(':');
            if self.value(member, depth + 1)? {
                before = ',';
            } else {
                // It was work all the same.
                self.steps += self.out.len() - start;
                self.out.truncate(start);
            }
        }
        if before == '{' {
            self.out.push('{');
        }
        self.out.push('}');
        Ok(())
    }

    fn array(&mut self, value: Ref<'_>, depth: usize) -> Result<(), ToJsonError> {
        self.steps += value.properties_walked();
        self.out.push('[');
        for (at, element) in value.elements().ok_or(ToJsonError::TooLong)?.enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            if !self.value(element, depth + 1)? {
                self.out.push_str("null");
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn view(&mut self, kind: ViewKind, bytes: &[u8]) -> Result<(), ToJsonError> {
        self.out.push('{');
        for (at, element) in view::elements(kind, bytes).enumerate() {
            self.step()?;
            let before = if at > 0 { "," } else { "" };
            self.out.push_str(&format!("{before}\"{at}\":"));
            match element {
                view::Element::Number(number) => self.number(number),
                view::Element::BigInt(_) => return Err(ToJsonError::BigInt),
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn list<T>(&mut self, of: &[T], write: impl Fn(&mut String, &T)) -> Result<(), ToJsonError> {
        for (at, one) in of.iter().enumerate() {
            self.step()?;
            if at > 0 {
                self.out.push(',');
            }
            write(&mut self.out, one);
        }
        Ok(())
    }

    fn number(&mut self, number: f64) {
        let text = if number.is_finite() { number::to_text(number) } else { "null".into() };
        self.out.push_str(&text);
    }

    fn string(&mut self, string: &JsString) {
        if let Some(text) = string.as_str() {
            return self.out.push_str(&serde_json::Value::from(text).to_string());
        }
        self.out.push('"');
        for unit in char::decode_utf16(string.to_utf16()) {
            match unit {
                Ok(char) => {
                    let quoted = serde_json::Value::from(String::from(char)).to_string();
                    self.out.push_str(&quoted[1..quoted.len() - 1]);
                }
                Err(lone) => self.out.push_str(&format!("\\u{:04x}", lone.unpaired_surrogate())),
            }
        }
        self.out.push('"');
    }

    fn step(&mut self) -> Result<(), ToJsonError> {
        self.steps += 1;
        if self.steps + self.out.len() > MAX_LENGTH { Err(ToJsonError::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{BigInt, ErrorKind, Item, Slot, Value};

    #[track_caller]
    fn check(value: impl Into<Value>, expected: &str) {
        assert_eq!(to_json(value.into().root()).unwrap().as_deref(), Some(expected));
    }

    #[test]
    fn values_are_written_as_json_stringify_writes_them() {
        check(Value::null(), "null");
        check(f64::NAN, "null");
        check(-0.0, "0");
        check(1e21, "1e+21");
        check("a\"\n\u{1}\u{2028}", "\"a\\\"\\n\\u0001\u{2028}\"");
        check(JsString::from_utf16(&[0x22, 0xd800]), r#""\"\ud800""#);
        check(Value::date(1.0), r#""1970-01-01T00:00:00.001Z""#);
        check(Value::date(f64::NAN), "null");
        check(Value::buffer(b"hi"), r#"{"type":"Buffer","data":[104,105]}"#);
        check(Value::view(ViewKind::Int16, [255, 255, 1, 0]), r#"{"0":-1,"1":1}"#);
        check(Value::view(ViewKind::DataView, [1]), "{}");
        check(Value::map([(1, 2)]), "{}");
        check(Value::error(ErrorKind::Type, "x"), "{}");
        check(Value::boxed("s"), "\"s\"");
        check(Value::sparse_array(3, [(1, 7)]), "[null,7,null]");
        check(Value::array([1]).with("extra", 2), "[1]");
    }

    #[test]
    fn what_is_undefined_is_left_out() {
        assert_eq!(to_json(Value::undefined().root()), Ok(None));
        check(Value::array([Value::undefined()]), "[null]");
        let value =
            Value::object([("a", Value::undefined()), ("b", Value::from(1)), ("c", Value::undefined())]);
        check(value, r#"{"b":1}"#);
        check(Value::object([("a", Value::undefined())]), "{}");
    }

    #[test]
    fn what_json_cannot_say_is_an_error() {
        let fails = |value: Value| to_json(value.root()).unwrap_err();
        assert_eq!(fails(BigInt::from(1u64).into()), ToJsonError::BigInt);
        assert_eq!(fails(Value::view(ViewKind::BigInt64, [0; 8])), ToJsonError::BigInt);
        assert_eq!(fails(Value::sparse_array(u32::MAX, [(1, 7)])), ToJsonError::TooLong);
        let mut cyclic = Value::array([0]);
        let Item::Array { slots, .. } = &mut cyclic.heap.items[0] else { unreachable!() };
        slots[0] = Slot::Object(0);
        assert_eq!(fails(cyclic), ToJsonError::TooDeep);
    }

    #[test]
    fn few_objects_do_not_become_many() {
        // Each level holds the one below it twice.
        let mut value = Value::array([1]);
        for _ in 0..40 {
            let below = value.root;
            value.root = value.heap.add(Item::Array { length: 2, slots: vec![below, below] });
        }
        assert_eq!(to_json(value.root()), Err(ToJsonError::TooLong));
    }

    #[test]
    fn what_is_left_out_is_counted_too() {
        const TIMES: usize = 200_000;
        let long = "k".repeat(TIMES);
        for absent in [
            Value::object([(long.as_str(), Value::undefined())]),
            Value::sparse_array(1, [(0, 1)].into_iter().take(0)).with("x", 1),
        ] {
            let mut value = absent;
            let inner = value.root;
            if let Some(Item::Sparse { properties, .. }) = value.heap.items.first_mut() {
                *properties = properties.repeat(TIMES);
            }
            value.root = value.heap.add(Item::Array { length: TIMES as u32, slots: vec![inner; TIMES] });
            assert_eq!(to_json(value.root()), Err(ToJsonError::TooLong));
        }
    }
}
