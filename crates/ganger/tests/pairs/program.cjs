// One side of a pair, one feature a run, for Node, Bun and Deno; `rust.rs` does the same in Rust. It ends by itself,
// with exit code 0 if all was as it should be. What it does is said by a variable: `parent FEATURE`, `child FEATURE`.
'use strict';
const assert = require('assert');
const { spawn } = require('child_process');
const dgram = require('dgram');
const { once } = require('events');
const fs = require('fs');
const net = require('net');

const [side, feature] = process.env.GANGER_TEST_PART.split(' ');
const HOST = '127.0.0.1';

// --- The channel, in either role.

class Line {
  constructor(peer) {
    this.peer = peer;
    this.heard = [];
    this.waiting = [];
    const tell = (taken) => (this.waiting.length ? this.waiting.shift()(taken) : this.heard.push(taken));
    peer.on('message', (...taken) => tell(taken));
    this.ended = new Promise((resolve) => {
      peer.once('disconnect', () => {
        resolve();
        tell(undefined);
      });
    });
  }

  // The next message and what came with it; undefined at the end.
  take() {
    return this.heard.length ? Promise.resolve(this.heard.shift()) : new Promise((resolve) => this.waiting.push(resolve));
  }

  // Waits for this message, and returns what came with it.
  async hear(expected) {
    const taken = await this.take();
    assert(taken, `the channel ended, and ${JSON.stringify(expected)} was expected`);
    assert.deepStrictEqual(taken[0], expected);
    return taken[1];
  }

  say(message, handle, options) {
    return new Promise((resolve, reject) => {
      this.peer.send(message, handle, options, (error) => (error ? reject(error) : resolve()));
    });
  }
}

// A child in the same feature, and how it ends.
const start = () => {
  const [program, ...args] = JSON.parse(process.env.GANGER_TEST_CHILD);
  const child = spawn(program, args, {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    serialization: feature === 'advanced' ? 'advanced' : 'json',
    env: { ...process.env, GANGER_TEST_PART: `child ${feature}` },
  });
  child.on('error', fail);
  child.end = new Promise((resolve) => child.on('exit', (code, signal) => resolve(signal ?? code)));
  running.push(child);
  return child;
};
const running = [];

// --- Sockets.

const listen = async (where, options) => {
  const server = net.createServer(options);
  server.listen(where);
  await once(server, 'listening');
  return server;
};
const anywhere = { port: 0, host: HOST };

const closed = (server) =>
  new Promise((resolve, reject) => server.close((error) => (error ? reject(error) : resolve())));

// All that the other end says.
const all = async (socket) => {
  let text = '';
  socket.setEncoding('utf8').on('data', (data) => { text += data; });
  await once(socket, 'end');
  return text;
};

// As much as there is of `text`.
const read = (socket, text) =>
  new Promise((resolve, reject) => {
    let so = '';
    const hear = (data) => {
      so += data;
      if (so.length < text.length) return;
      socket.removeListener('data', hear);
      resolve(assert.strictEqual(so, text));
    };
    socket.on('data', hear).on('error', reject);
    socket.on('close', () => reject(new Error(`the socket was closed after ${JSON.stringify(so)}`)));
  });

const ask = (where) => all(net.connect(where));

// A connection of ours to ourselves: the server, its end, the other end.
const pair = async (where, options) => {
  const server = await listen(where, options);
  const client = net.connect(where.path ?? server.address().port, HOST);
  const [[accepted]] = await Promise.all([once(server, 'connection'), once(client, 'connect')]);
  return { server, client, accepted };
};

// --- Features. The giver is the parent, unless its name says otherwise.

const giveServer = (where, open = (server) => server) => async (line) => {
  const server = await listen(where);
  let address = { port: server.address().port, host: HOST };
  if (where.path) {
    // Closing a server removes its path.
    address = { path: `${where.path}.other` };
    fs.linkSync(where.path, address.path);
  }
  await line.say('server', open(server));
  await line.hear('serving');
  // Deno has closed it already.
  await closed(server).catch((error) => assert.strictEqual(error.code, 'ERR_SERVER_NOT_RUNNING'));
  for (let i = 0; i < 3; i++) assert.strictEqual(await ask(address), 'taker');
  await line.say('stop');
};

const takeServer = (open = (server) => server) => async (line) => {
  const server = await open(await line.hear('server'));
  server.on('connection', (socket) => socket.end('taker'));
  await line.say('serving');
  await line.hear('stop');
  await closed(server);
};

const giveSocket = (where) => async (line) => {
  // Unless it is paused, Node reads on, for nobody, until the socket has arrived.
  const { server, client, accepted } = await pair(where, { pauseOnConnect: true });
  server.close();
  await line.say('socket', accepted);
  await read(client, 'hello');
  client.write('ping');
  assert.strictEqual(await all(client), 'pong');
};

const takeSocket = async (line) => {
  const socket = await line.hear('socket');
  socket.write('hello');
  await read(socket, 'ping');
  socket.end('pong');
};

const giveDatagrams = (open = (socket) => socket) => async (line) => {
  const socket = dgram.createSocket('udp4');
  socket.bind(0, HOST);
  await once(socket, 'listening');
  const { port } = socket.address();
  await line.say('socket', open(socket));
  await line.hear('got');
  socket.close();
  const client = dgram.createSocket('udp4');
  client.send('ping', port, HOST);
  const [answer] = await once(client, 'message');
  assert.strictEqual(String(answer), 'pong');
  client.close();
};

const takeDatagrams = (open = (socket) => socket) => async (line) => {
  const socket = open(await line.hear('socket'));
  const message = once(socket, 'message');
  await line.say('got');
  const [text, { port, address }] = await message;
  assert.strictEqual(String(text), 'ping');
  await new Promise((resolve) => socket.send('pong', port, address, resolve));
  socket.close();
};

const count = async (line, server) => {
  const counted = new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
  });
  // Who answers has done so before it has heard this twice.
  for (let i = 0; i < 2; i++) {
    await line.say('ping');
    await line.hear('pong');
  }
  return Promise.race([counted, turns().then(() => Promise.reject(new Error('the sockets were not counted')))]);
};

// What has come has been told after some turns of the loop.
const turns = async () => {
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
};

const own = async (line) => {
  const server = await listen(anywhere);
  const clients = [];
  for (let i = 0; i < 2; i++) {
    clients.push(net.connect(server.address().port, HOST));
    const [socket] = await once(server, 'connection');
    await line.say('socket', socket);
    await line.hear('got');
  }
  assert.strictEqual(await count(line, server), 2);
  await line.say('close one');
  await line.hear('closed');
  assert.strictEqual(await count(line, server), 1);
  let over = false;
  const closing = closed(server).then(() => { over = true; });
  await line.say('ping');
  await line.hear('pong');
  await turns();
  assert(!over, 'the server was closed before its last socket');
  await line.say('close one');
  await line.hear('closed');
  await closing;
  clients.forEach((client) => client.destroy());
  await line.say('done');
};

const hold = async (line) => {
  const held = [];
  for (;;) {
    const [message, socket] = (await line.take()) ?? ['the end'];
    switch (message) {
      case 'socket':
        held.push(socket);
        await line.say('got');
        break;
      case 'ping':
        await line.say('pong');
        break;
      case 'close one': {
        const one = held.pop();
        one.destroy();
        await once(one, 'close');
        await line.say('closed');
        break;
      }
      default:
        assert.strictEqual(message, 'done');
        return;
    }
  }
};

const MESSAGES = [
  'é 日本 \u{1f600} \u2028 " \\ \n', '', 0, -1.5, 2 ** 53 - 2, 1.5e300, true, false, null, [], {}, [1, [2, { three: [null] }]],
  { text: 'x'.repeat(200_000), nested: { cmd: 'NODE_x' } }, ...Array.from({ length: 300 }, (_, number) => ({ number })),
];

// There and back.
const back = (message) => ({
  parent: async (line) => {
    await line.say(message);
    await line.hear(message);
  },
  child: async (line) => {
    await line.hear(message);
    await line.say(message);
  },
});

const VALUE = {
  map: new Map([['key', 1]]), big: 2n ** 70n, buffer: Buffer.from('bytes'), nothing: undefined, date: new Date(1e12),
};

const circle = () => {
  const circle = {};
  circle.self = circle;
  return circle;
};

const advanced = async (line) => {
  // Each side says its own, and gives back the other's.
  const give = async () => {
    await line.say(VALUE);
    await line.say(circle());
  };
  const take = async () => {
    const [value] = (await line.take()) ?? [];
    assert.deepStrictEqual(value, VALUE);
    assert(Buffer.isBuffer(value.buffer) && 'nothing' in value);
    const [circle] = (await line.take()) ?? [];
    assert.strictEqual(circle.self, circle);
    return [value, circle];
  };
  await give();
  for (const value of await take()) await line.say(value);
  await take();
};

const features = {
  messages: {
    parent: async (line) => {
      for (const message of MESSAGES) line.say(message);
      await line.hear('hello');
      for (const message of MESSAGES) await line.hear(message);
    },
    child: async (line) => {
      line.say('hello');
      for (const message of MESSAGES) {
        await line.hear(message);
        line.say(message);
      }
    },
  },
  'large-integer': back(2 ** 53),
  'lone-surrogate': back('a\ud800b'),
  advanced: { parent: advanced, child: advanced },
  'disconnect-by-parent': {
    exit: 7,
    parent: async (line) => {
      await line.hear('ready');
      line.peer.disconnect();
      assert(!line.peer.connected);
      await line.ended;
    },
    child: async (line) => {
      await line.say('ready');
      await line.ended;
      process.exitCode = 7;
    },
  },
  'disconnect-by-child': {
    parent: async (line) => {
      await line.say('leave');
      await line.hear('bye');
      await line.ended;
      await assert.rejects(line.say('too late'));
    },
    child: async (line) => {
      await line.hear('leave');
      await line.say('bye');
      process.disconnect();
      await line.ended;
    },
  },
  exit: {
    exit: 7,
    parent: async (line) => {
      const killed = start();
      const other = new Line(killed);
      await other.hear('ready');
      assert(killed.kill('SIGKILL'));
      assert.strictEqual(await killed.end, 'SIGKILL');
      await line.hear('ready');
      await line.say('exit');
    },
    child: async (line) => {
      await line.say('ready');
      await line.hear('exit');
      process.exit(7);
    },
  },
  server: { parent: giveServer(anywhere), child: takeServer() },
  'server-shared': {
    parent: async (line) => {
      const server = await listen(anywhere);
      server.on('connection', (socket) => socket.end('giver'));
      const { port } = server.address();
      await line.say('server', server);
      await line.hear('closed');
      assert.strictEqual(await ask(port), 'giver');
      await closed(server);
    },
    child: async (line) => {
      await closed(await line.hear('server'));
      await line.say('closed');
    },
  },
  'server-to-parent': { parent: takeServer(), child: giveServer(anywhere) },
  socket: { parent: giveSocket(anywhere), child: takeSocket },
  'socket-to-parent': { parent: takeSocket, child: giveSocket(anywhere) },
  // Without a word of its end: who has a copy is in its way.
  'socket-close': {
    parent: async (line) => {
      const { server, client, accepted } = await pair(anywhere);
      server.close();
      await line.say('socket', accepted);
      assert.strictEqual(await all(client), 'bye');
    },
    child: async (line) => {
      const socket = await line.hear('socket');
      await new Promise((resolve) => socket.write('bye', resolve));
      socket.destroy();
    },
  },
  'keep-open': {
    parent: async (line) => {
      const { server, client, accepted } = await pair(anywhere);
      server.close();
      await line.say('socket', accepted, { keepOpen: true });
      await line.hear('written');
      accepted.end(' parent');
      assert.strictEqual(await all(client), 'child parent');
    },
    child: async (line) => {
      const socket = await line.hear('socket');
      await new Promise((resolve) => socket.write('child', resolve));
      await line.say('written');
      await once(socket.resume(), 'close');
    },
  },
  'unix-server': { parent: giveServer({ path: process.env.GANGER_TEST_SOCKET }), child: takeServer() },
  'unix-socket': { parent: giveSocket({ path: process.env.GANGER_TEST_SOCKET }), child: takeSocket },
  native: {
    parent: giveServer(anywhere, (server) => server._handle),
    child: takeServer((handle) => {
      assert(!(handle instanceof net.Server), 'it became a server of its own');
      return listen(handle);
    }),
  },
  dgram: { parent: giveDatagrams(), child: takeDatagrams() },
  'dgram-native': {
    parent: giveDatagrams((socket) => {
      // Node has no other way to it.
      const state = Object.getOwnPropertySymbols(socket).find((symbol) => socket[symbol]?.handle);
      return socket[state].handle;
    }),
    child: takeDatagrams((handle) => {
      assert(handle && !(handle instanceof dgram.Socket), 'no raw handle');
      return dgram.createSocket('udp4').bind(handle);
    }),
  },
  count: { parent: own, child: hold },
  'count-by-child': { parent: hold, child: own },
  'pause-on-connect': {
    parent: async (line) => {
      const { server, client, accepted } = await pair(anywhere, { pauseOnConnect: true });
      server.close();
      await new Promise((resolve) => client.write('early', resolve));
      await turns();
      await line.say('socket', accepted);
      assert.strictEqual(await all(client), 'late');
    },
    child: async (line) => {
      const socket = await line.hear('socket');
      await read(socket, 'early');
      socket.end('late');
    },
  },
};

// --- The frame.

const fail = (error) => {
  console.error(`${side}:`, error);
  for (const child of running) child.kill('SIGKILL');
  process.exit(1);
};
let done = false;
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
process.on('exit', (code) => {
  if (!done && code === 0) {
    console.error(`${side}: there was nothing left to wait for`);
    process.exitCode = 1;
  }
});

const act = async () => {
  const { parent, child, exit = 0 } = features[feature];
  if (side === 'child') {
    await child(new Line(process));
  } else {
    const other = start();
    const line = new Line(other);
    const early = other.end.then((end) => {
      if (!done) assert.strictEqual(end, exit, 'how the child ended');
    });
    await Promise.race([parent(line), early.then(() => new Promise(() => {}))]);
    if (other.connected) other.disconnect();
    assert.strictEqual(await other.end, exit, 'how the child ended');
  }
  done = true;
};
act().catch(fail);
