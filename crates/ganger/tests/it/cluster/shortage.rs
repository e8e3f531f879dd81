//! No descriptor is left, and connections are served all the same.

use ganger::cluster::Policy;
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use tokio::task::JoinSet;

use crate::support::{Directory, Fixture, Gang, NODE, ask, is_fixture, run};

#[test]
fn the_primary_serves_without_a_free_descriptor() {
    run(async {
        if is_fixture() {
            return primary().await;
        }
        let mut fixture =
            Fixture::start("cluster::shortage::the_primary_serves_without_a_free_descriptor", &[]);
        let address = fixture.said("listening on ").await.parse().unwrap();
        let mut clients = JoinSet::new();
        for _ in 0..50 {
            clients.spawn(ask(address));
        }
        assert_eq!(clients.join_all().await, vec!["served"; 50]);
    });
}

async fn primary() {
    let directory = Directory::new();
    let script = "require('node:net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1');";
    let mut gang = Gang::new(directory.workers(NODE, Policy::RoundRobin, script));
    let (_, address) = gang.fork_listening().await;
    let limit = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut taken = Vec::new();
    let shortage = loop {
        match rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0) {
            Ok(fd) => taken.push(fd),
            Err(error) => break error,
        }
    };
    assert_eq!(shortage, Errno::MFILE);
    println!("listening on {address}");
    gang.exit().await;
    panic!("the worker ended: {taken:?}");
}
