// A web server on all CPUs, as the documentation of Node's cluster module shows it.
//
//   node hello.js            Node is the primary: it forks the workers
//   ganger run hello.js      ganger is the primary: this file is only ever a worker
'use strict';

const cluster = require('node:cluster');
const http = require('node:http');
const os = require('node:os');

if (cluster.isPrimary) {
  console.log(`Primary ${process.pid} is running`);

  const workers = os.availableParallelism?.() ?? os.cpus().length;
  for (let i = 0; i < workers; i++) cluster.fork();

  cluster.on('exit', (worker) => {
    console.log(`worker ${worker.process.pid} died`);
  });
} else {
  const port = process.env.PORT || 8000;

  http.createServer((request, response) => {
    response.writeHead(200);
    response.end('hello world\n');
  }).listen(port);

  console.log(`Worker ${process.pid} started: open http://localhost:${port}`);
}
