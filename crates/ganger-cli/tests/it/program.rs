//! Programs that are not Node's.

use super::harness::{Process, Setup};

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
