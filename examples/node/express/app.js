// Express's hello world, unchanged by being run on many processes: `ganger run -n 4 app.js`.
'use strict';

const express = require('express');

const app = express();
const port = process.env.PORT || 3000;

app.get('/', (request, response) => {
  response.send('Hello World!');
});

app.listen(port, (error) => {
  if (error) throw error; // Express 5 reports a taken port here
  console.log(`Example app listening on port ${port}`);
});
