// The agent of a gang counts visits for all its workers:
//   ganger run -n 2 --agent examples/node/agent.js examples/node/counter.js
let visits = 0;

process.on('message', ({ action, data, from }) => {
  if (action === 'visit') {
    visits += 1;
    process.send({ to: { worker: from.id }, action: 'visited', data: { ticket: data, visits } });
  }
});

// The workers are started now, and not before.
process.send('ready');
