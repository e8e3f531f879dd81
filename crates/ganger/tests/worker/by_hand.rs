//! A worker written by hand: the wire, line by line, at the very moments that matter.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream as StdTcpStream,
    os::fd::{AsFd, OwnedFd},
};

use ganger::{
    cluster::Policy,
    sys::{fd, socket},
};
use libtest_mimic::Trial;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    boss::{Boss, Under},
    support::exchange,
    trial,
};

pub(crate) fn trials(trials: &mut Vec<Trial>) {
    let under = Under::Ganger(&Policy::RoundRobin);
    trial(trials, "acknowledged and untouched", under, untouched_goes_to_another);
    trial(trials, "acknowledged and touched", under, touched_is_closed);
    trial(trials, "refused by all", under, refused_by_all_is_closed);
    trial(trials, "speaks before it is online", under, a_worker_need_not_be_online);
    trial(trials, "connections by the lane", under, connections_come_by_the_lane);
    trial(trials, "a lane of another version", under, another_version_is_not_spoken);
    trial(trials, "a flood of answers on a lane", under, |under| flooded(under, "flood-of-answers"));
    trial(trials, "a flood of nonsense on a lane", under, |under| flooded(under, "flood-of-nonsense"));
    trial(trials, "died with what the lane had brought", under, what_the_lane_brought_goes_to_another);
}

/// Our end of the channel, in plain words.
struct Wire {
    channel: OwnedFd,
    buffer: Vec<u8>,
    lines: VecDeque<String>,
    handles: Vec<OwnedFd>,
    seq: u64,
}

impl Wire {
    fn inherited() -> Self {
        let channel = fd::adopt(3).unwrap();
        Self { channel, buffer: Vec::new(), lines: VecDeque::new(), handles: Vec::new(), seq: 0 }
    }

    fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        assert_eq!(socket::send(self.channel.as_fd(), line.as_bytes(), None).unwrap(), line.len());
    }

    fn act(&mut self, mut message: Value) {
        message["cmd"] = "NODE_CLUSTER".into();
        message["seq"] = self.seq.into();
        self.seq += 1;
        self.say(&message);
    }

    /// The next message; its descriptor is in `handles`. The primary's end is ours.
    fn hear(&mut self) -> Value {
        while self.lines.is_empty() {
            let mut buffer = [0; 4096];
            match socket::receive(self.channel.as_fd(), &mut buffer, &mut self.handles) {
                Ok(received) if received.bytes == 0 => std::process::exit(0),
                Ok(received) => self.buffer.extend(&buffer[..received.bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.channel, PollFlags::IN)], None).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                self.lines.push_back(String::from_utf8(line).unwrap());
            }
        }
        serde_json::from_str(&self.lines.pop_front().unwrap()).unwrap()
    }

    fn listen(&mut self) {
        let query = json!({
            "index": 0, "data": null, "address": "127.0.0.1", "port": 0, "addressType": 4, "flags": 0, "backlog": 0
        });
        let asked = self.seq;
        let mut message = query.clone();
        message["act"] = "queryServer".into();
        self.act(message);
        let reply = self.hear();
        assert_eq!((&reply["ack"], &reply["errno"]), (&asked.into(), &Value::Null), "{reply}");
        let mut message = query;
        message["act"] = "listening".into();
        message["port"] = reply["sockname"]["port"].clone();
        self.act(message);
    }

    /// The next connection, acknowledged and not answered for; and the number to answer to.
    fn connection(&mut self) -> (StdTcpStream, Value) {
        let message = self.hear();
        assert_eq!(message["msg"]["act"], "newconn", "{message}");
        self.say(&json!({ "cmd": "NODE_HANDLE_ACK" }));
        let connection = StdTcpStream::from(self.handles.remove(0));
        connection.set_nonblocking(false).unwrap();
        (connection, message["msg"]["seq"].clone())
    }
}

/// The far end of the lane, which lies behind the channel; the version is said first.
fn lane(version: u8) -> OwnedFd {
    assert_eq!(std::env::var("GANGER_LANE_FD").as_deref(), Ok("4"));
    let lane = fd::adopt(4).unwrap();
    socket::send_packet(lane.as_fd(), &[b'G', version], &[]).unwrap();
    lane
}

/// Takes connections from the lane, several in a packet.
fn play_on_lane(part: &str, lane: &OwnedFd, wire: &mut Wire) -> ! {
    let mut answered = 0;
    loop {
        let (mut packet, mut connections) = ([0; 4096], Vec::new());
        poll(&mut [PollFd::new(lane, PollFlags::IN)], None).unwrap();
        let received = socket::receive(lane.as_fd(), &mut packet, &mut connections).unwrap();
        if received.bytes == 0 {
            std::process::exit(0);
        }
        // C, the length of the key, the key, and a number of 8 bytes for each descriptor.
        let key = usize::from(u16::from_le_bytes([packet[1], packet[2]]));
        let seqs = &packet[3 + key..received.bytes];
        assert_eq!((packet[0], seqs.len()), (b'C', 8 * connections.len()));
        if part == "lane-holding" {
            wire.say(&json!("holding"));
            wire.hear();
        }
        let mut answers = vec![b'A'];
        for (seq, connection) in seqs.chunks(8).zip(connections) {
            answers.extend(seq);
            answers.push(1);
            answered += 1;
            let mut connection = StdTcpStream::from(connection);
            connection.set_nonblocking(false).unwrap();
            connection.write_all(format!("by lane {answered}").as_bytes()).unwrap();
        }
        socket::send_packet(lane.as_fd(), &answers, &[]).unwrap();
    }
}

/// Says on the lane without end what it never should, once it is told to.
fn flood_the_lane(part: &str, lane: &OwnedFd, wire: &mut Wire) -> ! {
    wire.hear();
    // Answers for a connection that nobody has, as many as a packet takes; or no packet.
    let answer: &[u8] = &[0x67, 0x12, 0, 0, 0, 0, 0, 0, 1];
    let packet =
        if part == "flood-of-answers" { [b"A", &answer.repeat(1024)[..]].concat() } else { vec![b'X'; 100] };
    loop {
        match socket::send_packet(lane.as_fd(), &packet, &[]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(lane, PollFlags::OUT)], None).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The worker's part.
pub(crate) fn play(part: &str) {
    let mut wire = Wire::inherited();
    if part.starts_with("flood") {
        let lane = lane(1);
        wire.act(json!({ "act": "online" }));
        flood_the_lane(part, &lane, &mut wire);
    }
    if part.starts_with("lane") {
        let lane = lane(1);
        wire.act(json!({ "act": "online" }));
        wire.listen();
        play_on_lane(part, &lane, &mut wire);
    }
    if part == "another-version" {
        let lane = lane(99);
        // It stays open, and nothing comes.
        std::mem::forget(lane);
    }
    if part != "not-online" {
        wire.act(json!({ "act": "online" }));
    }
    wire.listen();
    loop {
        let (mut connection, seq) = wire.connection();
        match part {
            "untouched" => {
                wire.say(&json!("holding"));
                wire.hear();
            }
            "touched" => {
                connection.read_exact(&mut [0]).unwrap();
                wire.say(&json!("holding"));
                wire.hear();
            }
            "refusing" => wire.act(json!({ "ack": seq, "accepted": false })),
            "not-online" | "another-version" => {
                wire.act(json!({ "ack": seq, "accepted": true }));
                connection.write_all(b"by hand").unwrap();
            }
            other => panic!("no such part: {other}"),
        }
    }
}

/// A worker that has a connection, of which its client has sent the first words, and dies with it.
async fn dies_with_a_connection(part: &str) -> TcpStream {
    let mut boss = Boss::new(Under::Ganger(&Policy::RoundRobin), &["by-hand", part]);
    let worker = boss.fork();
    let address = boss.event(worker, "listening").await;
    let mut client = TcpStream::connect(address.as_str().unwrap()).await.unwrap();
    client.write_all(b"first words").await.unwrap();
    assert_eq!(boss.message(worker).await, "holding");
    boss.set_args(&["remote"]);
    let (other, same) = boss.fork_serving("127.0.0.1:0").await;
    assert_eq!(same, address.as_str().unwrap());
    boss.kill(worker);
    boss.event(worker, "exit").await;
    // The other one serves on, whatever becomes of this client.
    let mut connection = TcpStream::connect(&same).await.unwrap();
    assert_eq!(exchange(&mut connection, "x").await, format!("{other} x"));
    client
}

async fn untouched_goes_to_another(_: Under) {
    let mut client = dies_with_a_connection("untouched").await;
    let mut answer = [0; 13];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"2 first words");
}

async fn what_the_lane_brought_goes_to_another(_: Under) {
    let mut client = dies_with_a_connection("lane-holding").await;
    let mut answer = [0; 13];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"2 first words");
}

async fn connections_come_by_the_lane(under: Under) {
    let mut boss = Boss::new(under, &["by-hand", "lane"]);
    let worker = boss.fork();
    let address = boss.event(worker, "listening").await;
    // More than its window: each answer makes room.
    for number in 1..=100 {
        let mut client = TcpStream::connect(address.as_str().unwrap()).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, format!("by lane {number}"));
    }
}

/// One that does nothing else keeps nobody waiting.
async fn flooded(under: Under, part: &str) {
    let mut boss = Boss::new(under, &["by-hand", part]);
    let rogue = boss.fork();
    boss.event(rogue, "online").await;
    boss.set_args(&["remote"]);
    let (other, address) = boss.fork_serving("127.0.0.1:0").await;
    boss.send(rogue, json!("now"));
    // In the middle of it.
    boss.event(rogue, part).await;
    for _ in 0..10 {
        let mut client = TcpStream::connect(&address).await.unwrap();
        assert_eq!(exchange(&mut client, "x").await, format!("{other} x"));
    }
    boss.kill(rogue);
    boss.event(rogue, "exit").await;
    let mut client = TcpStream::connect(&address).await.unwrap();
    assert_eq!(exchange(&mut client, "x").await, format!("{other} x"));
}

async fn another_version_is_not_spoken(under: Under) {
    let mut boss = Boss::new(under, &["by-hand", "another-version"]);
    let worker = boss.fork();
    let address = boss.event(worker, "listening").await;
    let mut client = TcpStream::connect(address.as_str().unwrap()).await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "by hand");
}

async fn touched_is_closed(_: Under) {
    let mut client = dies_with_a_connection("touched").await;
    // Nobody else could make sense of the rest. Unread bytes make it a reset.
    match client.read(&mut [0]).await {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

async fn refused_by_all_is_closed(under: Under) {
    let mut boss = Boss::new(under, &["by-hand", "refusing"]);
    let worker = boss.fork();
    let address = boss.event(worker, "listening").await;
    let mut client = TcpStream::connect(address.as_str().unwrap()).await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

async fn a_worker_need_not_be_online(under: Under) {
    let mut boss = Boss::new(under, &["by-hand", "not-online"]);
    let worker = boss.fork();
    let address = boss.event(worker, "listening").await;
    assert_eq!(boss.count(worker, "before online"), 2, "it asked, and said that it listens");
    let mut client = TcpStream::connect(address.as_str().unwrap()).await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "by hand");
}
