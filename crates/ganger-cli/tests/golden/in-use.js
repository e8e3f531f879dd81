// A port that is taken: the worker opens one that the primary does not know and asks for it again.
'use strict';

const assert = require('node:assert');
const cluster = require('node:cluster');
const net = require('node:net');
const { once } = require('node:events');

async function work() {
  const taken = net.createServer().listen({ host: '127.0.0.1', port: 0, exclusive: true });
  await once(taken, 'listening');
  const refused = net.createServer().listen(taken.address().port, '127.0.0.1');
  const [error] = await once(refused, 'error');
  assert.strictEqual(error.code, 'EADDRINUSE');
  taken.close();
  await once(taken, 'close');
  cluster.worker.disconnect();
}

if (cluster.isPrimary) {
  process.execPath = process.env.WIRETAP;
  cluster.fork().on('exit', (code) => { process.exitCode = code ?? 1; });
} else {
  work();
}
