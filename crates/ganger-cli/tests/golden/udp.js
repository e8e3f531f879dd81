// UDP: bind to any port, one datagram to oneself, close, disconnect.
'use strict';

const cluster = require('node:cluster');
const dgram = require('node:dgram');
const { once } = require('node:events');

async function work() {
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  socket.send('x', socket.address().port, '127.0.0.1');
  await once(socket, 'message');
  socket.close();
  await once(socket, 'close');
  cluster.worker.disconnect();
}

if (cluster.isPrimary) {
  process.execPath = process.env.WIRETAP;
  cluster.fork().on('exit', (code) => { process.exitCode = code ?? 1; });
} else {
  work();
}
