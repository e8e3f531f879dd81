// A web server that knows nothing of clusters: `ganger run -n 4 plain.js` runs four of it on one port.
'use strict';

const http = require('node:http');

http.createServer((request, response) => {
  response.end(`hello from process ${process.pid}\n`);
}).listen(process.env.PORT || 8000);
