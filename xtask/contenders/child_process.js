// What `child_process.rs` beside this file does with ganger, in Node: children one after the other for a time,
// or the output of one child. Prints how much it was and how many seconds it took.
'use strict';
const { spawn } = require('child_process');

const [what, seconds] = process.argv.slice(2);
const began = process.hrtime.bigint();
const elapsed = () => Number(process.hrtime.bigint() - began) / 1e9;

const children = (stdio) => {
  let count = 0;
  const next = () => {
    if (elapsed() >= Number(seconds)) return console.log(count, elapsed());
    spawn('/bin/true', [], { stdio }).on('exit', () => { count++; next(); });
  };
  next();
};

const output = () => {
  let bytes = 0;
  const child = spawn('head', ['-c', String(1 << 30), '/dev/zero'], { stdio: ['ignore', 'pipe', 'ignore'] });
  child.stdout.on('data', (data) => { bytes += data.length; }).on('end', () => console.log(bytes / 2 ** 20, elapsed()));
};

if (what === 'output') output(); else children(what === 'pipes' ? 'pipe' : 'ignore');
