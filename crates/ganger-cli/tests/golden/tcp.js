// TCP: listen on any port, take one connection, close, listen again, a second server, disconnect.
// All is driven by the worker, so that any primary that runs this worker sends the same.
'use strict';

const cluster = require('node:cluster');
const net = require('node:net');
const { once } = require('node:events');

async function listen() {
  const server = net.createServer((socket) => socket.end('x')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

async function connect(server) {
  const socket = net.connect(server.address().port, '127.0.0.1').resume();
  await once(socket, 'close');
}

async function close(server) {
  server.close();
  await once(server, 'close');
}

async function work() {
  const first = await listen();
  await connect(first);
  await close(first);

  const again = await listen();
  await connect(again);

  const second = await listen();
  await connect(second);
  await connect(again);

  await close(again);
  cluster.worker.disconnect(); // with the second server still open
}

if (cluster.isPrimary) {
  process.execPath = process.env.WIRETAP;
  cluster.fork().on('exit', (code) => { process.exitCode = code ?? 1; });
} else {
  work();
}
