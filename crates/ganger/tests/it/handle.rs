//! Sockets that travel with messages: what they are, they stay.

use std::{
    fs::File,
    io::{self, ErrorKind},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
};

use ganger::{
    Channel,
    channel::Received,
    handle::{Handle, Kind},
    sys::socket,
};
use tokio::net;

use crate::support::{Directory, run};

/// A conversion that has nothing to show but its success.
type Conversion = fn(Handle) -> Result<(), Handle>;

const CONVERSIONS: [(Kind, Conversion); 5] = [
    (Kind::TcpListener, convert::<net::TcpListener>),
    (Kind::TcpStream, convert::<net::TcpStream>),
    (Kind::Udp, convert::<net::UdpSocket>),
    (Kind::UnixListener, convert::<net::UnixListener>),
    (Kind::UnixStream, convert::<net::UnixStream>),
];

fn convert<T: TryFrom<Handle, Error = Handle>>(handle: Handle) -> Result<(), Handle> {
    T::try_from(handle).map(drop)
}

/// One handle of each kind, in the order of [`CONVERSIONS`].
fn each(directory: &Directory) -> [Handle; 5] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    [
        listener.into(),
        stream.into(),
        UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        UnixListener::bind(directory.path("socket")).unwrap().into(),
        UnixStream::pair().unwrap().0.into(),
    ]
}

#[test]
fn the_kernel_says_the_same_kind_as_the_type() {
    for ((kind, _), handle) in CONVERSIONS.into_iter().zip(each(&Directory::new())) {
        assert_eq!(handle.kind(), kind);
        assert_eq!(Handle::try_from(OwnedFd::from(handle)).unwrap().kind(), kind);
    }
}

#[test]
fn a_handle_becomes_what_it_is_and_a_wrong_conversion_gives_it_back() {
    run(async {
        for (kind, mut handle) in CONVERSIONS.map(|(kind, _)| kind).into_iter().zip(each(&Directory::new())) {
            for (_, wrong) in CONVERSIONS.iter().filter(|(other, _)| *other != kind) {
                handle = wrong(handle).unwrap_err();
                assert_eq!(handle.kind(), kind);
            }
            let (_, right) = CONVERSIONS.into_iter().find(|(other, _)| *other == kind).unwrap();
            assert!(right(handle).is_ok(), "{kind:?}");
        }
    });
}

#[test]
fn without_a_runtime_the_handle_comes_back() {
    for ((kind, conversion), handle) in CONVERSIONS.into_iter().zip(each(&Directory::new())) {
        assert_eq!(conversion(handle).unwrap_err().kind(), kind);
    }
}

#[test]
fn what_is_no_socket_is_refused() {
    let file = OwnedFd::from(File::open("/dev/null").unwrap());
    assert_eq!(Handle::try_from(file).unwrap_err().kind(), ErrorKind::InvalidInput);
    let (pipe, _) = io::pipe().unwrap();
    assert_eq!(Handle::try_from(OwnedFd::from(pipe)).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_kind_survives_the_journey() {
    run(async {
        let (ours, theirs) = socket::channel_pair().unwrap();
        let (mut ours, mut theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        for ((kind, conversion), handle) in CONVERSIONS.into_iter().zip(each(&Directory::new())) {
            ours.send_with("for you", Some(handle)).unwrap();
            let received = tokio::select! {
                received = theirs.recv() => received,
                _ = ours.recv() => panic!("nobody sent anything this way"),
            };
            let Some(Received::Message(message)) = received else { panic!("{received:?}") };
            assert_eq!(message.as_json(), "\"for you\"");
            let handle = message.handle.unwrap();
            assert_eq!(handle.kind(), kind);
            assert!(conversion(handle).is_ok(), "{kind:?}");
        }
    });
}
