//! Rows that ask for a user who is not root.

use std::env;

use ganger::process::{Command, Exit};
use libtest_mimic::Trial;

use crate::{part, row, support::Directory};

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

pub(crate) fn trials() -> Vec<Trial> {
    vec![row("test-child-process-uid-gid", uid_and_gid)]
}

/// Root drops to nobody in a child that then plays [`refused`]; anybody else plays it as he is.
async fn uid_and_gid() {
    // A copy, since nobody may not be allowed where this program is.
    let directory = Directory::new();
    let copy = directory.path("program");
    std::fs::copy(env::current_exe().unwrap(), &copy).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(""), open).unwrap();
    let mut command = Command::new(copy);
    command.env(part::VARIABLE, "refused").cwd("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.exec().await.unwrap();
    assert_eq!(output.stdout, "refused twice\n");
}

pub(crate) fn refused() {
    assert!(!rustix::process::geteuid().is_root());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let error = Command::new("echo").arg("fhqwhgads").uid(0).spawn().unwrap_err();
        assert_eq!((error.code(), error.errno()), ("EPERM", Some(1)));
        let text = "cannot start echo fhqwhgads: become the user: we are not allowed to (EPERM)";
        assert_eq!(error.to_string(), text);
        let error = Command::new("echo").gid(0).spawn().unwrap_err();
        assert_eq!(error.code(), "EPERM");
        // Oneself one may always be.
        let same = rustix::process::geteuid().as_raw();
        let exit = Command::new("true").uid(same).spawn().unwrap().wait().await.unwrap();
        assert_eq!(exit, Exit::Code(0));
    });
    println!("refused twice");
}
