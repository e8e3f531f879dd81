// The Node worker of `cargo xtask soak guard`: it answers with its process, in several ways. worker.rs is the same in Rust.
'use strict';

const http = require('node:http');

const name = `${process.pid}\n`;
const large = name + '.'.repeat(256 << 10);
const kept = [];

function leak() {
  // Touched, so that it is there; not so fast that nobody sees it grow.
  kept.push(Buffer.alloc(1 << 20, 1));
  setTimeout(leak, 10);
}

http.createServer((request, response) => {
  switch (request.url) {
    case '/slow': return setTimeout(() => response.end(name), 20);
    case '/large': return response.end(large);
    case '/fail': throw new Error('asked to fail');
    case '/leak': leak();
  }
  response.end(name);
}).listen(process.env.PORT);
