// What a primary does of its own accord: it sends messages of every kind, then disconnects the worker.
// The primary's part is in this file: another primary has to do the same to send the same.
'use strict';

const cluster = require('node:cluster');
const net = require('node:net');

const MESSAGES = [
  { hello: 'worker' },
  'a string',
  42.5,
  true,
  null,
  [],
  { nested: { list: [1, 'two', null, { three: 3 }] }, text: 'é 日本 \u{1f600} " \\ \n \u2028 \ud800' },
  { cmd: 'NODE_' }, // not internal: nothing follows the prefix
];

if (cluster.isPrimary) {
  process.execPath = process.env.WIRETAP;
  const worker = cluster.fork();
  worker.on('listening', () => MESSAGES.forEach((message) => worker.send(message)));
  let echoes = 0;
  worker.on('message', () => {
    if (++echoes === MESSAGES.length) worker.disconnect();
  });
  worker.on('exit', (code) => { process.exitCode = code ?? 1; });
} else {
  net.createServer().listen(0, '127.0.0.1');
  process.on('message', (message) => process.send(message));
}
