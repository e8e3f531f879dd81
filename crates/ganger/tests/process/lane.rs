//! The native lane between a Rust parent and a Rust child.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
};

use ganger::{
    channel::{DESCRIPTORS, Lane},
    process::Command,
};
use libtest_mimic::Trial;

use crate::{
    kid::{Kid, message_of, story},
    part, row,
    support::Directory,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        row("any descriptor on the lane", any_descriptor),
        row("many descriptors at once on the lane", many_at_once),
        row("a lane for who has no use for it", ignored),
    ]
}

/// What Node could not take travels here: files, pipes, datagram sockets.
async fn any_descriptor() {
    let mut command = Command::fork(std::env::current_exe().unwrap());
    let mut child =
        command.env(part::VARIABLE, "kid write to what the lane brings").lane(true).spawn().unwrap();
    let mut lane = child.take_lane().unwrap();
    assert!(child.take_lane().is_none());
    let directory = Directory::new();
    let mut file =
        File::options().read(true).write(true).create_new(true).open(directory.path("file")).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (socket, other) = UnixDatagram::pair().unwrap();
    lane.send(b"3", &[file.as_fd(), writer.as_fd(), other.as_fd()]).await.unwrap();
    drop((writer, other));
    assert_eq!(message_of(&mut child).await, "written");
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the child");
    child.disconnect();
    drop(lane);
    assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the child");
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"from the child");
}

/// The child's part.
pub(crate) async fn write_to_what_it_brings(lane: &mut Lane) {
    let (note, descriptors) = lane.recv().await.unwrap().unwrap();
    assert_eq!(note, descriptors.len().to_string().as_bytes());
    for descriptor in descriptors {
        File::from(descriptor).write_all(b"from the child").unwrap();
    }
}

async fn many_at_once() {
    let (mut one, mut other) = Lane::pair().unwrap();
    let files: Vec<OwnedFd> = (0..=DESCRIPTORS).map(|_| File::open("/dev/null").unwrap().into()).collect();
    let all: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    assert!(one.send(b"", &all).await.is_err(), "one too many");
    one.send(b"all", &all[..DESCRIPTORS]).await.unwrap();
    one.send(b"none", &[]).await.unwrap();
    let (note, descriptors) = other.recv().await.unwrap().unwrap();
    assert_eq!((&note[..], descriptors.len()), (&b"all"[..], DESCRIPTORS));
    let (note, descriptors) = other.recv().await.unwrap().unwrap();
    assert_eq!((&note[..], descriptors.len()), (&b"none"[..], 0));

    // When it is full, the sender waits for the receiver.
    let sender = async {
        for number in 0..2000_u32 {
            one.send(&number.to_le_bytes(), &all[..1]).await.unwrap();
        }
        drop(one);
    };
    let receiver = async {
        let mut next = 0_u32;
        while let Some((note, descriptors)) = other.recv().await.unwrap() {
            assert_eq!((&note[..], descriptors.len()), (&next.to_le_bytes()[..], 1));
            next += 1;
        }
        next
    };
    assert_eq!(tokio::join!(sender, receiver).1, 2000);
}

async fn ignored() {
    for kid in [Kid::Node("24"), Kid::Rust] {
        let directory = Directory::new();
        let mut child = kid.command(&directory, "send environment").lane(true).spawn().unwrap();
        let env = message_of(&mut child).await;
        // It is taken out together with the channel.
        assert_eq!(env.get("GANGER_LANE_FD").is_some(), kid != Kid::Rust);
        assert_eq!(story(&mut child).await.last().unwrap(), "close exit code 0");
    }
}
