use std::collections::BTreeSet;
use std::fs::File;
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use super::*;
use crate::sys::fixture;
use crate::sys::pidfd::Exit;

fn program(argv: &[&str]) -> Spawn {
    Spawn {
        program: argv[0].into(),
        argv: argv.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        fds: vec![null(), None, Some(Source::Inherit(2))],
        ..Spawn::default()
    }
}

fn sh(script: &str) -> Spawn {
    program(&["sh", "-c", script])
}

fn null() -> Option<Source> {
    Some(Source::Owned(File::open("/dev/null").unwrap().into()))
}

fn with_stdout(mut spawn: Spawn) -> (Spawn, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    spawn.fds[1] = Some(Source::Owned(writer.into()));
    (spawn, reader)
}

#[track_caller]
fn wait(spawned: &Spawned) -> Exit {
    ready(&spawned.pidfd);
    spawned.pidfd.try_wait().unwrap().unwrap()
}

#[track_caller]
fn ready(fd: impl std::os::fd::AsFd) {
    let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&minute)).unwrap(), 1, "in a minute");
}

/// What the program wrote before it exited with 0.
#[track_caller]
fn output(spawn: Spawn) -> String {
    let (spawn, mut reader) = with_stdout(spawn);
    let spawned = spawn.spawn().unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(wait(&spawned), Exit::Code(0), "{text}");
    text
}

#[track_caller]
fn failure(spawn: Spawn) -> (Step, Option<i32>) {
    let error = spawn.spawn().unwrap_err();
    (error.step, error.source.raw_os_error())
}

fn script(directory: &Path, name: &str, text: &str, mode: u32) {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn exits_are_told() {
    assert_eq!(wait(&sh("exit 7").spawn().unwrap()), Exit::Code(7));
    let killed = wait(&sh("kill -KILL $$").spawn().unwrap());
    assert_eq!(killed, Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
}

#[test]
fn arguments_and_environment_are_exact() {
    let mut spawn = program(&["printf", "%s|", "", "a b", "*", "\u{e9}"]);
    assert_eq!(output(spawn), "|a b|*|\u{e9}|");

    spawn = program(&["env"]);
    spawn.env =
        [("A", "1"), ("B", ""), ("A", "2"), ("PATH", "/usr/bin")].map(|(k, v)| (k.into(), v.into())).into();
    assert_eq!(output(spawn), "A=1\nB=\nA=2\nPATH=/usr/bin\n");
}

#[test]
fn argv_0_is_the_callers() {
    let mut spawn = sh("printf %s \"$0\"");
    spawn.program = "/bin/sh".into();
    spawn.argv = ["-weird", "-c", "printf %s \"$0\""].map(Into::into).into();
    assert_eq!(output(spawn), "-weird");
}

#[test]
fn a_missing_program_and_a_missing_directory_are_told_apart() {
    assert_eq!(failure(program(&["no-such-program"])), (Step::Exec, Some(libc::ENOENT)));
    assert_eq!(failure(program(&["/no/such/program"])), (Step::Exec, Some(libc::ENOENT)));
    assert_eq!(failure(program(&[""])), (Step::Exec, Some(libc::ENOENT)));
    let mut spawn = sh(":");
    spawn.cwd = Some("/no/such/directory".into());
    assert_eq!(failure(spawn), (Step::Chdir, Some(libc::ENOENT)));
}

#[test]
fn a_failed_start_leaves_no_zombie() {
    fixture::own_process(concat!(module_path!(), "::a_failed_start_leaves_no_zombie"), || {
        failure(program(&["no-such-program"]));
        let left = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
        assert_eq!(left.unwrap_err(), rustix::io::Errno::CHILD);
    });
}

#[test]
fn the_path_is_the_childs_and_seen_from_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    for place in ["denied", "missing", "first", "second"] {
        std::fs::create_dir(directory.path().join(place)).unwrap();
    }
    script(&directory.path().join("denied"), "tool", "#!/bin/sh\necho denied", 0o644);
    script(&directory.path().join("first"), "tool", "#!/bin/sh\necho first", 0o755);
    script(&directory.path().join("second"), "tool", "#!/bin/sh\necho second", 0o755);
    script(directory.path(), "here", "#!/bin/sh\necho here", 0o755);
    let start = |name: &str, path: &str| {
        let mut spawn = program(&[name]);
        spawn.env = vec![("PATH".into(), path.into())];
        spawn.cwd = Some(directory.path().into());
        spawn
    };
    assert_eq!(output(start("tool", "missing:denied:first:second")), "first\n");
    assert_eq!(output(start("./second/tool", "first")), "second\n");
    assert_eq!(output(start("here", "first::second")), "here\n");
    assert_eq!(failure(start("tool", "denied:missing")), (Step::Exec, Some(libc::EACCES)));
    assert_eq!(failure(start("./denied/tool", "first")), (Step::Exec, Some(libc::EACCES)));
    assert_eq!(failure(start("tool", "missing:here")), (Step::Exec, Some(libc::ENOTDIR)));

    let mut without = program(&["true"]);
    without.env.clear();
    output(without);
}

#[test]
fn a_script_without_an_interpreter_goes_to_the_shell() {
    let directory = tempfile::tempdir().unwrap();
    script(directory.path(), "bare", "printf '%s ' \"${0##*/}\" \"$@\"", 0o755);
    let mut spawn = program(&["bare", "one", "two"]);
    spawn.env = vec![("PATH".into(), directory.path().into())];
    assert_eq!(output(spawn), "bare one two ");
}

#[test]
fn a_nul_byte_is_found_before_anything_starts() {
    let nul = || OsString::from("a\0b");
    let spawns = [
        Spawn { program: nul(), ..sh(":") },
        Spawn { argv: vec!["sh".into(), nul()], ..sh(":") },
        Spawn { env: vec![("A".into(), nul())], ..sh(":") },
        Spawn { cwd: Some(nul().into()), ..sh(":") },
        Spawn { pid_variable: Some(nul()), ..sh(":") },
    ];
    for spawn in spawns {
        let error = spawn.spawn().unwrap_err();
        assert_eq!((error.step, error.source.kind()), (Step::Prepare, io::ErrorKind::InvalidInput));
    }
}

#[test]
fn errors_say_what_could_not_be_done() {
    let error = program(&["no-such-program"]).spawn().unwrap_err();
    assert_eq!(error.to_string(), "cannot execute the program");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "No such file or directory (os error 2)");
}

#[test]
fn descriptors_can_trade_places() {
    let holding = |text: &str| {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        reader
    };
    let (one, two) = (holding("one "), holding("two "));
    let (a, b) = (one.as_raw_fd(), two.as_raw_fd());
    let mut spawn = program(&["cat", &format!("/proc/self/fd/{a}"), &format!("/proc/self/fd/{b}")]);
    spawn.fds.resize_with(a.max(b) as usize + 1, || None);
    spawn.fds[b as usize] = Some(Source::Owned(one.into()));
    spawn.fds[a as usize] = Some(Source::Owned(two.into()));
    assert_eq!(output(spawn), "two one ");
}

#[test]
fn a_descriptor_can_keep_its_number_and_serve_twice() {
    let (reader, writer) = pipe().unwrap();
    let number = writer.as_raw_fd();
    let mut spawn = sh(&format!("echo kept >/proc/self/fd/{number}; echo moved >&2"));
    spawn.fds.resize_with(number as usize + 1, || None);
    spawn.fds[2] = Some(Source::Inherit(number));
    spawn.fds[number as usize] = Some(Source::Owned(writer.into()));
    let spawned = spawn.spawn().unwrap();
    assert_eq!(io::read_to_string(reader).unwrap(), "kept\nmoved\n");
    assert_eq!(wait(&spawned), Exit::Code(0));
}

#[test]
fn no_other_descriptor_is_in_the_child() {
    let file = File::open("/dev/null").unwrap();
    let leaky = fcntl_dupfd_cloexec(&file, 200).unwrap();
    fcntl_setfd(&leaky, FdFlags::empty()).unwrap();

    let mut spawn = program(&["ls", "/proc/self/fd"]);
    spawn.fds.resize_with(8, || None);
    spawn.fds[7] = null();
    // `ls` has the directory open at the lowest number that is free.
    let open: BTreeSet<i32> = output(spawn).lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(open, BTreeSet::from([0, 1, 2, 3, 7]));
}

#[test]
fn a_number_that_is_not_open_is_told() {
    let mut spawn = sh(":");
    spawn.fds[0] = Some(Source::Inherit(1_000_000));
    assert_eq!(failure(spawn), (Step::Descriptors, Some(libc::EBADF)));
    let mut spawn = sh(":");
    spawn.fds[0] = Some(Source::Inherit(-1));
    assert_eq!(failure(spawn), (Step::Prepare, Some(libc::EBADF)));
}

#[test]
fn owned_descriptors_are_the_childs_alone() {
    let (spawn, mut reader) = with_stdout(sh("echo x"));
    let spawned = spawn.spawn().unwrap();
    let mut text = String::new();
    // Ends only because nobody here holds the other end any more.
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(wait(&spawned), Exit::Code(0));

    let (mut spawn, mut reader) = with_stdout(sh(":"));
    spawn.program = "no-such-program".into();
    spawn.spawn().unwrap_err();
    assert_eq!(reader.read_to_string(&mut text).unwrap(), 0);
}

#[test]
fn the_working_directory_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let mut spawn = program(&["pwd", "-P"]);
    spawn.cwd = Some(directory.path().into());
    let expected = directory.path().canonicalize().unwrap();
    assert_eq!(output(spawn).trim_end(), expected.to_str().unwrap());
}

#[test]
fn the_pid_variable_is_the_childs_pid() {
    let mut spawn = sh("echo $$ $LISTEN_PID; env | grep -c ^LISTEN_PID=");
    spawn.pid_variable = Some("LISTEN_PID".into());
    spawn.env.push(("LISTEN_PID".into(), "1".into()));
    let (spawn, mut reader) = with_stdout(spawn);
    let spawned = spawn.spawn().unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, format!("{0} {0}\n1\n", spawned.pid));
    assert_eq!(wait(&spawned), Exit::Code(0));
}

#[test]
fn process_groups() {
    let of = |group| {
        let mut spawn = sh("exec cut -d' ' -f5,6 /proc/self/stat");
        spawn.process_group = group;
        let (spawn, mut reader) = with_stdout(spawn);
        let spawned = spawn.spawn().unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(wait(&spawned), Exit::Code(0));
        (spawned.pid, text.trim_end().to_owned())
    };
    // Read where the child reads it: either number is 0 if its leader is outside our pid namespace.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let [group, session] = [2, 3].map(|field| after_name.split(' ').nth(field).unwrap());
    let (_, same) = of(Group::Same);
    assert_eq!(same, format!("{group} {session}"));
    let (pid, own) = of(Group::Own);
    assert_eq!(own, format!("{pid} {session}"));
    let (pid, new) = of(Group::Session);
    assert_eq!(new, format!("{pid} {pid}"));
}

#[test]
fn signals_are_at_their_defaults() {
    fixture::own_process(concat!(module_path!(), "::signals_are_at_their_defaults"), || {
        for signal in [libc::SIGPIPE, libc::SIGUSR1, libc::SIGHUP, libc::SIGRTMIN() + 3] {
            // SAFETY: ignoring runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        let blocked = child::set_signal_mask(u64::MAX);
        let status = output(program(&["cat", "/proc/self/status"]));
        let after = child::set_signal_mask(blocked);
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!(field("SigIgn:"), "0000000000000000");
        assert_eq!(field("SigBlk:"), "0000000000000000");
        let unblockable = 1_u64 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        assert_eq!(after, !unblockable, "our own mask is as before");
    });
}

#[test]
fn the_limit_of_descriptors_is_given_back() {
    fixture::own_process(concat!(module_path!(), "::the_limit_of_descriptors_is_given_back"), || {
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let low = rustix::process::Rlimit { current: Some(321), maximum: hard };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
        assert_eq!(output(sh("ulimit -n")), "321\n");

        let raised = crate::sys::fd::raise_nofile().unwrap();
        assert_eq!((raised.before, raised.now.current), (low, hard));
        assert_eq!(output(sh("ulimit -n")), "321\n");
    });
}

#[test]
fn user_and_group_are_taken_on_or_refused() {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut own = sh("id -u; id -g");
    (own.uid, own.gid) = (Some(uid.as_raw()), Some(gid.as_raw()));
    assert_eq!(output(own), format!("{uid}\n{gid}\n"));

    let mut other = sh("id -u; id -g; id -G");
    (other.uid, other.gid) = (Some(65_534), Some(65_533));
    if uid.is_root() {
        assert_eq!(output(other), "65534\n65533\n65533\n");
    } else {
        assert_eq!(failure(other), (Step::Setgid, Some(libc::EPERM)));
    }
}

#[test]
fn many_threads_can_start_processes_at_once() {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|n| scope.spawn(move || wait(&sh(&format!("exit {n}")).spawn().unwrap()))).collect();
        for (n, thread) in (0..).zip(threads) {
            assert_eq!(thread.join().unwrap(), Exit::Code(n));
        }
    });
}

#[test]
fn works_from_a_process_with_much_memory() {
    let memory = vec![1_u8; 256 << 20];
    assert_eq!(wait(&sh("exit 3").spawn().unwrap()), Exit::Code(3));
    assert_eq!(memory[memory.len() - 1], 1);
}

/// The child of a thread that has ended lives on; when the process is killed, it dies. It is seen to live by
/// its echo, and to die by the end of the pipe that it alone holds.
#[test]
fn the_death_signal_is_about_the_process_and_not_the_thread() {
    let path = concat!(module_path!(), "::the_death_signal_is_about_the_process_and_not_the_thread");
    if std::env::var_os(PARENT).is_some() {
        return short_lived_threads_child();
    }
    let mut parent = program(&["this test", "--exact", path.split_once("::").unwrap().1, "--nocapture"]);
    parent.program = std::env::current_exe().unwrap().into();
    parent.env.push((PARENT.into(), "1".into()));
    let (alive, held) = pipe().unwrap();
    parent.fds.push(Some(Source::Owned(held.into())));
    // Its own end of the leash, so that a failed test leaves nobody behind.
    let (parent, mut stdout) = with_stdout(parent);
    let parent = parent.spawn().unwrap();

    let mut seen = String::new();
    while !seen.contains("the child lives\n") {
        ready(&stdout);
        let mut buffer = [0; 256];
        let bytes = stdout.read(&mut buffer).unwrap();
        assert_ne!(bytes, 0, "the parent ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
    }
    parent.pidfd.kill(libc::SIGKILL).unwrap();
    assert_eq!(wait(&parent), Exit::Signal { signal: libc::SIGKILL, core_dumped: false });
    ready(&alive);
    assert_eq!({ alive }.read(&mut [0]).unwrap(), 0);
}

/// The middle process of the test above: descriptor 3 is for the child to hold.
fn short_lived_threads_child() {
    let (child_stdin, mut to_child) = pipe().unwrap();
    let (spawned, mut from_child, thread) = std::thread::spawn(move || {
        let mut spawn = program(&["cat"]);
        spawn.fds[0] = Some(Source::Owned(child_stdin.into()));
        // SAFETY: the test gave us this descriptor, and nothing else uses it.
        spawn.fds.push(Some(Source::Owned(unsafe { OwnedFd::from_raw_fd(3) })));
        spawn.parent_death_signal = Some(libc::SIGKILL);
        let (spawn, reader) = with_stdout(spawn);
        (spawn.spawn().unwrap(), reader, rustix::thread::gettid())
    })
    .join()
    .unwrap();
    // Joined is not yet ended for the kernel, which sends the signal at the very end.
    while Path::new(&format!("/proc/self/task/{thread}")).exists() {
        std::thread::yield_now();
    }
    to_child.write_all(b"echo").unwrap();
    let mut echo = [0; 4];
    from_child.read_exact(&mut echo).unwrap();
    assert_eq!(spawned.pidfd.try_wait().unwrap(), None);
    // On a line of its own, whatever the test harness has written before.
    println!("\nthe child lives");
    // Until killed; a minute is the net.
    let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(&from_child, PollFlags::IN)], Some(&minute));
}

const PARENT: &str = "GANGER_TEST_PARENT";
