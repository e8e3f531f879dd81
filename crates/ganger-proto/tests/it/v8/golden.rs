use ganger_proto::{
    node::{
        Act, ClusterMessage, HandleKind,
        advanced::{self, Frame},
    },
    value::{BigInt, ErrorKind, JsString, Kind, Value, ViewKind, to_json},
    wire::v8,
};

use super::{check, golden, named, payload, unhex};

#[test]
fn what_node_wrote_is_written_again() {
    let golden = golden();
    assert!(golden.len() >= 130, "{}", golden.len());
    for (name, payload) in golden {
        let value = v8::read(&payload).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        let written = v8::write(value.root());
        if name.starts_with('~') {
            assert_eq!(v8::read(&written).unwrap(), value, "{name}");
            assert_ne!(written, payload, "{name}");
        } else {
            assert_eq!(written, payload, "{name}");
        }
    }
}

#[test]
fn values_are_what_they_were() {
    check("undefined", |kind| matches!(kind, Kind::Undefined));
    check("int32 min - 1", |kind| matches!(kind, Kind::Number(-2147483649.0)));
    check("minus zero", |kind| matches!(kind, Kind::Number(zero) if zero == 0.0 && zero.is_sign_negative()));
    check("-10n", |kind| matches!(kind, Kind::BigInt(big) if *big == BigInt::from(-10i64)));
    check(
        "2n**200n",
        |kind| matches!(kind, Kind::BigInt(big) if *big == BigInt::new(false, &[0, 0, 0, 256])),
    );
    check("latin1", |kind| matches!(kind, Kind::String(text) if *text == *"é"));
    check("emoji", |kind| matches!(kind, Kind::String(text) if *text == *"😀"));
    check(
        "swapped pair",
        |kind| matches!(kind, Kind::String(text) if *text == JsString::from_utf16(&[0xdc00, 0xd800])),
    );
    check("date", |kind| matches!(kind, Kind::Date(1700000000123.0)));
    check("hole", |kind| matches!(kind, Kind::Array { length: 3, holes: true }));
    check("~filled", |kind| matches!(kind, Kind::Array { length: 3, holes: false }));
    check("sparse", |kind| matches!(kind, Kind::Array { length: 4_000_000_001, holes: true }));
    check("boxed string", |kind| matches!(kind, Kind::Boxed(text) if text.as_str() == Some("s")));
    check("regexp flags", |kind| matches!(kind, Kind::RegExp { source, flags: 0x3f } if *source == *"é"));
    check("resizable", |kind| matches!(kind, Kind::ArrayBuffer { bytes: [0, 0], max: Some(8) }));
    check("buffer", |kind| matches!(kind, Kind::View { kind: ViewKind::Buffer, bytes: b"hi" }));
    check("part", |kind| matches!(kind, Kind::View { kind: ViewKind::Uint8, bytes: [51, 68, 85, 102] }));
    check("reference error", |kind| matches!(kind, Kind::Error { kind: ErrorKind::Reference, .. }));
    check(
        "error cause",
        |kind| matches!(kind, Kind::Error { cause: Some(cause), .. } if cause.get("code").unwrap().as_f64() == Some(7.0)),
    );
}

#[test]
fn what_is_built_is_written_as_node_writes_it() {
    let check = |name: &str, value: Value| {
        let wrapped = Value::object([("v", value)]);
        let (_, expected) = golden().into_iter().find(|(known, _)| *known == name).unwrap();
        assert_eq!(v8::write(wrapped.root()), expected, "{name}");
        assert_eq!(named(name), wrapped, "{name}");
    };
    check("integer keys", Value::object([("x", Value::from(3)), ("2", "b".into()), ("1", "a".into())]));
    check("doubles", Value::array([1.0, 1.5]));
    check("mixed array", Value::array([Value::from(1), 1.5.into(), "x".into()]));
    check("hole and extra", Value::sparse_array(3, [(2, 3), (0, 1)]).with("extra", "e"));
    check("extra", Value::array([1, 2]).with("extra", "e"));
    let key = Value::object([("k", 1)]);
    let entries = [(Value::from("a"), Value::from(1)), (2.into(), "b".into()), (key, Value::null())];
    check("map", Value::map(entries));
    check("set", Value::set([Value::from(1), "a".into(), Value::null()]));
    check("boxed bigint", Value::boxed(BigInt::from(-5i64)));
    check("regexp flags", Value::regexp("é", "gimsuy").unwrap());
    check("uri error", Value::error(ErrorKind::Uri, "u").with_stack("s"));
    check("bigint64", Value::view(ViewKind::BigInt64, (0..16).map(|i| i * 17).collect::<Vec<u8>>()));
    check("2n**64n", Value::from(1i128 << 64));
    check("safe max", Value::from((1i64 << 53) - 1));
}

#[test]
fn objects_keep_who_they_are() {
    let shared = named("shared");
    let list = shared.get("v").unwrap();
    assert!(list.at(0).unwrap().is_same(list.at(1).unwrap()));
    let cycle = named("cycle");
    let me = cycle.get("v").unwrap();
    assert!(me.get("self").unwrap().is_same(me));
    let host = named("~host object");
    let list = host.get("v").unwrap();
    assert!(list.at(0).unwrap().is_same(list.at(1).unwrap()));
    assert!(list.at(0).unwrap().get("sourceMapURL").unwrap().is_undefined());
    let cross = named("cross");
    let up = cross.get("v").unwrap();
    assert!(up.get("b").unwrap().get("c").unwrap().get("up").unwrap().is_same(up));
}

#[test]
fn other_forms_are_read() {
    let read = |hex: &str| v8::read(&unhex(&hex.replace(' ', ""))).unwrap();
    assert_eq!(read("ff0d 49 02"), Value::from(1));
    assert_eq!(read("ff0e 55 ffffffff0f"), Value::from(u32::MAX));
    assert_eq!(read("ff0f 00 00 53 03 e697a5"), Value::from("日"));
    assert_eq!(read("ff0f 3f 01 49 02"), Value::from(1));
    // An object with a key in UTF-8, one in UTF-16 and one that is a number.
    let object = read("ff0f 6f 53 01 61 30 63 02 6200 30 4e 000000000000f83f 30 7b 03");
    assert_eq!(to_json(object.root()).unwrap().unwrap(), r#"{"a":null,"b":null,"1.5":null}"#);
    // A dense array with a hole, which V8 writes if an element goes away meanwhile.
    assert_eq!(read("ff0f 41 02 2d 49 02 24 00 02"), Value::sparse_array(2, [(1, 1)]));
    // One that says that it has holes, and has all its elements, the last one first.
    assert_eq!(read("ff0f 61 02 49 02 49 04 49 00 49 02 40 02 02"), Value::array([1, 2]));
    // Of two properties with one name the last counts.
    assert_eq!(read("ff0f 6f 22 01 61 49 02 22 01 61 49 04 7b 02").get("a").unwrap().as_f64(), Some(2.0));
    // Something behind the value.
    assert_eq!(read("ff0f 30 30"), Value::null());
}

#[test]
fn views_of_one_buffer_stay_so() {
    // [a, b]: bytes 1 to 3 and 2 to 4 of one buffer; V8's own form of views.
    let bytes = unhex("ff0f410242040102030456420102005e015642020200240002");
    let value = v8::read(&bytes).unwrap();
    let views: Vec<_> = value.root().elements().unwrap().map(|view| view.as_bytes().unwrap()).collect();
    assert_eq!(views, [[2, 3], [3, 4]]);
    assert_eq!(v8::write(value.root()), bytes);
    // The same in version 13, without flags.
    let value = v8::read(&unhex("ff0d42040102030456420102")).unwrap();
    assert_eq!(value.as_bytes(), Some(&[2, 3][..]));
}

#[test]
fn what_is_wrong_is_said() {
    let check = |hex: &str, expected: &str| {
        let wrong = v8::read(&unhex(&hex.replace(' ', ""))).unwrap_err().to_string();
        assert!(wrong.contains(expected), "{hex}: {wrong}");
    };
    check("", "byte 0 of a message: no version");
    check("30", "no version");
    check("ff10 30", "version 16");
    check("ff0c 30", "version 12");
    check("ff0f", "byte 2 of a message: it ends too early");
    check("ff0f 22 05 61", "ends too early");
    check("ff0f 22 ffffffff0f 61", "ends too early");
    check("ff0f 49 8080808080", "a number that does not end");
    check("ff0f 41 ffffffff0f 30", "ends too early");
    check("ff0f 61 ffffffff0f 40 00 00", "4294967295 members, where it says 0");
    check("ff0f 6f 7b 01", "byte 5 of a message: 0 members, where it says 1");
    check("ff0f 3b 30 30 3a 01", "2 members");
    check("ff0f 6f 6f 7b 00 30 7b 01", "a key that is no string");
    check("ff0f 5e 00", "a reference to object 0");
    check("ff0f 41 01 5e 02 24 00 01", "a reference to object 2");
    check("ff0f 5c 01 5e 00", "a reference to object 0");
    check("ff0f 63 01 61", "half a UTF-16 unit");
    check("ff0f 5c 02", "host object of the unknown sort 2");
    check("ff0f 5c 01 30", "host object");
    check("ff0f 5c 00 0e 00", "unknown kind 14");
    check("ff0f 52 22 00 40", "flags");
    check("ff0f 52 22 00 9002", "flags");
    check("ff0f 7e 02 01 0000", "resizable");
    check("ff0f 42 02 0000 56 42 01 02 00", "outside of its buffer");
    check("ff0f 42 02 0000 56 57 01 01 00", "outside of its buffer");
    check("ff0f 72 51", "unexpected tag 'Q'");
    check("ff0f 75 00", "unexpected tag 'u'");
}

#[test]
fn the_nodes_own_messages_are_understood() {
    let find = |name: &str| golden().into_iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!(find("ack"), advanced::HANDLE_ACK);
    let online = ClusterMessage { seq: Some(ganger_proto::Seq(0)), act: Act::Online { ganger: None } };
    assert_eq!(advanced::cluster(&online).unwrap(), find("online"));
    assert_eq!(advanced::decode(&find("online")).unwrap(), Frame::Cluster(online));
    assert_eq!(advanced::decode(&find("object")).unwrap(), Frame::User(&find("object")));
    let whole = find("handle");
    let Frame::Handle { kind, message } = advanced::decode(&whole).unwrap() else { panic!("a handle") };
    let kind = kind.unwrap();
    assert_eq!(kind, HandleKind::NetSocket { key: Some("4:127.0.0.1:0".into()) });
    // The message has an object in itself, whose number depends on what is around it.
    let inner = v8::read(&message).unwrap();
    let me = inner.get("m").unwrap();
    assert!(me.get("self").unwrap().is_same(me));
    assert_eq!(advanced::handle(&kind, &message).unwrap(), whole);
}

#[test]
fn the_frames_of_the_reference() {
    for (json, hex) in [
        (r#"{"v":1}"#, "0000000aff0f6f22017649027b01"),
        (r#"{"v":1.5}"#, "00000011ff0f6f2201764e000000000000f83f7b01"),
        (r#"{"v":"日本"}"#, "0000000eff0f6f2201766304e5652c677b01"),
        (r#"{"v":{"x":3,"1":2}}"#, "00000014ff0f6f2201766f490249042201 7849067b027b01"),
    ] {
        let value = ganger_proto::value::from_json(json).unwrap();
        assert_eq!(v8::write(value.root()), payload(&unhex(&hex.replace(' ', ""))), "{json}");
    }
}
