//! No descriptor is left to receive one with. Each test is in a process of its own.

use std::os::{
    fd::{AsFd, OwnedFd},
    unix::net::UnixStream,
};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::by_hand::{ACK, HANDLE, NACK, is_same, joined, message};
use crate::support::{Fixture, is_fixture, run};

/// Runs a test again, in a process of its own.
async fn elsewhere(test: &str) {
    let mut fixture = Fixture::start(&format!("pitfalls::shortage::{test}"), &[]);
    fixture.said("it went well").await;
}

/// Takes every descriptor that there is.
fn take_all() -> Vec<OwnedFd> {
    let limit = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut taken = Vec::new();
    loop {
        match rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0) {
            Ok(fd) => taken.push(fd),
            Err(error) => break assert_eq!(error, Errno::MFILE),
        }
    }
    taken
}

/// `MSG_CTRUNC`: the message is refused, and the ones after it come. As a real Node does.
#[test]
fn pitfall_01_a_full_table_refuses_the_handle_and_loses_no_message() {
    run(async {
        if !is_fixture() {
            return elsewhere("pitfall_01_a_full_table_refuses_the_handle_and_loses_no_message").await;
        }
        let (mut channel, peer) = joined();
        let (socket, other) = (UnixStream::pair().unwrap().0, UnixStream::pair().unwrap().0);
        peer.send("1\n", &[]);
        message(&mut channel).await;
        let mut taken = take_all();
        for round in 0..3 {
            peer.send(HANDLE, &[socket.as_fd()]);
            peer.send(format!("{round}\n"), &[]);
            assert_eq!(message(&mut channel).await.0, round);
            assert_eq!(peer.said(), NACK);
        }
        // Of two descriptors there is room for one: it is the first one's.
        taken.pop();
        peer.send(HANDLE.repeat(2), &[socket.as_fd(), other.as_fd()]);
        peer.send("\"after\"\n", &[]);
        let (_, handle) = message(&mut channel).await;
        assert!(is_same(handle.unwrap(), &socket));
        assert_eq!(message(&mut channel).await.0, "after");
        assert_eq!(peer.said(), format!("{ACK}{NACK}"));
        drop(taken);
        peer.send(HANDLE, &[other.as_fd()]);
        assert!(is_same(message(&mut channel).await.1.unwrap(), &other));
        println!("it went well");
    });
}
