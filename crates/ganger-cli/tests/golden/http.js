// HTTP on the unspecified address: one request, then the worker disconnects with the server open.
'use strict';

const cluster = require('node:cluster');
const http = require('node:http');
const { once } = require('node:events');

async function work() {
  const server = http.createServer((request, response) => response.end('hello world\n')).listen(0);
  await once(server, 'listening');
  const request = http.get({ host: '127.0.0.1', port: server.address().port, agent: false });
  const [response] = await once(request, 'response');
  response.resume();
  await once(response, 'close');
  cluster.worker.disconnect();
}

if (cluster.isPrimary) {
  process.execPath = process.env.WIRETAP;
  cluster.fork().on('exit', (code) => { process.exitCode = code ?? 1; });
} else {
  work();
}
