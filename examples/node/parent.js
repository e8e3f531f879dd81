// A Node parent with a Rust child: node parent.js target/debug/examples/child
const { fork } = require('child_process');

const execPath = process.argv[2];
const child = fork('.', [], { execPath, execArgv: [] });

child.send(12);
child.on('message', (square) => {
  console.log(`12 squared is ${square}, says process ${child.pid}`);
  child.disconnect();
});
child.on('exit', (code) => console.log(`the child has ended: exit code ${code}`));
