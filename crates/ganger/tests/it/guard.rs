//! The guard with Node workers: every slot is filled, every end is explained.

use std::{fs, path::Path, time::Duration};

use ganger::{
    Guard, Slot, WorkerId,
    cluster::{Policy, Primary, Settings},
    guard::{Cause, Config, Illness, Notice, Output, Report, Then, Verdict, describe},
    process::Stdio,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{Directory, NODE, ask, exchange, gone, run};

on_each_node! {
    a_killed_worker_is_replaced: "replacement",
    last_words_are_told: "last words",
    a_worker_that_lost_its_channel_finishes: "worker without its channel",
}

/// One worker, and what it writes is heard.
fn guard(directory: &Directory, major: &str, script: &str, config: Config) -> Guard {
    guarded(directory.workers(major, Policy::RoundRobin, script), config)
}

fn guarded(mut settings: Settings, config: Config) -> Guard {
    settings.output = Stdio::Pipe;
    let output = Output::new(|source| format!("{source:?} | ")).unwrap();
    Guard::new(Primary::new(settings).unwrap(), config, Some(output))
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// The first report that is wanted; those before it are not.
async fn find<T>(guard: &mut Guard, mut wanted: impl FnMut(Report) -> Option<T>) -> T {
    loop {
        let report = guard.next().await.expect("the gang has ended");
        println!("{report:?}");
        if let Some(found) = wanted(report) {
            return found;
        }
    }
}

async fn ready(guard: &mut Guard) -> WorkerId {
    find(guard, |report| match report {
        Report::Notice { notice: Notice::WorkerReady { worker, .. }, .. } => Some(worker),
        _ => None,
    })
    .await
}

async fn listening(guard: &mut Guard) -> std::net::SocketAddr {
    find(guard, |report| match report {
        Report::Listening { address } => Some(address.parse().unwrap()),
        _ => None,
    })
    .await
}

async fn message(guard: &mut Guard) -> Value {
    find(guard, |report| match report {
        Report::Message { message, .. } => Some(message.parse().unwrap()),
        _ => None,
    })
    .await
}

/// The next death: who, of what, what then, and the last words.
async fn death(guard: &mut Guard) -> (WorkerId, Cause, Then, Vec<String>) {
    find(guard, |report| match report {
        Report::Notice { notice: Notice::Died { worker, cause, then, .. }, death } => {
            Some((worker, cause, then, death.unwrap().last_words))
        }
        _ => None,
    })
    .await
}

async fn end(guard: &mut Guard) -> Verdict {
    let verdict = find(guard, |report| match report {
        Report::End(verdict) => Some(verdict),
        _ => None,
    })
    .await;
    assert!(guard.next().await.is_none(), "nothing follows the end");
    verdict
}

const SERVE: &str = "
    const { id } = require('node:cluster').worker;
    require('node:net').createServer((socket) => socket.end(String(id))).listen(0, '127.0.0.1');";

async fn a_killed_worker_is_replaced(major: &str) {
    let directory = Directory::new();
    let mut guard = guard(&directory, major, SERVE, Config::default());
    let address = listening(&mut guard).await;
    assert_eq!(ready(&mut guard).await, WorkerId(1));
    assert!(guard.primary().kill(WorkerId(1), 9));
    let (worker, cause, then, _) = death(&mut guard).await;
    assert_eq!((worker, describe(&cause)), (WorkerId(1), "signal SIGKILL".into()));
    assert!(matches!(then, Then::RetryIn(_) | Then::ReplacedBy(WorkerId(2))), "{then:?}");
    // A client that comes in between waits.
    let client = tokio::spawn(ask(address));
    assert_eq!(ready(&mut guard).await, WorkerId(2));
    guard.stop();
    assert_eq!(end(&mut guard).await, Verdict::Stopped);
    // It was not turned away: the worker had it before it left.
    assert_eq!(client.await.unwrap(), "2");
}

async fn last_words_are_told(major: &str) {
    let directory = Directory::new();
    let mut guard = guard(&directory, major, "throw new Error('boom');", Config::default());
    let (worker, cause, then, last_words) = death(&mut guard).await;
    assert_eq!((worker, describe(&cause), then), (WorkerId(1), "exit code 1".into(), Then::GangEnds));
    assert!(last_words.iter().any(|line| line == "Error: boom"), "{last_words:?}");
    assert_eq!(end(&mut guard).await, Verdict::FirstStart);
}

async fn a_worker_that_lost_its_channel_finishes(major: &str) {
    let directory = Directory::new();
    // Told that it leaves of its own accord, Node does not end with its channel.
    let script = "
        const cluster = require('node:cluster');
        const server = require('node:net').createServer((socket) => {
          socket.on('data', (data) => {
            socket.write(`${cluster.worker.id} ${data}`);
            if (String(data) === 'lose it') {
              cluster.worker.exitedAfterDisconnect = true;
              process.disconnect();
            }
          });
          socket.on('close', () => process.exit(7));
        });
        server.listen(0, '127.0.0.1');";
    let mut guard = guard(&directory, major, script, Config::default());
    let address = listening(&mut guard).await;
    assert_eq!(ready(&mut guard).await, WorkerId(1));
    let client = tokio::spawn(async move {
        let mut connection = TcpStream::connect(address).await.unwrap();
        assert_eq!(exchange(&mut connection, "lose it").await, "1 lose it");
        connection
    });
    let (illness, replaced_by) = find(&mut guard, |report| match report {
        Report::Notice { notice: Notice::Ill { worker: WorkerId(1), illness, replaced_by, .. }, .. } => {
            Some((illness, replaced_by))
        }
        _ => None,
    })
    .await;
    assert_eq!(illness, Illness::ChannelClosed);
    assert!(matches!(replaced_by, None | Some(WorkerId(2))));
    assert_eq!(ready(&mut guard).await, WorkerId(2));
    let mut connection = client.await.unwrap();
    let finishing = tokio::spawn(async move {
        assert_eq!(exchange(&mut connection, "still").await, "1 still");
        let mut other = TcpStream::connect(address).await.unwrap();
        assert_eq!(exchange(&mut other, "new").await, "2 new");
        drop(connection);
        other
    });
    let (worker, cause, then, _) = death(&mut guard).await;
    assert_eq!(
        (worker, describe(&cause), then),
        (WorkerId(1), "exit code 7".into(), Then::ReplacedBy(WorkerId(2)))
    );
    drop(finishing.await.unwrap());
}

#[test]
fn a_worker_that_disconnects_its_process_dies_of_it_and_is_replaced() {
    run(async {
        let directory = Directory::new();
        let script = format!("{SERVE} process.on('message', () => process.disconnect());");
        let mut guard = guard(&directory, NODE, &script, Config::default());
        let address = listening(&mut guard).await;
        assert_eq!(ready(&mut guard).await, WorkerId(1));
        guard.primary().send(WorkerId(1), "now").map(drop).unwrap();
        let (worker, cause, ..) = death(&mut guard).await;
        assert_eq!((worker, describe(&cause)), (WorkerId(1), "exit code 0".into()));
        assert_eq!(ready(&mut guard).await, WorkerId(2));
        let client = tokio::spawn(ask(address));
        tokio::select! {
            who = client => assert_eq!(who.unwrap(), "2"),
            report = guard.next() => panic!("{report:?}"),
        }
    });
}

#[test]
fn a_worker_that_leaves_is_replaced() {
    run(async {
        let directory = Directory::new();
        let script =
            format!("{SERVE} process.on('message', () => require('node:cluster').worker.disconnect());");
        let mut guard = guard(&directory, NODE, &script, Config::default());
        let address = listening(&mut guard).await;
        assert_eq!(ready(&mut guard).await, WorkerId(1));
        guard.primary().send(WorkerId(1), "now").map(drop).unwrap();
        let mut left = None;
        let mut replaced = false;
        while left.is_none() || !replaced {
            find(&mut guard, |report| match report {
                Report::Notice { notice: Notice::Died { worker, cause, .. }, .. } => {
                    left = Some((worker, cause));
                    Some(())
                }
                Report::Notice { notice: Notice::WorkerReady { worker, .. }, .. } => {
                    replaced = worker == WorkerId(2);
                    Some(())
                }
                _ => None,
            })
            .await;
        }
        assert_eq!(left, Some((WorkerId(1), Cause::Left)));
        let client = tokio::spawn(ask(address));
        tokio::select! {
            who = client => assert_eq!(who.unwrap(), "2"),
            report = guard.next() => panic!("{report:?}"),
        }
    });
}

#[test]
fn a_program_that_is_not_there_ends_the_gang() {
    run(async {
        let mut guard = guarded(Settings::new("/nowhere/program"), Config::default());
        let (error, retry_in) = find(&mut guard, |report| match report {
            Report::Notice { notice: Notice::StartFailed { slot: Slot(0), error, retry_in }, .. } => {
                Some((error, retry_in))
            }
            _ => None,
        })
        .await;
        assert_eq!(error, "cannot start /nowhere/program: there is no such file (ENOENT)");
        assert_eq!(retry_in, None);
        assert_eq!(end(&mut guard).await, Verdict::FirstStart);
    });
}

#[test]
fn a_program_that_vanishes_is_tried_again() {
    run(async {
        let directory = Directory::new();
        let program = directory.path("program");
        std::os::unix::fs::symlink(crate::support::node(NODE), &program).unwrap();
        let mut settings = directory.workers(NODE, Policy::RoundRobin, SERVE);
        settings.program = program.clone().into();
        let mut guard = guarded(settings, Config::default());
        assert_eq!(ready(&mut guard).await, WorkerId(1));
        fs::remove_file(&program).unwrap();
        assert!(guard.primary().kill(WorkerId(1), 9));
        let retry_in = find(&mut guard, |report| match report {
            Report::Notice { notice: Notice::StartFailed { retry_in, .. }, .. } => Some(retry_in),
            _ => None,
        })
        .await;
        assert!(retry_in.is_some());
        std::os::unix::fs::symlink(crate::support::node(NODE), &program).unwrap();
        ready(&mut guard).await;
    });
}

/// Does not go when it is asked to, nor when it is told to; and has a child.
const STUBBORN: &str = "
    const child = require('node:child_process').spawn('tail', ['-f', '/dev/null'], { stdio: 'ignore' });
    process.on('SIGTERM', () => {});
    setInterval(() => {}, 1e6);
    require('node:net').createServer().listen(0, '127.0.0.1', () => process.send(child.pid));";

#[test]
fn pitfall_39_a_stop_has_an_end_and_the_kill_takes_the_group() {
    run(async {
        let directory = Directory::new();
        let config = config(|config| config.stop_timeout = Duration::from_millis(600));
        let mut guard = guard(&directory, NODE, STUBBORN, config);
        let grandchild = message(&mut guard).await.as_i64().unwrap() as i32;
        assert!(Path::new(&format!("/proc/{grandchild}")).exists());
        guard.stop();
        find(&mut guard, |report| match report {
            Report::Notice { notice: Notice::Killed { worker: WorkerId(1), .. }, .. } => Some(()),
            Report::Notice { notice: Notice::Died { .. }, .. } => panic!("it went too early"),
            _ => None,
        })
        .await;
        assert_eq!(end(&mut guard).await, Verdict::Stopped);
        gone(grandchild).await;
    });
}

/// Killed by somebody, or by us because it hangs.
#[test]
fn what_a_killed_worker_has_started_goes_with_it() {
    for (signal, kind) in [(Signal::KILL, "signal SIGKILL"), (Signal::STOP, "it answered nothing for ")] {
        run(async {
            let directory = Directory::new();
            let config = config(|config| config.watchdog = Some(Duration::from_millis(500)));
            let mut guard = guard(&directory, NODE, STUBBORN, config);
            let grandchild = message(&mut guard).await.as_i64().unwrap() as i32;
            ready(&mut guard).await;
            assert!(guard.primary().kill(WorkerId(1), signal.as_raw()));
            let (worker, cause, ..) = death(&mut guard).await;
            assert_eq!(worker, WorkerId(1));
            assert!(describe(&cause).starts_with(kind), "{cause:?}");
            gone(grandchild).await;
        });
    }
}

/// At a breakpoint it would not answer.
#[test]
fn who_is_debugged_is_asked_nothing() {
    let by_option = |is_asked, options: &'static [&str]| (options, "", is_asked);
    for (options, variable, is_asked) in [
        by_option(true, &[]),
        by_option(false, &["--inspect=0"]),
        by_option(false, &["-r", "fs", "--inspect=0"]),
        (&[], "--inspect=0", false),
    ] {
        run(async {
            let directory = Directory::new();
            let mut settings = directory.workers(NODE, Policy::RoundRobin, SERVE);
            settings.args.splice(..0, options.iter().map(Into::into));
            settings.env.push(("NODE_OPTIONS".into(), variable.into()));
            let mut guard = guarded(settings, Config::default());
            let worker = ready(&mut guard).await;
            assert_eq!(guard.primary().can_probe(worker), is_asked);
        });
    }
}

#[test]
fn a_second_stop_is_at_once() {
    run(async {
        let directory = Directory::new();
        let config = config(|config| config.stop_timeout = Duration::from_secs(3600));
        let mut guard = guard(&directory, NODE, STUBBORN, config);
        let grandchild = message(&mut guard).await.as_i64().unwrap() as i32;
        guard.stop();
        guard.stop();
        assert_eq!(end(&mut guard).await, Verdict::Stopped);
        gone(grandchild).await;
    });
}

#[test]
fn a_stop_lets_a_connection_finish() {
    run(async {
        let directory = Directory::new();
        let script = "
            require('node:net').createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1', () => process.send('up'));
            require('node:cluster').worker.on('disconnect', () => console.error('disconnected'));";
        let mut guard = guard(&directory, NODE, script, Config::default());
        let address = listening(&mut guard).await;
        ready(&mut guard).await;
        let (leave, left) = tokio::sync::oneshot::channel::<()>();
        let client = tokio::spawn(async move {
            let mut connection = TcpStream::connect(address).await.unwrap();
            assert_eq!(exchange(&mut connection, "before").await, "before");
            left.await.unwrap();
            assert_eq!(exchange(&mut connection, "after").await, "after");
        });
        while guard.primary().snapshot().counters.served == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(1), guard.next()).await;
        }
        guard.stop();
        leave.send(()).unwrap();
        assert_eq!(end(&mut guard).await, Verdict::Stopped);
        client.await.unwrap();
    });
}

#[test]
fn garbage_condemns_its_worker_alone() {
    run(async {
        let directory = Directory::new();
        let script =
            format!("{SERVE} process.on('message', () => require('node:fs').writeSync(3, 'garbage\\n'));");
        let mut guard = guard(&directory, NODE, &script, config(|config| config.workers = 2));
        ready(&mut guard).await;
        ready(&mut guard).await;
        guard.primary().send(WorkerId(1), "now").map(drop).unwrap();
        let (worker, cause, ..) = death(&mut guard).await;
        assert_eq!(worker, WorkerId(1));
        assert_eq!(describe(&cause), "it wrote a line that is not JSON: \"garbage\": killed");
        assert_eq!(ready(&mut guard).await, WorkerId(3));
    });
}

#[test]
fn the_message_ready_is_a_sign_and_others_are_messages() {
    run(async {
        let directory = Directory::new();
        let script = "process.send({ hello: 1 }); process.send('ready'); process.on('message', () => {});";
        let mut guard = guard(&directory, NODE, script, Config::default());
        assert_eq!(message(&mut guard).await, json!({ "hello": 1 }));
        assert_eq!(ready(&mut guard).await, WorkerId(1));
    });
}

#[test]
fn an_address_in_use_is_reported_once() {
    run(async {
        let directory = Directory::new();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let script = "
            require('node:net').createServer().on('error', (error) => process.send(error.code))
              .listen(Number(process.argv[2]), '127.0.0.1');
            process.on('message', () => {});";
        let mut settings = directory.workers(NODE, Policy::RoundRobin, script);
        settings.args.push(taken.local_addr().unwrap().port().to_string().into());
        let mut guard = guarded(settings, config(|config| config.workers = 2));
        let (mut failures, mut codes) = (0, 0);
        while codes < 2 {
            find(&mut guard, |report| match report {
                Report::BindFailed { address, .. } => {
                    assert_eq!(address, taken.local_addr().unwrap().to_string());
                    failures += 1;
                    Some(())
                }
                Report::Message { .. } => {
                    codes += 1;
                    Some(())
                }
                _ => None,
            })
            .await;
        }
        assert_eq!(failures, 1);
    });
}

#[test]
fn how_long_an_event_loop_takes_to_answer_is_known() {
    run(async {
        let directory = Directory::new();
        let script = "
            process.send('ready');
            setInterval(() => { for (const end = Date.now() + 200; Date.now() < end;); }, 210);";
        let mut guard = guard(&directory, NODE, script, Config::default());
        let worker = ready(&mut guard).await;
        assert_eq!(guard.lag(worker), None, "it was not asked yet");
        // An answer is no report: now and then it is looked whether it has come.
        while guard.lag(worker).is_none_or(|lag| lag < Duration::from_millis(20)) {
            let _ = tokio::time::timeout(Duration::from_millis(100), guard.next()).await;
        }
        assert_eq!(guard.lag(WorkerId(2)), None);
        guard.kill();
        while guard.next().await.is_some() {}
        assert_eq!(guard.lag(worker), None, "it is dead");
    });
}
