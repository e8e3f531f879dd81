// The worker ends itself by worker.kill(), with a server open.
'use strict';

const cluster = require('node:cluster');
const net = require('node:net');
const { once } = require('node:events');

async function work() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  cluster.worker.kill();
}

if (cluster.isPrimary) {
  process.execPath = process.env.WIRETAP;
  cluster.fork().on('exit', (code) => { process.exitCode = code ?? 1; });
} else {
  work();
}
