//! What a Node program sees of the cluster that it is in.

use serde_json::{Value, json};

use super::harness::{Setup, client::get, on_every_node};

/// Prints what it sees, as one JSON object.
const VIEW: &str = "
    const cluster = require('cluster');
    const server = require('http').createServer((request, response) => response.end('x'));
    server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({
      isWorker: cluster.isWorker, isPrimary: cluster.isPrimary,
      id: cluster.worker.id, instance: process.env.NODE_APP_INSTANCE,
      pid: cluster.worker.process.pid === process.pid,
      send: typeof process.send, connected: process.connected, isConnected: cluster.worker.isConnected(),
      listening: server.listening, address: server.address(),
      name: process.env.GANGER_NAME, slot: process.env.GANGER_SLOT, workers: process.env.GANGER_WORKERS,
      role: process.env.GANGER_ROLE, gangId: process.env.GANGER_ID, sent: process.send({ hello: 'primary' }),
    })));";

#[test]
fn a_worker_is_a_cluster_worker() {
    for schedule in ["rr", "shared"] {
        on_every_node(&format!("cluster.worker ({schedule})"), |major| {
            let words = format!("run -n 2 --name shop --schedule {schedule} app.js");
            let mut gang = Setup::new(major).file("app.js", VIEW).start(&words);
            gang.ready();
            let lines = gang.lines().wait_for(true, 2, |line| line.starts_with('{'));
            let mut seen: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            seen.sort_by_key(|seen| seen["id"].as_u64());
            let port = seen[0]["address"]["port"].clone();
            assert_eq!(port, gang.port(), "{}", gang.lines());
            for (slot, seen) in seen.iter_mut().enumerate() {
                let id = seen.as_object_mut().unwrap().remove("gangId").unwrap();
                let end = format!("/shop/{slot}/{}", slot + 1);
                assert!(id.as_str().is_some_and(|id| id.ends_with(&end)), "{id}");
                assert_eq!(
                    *seen,
                    json!({
                        "isWorker": true, "isPrimary": false, "id": slot + 1,
                        "instance": slot.to_string(), "pid": true,
                        "send": "function", "connected": true, "isConnected": true, "listening": true,
                        "address": { "address": "127.0.0.1", "family": "IPv4", "port": port },
                        "name": "shop", "slot": slot.to_string(), "workers": "2", "role": "worker",
                        "sent": true,
                    })
                );
            }
            gang.stop();
        });
    }
}

#[test]
fn a_server_can_close_and_listen_again() {
    let app = "
        const http = require('http');
        const { once } = require('events');
        (async () => {
          for (let round = 0; round < 3; round++) {
            const server = http.createServer((request, response) => response.end('x')).listen(0, '127.0.0.1');
            await once(server, 'listening');
            const { port } = server.address();
            const request = http.get({ host: '127.0.0.1', port, agent: false });
            const [response] = await once(request, 'response');
            response.resume();
            await once(response, 'close');
            server.close();
            await once(server, 'close');
            console.log('round', round, server.listening);
          }
          http.createServer((request, response) => response.end('last')).listen(process.env.PORT);
        })();";
    for schedule in ["rr", "shared"] {
        on_every_node(&format!("close and listen again ({schedule})"), |major| {
            let words = format!("run -n 1 --schedule {schedule} app.js");
            let mut gang = Setup::new(major).file("app.js", app).start(&words);
            for round in 0..3 {
                gang.prints(&format!("round {round} false"));
            }
            let last = |line: &str| line.contains("listening on :");
            let last = gang.lines().wait(false, last, "listening on :PORT");
            let port = last.rsplit(':').next().unwrap().parse().unwrap();
            assert_eq!(get(port, "/").unwrap(), "last", "{}", gang.lines());
            gang.stop();
        });
    }
}

#[test]
fn a_program_may_leave_by_disconnect_and_is_replaced() {
    let app = "
        const cluster = require('cluster');
        require('http').createServer((request, response) => {
          response.end(String(process.pid));
          if (request.url === '/leave') cluster.worker.disconnect();
        }).listen(0);";
    on_every_node("worker.disconnect()", |major| {
        let mut gang = Setup::new(major).file("app.js", app).start("run -n 2 app.js");
        let workers = gang.ready();
        let port = gang.port();
        let left: i32 = get(port, "/leave").unwrap().parse().unwrap();
        let id = 1 + workers.iter().position(|pid| *pid == left).unwrap();
        gang.says(&format!("worker {id} (pid {left})"));
        gang.says("worker 3 ");
        for _ in 0..4 {
            let pid: i32 = get(port, "/").unwrap().parse().unwrap();
            assert_ne!(pid, left, "{}", gang.lines());
        }
        gang.stop();
    });
}
