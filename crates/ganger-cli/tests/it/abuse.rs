//! Workers that break the wire's rules, or ask for what they must not have: told, replaced where it takes
//! that, and nobody else's trouble.

use std::sync::mpsc;

use rustix::process::Signal;

use super::harness::{Gang, LIMIT, Process, Setup, client::get, on_every_node};

/// A server whose paths each break a rule of the channel, which is descriptor 3.
const RUDE: &str = "
    const fs = require('fs');
    const write = (bytes) => {
      for (let at = 0; at < bytes.length;) {
        try { at += fs.writeSync(3, bytes, at); } catch (error) { if (error.code !== 'EAGAIN') throw error; }
      }
    };
    require('http').createServer((request, response) => {
      switch (request.url) {
        case '/garbage': write(Buffer.from('garbage\\n')); break;
        case '/huge': write(Buffer.alloc((64 << 20) + 65536, 'x')); break;
        case '/half': write(Buffer.from('{\"cmd\":\"NODE_CLU')); process.exit(0);
        case '/end': fs.closeSync(3); break;
      }
      response.end(String(process.pid));
    }).listen(0);";

/// One worker does what the path asks for; the other one serves all the while.
fn check(feature: &str, path: &'static str, said: &str) {
    on_every_node(feature, |major| {
        let mut gang = Setup::new(major).file("app.js", RUDE).start("run -n 2 app.js");
        gang.ready();
        let port = gang.port();
        let rude = std::thread::spawn(move || get(port, path));
        gang.says(said);
        gang.says("worker 3 (pid ");
        // What became of the request itself is the rude worker's own affair.
        let _ = rude.join().unwrap();
        served(&gang, port);
        gang.stop();
    });
}

fn served(gang: &Gang, port: u16) {
    for _ in 0..4 {
        get(port, "/").unwrap_or_else(|error| panic!("{error}: {}", gang.lines()));
    }
}

#[test]
fn garbage_on_the_channel() {
    check("garbage on the channel", "/garbage", "it wrote a line that is not JSON: \"garbage\": killed");
}

#[test]
fn a_line_longer_than_64_mib() {
    check("endless line on the channel", "/huge", "it wrote a message of more than 67108864 bytes: killed");
}

#[test]
fn half_a_frame_and_the_end() {
    check("half a frame on the channel", "/half", "its channel ended in the middle of a message");
}

#[test]
fn half_a_frame_and_the_end_of_the_channel_but_not_of_the_worker() {
    let app = "
        require('http').createServer((request, response) => {
          if (request.url === '/half') {
            require('fs').writeSync(3, '{\"a\":');
            // One of them would end the worker.
            process.removeAllListeners('disconnect');
            process.disconnect();
            setInterval(() => console.log('alive'), 5);
          }
          response.end(String(process.pid));
        }).listen(0);";
    on_every_node("half a frame from a worker that lives on", |major| {
        let mut gang = Setup::new(major).file("app.js", app).start("run -n 2 app.js");
        gang.ready();
        let port = gang.port();
        let rude: i32 = get(port, "/half").unwrap().parse().unwrap();
        let rude = Process::of(rude);
        gang.prints("alive");
        gang.says("its channel ended in the middle of a message");
        gang.says("worker 3 (pid ");
        served(&gang, port);
        gang.stop();
        rude.ends();
    });
}

/// Its worker in slot 1 never comes back from writing what the primary has no use for.
const FLOOD: &str = "
    const fs = require('fs');
    const lines = Buffer.from('{\"cmd\":\"NODE_x\"}\\n'.repeat(1000));
    const flood = () => {
      let told = false;
      for (let written = 0;;) {
        try { written += fs.writeSync(3, lines, written % lines.length); } catch {}
        if (!told && written > 8 << 20) { fs.writeSync(1, 'flooded\\n'); told = true; }
      }
    };
    require('http').createServer((request, response) => response.end('x')).listen(0, () => {
      if (process.env.NODE_APP_INSTANCE === '1') (function wait() {
        if (fs.existsSync('go')) flood(); else setTimeout(wait, 5);
      })();
    });";

#[test]
fn a_flood_on_the_channel_holds_up_neither_the_others_nor_the_end() {
    for schedule in ["rr", "shared"] {
        let words = format!("run -n 2 --schedule {schedule} --stop-timeout 2s app.js");
        let mut gang = Setup::new("24").file("app.js", FLOOD).start(&words);
        let workers: Vec<_> = gang.ready().into_iter().map(Process::of).collect();
        let port = gang.port();
        std::fs::write(gang.path().join("go"), "").unwrap();
        gang.prints("flooded");
        // Some may be handed to the worker that never looks at them: those have to wait for its end.
        let (answered, answers) = mpsc::channel();
        let ask = |_| {
            let answered = answered.clone();
            std::thread::spawn(move || drop(get(port, "/").map(|_| answered.send(()))))
        };
        let clients: Vec<_> = (0..40).map(ask).collect();
        for _ in 0..8 {
            answers
                .recv_timeout(LIMIT)
                .unwrap_or_else(|_| gang.lines().fail("an answer of the other worker"));
        }
        gang.signal(Signal::TERM);
        assert_eq!(gang.ends(), Some(0), "{}", gang.lines());
        workers.iter().for_each(Process::ends);
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
}

#[test]
fn the_primarys_own_descriptors_are_not_to_be_had() {
    let app = "
        const fs = require('fs');
        console.log('here');
        (function wait() {
          if (!fs.existsSync('go')) return setTimeout(wait, 5);
          const server = require('net').createServer();
          server.on('error', (error) => {
            console.log('refused', error.code);
            require('http').createServer((request, response) => response.end('x')).listen(0);
          });
          server.listen({ fd: 1 }, () => console.log('refused by nobody'));
        })();";
    for schedule in ["rr", "shared"] {
        on_every_node(&format!("listen({{ fd }}) is refused ({schedule})"), |major| {
            let words = format!("run -n 1 --schedule {schedule} app.js");
            let mut gang = Setup::new(major).file("app.js", app).start(&words);
            gang.prints("here");
            let before = stdout_flags(&gang);
            std::fs::write(gang.path().join("go"), "").unwrap();
            let refused = gang.prints("refused");
            assert!(refused.starts_with("refused E"), "{}", gang.lines());
            assert_eq!(stdout_flags(&gang), before, "{}", gang.lines());
            assert_eq!(get(gang.port(), "/").unwrap(), "x", "{}", gang.lines());
            assert_eq!(stdout_flags(&gang), before, "{}", gang.lines());
            gang.stop();
        });
    }
}

/// The flags of the primary's stdout, as the kernel shows them.
fn stdout_flags(gang: &Gang) -> String {
    let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/1", gang.pid())).unwrap();
    info.lines().find(|line| line.starts_with("flags:")).unwrap().to_owned()
}

/// Asks for sockets whose names would be lines of ganger's, by the front door and by hand.
const FORGER: &str = "
    const net = require('net');
    const forged = '\\nganger: forged\\u001b[31m';
    const internal = (message) => process.send({ cmd: 'NODE_CLUSTER', ...message });
    net.createServer().on('error', () => {}).listen('open' + forged);
    net.createServer().on('error', () => {}).listen('missing/' + forged);
    const host = { address: 'host' + forged, port: 0, addressType: 4, index: 9 };
    internal({ act: 'queryServer', seq: 1000, key: `${host.address}:0:4:undefined:9`, ...host });
    internal({ act: 'listening', seq: 1001, ...host });
    require('http').createServer((request, response) => response.end('x')).listen(0);";

#[test]
fn names_of_sockets_forge_no_lines() {
    for format in ["text", "json"] {
        for schedule in ["rr", "shared"] {
            let words = format!("run -n 1 --schedule {schedule} --log-format {format} app.js");
            let mut gang = Setup::new("24").file("app.js", FORGER).start(&words);
            gang.lines().wait(false, |line| line.contains("open"), "that the path is open");
            gang.lines().wait(false, |line| line.contains("missing/"), "that the path is missing");
            gang.lines().wait(false, |line| line.contains("host"), "the host");
            let ready = if format == "text" { "ready in" } else { r#""event":"ready""# };
            gang.says(ready);
            gang.stop();
            for line in gang.lines().of(false) {
                assert!(!line.contains('\x1b'), "{line:?}: {}", gang.lines());
                assert!(!line.starts_with("ganger: forged"), "{}", gang.lines());
                if format == "json" {
                    assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{}", gang.lines());
                } else {
                    assert!(line.starts_with("ganger: "), "{line:?}: {}", gang.lines());
                }
            }
        }
    }
}
