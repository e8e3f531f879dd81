//! What only root can see: processes that become somebody else.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Read},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use ganger::{
    Guard,
    cluster::{AgentSettings, Primary, Settings},
    guard::{Config, Notice, Report},
    sys::{
        pidfd::Exit,
        spawn::{Group, Source, Spawn, Spawned, Step},
    },
};

/// The user and the group `nobody`, as every Linux has it.
const NOBODY: u32 = 65534;
const KILL: i32 = 9;

/// A shell script as somebody else, and what it writes.
fn sh(script: &str, change: impl FnOnce(&mut Spawn)) -> (Spawned, BufReader<File>) {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut spawn = Spawn {
        program: "/bin/sh".into(),
        argv: ["sh", "-c", script].map(Into::into).into(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        fds: vec![None, Some(Source::Owned(theirs)), Some(Source::Inherit(2))],
        ..Spawn::default()
    };
    change(&mut spawn);
    (spawn.spawn().unwrap(), BufReader::new(File::from(ours)))
}

/// The `/proc/self/status` of a process that was started so.
fn status(change: impl FnOnce(&mut Spawn)) -> BTreeMap<String, String> {
    let (child, mut output) = sh("exec cat /proc/self/status", change);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(wait(&child), Exit::Code(0));
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn wait(child: &Spawned) -> Exit {
    rustix::event::poll(&mut [rustix::event::PollFd::new(&child.pidfd, rustix::event::PollFlags::IN)], None)
        .unwrap();
    child.pidfd.try_wait().unwrap().unwrap()
}

fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "these tests need root");
}

#[test]
fn user_and_group_are_changed_for_good() {
    need_root();
    let status = status(|spawn| {
        spawn.uid = Some(NOBODY);
        spawn.gid = Some(NOBODY);
    });
    // Real, effective, saved and file-system ids: there is no way back.
    let all = [NOBODY.to_string(), NOBODY.to_string(), NOBODY.to_string(), NOBODY.to_string()].join("\t");
    assert_eq!((&status["Uid"], &status["Gid"]), (&all, &all));
    assert_eq!(status["CapEff"], "0000000000000000");
}

#[test]
fn supplementary_groups_are_dropped() {
    need_root();
    // The system call is for the thread alone, which is what a child is made from.
    let thread = std::thread::spawn(|| {
        let groups = [4, 27].map(rustix::process::Gid::from_raw);
        rustix::thread::set_thread_groups(&groups).unwrap();
        assert_eq!(status(|_| ())["Groups"], "4 27");
        assert_eq!(status(|spawn| spawn.uid = Some(NOBODY))["Groups"], "");
        assert_eq!(status(|spawn| spawn.gid = Some(NOBODY))["Groups"], "");
    });
    thread.join().unwrap();
}

#[test]
fn what_nobody_may_not_do_is_said_with_its_step() {
    if env::var_os(FIXTURE).is_some() {
        let step = |uid, gid| {
            let spawn = Spawn {
                program: "/bin/true".into(),
                argv: vec!["true".into()],
                fds: vec![None, None, None],
                uid,
                gid,
                ..Spawn::default()
            };
            let error = spawn.spawn().unwrap_err();
            assert_eq!(error.source.kind(), ErrorKind::PermissionDenied);
            error.step
        };
        assert_eq!(step(None, Some(0)), Step::Setgid);
        assert_eq!(step(Some(0), None), Step::Setuid);
        println!("denied");
        return;
    }
    need_root();
    let (child, mut output) = fixture_as("what_nobody_may_not_do_is_said_with_its_step", NOBODY);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(wait(&child), Exit::Code(0), "{text}");
    assert!(text.contains("denied"), "{text}");
}

#[test]
fn the_kill_at_our_death_outlives_the_change_of_user() {
    need_root();
    if env::var_os(FIXTURE).is_some() {
        let spawn = Spawn {
            program: "/bin/sh".into(),
            argv: ["sh", "-c", "echo child $(id -u); exec tail -f /dev/null"].map(Into::into).into(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            fds: vec![None, Some(Source::Inherit(1)), Some(Source::Inherit(2))],
            uid: Some(NOBODY),
            gid: Some(NOBODY),
            process_group: Group::Own,
            parent_death_signal: Some(KILL),
            ..Spawn::default()
        };
        let child = spawn.spawn().unwrap();
        wait(&child);
        panic!("the child ended before its parent");
    }
    let (parent, output) = fixture("the_kill_at_our_death_outlives_the_change_of_user");
    let mut lines = output.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(&format!("child {NOBODY}"))));
    parent.pidfd.kill(KILL).unwrap();
    // The pipe ends when nobody has it any more: neither the parent nor the child.
    assert_eq!(lines.collect::<Vec<_>>(), [""; 0]);
    wait(&parent);
}

/// It can say how it is, and nobody else can say it for it.
#[test]
fn a_worker_that_becomes_somebody_else_has_its_own_notify_socket() {
    need_root();
    // Where everybody may execute it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("notify");
    fs::copy(example("notify"), &program).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sent_by = |uid, socket: &str| {
        let spawn = Spawn {
            program: program.clone().into(),
            argv: ["notify", "STATUS=by another"].map(Into::into).into(),
            env: vec![("NOTIFY_SOCKET".into(), socket.into())],
            fds: vec![None, None, None],
            uid: Some(uid),
            ..Spawn::default()
        };
        wait(&spawn.spawn().unwrap())
    };
    runtime.block_on(async {
        let mut settings = Settings::new(program.clone());
        (settings.uid, settings.gid) = (Some(NOBODY), Some(NOBODY));
        settings.env = vec![("PORT".into(), "0".into())];
        let mut guard = Guard::new(Primary::new(settings).unwrap(), Config::default(), None);
        let ready = async {
            loop {
                let Some(report) = guard.next().await else { panic!("the gang has ended") };
                if let Report::Notice { notice: Notice::WorkerReady { worker, .. }, .. } = report {
                    return guard.worker(worker).unwrap().pid;
                }
            }
        };
        let pid = tokio::time::timeout(Duration::from_secs(20), ready).await.expect("READY=1 is not heard");
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        let socket = environment.split('\0').find_map(|entry| entry.strip_prefix("NOTIFY_SOCKET=")).unwrap();
        assert_eq!(sent_by(NOBODY, socket), Exit::Code(0));
        assert_eq!(sent_by(NOBODY - 1, socket), Exit::Code(1));
    });
}

/// Who opens the gang's sockets may be root, and the agent is not, unless that is said.
#[test]
fn the_agent_becomes_whom_the_workers_become_or_somebody_of_its_own() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (own, expected) in [(None, NOBODY), (Some(NOBODY - 1), NOBODY - 1), (Some(0), 0)] {
        let file = directory.path().join(expected.to_string());
        let mut agent = AgentSettings::new("/bin/sh");
        let script = "echo $(id -u) $(id -g) $(stat -c %u \"$NOTIFY_SOCKET\") > \"$0\"";
        agent.args = vec!["-c".into(), script.into(), file.clone().into()];
        (agent.uid, agent.gid, agent.channel) = (own, own, false);
        let mut settings = Settings::new("/bin/true");
        (settings.uid, settings.gid) = (Some(NOBODY), Some(NOBODY));
        settings.agent = Some(agent);
        runtime.block_on(async {
            let mut primary = Primary::new(settings).unwrap();
            primary.start_agent().unwrap();
            while primary.next().await.is_some() {}
        });
        assert_eq!(fs::read_to_string(file).unwrap(), format!("{expected} {expected} {expected}\n"));
    }
}

const FIXTURE: &str = "GANGER_TEST_FIXTURE";

/// An example of this crate, as built by the test command.
fn example(name: &str) -> PathBuf {
    let this = env::current_exe().unwrap();
    let example = this.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(example.exists(), "{} is not built: run `cargo xtask test`", example.display());
    example
}

/// A test again, in a process of its own.
fn fixture(test: &str) -> (Spawned, BufReader<File>) {
    start_fixture(&env::current_exe().unwrap(), test, None)
}

/// The same, as somebody else, who may not be allowed to come by the original.
fn fixture_as(test: &str, uid: u32) -> (Spawned, BufReader<File>) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = directory.path().join("system");
    fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    // It executes the copy by now, which may be removed.
    start_fixture(&copy, test, Some(uid))
}

fn start_fixture(program: &Path, test: &str, uid: Option<u32>) -> (Spawned, BufReader<File>) {
    let (ours, theirs): (OwnedFd, OwnedFd) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let spawn = Spawn {
        program: program.into(),
        argv: ["system", "--exact", test, "--nocapture"].map(Into::into).into(),
        env: env::vars_os().chain([(FIXTURE.into(), "1".into())]).collect(),
        cwd: Some("/".into()),
        fds: vec![None, Some(Source::Owned(theirs)), Some(Source::Inherit(2))],
        uid,
        gid: uid,
        ..Spawn::default()
    };
    (spawn.spawn().unwrap(), BufReader::new(File::from(ours)))
}
