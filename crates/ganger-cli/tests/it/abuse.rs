//! Workers that break the wire's rules: told, replaced, and nobody else's trouble.

use super::harness::{Gang, Setup, client::get, on_every_node};

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
    check("endless line on the channel", "/huge", "it wrote a line of more than 67108864 bytes: killed");
}

#[test]
fn half_a_frame_and_the_end() {
    check("half a frame on the channel", "/half", "its channel ended in the middle of a message");
}
