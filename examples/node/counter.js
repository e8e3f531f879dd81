// A worker that asks the gang's agent how many visits there have been: see agent.js.
const http = require('http');

const waiting = new Map();
let tickets = 0;

process.on('message', ({ action, data }) => {
  if (action === 'visited') {
    waiting.get(data.ticket)?.end(`visit ${data.visits} of all workers, served by process ${process.pid}\n`);
    waiting.delete(data.ticket);
  }
});

http
  .createServer((request, response) => {
    waiting.set(++tickets, response);
    process.send({ to: 'agent', action: 'visit', data: tickets });
  })
  .listen(Number(process.env.PORT ?? 8000));
