// Behind ganger's hints with `--graceful`: what is done about an uncaught exception where the program does nothing. It
// listens no more, tells the primary, which starts another worker, answers what is open, and ends with 1. Only the request that
// failed is lost.
'use strict';

const { AsyncLocalStorage } = require('async_hooks');
const diagnostics = require('diagnostics_channel');
const { inspect } = require('util');
const { isMainThread } = require('worker_threads');
const { drain, open, servers, whenEmpty } = require('./hints.cjs');

// What is open then has so many ms to end.
const FINISH = 30_000;
// The number of our word to the primary; the cluster's own begin with 0.
const LEAVING = 0x6a6e6772;

// On whose behalf something runs, so that it is known whose it was when it throws.
const requests = new AsyncLocalStorage();
let leaving = false;

function failed(error) {
  // The program has a handler of its own: it decides.
  if (process.listenerCount('uncaughtException') > 1) return;
  process.stderr.write(`${inspect(error)}\n\nNode.js ${process.version}\n`);
  process.exitCode = 1;
  const request = requests.getStore();
  if (request && !request.response.writableEnded) request.socket.destroy();
  if (leaving) return;
  leaving = true;
  // Its own is counted until it has closed, which is to come.
  const own = request?.socket.destroyed && !request.socket.closed ? 1 : 0;
  if (open() <= own) process.exit(1);
  whenEmpty(() => process.exit(1));
  drain();
  leave();
  // Those that are idle close at once.
  servers.forEach((server) => server.closeIdleConnections?.());
  setTimeout(() => process.exit(1), FINISH);
}

function leave() {
  const cluster = require('cluster');
  if (!process.connected || !cluster.isWorker) {
    const { Server } = require('net');
    const servers = process._getActiveHandles().filter((handle) => handle instanceof Server);
    servers.forEach((server) => server.close());
    if (process.connected) process.disconnect();
    return;
  }
  // It closes the servers at once, and would say the rest when all connections are closed. A replacement is needed
  // now: the answer comes behind all that was handed to us before, and then the channel can go.
  cluster.worker.disconnect();
  process.on('internalMessage', ({ cmd, ack }) => {
    if (cmd === 'NODE_CLUSTER' && ack === LEAVING && process.connected) process.disconnect();
  });
  process.send({ cmd: 'NODE_CLUSTER', act: 'exitedAfterDisconnect', seq: LEAVING }, () => {});
}

if (isMainThread) {
  diagnostics.subscribe('http.server.request.start', (request) => requests.enterWith(request));
  process.on('uncaughtException', failed);
}
