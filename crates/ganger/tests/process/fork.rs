//! Rows `fork`: a Rust parent with children of every kind, and Node parents with Rust children.

use std::{env, time::Duration};

use ganger::{
    channel::Received,
    process::{CancellationToken, Child, Command, Event, Exit, Stdio, fork},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::{
    kid::{Kid, NODES, copy_of, message_of, rows, rows_under_node, story, told},
    part, row,
    support::{self, Directory, read},
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        row("test-child-process-fork-no-shell", no_shell),
        row("test-child-process-fork-timeout-kill-signal", timeout_kill_signal),
        row("test-child-process-fork-exec-argv", exec_argv),
        row("a file that is not there", no_module),
        row("what is a script and what is not", forms),
        row("this program again", fork_self),
        row("a child that takes its channel too late", too_late),
        row("messages while nobody looks", unread_messages),
        row("a channel taken out of a child", channel_taken),
        row("this program after a deploy", after_a_deploy),
        row("the examples", examples),
    ];
    trials.extend(rows("test-child-process-fork-and-spawn", and_spawn));
    trials.extend(rows("test-child-process-fork-args", args));
    trials.extend(rows("test-child-process-fork-close", close));
    trials.extend(rows("test-child-process-fork-exec-path", exec_path));
    trials.extend(rows("test-child-process-fork-ref", reference));
    trials.extend(rows("test-child-process-fork-stdio-string-variant", stdio_words));
    trials.extend(rows("test-child-process-fork-stdio", stdio));
    trials.extend(rows("test-child-process-fork3", nothing));
    trials.extend(rows("test-child-process-silent", silent));
    trials.extend(rows("test-esm-child-process-fork-main", late_listener));
    for (name, script) in UNDER_NODE {
        trials.extend(rows_under_node(name, script));
    }
    trials
}

async fn no_shell() {
    let directory = Directory::new();
    let mut command = Kid::Rust.command(&directory, "send arguments");
    let mut child = command.arg("$foo").use_shell("/bin/sh").env("foo", "bar").spawn().unwrap();
    assert_eq!(message_of(&mut child).await["argv"], json!(["$foo"]));
}

async fn timeout_kill_signal() {
    for signal in [15, 9] {
        let directory = Directory::new();
        let token = CancellationToken::new();
        let mut command = Kid::Rust.command(&directory, "echo");
        command.timeout(Duration::from_millis(5)).kill_signal(signal).cancellation(token.clone());
        let mut child = command.spawn().unwrap();
        assert_eq!(child.wait().await.unwrap(), Exit::Signal { signal, core_dumped: false });
        token.cancel();
        assert!(!story(&mut child).await.iter().any(|told| told.starts_with("error")));
    }
}

/// They stand before the script.
async fn exec_argv() {
    for kid in Kid::all().filter(|kid| *kid != Kid::Rust) {
        let directory = Directory::new();
        let mut command = kid.command(&directory, "send arguments");
        let mut child = command.exec_argv(["--stack-size=256"]).args(["one", "two"]).spawn().unwrap();
        let message = message_of(&mut child).await;
        assert_eq!(message["execArgv"], json!(["--stack-size=256"]));
        assert_eq!(message["argv"], json!(["one", "two"]));
        assert_eq!(child.spawn_args()[0], "--stack-size=256");
    }
}

async fn no_module() {
    let error = fork("/nowhere/worker.js", [""; 0]).unwrap_err();
    assert_eq!((error.code(), error.errno(), error.step()), ("ENOENT", Some(2), None));
    assert!(
        error.to_string().starts_with("cannot start /nowhere/worker.js: there is no such file"),
        "{error}"
    );
    let list = [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit];
    let error = Command::fork(env::current_exe().unwrap()).stdio(list).spawn().unwrap_err();
    assert_eq!(error.code(), "ERR_CHILD_PROCESS_IPC_REQUIRED");
}

async fn forms() {
    let directory = Directory::new();
    let node = support::node(support::NODE);
    let check = async |command: &mut Command, expected: &str| {
        let mut child = command.exec_path(&node).spawn().unwrap();
        assert_eq!(message_of(&mut child).await, expected);
    };
    directory.write("worker.js", "process.send('script')");
    // Relative to the child's directory, and without its extension, as Node finds it.
    check(Command::fork("worker.js").cwd(directory.path("")), "script").await;
    check(Command::fork("worker").cwd(directory.path("")), "script").await;
    std::fs::create_dir(directory.path("package")).unwrap();
    directory.write("package/index.js", "process.send('directory')");
    check(&mut Command::fork(directory.path("package")), "directory").await;

    // An executable finds its channel too, and so does a shell script with its descriptor.
    let tool = directory.write("tool", "#!/bin/sh\necho '\"executable\"' >&$NODE_CHANNEL_FD\n");
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for command in [Command::fork(&tool), Command::fork("tool").cwd(directory.path("")).clone()] {
        let mut child = command.spawn().unwrap();
        assert_eq!(message_of(&mut child).await, "executable");
        assert_eq!(story(&mut child).await, ["disconnect", "exit exit code 0", "close exit code 0"]);
    }
}

async fn fork_self() {
    let mut command = Command::fork_self("the role");
    let mut child = command.env(part::VARIABLE, "kid say the role").arg("one").spawn().unwrap();
    assert_eq!(message_of(&mut child).await, json!(["the role", "one"]));
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
}

async fn too_late() {
    let directory = Directory::new();
    let mut command = Kid::Rust.command(&directory, "too late");
    let mut child = command.stderr(Stdio::Pipe).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    assert_eq!(child.wait().await.unwrap(), Exit::Code(7));
    let text = read(stderr).await;
    assert!(text.contains("call this first thing in main"), "{text}");
}

/// Who only waits still learns them all, in order.
async fn unread_messages() {
    let directory = Directory::new();
    let mut child = Kid::Rust.command(&directory, "send 5000").spawn().unwrap();
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
    let mut next = 0;
    while let Some(event) = child.next().await {
        if let Event::Message(message) = event {
            assert_eq!(message.parse::<Value>().unwrap()[0], next);
            next += 1;
        }
    }
    assert_eq!((next, child.exit()), (5000, Some(Exit::Code(0))));
}

/// What is forked is the program that now has the path, whether it was asked for early or late, and by way of a link.
async fn after_a_deploy() {
    for (part, link) in [("deploy early", false), ("deploy late", false), ("deploy early", true)] {
        let directory = Directory::new();
        let releases =
            ["old", "new"].map(|release| copy_of(env::current_exe().unwrap(), &directory, release));
        let called = directory.path("current");
        if link {
            std::os::unix::fs::symlink(&releases[0], &called).unwrap();
        }
        let mut command = Command::new(if link { &called } else { &releases[0] });
        command
            .env(part::VARIABLE, part)
            .env("OLD", if link { &called } else { &releases[0] })
            .env("NEW", &releases[1]);
        let output = command.env("LINK", if link { "yes" } else { "" }).exec().await.unwrap();
        let expected = if link { &releases[1] } else { &releases[0] }.canonicalize().unwrap();
        assert_eq!(output.stdout.text().trim_end(), expected.to_str().unwrap(), "{part}");
    }
}

/// Its owner has it then, and the child's end is complete without it.
async fn channel_taken() {
    let directory = Directory::new();
    for early in [true, false] {
        let mut child = Kid::Rust.command(&directory, "say hello").spawn().unwrap();
        let taken = early.then(|| child.take_channel().unwrap());
        child.wait().await.unwrap();
        // The wait may have come to its end.
        let channel = taken.or_else(|| child.take_channel());
        assert!(child.send("nobody").is_err());
        // What was heard before it was taken is among the events.
        let mut heard = story(&mut child).await;
        assert_eq!(heard.last().unwrap(), "close exit code 0");
        if let Some(mut channel) = channel {
            while let Some(Received::Message(message)) = channel.recv().await {
                heard.push(format!("message {}", message.as_json()));
            }
        }
        assert_eq!(heard.iter().filter(|told| *told == "message \"hello\"").count(), 1, "{heard:?}");
    }
}

/// One source for both sides, and a Rust child of Node's.
async fn examples() {
    let output = Command::new(support::example("fork")).exec().await.unwrap();
    let last = "the numbers from 1 to 4000 add up to 8002000";
    assert_eq!(output.stdout.text().lines().last(), Some(last));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/node/parent.js");
    for major in NODES {
        let output =
            Command::new(support::node(major)).arg(script).arg(support::example("child")).exec().await;
        let text = output.unwrap().stdout.into_text();
        assert!(text.starts_with("12 squared is 144") && text.ends_with("exit code 0\n"), "{text}");
    }
    let alone = Command::new(support::example("child")).exec().await.unwrap_err();
    assert!(alone.stderr.text().contains("this program is a child"), "{alone}");
}

async fn and_spawn(kid: Kid) {
    let directory = Directory::new();
    let mut child = kid.command(&directory, "spawn without a channel").spawn().unwrap();
    let code = message_of(&mut child).await;
    assert!(code == 0 || code == false, "{code}");
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
}

async fn args(kid: Kid) {
    let directory = Directory::new();
    let mut command = kid.command(&directory, "send environment");
    let mut child = command.args([""; 0]).env("foo", "bar").spawn().unwrap();
    let env = message_of(&mut child).await;
    assert_eq!(env["foo"], "bar");
    let ours = ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID"];
    assert!(ours.iter().all(|name| env.get(name).is_none()), "{env}");
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
}

async fn close(kid: Kid) {
    let directory = Directory::new();
    let mut child = kid.command(&directory, "say hello").spawn().unwrap();
    let story = story(&mut child).await;
    let count = |what: &str| story.iter().filter(|told| told.starts_with(what)).count();
    assert_eq!(
        (count("message"), count("exit"), count("disconnect"), count("close")),
        (1, 1, 1, 1),
        "{story:?}"
    );
    assert_eq!(story.first().unwrap(), "spawn");
    assert_eq!(story.last().unwrap(), "close exit code 0");
}

async fn exec_path(kid: Kid) {
    let directory = Directory::new();
    let runtime = match kid {
        Kid::Node(major) => support::node(major),
        Kid::Rust => env::current_exe().unwrap(),
    };
    let copy = copy_of(runtime, &directory, "copy of the runtime");
    let mut command = kid.command(&directory, "send arguments");
    let mut child = command.exec_path(&copy).spawn().unwrap();
    let copy = std::fs::canonicalize(copy).unwrap();
    assert_eq!(message_of(&mut child).await["execPath"], copy.to_str().unwrap());
    assert_eq!(child.spawn_file(), directory.path("copy of the runtime").as_os_str());
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
}

/// A child with nothing but a channel lives until that is closed, and ends then.
async fn reference(kid: Kid) {
    let directory = Directory::new();
    let mut child = kid.command(&directory, "two and a farewell").stdout(Stdio::Pipe).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    assert_eq!(message_of(&mut child).await, 1);
    child.send("go on").unwrap();
    assert_eq!(message_of(&mut child).await, 2);
    assert!(child.is_connected());
    child.disconnect();
    assert!(!child.is_connected());
    let (text, story) = tokio::join!(read(stdout), story(&mut child));
    assert_eq!(text, "3\n");
    // Node forgets the last one after a disconnect of its own.
    assert_eq!(story, ["disconnect", "exit exit code 0", "close exit code 0"]);
    assert!(child.send("too late").is_err());
}

async fn stdio_words(kid: Kid) {
    for word in [Stdio::Pipe, Stdio::Inherit, Stdio::Ignore] {
        let directory = Directory::new();
        let mut command = kid.command(&directory, "say hello");
        command.stdin(word.clone()).stdout(word.clone()).stderr(word.clone());
        let mut child = command.spawn().unwrap();
        assert_eq!(child.stdout.is_some(), matches!(word, Stdio::Pipe));
        assert_eq!(message_of(&mut child).await, "hello");
        assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
    }
}

async fn stdio(kid: Kid) {
    let directory = Directory::new();
    let mut command = kid.command(&directory, "echo from descriptor 4");
    command.stdio([Stdio::Number(0), Stdio::Ignore, Stdio::Pipe, Stdio::Ipc, Stdio::Pipe]);
    let mut child = command.spawn().unwrap();
    assert!(child.stdout.is_none() && child.stdin.is_none());
    let stderr = child.stderr.take().unwrap();
    let mut pipe = child.take_pipe(4).unwrap();
    pipe.write_all(b"hello fourth").await.unwrap();
    assert_eq!(message_of(&mut child).await, "hello fourth");
    child.disconnect();
    drop(pipe);
    let (text, story) = tokio::join!(read(stderr), story(&mut child));
    assert_eq!(text, "to stderr\n");
    assert_eq!(story.last().unwrap(), "close exit code 0");
}

async fn nothing(kid: Kid) {
    let directory = Directory::new();
    let mut child = kid.command(&directory, "nothing").spawn().unwrap();
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
}

async fn silent(kid: Kid) {
    let directory = Directory::new();
    let start = || -> Child { kid.command(&directory, "talk and wait").silent(true).spawn().unwrap() };
    // Its output is ours to read, and messages go both ways.
    let mut child = start();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    child.send(&json!({ "hi": 1 })).unwrap();
    assert_eq!(message_of(&mut child).await, json!({ "hi": 1 }));
    child.disconnect();
    let (out, err, story) = tokio::join!(read(stdout), read(stderr), story(&mut child));
    assert_eq!((out.as_str(), err.as_str()), ("to stdout\n", "to stderr\n"));
    assert_eq!(story.last().unwrap(), "close exit code 0");
    // Left alone at once, it ends by itself.
    let mut child = start();
    child.disconnect();
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
}

async fn late_listener(kid: Kid) {
    let directory = Directory::new();
    let mut child = kid.command(&directory, "echo late").spawn().unwrap();
    child.send("Hello World").unwrap();
    let spawn = child.next().await.map(|event| told(&event));
    assert_eq!(spawn.as_deref(), Some("spawn"));
    assert_eq!(message_of(&mut child).await, "Hello World");
    child.disconnect();
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
}

/// What a Node parent sees of a Rust child is what it sees of a Node child.
const UNDER_NODE: [(&str, &str); 12] = [
    (
        "test-process-external-stdio-close-spawn",
        "const child = fork('write into a broken pipe', [], { stdio: ['pipe', 'pipe', 'pipe', 'ipc'] });
         child.stdout.destroy();
         child.send('go');
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));",
    ),
    (
        "test-child-process-fork3",
        "const child = fork('nothing');
         child.on('disconnect', mustCall());
         child.on('close', mustCall((code) => assert.strictEqual(code, 0)));",
    ),
    (
        "test-esm-child-process-fork-main",
        "const child = fork('echo late');
         child.send('Hello World');
         child.on('message', mustCall((message) => { assert.strictEqual(message, 'Hello World'); child.disconnect(); }));
         child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));",
    ),
    (
        "test-child-process-fork-and-spawn",
        "const child = fork('spawn without a channel');
         child.on('message', mustCall((failed) => assert.strictEqual(failed, false)));
         child.on('disconnect', mustCall());
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));",
    ),
    (
        "test-child-process-fork-args",
        "const child = fork('send environment', [], { env: { foo: 'bar' } });
         child.on('message', mustCall((env) => {
           assert.strictEqual(env.foo, 'bar');
           for (const name of ['NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE', 'NODE_UNIQUE_ID']) assert(!(name in env));
         }));
         child.on('close', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));",
    ),
    (
        "test-child-process-fork-close",
        "const child = fork('say hello');
         let messages = 0, exits = 0;
         child.on('message', mustCall((message) => { messages++; assert.strictEqual(message, 'hello'); }));
         child.on('disconnect', mustCall());
         child.on('exit', mustCall(() => exits++));
         child.on('close', mustCall(() => assert.deepStrictEqual([messages, exits], [1, 1])));",
    ),
    (
        "test-child-process-fork-exec-path",
        "const child = fork('send arguments', ['one', 'two']);
         child.on('message', mustCall(({ argv, execPath }) => {
           assert.deepStrictEqual(argv, ['unused.js', 'one', 'two']);
           assert.strictEqual(execPath, process.env.RUST);
         }));
         child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));",
    ),
    (
        "test-child-process-fork-ref",
        "const child = fork('two and a farewell', [], { silent: true });
         const heard = [];
         child.on('message', mustCall((message) => {
           heard.push(message);
           if (message === 1) child.send('go on'); else child.disconnect();
         }, 2));
         let text = '';
         child.stdout.setEncoding('utf8').on('data', (data) => { text += data; });
         child.on('disconnect', mustCall());
         child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));
         child.stdout.on('end', mustCall(() => { assert.strictEqual(text, '3\\n'); assert.deepStrictEqual(heard, [1, 2]); }));",
    ),
    (
        "test-child-process-fork-stdio-string-variant",
        "for (const stdio of ['pipe', 'inherit', 'ignore']) {
           const child = fork('say hello', [], { stdio });
           child.on('message', mustCall((message) => assert.strictEqual(message, 'hello')));
           child.on('exit', mustCall((code) => assert.strictEqual(code, 0)));
         }",
    ),
    (
        "test-child-process-fork-stdio",
        "const child = fork('echo from descriptor 4', [], { stdio: [0, 'ignore', 'pipe', 'ipc', 'pipe'] });
         assert.strictEqual(child.stdout, null);
         child.stderr.setEncoding('utf8').on('data', mustCall((data) => assert.strictEqual(data, 'to stderr\\n')));
         child.stdio[4].write('hello fourth');
         child.on('message', mustCall((message) => { assert.strictEqual(message, 'hello fourth'); child.disconnect(); }));
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));",
    ),
    (
        "test-child-process-silent",
        "const child = fork('talk and wait', [], { silent: true });
         let text = '';
         child.stdout.setEncoding('utf8').on('data', (data) => { text += data; });
         child.send({ hi: ['é 日本 \\u{1f600} \\ud800', 1e21, -0, null] });
         child.on('message', mustCall((message) => {
           assert.deepStrictEqual(message, { hi: ['é 日本 \\u{1f600} \\ud800', 1e21, 0, null] });
           child.disconnect();
         }));
         child.on('exit', mustCall((code) => { assert.strictEqual(code, 0); assert.strictEqual(text, 'to stdout\\n'); }));",
    ),
    (
        "spawn with a channel among its descriptors",
        "const env = { ...process.env, [process.env.PART]: 'kid echo' };
         const child = child_process.spawn(process.env.RUST, [], { stdio: ['ipc', 'inherit', 'inherit'], env });
         child.send(['on descriptor 0']);
         child.on('message', mustCall((message) => { assert.deepStrictEqual(message, ['on descriptor 0']); child.kill('SIGKILL'); }));
         child.on('disconnect', mustCall());
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [null, 'SIGKILL'])));
         child.on('close', mustCall());",
    ),
];
