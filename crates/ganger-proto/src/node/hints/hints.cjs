// ganger's hints: stands as `--require` before a Node program, and off with `--no-hints`.
//
// It tells the primary how busy this process is, and once told to drain it has every HTTP response say
// `Connection: close`, so that clients go elsewhere before the servers close. What lasts all the same it ends, when told to,
// one after another. It touches nothing of the program: the entry, the arguments and the environment are what they would be
// without it.
'use strict';

// Node passes its own options on to what the program forks, which is none of our business.
const isOurs = (option) => option.startsWith(`--require=${__dirname}/`);
process.execArgv.splice(0, Infinity, ...process.execArgv.filter((option) => !isOurs(option)));

// A change is told after so many ms, all else is looked at so often.
const SOON = 100;
const NOW_AND_THEN = 1000;
// While connections are ended it goes on every so many ms.
const STEP = 20;

const diagnostics = require('diagnostics_channel');
const { Socket } = require('net');
const { performance } = require('perf_hooks');
const { setTimeout } = require('timers');
const { isMainThread } = require('worker_threads');

// How many connections servers of this process have accepted and not closed. They are not kept: to put
// each into a set would cost as much as a twentieth of the least that a request takes.
let open = 0;
// Those that are to be ended, the oldest first.
let ending;
// The servers that have accepted some, and the HTTP/2 sessions in which one was asked something.
const servers = new Set();
const sessions = new Set();
let changed = () => {};
let empty = () => {};
let draining = false;

// Before 18.8 nobody tells of them.
const [major, minor] = process.versions.node.split('.').map(Number);
const counts = major > 18 || minor >= 8;

function count() {
  // One function for all sockets: this runs for every connection.
  function closed() {
    open -= 1;
    changed();
    if (open === 0) empty();
  }
  diagnostics.subscribe('net.server.socket', ({ socket }) => {
    if (socket.destroyed) return;
    if (socket.server && !servers.has(socket.server)) watch(socket.server);
    ending?.push(socket);
    open += 1;
    socket.on('close', closed);
    changed();
  });
}

// The oldest first: what libuv has open, without those that do not keep the process alive.
function connections() {
  return process._getActiveHandles().filter((handle) => handle instanceof Socket && handle.server && !handle.destroyed);
}

// From now on each response closes its connection, those under way included if their head is not written yet.
// All heads are written by this one function, whoever asked for them and when.
function drain() {
  if (draining) return;
  draining = true;
  sessions.forEach((session) => session.close());
  servers.forEach(spare);
  const { OutgoingMessage, ServerResponse } = require('http');
  const write = ServerResponse.prototype._storeHeader;
  ServerResponse.prototype._storeHeader = function (firstLine, headers) {
    // A connection that becomes something else is no response's to close.
    if (this.statusCode !== 101 && !this._header) {
      OutgoingMessage.prototype.setHeader.call(this, 'Connection', 'close');
      this._removedConnection = false;
      this.shouldKeepAlive = false;
      headers = withoutConnection(headers);
    }
    return write.call(this, firstLine, headers);
  };
}

// What `writeHead` was given, in each of its forms, but for what it says of the connection. What was set before by
// `setHeader` is not copied: it says what is right already.
function withoutConnection(headers) {
  const is = (name) => String(name).toLowerCase() === 'connection';
  if (!headers || headers.connection?.[1] === 'close') return headers;
  if (!Array.isArray(headers)) {
    const others = Object.entries(headers).filter(([name]) => !is(name));
    return others.length === Object.keys(headers).length ? headers : Object.fromEntries(others);
  }
  if (Array.isArray(headers[0])) return headers.filter(([name]) => !is(name));
  return headers.filter((_, at) => !is(headers[at - (at % 2)]));
}

// A server that closes also closes what Node takes for idle, from version 20 on: answers that are not written to their
// end and, in 26, connections whose first request is still on its way. These are spared, and close behind their answer.
function spare(server) {
  if (server.closeIdleConnections) server.closeIdleConnections = closeIdleConnections;
}

function closeIdleConnections() {
  const symbols = Object.getOwnPropertySymbols(this);
  const connections = symbols.find(({ description }) => description === 'http.server.connections');
  if (!connections) return Object.getPrototypeOf(this).closeIdleConnections.call(this);
  for (const { socket } of this[connections].idle()) {
    if (!socket._httpMessage && socket.bytesRead > 0) socket.destroy();
  }
}

function watch(server) {
  servers.add(server);
  server.once('close', () => servers.delete(server));
  if (draining) spare(server);
  const known = server.listeners('stream').includes(asked);
  if (/^Http2/.test(server.constructor.name) && !known) server.on('stream', asked);
}

// HTTP/2 has a word for it. Which sessions a server has shows by their streams.
function asked({ session }) {
  if (draining) session.close();
  if (sessions.has(session)) return;
  sessions.add(session);
  session.once('close', () => sessions.delete(session));
}

// Ends all connections, the oldest first, one after another over so many ms: their clients come back, elsewhere, and should
// not do so in one moment.
function shed(over) {
  ending ??= connections();
  const [all, began] = [ending.length, performance.now()];
  const step = () => {
    const left = Math.max(0, Math.ceil(all * (1 - (performance.now() - began) / over)));
    ending = ending.filter(({ destroyed }) => !destroyed);
    // What was written goes out.
    ending.splice(0, ending.length - left).forEach((socket) => socket.destroySoon());
    if (ending.length > 0) setTimeout(step, STEP).unref();
  };
  step();
}

function report() {
  const send = process.send;
  let before = performance.eventLoopUtilization();
  let expected = performance.now() + NOW_AND_THEN;
  let sample;
  let last;
  let sending = false;
  let due = true;

  const take = () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    const late = Math.max(0, Math.round(performance.now() - expected));
    const { used_heap_size: heap, heap_size_limit: heapLimit } = require('v8').getHeapStatistics();
    sample = { heap, heapLimit, busy: Math.round(utilization * 1000), late };
  };
  const tell = () => {
    due = false;
    if (!process.connected) return;
    // The primary has not read the last one yet: it gets the next.
    if (sending) return changed();
    if (!sample) take();
    const report = { connections: counts ? open : undefined, ...sample };
    report.term = process.listenerCount('SIGTERM') > 0;
    // What is about as it was need not be told.
    const { connections, heap, busy, late, term } = report;
    const gist = [connections, Math.round(heap / 4e6), Math.round(busy / 50), late > 20, term].join();
    if (gist === last) return;
    last = gist;
    sending = true;
    send.call(process, { cmd: 'NODE_GANGER_REPORT', report }, undefined, undefined, () => { sending = false; });
  };
  const soon = setTimeout(tell, SOON).unref();
  const nowAndThen = setTimeout(() => {
    if (!process.connected) return;
    take();
    tell();
    expected = performance.now() + NOW_AND_THEN;
    nowAndThen.refresh();
  }, NOW_AND_THEN).unref();

  // The first of several changes counts: under load there is always another one.
  changed = () => {
    if (due || !process.connected) return;
    due = true;
    soon.refresh();
  };
  process.on('internalMessage', ({ cmd, over }) => {
    if (cmd === 'NODE_GANGER_DRAIN') drain();
    if (cmd === 'NODE_GANGER_SHED') shed(over);
  });
}

if (isMainThread) {
  if (counts) count();
  if (process.send) report();
}

module.exports = {
  drain,
  servers,
  // How many are open, or are about to be told of as closed.
  open: () => open,
  whenEmpty(callback) {
    empty = callback;
  },
};
