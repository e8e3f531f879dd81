//! Rows cluster-setup: what workers are started with.

use ganger::{
    cluster::{Cluster, Event, Events, Policy, Primary, Settings},
    process::Exit,
};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::{
    alone,
    part::{NOBODY, OBEY, ask, for_everybody, fork},
    row,
    rows::{Kid, NODES, rows, rows_of},
    rows_under_node,
    rr::nodes,
    support::{self, Directory, Gang, NODE},
};

pub(crate) fn trials() -> Vec<Trial> {
    let inspectors = NODES.into_iter().map(|major| {
        let name = "test-inspector-port-cluster";
        Trial::test(format!("{name} with Node {major}"), move || {
            support::run(inspector_port(major));
            support::passed(name, major);
            Ok(())
        })
    });
    let own = [
        row("test-cluster-setup-primary-argv", argv),
        row("test-cluster-setup-primary-emit", emit),
        row("test-cluster-setup-primary-multiple", multiple),
        row("the policy is set before the first fork", policy),
        row("a silent worker's last output", last_output),
    ];
    [
        own.into_iter().chain(inspectors).collect(),
        rows("test-cluster-setup-primary", setup_primary),
        rows_under_node("test-cluster-setup-primary", SETUP_PRIMARY),
        rows("test-cluster-cwd", cwd),
        rows_under_node("test-cluster-cwd", CWD),
        rows("test-cluster-fork-env", fork_env),
        rows_under_node("test-cluster-fork-env", FORK_ENV),
        rows("a worker has no id but its own", no_other_id),
        rows_under_node("a worker has no id but its own", NO_OTHER_ID),
        rows("test-cluster-fork-windowsHide", silently),
        rows_under_node("test-cluster-fork-windowsHide", SILENTLY),
        rows("test-cluster-basic (NODE_UNIQUE_ID part)", unique_id),
        rows_under_node("test-cluster-basic (NODE_UNIQUE_ID part)", UNIQUE_ID),
        rows("workers as another user", another_user)
            .into_iter()
            .map(|trial| trial.with_ignored_flag(!rustix::process::geteuid().is_root()))
            .collect(),
        rows_of(nodes(18), "pitfall_42_a_worker_has_no_options_but_its_own", no_options),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// With settings that nobody has touched.
async fn argv() {
    let command = alone::command("say the arguments of a worker", None, &["obey", "custom argument"]);
    let output = command.exec().await.unwrap();
    assert_eq!(output.stdout, "setup [\"obey\", \"custom argument\"]\nworker [\"custom argument\"]\n");
}

/// A primary in a task, without workers.
fn alone_in_a_task() -> (Cluster, Events) {
    Primary::new(Settings::this_program().unwrap()).unwrap().spawn()
}

async fn settings(events: &mut Events) -> std::sync::Arc<Settings> {
    match events.next().await {
        Some(Event::Setup { settings }) => settings,
        other => panic!("{other:?}"),
    }
}

async fn emit() {
    let (cluster, mut events) = alone_in_a_task();
    cluster.setup(|settings| settings.args = vec!["x".into()]).await;
    cluster.setup(|_| {}).await;
    assert_eq!(settings(&mut events).await.args, ["x"]);
    assert_eq!(settings(&mut events).await.args, ["x"], "what was not said stays");

    drop(cluster);
    assert!(events.next().await.is_none());
}

/// The first setup may say it, as what Node has for it; from then on, or from the first fork on, it stays.
async fn policy() {
    for policy in [Policy::LeastConn, Policy::Shared] {
        let (cluster, mut events) = alone_in_a_task();
        for wanted in [policy.clone(), Policy::RoundRobin] {
            cluster.setup(move |settings| settings.policy = wanted).await;
            assert_eq!(settings(&mut events).await.policy, policy);
        }
        assert_eq!(cluster.snapshot().await.least_conn_by.is_some(), policy == Policy::LeastConn);
    }
    let directory = Directory::new();
    let (cluster, mut events) =
        Primary::new(directory.workers(NODE, Policy::RoundRobin, "")).unwrap().spawn();
    cluster.fork().await.unwrap();
    assert_eq!(settings(&mut events).await.policy, Policy::RoundRobin);
    cluster.setup(|settings| settings.policy = Policy::LeastConn).await;
    assert_eq!(cluster.with(|primary| primary.settings().policy.clone()).await, Policy::RoundRobin);
    assert!(cluster.snapshot().await.least_conn_by.is_none());
}

async fn multiple() {
    let (cluster, mut events) = alone_in_a_task();
    for program in ["1", "2", "3"] {
        cluster.setup(move |settings| settings.program = program.into()).await;
    }
    for program in ["1", "2", "3"] {
        assert_eq!(settings(&mut events).await.program, program);
    }
}

async fn setup_primary(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    gang.with(|primary| {
        primary.setup(|settings| {
            settings.args.push("custom argument".into());
            settings.silent = true;
        });
    })
    .await;
    let Event::Setup { settings } = gang.event().await else { panic!("no setup") };
    assert_eq!((settings.args.last().unwrap().to_str(), settings.silent), (Some("custom argument"), true));
    for _ in 0..2 {
        let worker = fork(&gang).await;
        assert_eq!(ask(&mut gang, &worker, json!(["args"])).await, json!(["custom argument"]));
        assert!(worker.destroy());
        gang.exit().await;
    }
}

const SETUP_PRIMARY: &str = "
cluster.once('setup', mustCall(() => {
  assert.deepStrictEqual([cluster.settings.args, cluster.settings.silent], [['custom argument'], true]);
}));
cluster.setupPrimary({ exec: 'obey', args: ['custom argument'], execArgv: [], silent: true });
for (let i = 0; i < 2; i++) {
  const worker = cluster.fork();
  ask(worker, ['args'], mustCall((args) => { assert.deepStrictEqual(args, ['custom argument']); worker.kill(); }));
  worker.on('exit', mustCall());
}";

async fn cwd(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let (without, with) = (std::env::current_dir().unwrap(), directory.path("").canonicalize().unwrap());
    assert_eq!(gang.with(|primary| primary.settings().cwd.clone()).await, None);
    let worker = fork(&gang).await;
    assert_eq!(ask(&mut gang, &worker, json!(["cwd"])).await, json!(without));
    let path = with.clone();
    gang.with(|primary| primary.setup(|settings| settings.cwd = Some(path))).await;
    let worker = fork(&gang).await;
    assert_eq!(ask(&mut gang, &worker, json!(["cwd"])).await, json!(with));
}

const CWD: &str = "
const where = (cwd) => {
  const worker = cluster.fork();
  ask(worker, ['cwd'], mustCall((it) => { assert.strictEqual(it, cwd); worker.kill(); }));
  return worker;
};
workers('obey');
where(process.cwd()).on('exit', mustCall(() => {
  cluster.setupPrimary({ cwd: __dirname });
  where(require('fs').realpathSync(__dirname));
}));";

async fn fork_env(kid: Kid) {
    let directory = Directory::new();
    let mut settings = kid.settings(&directory, Policy::RoundRobin, &OBEY);
    settings.env = vec![("OF_ALL".into(), "1".into()), ("OF_BOTH".into(), "all".into())];
    let mut gang = Gang::new(settings);
    // One that is inherited, too.
    let worker = gang
        .with(|primary| {
            let env = [("OF_ONE", "2"), ("OF_BOTH", "one"), ("HOME", "/nowhere")];
            let worker = primary.fork_with(env).unwrap();
            primary.worker(worker.id).unwrap()
        })
        .await;
    let names = json!(["env", ["OF_ALL", "OF_ONE", "OF_BOTH", "HOME"]]);
    assert_eq!(ask(&mut gang, &worker, names.clone()).await, json!(["1", "2", "one", "/nowhere"]));
    let worker = fork(&gang).await;
    let seen = ask(&mut gang, &worker, names).await;
    assert_eq!(seen, json!(["1", null, "all", std::env::var("HOME").ok()]));
}

const FORK_ENV: &str = "
workers('obey');
const worker = cluster.fork({ cluster_test_prop: 'custom', HOME: '/nowhere' });
ask(worker, ['env', ['cluster_test_prop', 'HOME']], mustCall((env) => {
  assert.deepStrictEqual(env, ['custom', '/nowhere']);
  worker.disconnect();
}));
worker.on('exit', mustCall((code) => assert.strictEqual(code, 0)));";

/// Whoever says it, the number is the cluster's.
async fn no_other_id(kid: Kid) {
    let directory = Directory::new();
    let mut settings = kid.settings(&directory, Policy::RoundRobin, &OBEY);
    settings.env = vec![("NODE_UNIQUE_ID".into(), "77".into())];
    let mut gang = Gang::new(settings);
    let worker = gang
        .with(|primary| {
            let worker = primary.fork_with([("NODE_UNIQUE_ID", "78")]).unwrap();
            primary.worker(worker.id).unwrap()
        })
        .await;
    assert_eq!(ask(&mut gang, &worker, json!(["id"])).await, 1);
}

const NO_OTHER_ID: &str = "
workers('obey');
const worker = cluster.fork({ NODE_UNIQUE_ID: '77' });
ask(worker, ['id'], mustCall((id) => { assert.strictEqual(id, 1); worker.kill(); }));";

/// What of it is not Windows: silent, its pipes, its events.
async fn silently(kid: Kid) {
    let directory = Directory::new();
    let mut settings = kid.settings(&directory, Policy::RoundRobin, &OBEY);
    settings.silent = true;
    let mut gang = Gang::new(settings);
    let worker = fork(&gang).await;
    let id = worker.id();
    let streams = gang.with(move |primary| primary.take_streams(id)).await.unwrap();
    assert!(streams.stdin.is_some() && streams.stderr.is_some());
    gang.find(|event| matches!(event, Event::Online { .. }).then_some(())).await;
    worker.disconnect();
    assert!(matches!(gang.event().await, Event::Disconnect { .. }));
    assert_eq!(gang.exit().await, (id, Exit::Code(0), true));
    let mut said = String::new();
    streams.stdout.unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "");
}

/// What was written is there also when who wrote it is not.
async fn last_output() {
    let directory = Directory::new();
    let mut settings = directory.workers(NODE, Policy::RoundRobin, "console.log('said'); process.exit(0);");
    settings.silent = true;
    let mut gang = Gang::new(settings);
    let worker = fork(&gang).await;
    let id = worker.id();
    gang.exit().await;
    let late = gang.with(move |primary| primary.take_streams(id)).await.unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::NotFound);
    let mut said = String::new();
    worker.take_streams().unwrap().stdout.unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "said\n");
    assert!(worker.take_streams().unwrap().stdout.is_none(), "there is one taker");
}

const SILENTLY: &str = "
cluster.setupPrimary({ exec: 'obey', execArgv: [], silent: true, windowsHide: true });
const worker = cluster.fork();
worker.on('online', mustCall(() => worker.send(['disconnect'])));
worker.on('disconnect', mustCall());
worker.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));
assert(worker.process.stdout);";

async fn unique_id(kid: Kid) {
    let directory = Directory::new();
    let mut gang = kid.gang(&directory, &OBEY);
    let worker = fork(&gang).await;
    assert_eq!(ask(&mut gang, &worker, json!(["env", ["NODE_UNIQUE_ID"]])).await, json!([null]));
    assert_eq!(ask(&mut gang, &worker, json!(["children"])).await, json!([false, false]));
}

const UNIQUE_ID: &str = "
workers('obey');
const worker = cluster.fork();
ask(worker, ['env', ['NODE_UNIQUE_ID']], mustCall((env) => {
  assert.deepStrictEqual(env, [null]);
  ask(worker, ['children'], mustCall((it) => { assert.deepStrictEqual(it, [false, false]); worker.kill(); }));
}));";

/// Each worker's inspector has a port of its own, wherever it is said that there is one, and none is opened here.
async fn inspector_port(major: &str) {
    let option = "--inspect-port=127.0.0.1:20000";
    let ways = [(&[option][..], ""), (&["-r", "fs", option], ""), (&[], option), (&["-r", "fs"], option)];
    for (args, variable) in ways {
        let directory = Directory::new();
        let script = "process.send([process.execArgv, process.debugPort]);";
        let mut settings = directory.workers(major, Policy::RoundRobin, script);
        settings.args.splice(..0, args.iter().map(Into::into));
        settings.env.push(("NODE_OPTIONS".into(), variable.into()));
        let mut gang = Gang::new(settings);
        let says = async |gang: &mut Gang, port: u16| {
            gang.fork().await;
            let (_, seen) = gang.message().await;
            let mut expected = args.to_vec();
            let own = format!("--inspect-port={port}");
            expected.insert(if args.contains(&option) { args.len() } else { 0 }, &own);
            assert_eq!(seen, json!([expected, port]));
        };
        says(&mut gang, 20001).await;
        says(&mut gang, 20002).await;
        gang.with(|primary| primary.setup(|settings| settings.inspect_port = Some(30000))).await;
        says(&mut gang, 30000).await;
        says(&mut gang, 30000).await;
    }
}

/// They are nobody; the sockets are root's, who opens them.
async fn another_user(kid: Kid) {
    let directory = Directory::new();
    let mut settings = kid.settings(&directory, Policy::RoundRobin, &OBEY);
    settings.program = for_everybody(settings.program.as_ref(), &directory).into();
    (settings.uid, settings.gid) = (Some(NOBODY), Some(NOBODY));
    let mut gang = Gang::new(settings);
    let worker = fork(&gang).await;
    let groups = ask(&mut gang, &worker, json!(["user"])).await;
    assert_eq!((&groups[0], &groups[1]), (&json!(NOBODY), &json!(NOBODY)));
    assert!(groups[2].as_array().unwrap().iter().all(|group| *group == NOBODY), "{groups}");
    // Others may do the same at the same time.
    let host = match kid {
        Kid::Node(major) => format!("127.0.42.{major}"),
        Kid::Rust => "127.0.42.1".into(),
    };
    let place = format!("{host}:{}", alone::PRIVILEGED);
    assert_eq!(
        ask(&mut gang, &worker, json!(["listen", place])).await,
        json!(["listening", alone::PRIVILEGED])
    );
}

/// A program that is not inspected is left alone.
async fn no_options(kid: Kid) {
    let Kid::Node(major) = kid else { panic!("Rust has no such options") };
    let directory = Directory::new();
    let script = "process.send(process.execArgv);";
    let mut gang = Gang::new(directory.workers(major, Policy::RoundRobin, script));
    gang.fork().await;
    assert_eq!(gang.message().await.1, Value::Array(Vec::new()));
}
