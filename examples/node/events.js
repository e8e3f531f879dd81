// A stream of events (SSE): each client gets one a second, for ever. When its worker is replaced, the connection ends at some
// moment between half and three quarters of `--drain-timeout`, one client's after another's, and its EventSource comes back.
//
// `ganger run -n 2 --drain-timeout 10s examples/node/events.js`, and `curl -N localhost:8000`
'use strict';

const http = require('http');

const server = http.createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  let count = 0;
  const tell = () => response.write(`id: ${++count}\ndata: from process ${process.pid}\n\n`);
  tell();
  const timer = setInterval(tell, 1000);
  response.on('close', () => clearInterval(timer));
});
server.listen(process.env.PORT ?? 8000);
