// The least that a web server does with a request: it says who has answered. For `cargo xtask bench http`.
//
//   WORKERS=2 node http.js            Node's own cluster (NODE_CLUSTER_SCHED_POLICY=rr or none)
//   ganger run -n 2 http.js           the same workers under ganger
'use strict';

const cluster = require('node:cluster');
const http = require('node:http');

if (cluster.isPrimary) {
  const workers = Number(process.env.WORKERS || 2);
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  const name = String(process.pid);
  http.createServer((request, response) => response.end(name)).listen(process.env.PORT || 8000, '127.0.0.1');
}
