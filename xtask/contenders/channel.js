// What `channel.rs` beside this file does with ganger, in Node: `OURS THEIRS MESSAGE SERIALIZATION SECONDS` for both
// ends, `PART MESSAGE SECONDS` for a child.
'use strict';
const { fork } = require('child_process');
const net = require('net');

const WARM_UP = 0.2;
const TEXT = 'It was a bright cold day in May ';
const MIB = 1 << 20;

const contents = {
  small: () => ({ id: 1000000, kind: 'thumbnail', path: '/srv/media/2026/03/portrait-00000042.png', size: [640, 480] }),
  text: () => TEXT.repeat(MIB / TEXT.length),
  buffer: () => Buffer.alloc(MIB, 'x'),
};

const seconds = () => performance.now() / 1000;

const parts = {
  // As fast as the channel takes it: until `send` says that much waits, and then from its callback on.
  send(peer, message) {
    const pump = (error) => {
      if (error) return;
      for (let n = 0; n < 1000; n++) if (!peer.send(message)) return void peer.send(message, pump);
      setImmediate(pump);
    };
    pump();
  },
  count(peer, _, meter) { peer.on('message', () => meter()); },
  ping(peer, message, meter) {
    peer.on('message', () => { meter(); peer.send(message); });
    peer.send(message);
  },
  echo(peer) { peer.on('message', (message) => peer.send(message)); },
  'send-listeners'(peer) {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const next = (error) => { if (!error) peer.send('listener', server, next); };
      next();
    });
  },
  'take-listeners'(peer, _, meter) {
    peer.on('message', (_, server) => { server.close(); meter(); });
  },
};

const play = (peer, part, message, time, every) => {
  let total = 0, first, warm, already;
  const meter = () => {
    if (++total % every) return;
    const now = seconds();
    if (warm === undefined) {
      first ??= now;
      if (now - first >= WARM_UP) { warm = now; already = total; }
    } else if (now - warm >= time) {
      console.log(total - already, now - warm);
      process.exit();
    }
  };
  // Who counts has counted enough, and has gone.
  peer.on('disconnect', () => process.exit()).on('error', () => {});
  parts[part](peer, contents[message](), meter);
};

const args = process.argv.slice(2);
const every = (part, message) => (message === 'small' && part !== 'ping' ? 64 : 1);
if (process.send) {
  const [part, message, time] = args;
  play(process, part, message, Number(time), every(part, message));
} else {
  const [ours, theirs, message, serialization, time] = args;
  const child = fork(__filename, [theirs, message, time], { serialization });
  // With a listener on its way there is no 'disconnect'.
  child.on('exit', () => process.exit());
  play(child, ours, message, Number(time), every(ours, message));
}
