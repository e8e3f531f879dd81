//! Programs that are not named as scripts.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::harness::{Process, Setup, node, on_every_node};

const SHELL: &str = "
    echo \"channel ${NODE_CHANNEL_FD-none} id ${NODE_UNIQUE_ID-none} slot $GANGER_SLOT said $SAID pid $$\"
    exec sleep 1000";

#[test]
fn an_interpreter_has_no_channel_and_is_stopped_by_signal() {
    let setup = Setup::without_node().file("app.sh", SHELL);
    let mut gang = setup.start("run -n 1 --env SAID=no --env SAID=a=b sh app.sh");
    let line = gang.prints("channel");
    let (said, pid) = line.rsplit_once(" pid ").unwrap();
    assert_eq!(said, "channel none id none slot 0 said a=b", "{}", gang.lines());
    let worker = Process::of(pid.parse().unwrap());
    gang.stop();
    worker.ends();
}

#[test]
fn a_native_program_has_a_channel() {
    let mut gang = Setup::without_node().start("run -n 1 --name shop env");
    // It ends at once, and so does the gang.
    assert_eq!(gang.ends(), Some(1), "{}", gang.lines());
    for variable in ["NODE_CHANNEL_FD=3", "NODE_UNIQUE_ID=1", "GANGER_NAME=shop", "GANGER_ROLE=worker"] {
        gang.prints(variable);
    }
    gang.says("died before it was ready: exit code 0");
}

/// What a program sees of how it was started. Under ganger it serves, by itself it only says so.
const VIEW: &str = "#!/usr/bin/env -S node --no-warnings
    const { argv, argv0, execArgv, execPath } = process;
    console.log(JSON.stringify({ argv, argv0, execArgv, execPath, main: require.main.filename }));
    if (process.send) require('http').createServer(() => {}).listen(0);";

/// It gets hints as any other program of Node's, and sees nothing of them.
#[test]
fn a_program_that_names_node_in_its_first_line_runs_with_hints() {
    on_every_node("#! line", |major| {
        for place in ["./server", "./node_modules/.bin/serve"] {
            let setup = Setup::new(major).file("server", VIEW).file("node_modules/.bin/x", "");
            fs::set_permissions(setup.path().join("server"), Permissions::from_mode(0o755)).unwrap();
            symlink("../../server", setup.path().join("node_modules/.bin/serve")).unwrap();
            let path = std::env::join_paths([node(major).parent().unwrap(), Path::new("/usr/bin")]).unwrap();
            let mut direct = Command::new(place);
            direct.args(["x", "-y"]).current_dir(setup.path()).env("PATH", path).env_remove("NODE_OPTIONS");
            let direct = String::from_utf8(direct.output().unwrap().stdout).unwrap();

            let mut gang = setup.start(&format!("run -n 1 {place} x -y"));
            let pid = gang.ready()[0];
            assert_eq!(gang.prints("argv"), direct.trim_end(), "{}", gang.lines());
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
            assert!(words.contains("--require=") && words.contains("/hints.cjs"), "{words}");
            gang.stop();
        }
    });
}
