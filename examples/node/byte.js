// The least that a server can do with a connection: it writes one byte and ends it.
// What is left to measure is the way of a connection to its worker (`cargo xtask bench connect`).
//
//   WORKERS=2 node byte.js            Node's own cluster (NODE_CLUSTER_SCHED_POLICY=rr or none)
//   ganger run -n 2 byte.js           the same workers under ganger
'use strict';

const cluster = require('node:cluster');
const net = require('node:net');

if (cluster.isPrimary) {
  const workers = Number(process.env.WORKERS || 2);
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  net.createServer((socket) => {
    socket.on('error', () => {}); // a client that is gone early is nobody's trouble here
    socket.end('x');
  }).listen(process.env.PORT || 8000, '127.0.0.1');
}
