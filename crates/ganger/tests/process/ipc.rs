//! Rows `ipc` and `ipc-advanced`: what is said over the channel, between Rust and Rust, Rust and Node, Node and Rust.

use ganger::{
    Serialization, Value,
    channel::SendError,
    process::{Child, Command, Event, Stdio},
    value::{BigInt, ErrorKind, ViewKind},
};
use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    kid::{Kid, message_of, rows, rows_under_node, story},
    part, row,
    support::{Directory, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        row("test-worker-unsupported-things", nonsense_in_the_environment),
        row("a cycle comes back as a cycle", cycle),
        row("the channel of a cluster's primary", of_a_primary),
    ];
    trials.extend(rows("test-child-process-internal", internal));
    trials.extend(rows("test-child-process-send-after-close", send_after_close));
    trials.extend(rows("test-child-process-send-cb", send_callback));
    trials.extend(rows("test-child-process-send-utf8", utf8));
    trials.extend(rows("test-child-process-stdin-ipc", on_stdin));
    trials.extend(rows("test-child-process-advanced-serialization", advanced));
    trials.extend(rows("test-child-process-advanced-serialization-largebuffer", large_buffers));
    trials.extend(rows("lone surrogates", lone_surrogates));
    for (name, script) in UNDER_NODE {
        trials.extend(rows_under_node(name, script));
    }
    trials
}

const BOTH: [Serialization; 2] = [Serialization::Json, Serialization::Advanced];

fn echo(kid: Kid, directory: &Directory, serialization: Serialization) -> Child {
    kid.command(directory, "echo").serialization(serialization).spawn().unwrap()
}

/// The next message, as a value.
async fn value(child: &mut Child) -> Value {
    loop {
        match child.next().await {
            Some(Event::Message(message)) => return message.value().unwrap(),
            Some(Event::Spawn) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A message whose `cmd` begins with `NODE_` is nobody's but the system's.
async fn internal(kid: Kid) {
    for serialization in BOTH {
        let directory = Directory::new();
        let mut child = echo(kid, &directory, serialization);
        let ordinary = [
            json!({ "cmd": "fooNODE_" }),
            json!({ "cmd": "NODE_" }),
            json!({ "nested": { "cmd": "NODE_foo" } }),
            json!(["NODE_foo"]),
        ];
        child.send(&json!({ "cmd": "NODE_foo" })).unwrap();
        for message in &ordinary {
            child.send(message).unwrap();
        }
        for message in &ordinary {
            assert_eq!(message_of(&mut child).await, *message);
        }
    }
}

async fn send_after_close(kid: Kid) {
    let directory = Directory::new();
    let mut child = kid.command(&directory, "nothing").spawn().unwrap();
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
    let error = child.send("too late").unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Some("ERR_IPC_CHANNEL_CLOSED"), "the channel is closed")
    );
    assert!(child.flush().await.is_err());
}

/// What Node's callback says is said by `flush`.
async fn send_callback(kid: Kid) {
    let directory = Directory::new();
    let mut child = echo(kid, &directory, Serialization::Json);
    assert!(child.send("ok").unwrap());
    child.flush().await.unwrap();
    assert_eq!(message_of(&mut child).await, "ok");
    // More than the socket takes at once: it is advised to wait, and all arrives.
    let line = "x".repeat(100_000);
    while child.send(&line).unwrap() {}
    child.send("end").unwrap();
    let mut next = message_of(&mut child).await;
    while next == line.as_str() {
        next = message_of(&mut child).await;
    }
    assert_eq!(next, "end");
}

async fn utf8(kid: Kid) {
    for serialization in BOTH {
        let directory = Directory::new();
        let mut child = echo(kid, &directory, serialization);
        let expected = "ßßßß".repeat(100_000);
        child.send(&expected).unwrap();
        assert!(message_of(&mut child).await == expected.as_str());
        // Text that V8 writes in each of its ways, and the end of the basic plane.
        for text in ["", "é", "日本", "\u{1f600}", "\u{2028}\u{ffff}", "\n\"\\"] {
            child.send(text).unwrap();
            assert_eq!(message_of(&mut child).await, text);
        }
    }
}

async fn on_stdin(kid: Kid) {
    let directory = Directory::new();
    let mut command = kid.command(&directory, "echo");
    let mut child = command.stdio([Stdio::Ipc, Stdio::Inherit, Stdio::Inherit]).spawn().unwrap();
    child.send(&json!([0])).unwrap();
    assert_eq!(message_of(&mut child).await, json!([0]));
    child.disconnect();
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
}

/// What is no number is nobody's channel.
async fn nonsense_in_the_environment() {
    for nonsense in ["abc", "-1", "1000000"] {
        let mut command = part::command("kid echo");
        let mut child = command.env("NODE_CHANNEL_FD", nonsense).spawn().unwrap();
        let text = read(child.stderr.take().unwrap()).await;
        assert!(text.contains("NODE_CHANNEL_FD") || text.contains("number: 1000000"), "{text}");
        // Who does not ask for it does not notice.
        let mut child = part::command("kid nothing").env("NODE_CHANNEL_FD", nonsense).spawn().unwrap();
        assert_eq!(child.wait().await.unwrap().to_string(), "exit code 0");
    }
    let mut command = part::command("kid echo");
    let mut child =
        command.env("NODE_CHANNEL_FD", "3").env("NODE_CHANNEL_SERIALIZATION_MODE", "x").spawn().unwrap();
    assert!(read(child.stderr.take().unwrap()).await.contains("NODE_CHANNEL_SERIALIZATION_MODE"));
}

/// Also where a ganger has started it without a cluster.
async fn of_a_primary() {
    for (name, value) in [("NO_ROLE", ""), ("GANGER_ROLE", "worker")] {
        let directory = Directory::new();
        let mut command = Kid::Rust.command(&directory, "echo where it is no worker");
        let mut child = command.env(name, value).spawn().unwrap();
        child.send("hello").unwrap();
        assert_eq!(message_of(&mut child).await, "hello");
        child.disconnect();
        assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
    }
}

async fn advanced(kid: Kid) {
    let directory = Directory::new();
    let mut command = kid.command(&directory, "echo");
    command.serialization(Serialization::Advanced).stdio([Stdio::Ipc, Stdio::Inherit, Stdio::Inherit]);
    let mut child = command.spawn().unwrap();
    let values = [
        Value::object([("v", Value::undefined())]),
        Value::view(ViewKind::Uint8, [1, 2, 3]),
        Value::view(ViewKind::Float64, 1.5_f64.to_le_bytes()),
        Value::buffer(b"hello world"),
        Value::map([("key", 1)]),
        Value::set([1, 2, 3]),
        Value::object([("v", BigInt::from(i128::MAX))]),
        Value::from(-0.0),
        Value::from(f64::NAN),
        Value::date(1_700_000_000_000.0),
        Value::regexp("a+b", "gi").unwrap(),
        Value::error(ErrorKind::Error, "plain").with_stack("Error: plain\n    at nowhere"),
        Value::error(ErrorKind::Range, "out").with_stack("RangeError: out\n    at nowhere"),
        Value::sparse_array(5, [(1, "b")]),
        Value::array_buffer([9, 8, 7]),
    ];
    for sent in &values {
        child.send_value(sent, None).unwrap();
        assert_eq!(value(&mut child).await, *sent);
    }
    // By way of serde as well.
    child.send(&json!({ "n": [1, 2.5, null, "x"] })).unwrap();
    assert_eq!(message_of(&mut child).await, json!({ "n": [1, 2.5, null, "x"] }));
    child.disconnect();
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
    // A JSON channel has no words for it, and says so.
    let mut child = echo(kid, &directory, Serialization::Json);
    assert!(matches!(child.send_value(&BigInt::from(1_u64).into(), None), Err(SendError::Write { .. })));
    child.disconnect();
    child.wait().await.unwrap();
}

async fn large_buffers(kid: Kid) {
    const SIZE: usize = 8 << 20;
    let directory = Directory::new();
    let mut child = echo(kid, &directory, Serialization::Advanced);
    for fill in 0..4_u8 {
        child.send_value(&Value::view(ViewKind::Uint8, vec![fill; SIZE]), None).unwrap();
    }
    for fill in 0..4_u8 {
        let value = value(&mut child).await;
        assert!(
            value
                .as_bytes()
                .is_some_and(|bytes| bytes.len() == SIZE && bytes.iter().all(|byte| *byte == fill))
        );
    }
}

/// JavaScript's strings need not be text, and come through all the same.
async fn lone_surrogates(kid: Kid) {
    for serialization in BOTH {
        let directory = Directory::new();
        let mut child = echo(kid, &directory, serialization);
        let lone = Value::from(ganger::value::JsString::from_utf16(&[0x61, 0xd800, 0x62]));
        let sent = Value::object([("text", lone)]);
        child.send_value(&sent, None).unwrap();
        assert_eq!(value(&mut child).await, sent);
    }
}

/// Node makes it; here it is passed on as it came.
async fn cycle() {
    for kid in Kid::all() {
        let directory = Directory::new();
        let script = directory.write(
            "cycle.js",
            "const o = { list: [1] }; o.self = o; o.list.push(o.list);
             process.send(o);
             process.on('message', (m) => { process.send(m.self === m && m.list[1] === m.list); });",
        );
        let mut command = Command::fork(script);
        command.exec_path(crate::support::node("24")).serialization(Serialization::Advanced);
        let mut node = command.spawn().unwrap();
        let cycle = value(&mut node).await;
        assert!(cycle.get("self").unwrap().is_same(cycle.root()));
        let mut other = echo(kid, &directory, Serialization::Advanced);
        other.send_value(&cycle, None).unwrap();
        let back = value(&mut other).await;
        assert_eq!(back, cycle);
        node.send_value(&back, None).unwrap();
        assert_eq!(value(&mut node).await, Value::from(true));
    }
}

const UNDER_NODE: [(&str, &str); 8] = [
    (
        "the channel of a cluster's primary",
        "const child = fork('echo where it is no worker');
         child.send('hello');
         child.on('message', mustCall((message) => { assert.strictEqual(message, 'hello'); child.disconnect(); }));
         child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));",
    ),
    (
        "test-child-process-send-after-close",
        "const child = fork('nothing');
         child.on('close', mustCall((code) => {
           assert.strictEqual(code, 0);
           child.send('too late', mustCall(({ code }) => assert.strictEqual(code, 'ERR_IPC_CHANNEL_CLOSED')));
         }));",
    ),
    (
        "test-child-process-stdin-ipc",
        "const child = fork('echo', [], { stdio: ['ipc', 'inherit', 'inherit'] });
         child.send([0]);
         child.on('message', mustCall((message) => { assert.deepStrictEqual(message, [0]); child.disconnect(); }));
         child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));",
    ),
    (
        "test-child-process-internal",
        "for (const serialization of ['json', 'advanced']) {
           const child = fork('echo', [], { serialization });
           const ordinary = [{ cmd: 'fooNODE_' }, { cmd: 'NODE_' }, { nested: { cmd: 'NODE_foo' } }, ['NODE_foo']];
           child.send({ cmd: 'NODE_foo' });
           ordinary.forEach((message) => child.send(message));
           let next = 0;
           child.on('message', mustCall((message) => {
             assert.deepStrictEqual(message, ordinary[next++]);
             if (next === ordinary.length) child.disconnect();
           }, ordinary.length));
         }",
    ),
    (
        "test-child-process-send-utf8",
        "for (const serialization of ['json', 'advanced']) {
           const child = fork('echo', [], { serialization });
           const expected = 'ßßßß'.repeat(1e5 - 1);
           child.send(expected);
           child.on('message', mustCall((message) => { assert.strictEqual(message, expected); child.disconnect(); }));
           child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));
         }",
    ),
    (
        "test-child-process-send-cb",
        "const child = fork('echo');
         child.send('ok', mustCall((error) => assert.strictEqual(error, null)));
         child.on('message', mustCall((message) => { assert.strictEqual(message, 'ok'); child.disconnect(); }));
         child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));",
    ),
    (
        "test-child-process-advanced-serialization",
        "const child = fork('echo', [], { serialization: 'advanced', stdio: ['ipc', 'inherit', 'inherit'] });
         const circular = { foo: 'bar' };
         circular.circular = circular;
         const values = [
           [1, 2, 3].map((n) => BigInt(n) ** 70n), new Uint8Array([1, 2, 3]), new Float64Array([1.5, -0]),
           Buffer.from('hello'), new Map([['key', new Set([1, { a: undefined }])]]), circular, new Date(0), /a+/gi,
           new Error('message'), new RangeError('out'), [1, , 3], 'a\\ud800b', null, { undefined: undefined },
           new DataView(new ArrayBuffer(8)), new Uint8Array([1, 2]).buffer, Object('boxed'), NaN, [2n ** 64n, -1n],
         ];
         let next = 0;
         child.on('message', mustCall((message) => {
           assert.deepStrictEqual(message, values[next++]);
           if (next === values.length) child.disconnect(); else child.send(values[next]);
         }, values.length));
         child.send(values[0]);
         child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));",
    ),
    (
        "test-child-process-advanced-serialization-largebuffer",
        "const child = fork('send four large buffers', [], { serialization: 'advanced' });
         let next = 0;
         child.on('message', mustCall((message) => {
           assert.deepStrictEqual(message, Buffer.alloc(8 << 20, next++));
         }, 4));
         child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));",
    ),
];
