// A Unix socket, by a name in the current directory: one connection, close, listen again, disconnect.
'use strict';

const cluster = require('node:cluster');
const net = require('node:net');
const { once } = require('node:events');

async function work() {
  for (let round = 0; round < 2; round++) {
    const server = net.createServer((socket) => socket.end('x')).listen('golden.sock');
    await once(server, 'listening');
    const socket = net.connect('golden.sock').resume();
    await once(socket, 'close');
    server.close();
    await once(server, 'close');
  }
  cluster.worker.disconnect();
}

if (cluster.isPrimary) {
  process.execPath = process.env.WIRETAP;
  cluster.fork().on('exit', (code) => { process.exitCode = code ?? 1; });
} else {
  work();
}
