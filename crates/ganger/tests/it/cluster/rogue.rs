//! Workers that break the rules: bounded, reported, and no harm to the others.

use ganger::{
    WorkerId,
    cluster::{Event, Misbehaviour, Policy, WorkerFault},
    process::Exit,
};

use crate::support::{Directory, Gang, NODE, ask, run};

/// A gang whose first worker is a rogue and whose second serves.
pub(super) async fn with_rogue(directory: &Directory, rogue: &str) -> (Gang, std::net::SocketAddr) {
    let script = format!(
        "const {{ writeSync }} = require('node:fs');
         const net = require('node:net');
         const {{ id }} = require('node:cluster').worker;
         // Past Node's own channel; waits while it is full.
         const say = (line) => {{
           for (let bytes = Buffer.from(line + '\\n'); bytes.length > 0;) {{
             try {{ bytes = bytes.subarray(writeSync(3, bytes)); }} catch (error) {{ if (error.code !== 'EAGAIN') throw error; }}
           }}
         }};
         if (id === 2) {{
           net.createServer((socket) => socket.end('served')).listen(0, '127.0.0.1');
         }} else {{
           process.once('message', () => {{ {rogue} }});
         }}"
    );
    let mut gang = Gang::new(directory.workers(NODE, Policy::RoundRobin, &script));
    let rogue = gang.fork().await;
    let (_, address) = gang.fork_listening().await;
    gang.send(rogue.id, "now").await;
    (gang, address)
}

pub(super) async fn fault(gang: &mut Gang) -> WorkerFault {
    gang.find(|event| match event {
        Event::Fault { worker, fault } => {
            assert_eq!(worker.id, WorkerId(1));
            Some(fault)
        }
        _ => None,
    })
    .await
}

#[test]
fn an_answer_and_a_key_out_of_nowhere_are_reported() {
    run(async {
        let directory = Directory::new();
        let rogue = r#"
            say('{"cmd":"NODE_CLUSTER","ack":4711,"accepted":true,"seq":1}');
            say('{"cmd":"NODE_CLUSTER","act":"close","key":"nobody","seq":2}');
            say('{"cmd":"NODE_CLUSTER","act":"no such act","seq":3}');
            say('{"cmd":"NODE_HANDLE_ACK"}');
            process.send('lives on');"#;
        let (mut gang, address) = with_rogue(&directory, rogue).await;
        assert_eq!(fault(&mut gang).await, WorkerFault::Cluster(Misbehaviour::UnknownAnswer));
        assert_eq!(fault(&mut gang).await, WorkerFault::Cluster(Misbehaviour::UnknownKey));
        assert!(matches!(fault(&mut gang).await, WorkerFault::Wire(_)));
        assert_eq!(gang.message().await, (WorkerId(1), "lives on".into()));
        assert_eq!(ask(address).await, "served");
    });
}

#[test]
fn a_worker_holds_so_many_sockets_and_no_more() {
    run(async {
        let directory = Directory::new();
        let rogue = "
            const outcomes = [];
            const note = (outcome) => { if (outcomes.push(outcome) === 1000) process.send(outcomes); };
            for (let i = 0; i < 1000; i++) {
              net.createServer().on('error', (error) => note(error.code)).on('listening', () => note('ok')).listen(0, '127.0.0.1');
            }";
        let (mut gang, address) = with_rogue(&directory, rogue).await;
        let mut told = 0;
        let outcomes = gang
            .find(|event| match event {
                Event::Message { message, .. } => Some(message.parse::<Vec<String>>().unwrap()),
                Event::Fault { fault: WorkerFault::Cluster(Misbehaviour::TooManySockets), .. } => {
                    told += 1;
                    None
                }
                _ => None,
            })
            .await;
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "ok").count(), 256);
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "EMFILE").count(), 744);
        assert_eq!(told, 744);
        assert_eq!(ask(address).await, "served");
    });
}

#[test]
fn who_asks_for_what_nobody_has_is_told_of_so_often() {
    run(async {
        let directory = Directory::new();
        // Reserved addresses, which no host has.
        let rogue = "
            const codes = [];
            for (let i = 0; i < 200; i++) {
              net.createServer().on('error', ({ code }) => { if (codes.push(code) === 200) process.send(codes); }).listen(80, `240.0.0.${i}`);
            }";
        let (mut gang, address) = with_rogue(&directory, rogue).await;
        let (mut told, mut faults) = (0, 0);
        let codes = gang
            .find(|event| match event {
                Event::Message { message, .. } => Some(message.parse::<Vec<String>>().unwrap()),
                Event::BindFailed { .. } => {
                    told += 1;
                    None
                }
                Event::Fault { fault: WorkerFault::Cluster(Misbehaviour::TooManyFailures), .. } => {
                    faults += 1;
                    None
                }
                _ => None,
            })
            .await;
        assert_eq!(codes, vec!["EADDRNOTAVAIL"; 200]);
        assert_eq!((told, faults), (16, 184));
        assert_eq!(ask(address).await, "served");
    });
}

#[test]
fn a_flood_does_not_keep_the_others_waiting() {
    run(async {
        let directory = Directory::new();
        let rogue = r#"
            const line = '{"cmd":"NODE_CLUSTER","ack":4711,"accepted":true,"seq":1}';
            for (let i = 0; i < 500; i++) say(Array(100).fill(line).join('\n'));
            process.send('done');"#;
        let (mut gang, address) = with_rogue(&directory, rogue).await;
        // In the middle of it.
        fault(&mut gang).await;
        for _ in 0..10 {
            assert_eq!(ask(address).await, "served");
        }
        assert_eq!(gang.message().await, (WorkerId(1), "done".into()));
        assert_eq!(ask(address).await, "served");
    });
}

#[test]
fn a_worker_that_never_reads_is_found_out() {
    run(async {
        let directory = Directory::new();
        // Each question is answered, at length, and no answer read.
        let rogue = r#"
            const address = 'nonsense'.repeat(500);
            const query = { cmd: 'NODE_CLUSTER', act: 'queryServer', index: 0, data: null, address, port: 1, addressType: 4, seq: 7 };
            for (;;) say(JSON.stringify(query));"#;
        let (mut gang, address) = with_rogue(&directory, rogue).await;
        let fault = fault(&mut gang).await;
        assert!(
            matches!(fault, WorkerFault::Wire(ganger::channel::Fault::Deaf { .. }))
                && fault.is_unforgivable(),
            "{fault:?}"
        );
        assert_eq!(ask(address).await, "served");
        assert!(gang.with(|primary| primary.kill_group(WorkerId(1))).await);
        assert_eq!(gang.exit().await, (WorkerId(1), Exit::Signal { signal: 9, core_dumped: false }, false));
        assert_eq!(ask(address).await, "served");
    });
}

#[test]
fn garbage_is_a_fault_and_the_worker_lives_on() {
    run(async {
        let directory = Directory::new();
        let (mut gang, address) = with_rogue(&directory, "say('garbage'); process.send('lives on');").await;
        let fault = fault(&mut gang).await;
        assert_eq!(fault.to_string(), "it wrote a line that is not JSON: \"garbage\"");
        assert!(fault.is_unforgivable());
        assert_eq!(gang.message().await, (WorkerId(1), "lives on".into()));
        assert_eq!(ask(address).await, "served");
    });
}
