//! Letters between the real processes of a gang: Node workers, a Node agent, and the primary.

use std::net::SocketAddr;

use ganger::{
    Guard, Serialization, WorkerId,
    cluster::{
        AgentError, AgentEvent, AgentSettings, Event, Policy, Primary, Settings, To, WorkerFault,
        messenger::{Party, QUEUE, Refusal, UNDELIVERED},
    },
    guard::{Config, Notice, Report, Verdict},
    process::Exit,
};
use serde_json::{Value, json};

use crate::support::{Directory, Gang, NODE, ask, example, node, run};

on_each_node! {
    every_address_is_found: "messenger",
    letters_in_the_advanced_serialization: "messenger, advanced",
    who_leaves_is_drawn_only_if_all_do: "a random one during a drain",
    bad_letters_are_answered: "bad letters",
    who_does_not_read_holds_up_nobody: "a receiver that does not read",
}

/// Says what it gets, and sends what it is told to send.
const PROGRAM: &str = "
    process.on('message', (message) => {
      if (message.send) message.send.forEach((one) => process.send(one));
      else if (message.big) process.send({ to: message.big, action: 'big', data: 'x'.repeat(1 << 20) });
      else if (message.block) { process.send('blocked'); for (;;); }
      else process.send(['got', message]);
    });
    const { GANGER_ROLE, GANGER_ID, GANGER_SLOT, NODE_APP_INSTANCE } = process.env;
    process.send(['up', require('cluster').isWorker, GANGER_ROLE, GANGER_ID.split('/').slice(1).join('/'),
      GANGER_SLOT ?? null, NODE_APP_INSTANCE ?? null]);";

const AGENT: Party = Party::Agent;
const ONE: Party = Party::Worker(WorkerId(1));
const TWO: Party = Party::Worker(WorkerId(2));

/// Two workers and an agent.
struct Office {
    gang: Gang,
    _directory: Directory,
    pids: [i32; 3],
}

impl Office {
    async fn open(major: &str, serialization: Serialization) -> Self {
        let directory = Directory::new();
        let mut settings = directory.workers(major, Policy::RoundRobin, PROGRAM);
        settings.name = "office".into();
        settings.serialization = serialization;
        let mut agent = AgentSettings::new(node(major));
        agent.args = settings.args.clone();
        settings.agent = Some(agent);
        let gang = Gang::new(settings);
        let agent = gang.with(|primary| primary.start_agent().unwrap()).await;
        let mut office = Self { gang, _directory: directory, pids: [agent.pid, 0, 0] };
        assert_eq!(office.said().await, (AGENT, json!(["up", false, "agent", "office/agent/1", null, null])));
        for slot in 0..2 {
            let worker = office.gang.fork().await;
            office.pids[slot + 1] = worker.pid;
            let id = format!("office/{slot}/{}", slot + 1);
            let slot = slot.to_string();
            assert_eq!(
                office.said().await,
                (Party::Worker(worker.id), json!(["up", true, "worker", id, slot, slot]))
            );
        }
        office
    }

    /// The next message that comes to the primary.
    async fn said(&mut self) -> (Party, Value) {
        self.gang.find(said).await
    }

    async fn tell(&self, who: Party, message: Value) {
        self.gang
            .with(move |primary| match who {
                Party::Worker(id) => primary.send(id, &message).map(drop).unwrap(),
                _ => primary.send_to_agent(&message).map(drop).unwrap(),
            })
            .await;
    }

    /// Has somebody send something; who gets it, sorted.
    async fn send(&mut self, from: Party, message: Value) -> Vec<(Party, Value)> {
        self.tell(from, json!({ "send": [message, "sent"] })).await;
        // What comes of it may come before that it was sent.
        let mut early = Vec::new();
        loop {
            match self.said().await {
                (_, Value::String(_)) => break,
                (who, mut message) => early.push((who, message[1].take())),
            }
        }
        early.extend(self.got().await);
        early.sort_by_key(|(who, _)| *who);
        early
    }

    /// What everybody has got so far, sorted.
    async fn got(&mut self) -> Vec<(Party, Value)> {
        for who in [AGENT, ONE, TWO] {
            self.tell(who, json!({ "send": ["fence"] })).await;
        }
        let (mut fences, mut got) = (0, Vec::new());
        while fences < 3 {
            match self.said().await {
                (_, Value::String(_)) => fences += 1,
                (who, mut message) => got.push((who, message[1].take())),
            }
        }
        got.sort_by_key(|(who, _)| *who);
        got
    }
}

/// A message, a letter to the primary included.
fn said(event: Event) -> Option<(Party, Value)> {
    match event {
        Event::Message { worker, message } => Some((Party::Worker(worker.id), message.parse().unwrap())),
        Event::Agent { event: AgentEvent::Message(message), .. } => Some((AGENT, message.parse().unwrap())),
        _ => None,
    }
}

async fn every_address_is_found(major: &str) {
    let mut office = Office::open(major, Serialization::Json).await;
    let [agent, one, two] = office.pids;
    let cases = [
        (json!("workers"), vec![ONE, TWO]),
        (json!("all"), vec![ONE, TWO, AGENT]),
        (json!("agent"), vec![AGENT]),
        (json!({ "worker": 1 }), vec![ONE]),
        (json!({ "pid": two }), vec![TWO]),
        (json!({ "pid": agent }), vec![AGENT]),
        (json!({ "slot": 1 }), vec![TWO]),
    ];
    let senders = [
        (ONE, json!({ "role": "worker", "id": 1, "slot": 0, "pid": one })),
        (AGENT, json!({ "role": "agent", "pid": agent })),
    ];
    let data = json!({ "text": "é\n\"", "number": 0.1, "nothing": null });
    for (to, receivers) in cases {
        for (sender, from) in &senders {
            let letter = json!({ "to": to, "action": "news", "data": data });
            let expected: Vec<_> = receivers
                .iter()
                .map(|who| (*who, json!({ "action": "news", "data": data, "from": from })))
                .collect();
            assert_eq!(office.send(*sender, letter).await, expected, "{to}");
        }
        // The primary's own.
        let address: To = serde_json::from_value(to.clone()).unwrap();
        let body = data.clone();
        let count =
            office.gang.with(move |primary| primary.send_letter(address, "news", &body).unwrap()).await;
        assert_eq!(count, receivers.len());
        let from = json!({ "role": "primary", "pid": std::process::id() });
        let expected: Vec<_> = receivers
            .iter()
            .map(|who| (*who, json!({ "action": "news", "data": data, "from": from })))
            .collect();
        assert_eq!(office.got().await, expected, "{to}");
    }
    for _ in 0..5 {
        let got = office.send(AGENT, json!({ "to": "random", "action": "any" })).await;
        assert!(matches!(got[..], [(ONE | TWO, _)]), "{got:?}");
    }
    office.tell(TWO, json!({ "send": [{ "to": "primary", "action": "up", "data": 1 }] })).await;
    let letter = office
        .gang
        .find(|event| match event {
            Event::Letter(letter) => Some(letter),
            _ => None,
        })
        .await;
    assert_eq!((letter.action.as_str(), letter.parse::<u8>().unwrap()), ("up", 1));
}

/// Whether it is asked to leave or says so itself, it gets what goes to it or to all.
async fn who_leaves_is_drawn_only_if_all_do(major: &str) {
    let leaving = json!({ "cmd": "NODE_CLUSTER", "act": "exitedAfterDisconnect", "seq": 4711 });
    let panic = json!({ "cmd": "NODE_GANGER_PANIC", "message": "boom" });
    for way in ["drain", "withdraw", "says so", "panics"] {
        let mut office = Office::open(major, Serialization::Json).await;
        for (who, all_leave) in [(ONE, false), (TWO, true)] {
            let Party::Worker(id) = who else { unreachable!() };
            match way {
                "drain" => office.gang.with(move |primary| primary.drain(id)).await,
                "withdraw" => office.gang.with(move |primary| primary.withdraw(id)).await,
                "says so" => office.tell(who, json!({ "send": [leaving] })).await,
                _ => office.tell(who, json!({ "send": [panic] })).await,
            }
            assert_eq!(office.got().await, [], "{way}");
            for _ in 0..20 {
                let sent = office.gang.with(|primary| primary.send_letter(To::Random, "any", &())).await;
                assert_eq!(sent.unwrap(), 1, "{way}");
            }
            let got = office.got().await;
            let to_one = got.iter().filter(|(who, _)| *who == ONE).count();
            assert_eq!((got.len(), to_one > 0), (20, all_leave), "{way}");
            let got = office.send(AGENT, json!({ "to": "workers", "action": "all" })).await;
            assert!(matches!(got[..], [(ONE, _), (TWO, _)]), "{way}: {got:?}");
        }
    }
}

async fn letters_in_the_advanced_serialization(major: &str) {
    let directory = Directory::new();
    let script = "
        process.on('message', ({ action, data, from }) => {
          if (action !== 'shape') return;
          const { map, self, big, bytes } = data;
          process.send([map.get('k'), self.self === self, String(big), bytes.toString(), from.role]);
        });
        if (process.env.GANGER_ROLE === 'agent') {
          const self = {};
          self.self = self;
          process.on('message', () => process.send({
            action: 'shape', to: 'workers',
            data: { map: new Map([['k', 'v']]), self, big: 2n ** 64n, bytes: Buffer.from('hi') },
          }));
        }
        process.send('up');";
    let mut settings = directory.workers(major, Policy::RoundRobin, script);
    settings.serialization = Serialization::Advanced;
    let mut agent = AgentSettings::new(node(major));
    agent.args = settings.args.clone();
    settings.agent = Some(agent);
    let mut gang = Gang::new(settings);
    gang.with(|primary| primary.start_agent().map(drop).unwrap()).await;
    gang.fork().await;
    for _ in 0..2 {
        assert_eq!(gang.find(said).await.1, "up");
    }
    gang.with(|primary| primary.send_letter(To::Agent, "go", &()).map(drop).unwrap()).await;
    let shape = json!(["v", true, "18446744073709551616", "hi", "agent"]);
    assert_eq!(gang.find(said).await, (ONE, shape));
}

async fn bad_letters_are_answered(major: &str) {
    let mut office = Office::open(major, Serialization::Json).await;
    let cases = [
        (json!({ "to": "everybody", "action": "a" }), "bad-address"),
        (json!({ "to": { "worker": "1" }, "action": "a" }), "bad-address"),
        (json!({ "to": "all", "action": 1 }), "bad-action"),
        (json!({ "to": { "worker": 99 }, "action": "a" }), "no-receiver"),
    ];
    for (letter, code) in cases {
        for sender in [ONE, AGENT] {
            let mut got = office.send(sender, letter.clone()).await;
            let Some((receiver, answer)) = got.pop() else { panic!("no answer to {letter}") };
            assert!(got.is_empty() && receiver == sender, "{got:?}");
            assert_eq!((&answer["action"], &answer["data"]["code"]), (&json!(UNDELIVERED), &json!(code)));
            assert_eq!(answer["from"]["role"], "primary");
        }
    }
    // Each was told of, as the sender's fault; nobody else has noticed.
    let garbage = json!({ "to": [], "action": "a" });
    office.tell(TWO, json!({ "send": vec![garbage; 100] })).await;
    let fault = office
        .gang
        .find(|event| match event {
            Event::Fault { worker, fault } => Some((worker.id, fault)),
            _ => None,
        })
        .await;
    assert_eq!(fault, (WorkerId(2), WorkerFault::Letter(Refusal::Address)));
    let got = office.send(ONE, json!({ "to": "agent", "action": "still here" })).await;
    assert_eq!(got.iter().filter(|(who, _)| *who == AGENT).count(), 1);
}

/// One worker sits in an endless loop; the other and the agent go on, and the primary keeps no more than it may.
async fn who_does_not_read_holds_up_nobody(major: &str) {
    let mut office = Office::open(major, Serialization::Json).await;
    office.tell(ONE, json!({ "block": true })).await;
    assert_eq!(office.said().await, (ONE, json!("blocked")));
    let mut lost = 0;
    for _ in 0..10 {
        office.tell(AGENT, json!({ "big": "workers" })).await;
        loop {
            match office.gang.event().await {
                Event::Message { worker, .. } if worker.id == WorkerId(2) => break,
                Event::Fault { worker, fault } => {
                    assert_eq!((worker.id, fault), (WorkerId(1), WorkerFault::LettersLost));
                    lost += 1;
                }
                Event::Exit { worker, .. } => panic!("worker {} is dead", worker.id),
                _ => {}
            }
        }
    }
    assert_eq!(lost, 1, "it is told once");
    let lost = office.gang.with(|primary| (primary.letters_lost(ONE), primary.letters_lost(TWO))).await;
    // 4 MiB of them wait; what lies in the socket is the kernel's.
    let kept = QUEUE as u64 >> 20;
    assert!((10 - kept - 2..10).contains(&lost.0) && lost.1 == 0, "{lost:?}");
}

#[test]
fn without_being_asked_for_all_messages_are_the_primarys() {
    run(async {
        let directory = Directory::new();
        let script = "process.send({ to: 'workers', action: 'a' }); setInterval(() => {}, 1000);";
        let mut gang = Gang::new(directory.workers(NODE, Policy::RoundRobin, script));
        gang.fork().await;
        assert_eq!(gang.message().await.1, json!({ "to": "workers", "action": "a" }));
        let error = gang.with(|primary| primary.start_agent().unwrap_err()).await;
        assert!(matches!(error, AgentError::NotSet), "{error}");
    });
}

#[test]
fn workers_may_have_a_messenger_without_an_agent() {
    run(async {
        let directory = Directory::new();
        let mut settings = directory.workers(NODE, Policy::RoundRobin, PROGRAM);
        settings.messenger = true;
        let mut gang = Gang::new(settings);
        for _ in 0..2 {
            gang.fork().await;
            gang.find(said).await;
        }
        let letters =
            [json!({ "to": { "slot": 1 }, "action": "a" }), json!({ "to": "agent", "action": "a" })];
        gang.send(WorkerId(1), json!({ "send": letters })).await;
        let mut got = [gang.message().await, gang.message().await];
        got.sort_by_key(|(worker, _)| *worker);
        let [(WorkerId(1), refused), (WorkerId(2), letter)] = got else { panic!("{got:?}") };
        assert_eq!(refused[1]["data"]["code"], "no-receiver");
        assert_eq!(letter[1]["from"]["slot"], 0);
    });
}

#[test]
fn the_example_is_primary_worker_and_agent() {
    run(async {
        let mut settings = Settings::new(example("agent"));
        settings.env = vec![("PORT".into(), "0".into())];
        settings.agent = Some(AgentSettings::new(example("agent")));
        let mut config = Config::default();
        config.workers = 2;
        let mut guard = Guard::new(Primary::new(settings).unwrap(), config, None);
        let mut address = None;
        loop {
            match guard.next().await.unwrap() {
                Report::Listening { address: open } => address = Some(open),
                Report::Notice { notice: Notice::GangReady { .. }, .. } => break,
                _ => {}
            }
        }
        let port = address.unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let mut client = tokio::spawn(async move {
            for visit in 1..=4 {
                let text = ask(SocketAddr::new([127, 0, 0, 1].into(), port)).await;
                assert!(text.starts_with(&format!("visit {visit} of all workers")), "{text}");
            }
        });
        let mut stopped = false;
        loop {
            tokio::select! {
                report = guard.next() => match report.unwrap() {
                    Report::End(verdict) => return assert_eq!(verdict, Verdict::Stopped),
                    Report::Notice { notice, .. } => panic!("{notice:?}"),
                    _ => {}
                },
                done = &mut client, if !stopped => {
                    done.unwrap();
                    stopped = true;
                    guard.stop();
                }
            }
        }
    });
}

#[test]
fn there_is_one_agent_at_a_time_and_events_tell_its_life() {
    run(async {
        let directory = Directory::new();
        let mut settings = directory.workers(NODE, Policy::RoundRobin, PROGRAM);
        let mut agent = AgentSettings::new(node(NODE));
        agent.args = settings.args.clone();
        settings.agent = Some(agent);
        let mut gang = Gang::new(settings);
        for number in 1..=2 {
            let agent = gang.with(|primary| primary.start_agent().unwrap()).await;
            assert_eq!(agent.id.0, number);
            let error = gang.with(|primary| primary.start_agent().unwrap_err()).await;
            assert!(matches!(error, AgentError::Running(running) if running == agent), "{error}");
            let mut told = Vec::new();
            loop {
                let Event::Agent { agent: who, event } = gang.event().await else { panic!() };
                assert_eq!(who, agent);
                match event {
                    AgentEvent::Started => told.push("started"),
                    AgentEvent::Online { obeys: false } => told.push("online"),
                    AgentEvent::Message(_) => {
                        told.push("message");
                        assert!(gang.with(|primary| primary.kill_agent(9)).await);
                    }
                    AgentEvent::Disconnect => told.push("disconnect"),
                    AgentEvent::Exit(exit) => {
                        assert!(matches!(exit, Exit::Signal { signal: 9, .. }));
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(told, ["started", "online", "message", "disconnect"]);
        }
    });
}
