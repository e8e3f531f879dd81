// For Node's primary: Rust workers that open sockets as they are told (the part `sockets`).
const net = require('net'), dgram = require('dgram');

const forked = (count, policy = cluster.SCHED_RR) => {
  cluster.schedulingPolicy = policy;
  workers('sockets');
  return Array.from({ length: count }, () => cluster.fork());
};

/** Tells a worker something, and returns its answer, without the name. */
const order = (worker, what, name, options) => new Promise((resolve) => {
  const heard = ([about, ...answer]) => {
    if (about !== name) return;
    worker.off('message', heard);
    resolve(answer);
  };
  worker.on('message', heard);
  worker.send([what, name, options]);
});

/** Has a worker open a socket; where it is. */
const open = async (worker, what, name, options) => {
  const [result, address] = await order(worker, what, name, options);
  assert.strictEqual(result, 'listening', `${result}: ${address}`);
  return address;
};

const refused = async (code, ...what) => assert.deepStrictEqual(await order(...what), ['error', code]);

const close = async (worker, name) => assert.deepStrictEqual(await order(worker, 'close', name), ['closed']);

const ended = (worker) => new Promise((resolve) => {
  worker.once('exit', (...how) => { assert.deepStrictEqual(how, [0, null]); resolve(); });
});

const end = async (...all) => {
  for (const worker of all) {
    const end = ended(worker);
    worker.disconnect();
    await end;
  }
};

/** What a server says, which is its worker's number. */
const served = (place) => new Promise((resolve, reject) => {
  let text = '';
  net.connect(place).on('data', (data) => { text += data; }).on('end', () => resolve(text)).on('error', reject);
});

/** A server of the primary's own, or of whoever else; none if it cannot be. */
const stranger = (options) => new Promise((resolve) => {
  const server = net.createServer().on('error', () => resolve()).listen(options, () => resolve(server));
});

const tcp = (port = 0) => ({ host: '127.0.0.1', port });
const udp = (port = 0) => ({ type: 'udp4', address: '127.0.0.1', port });

const restart = async (policy) => {
  const [stays, goes] = forked(2, policy);
  const address = await open(stays, 'listen', 'it', tcp());
  for (let round = 0; round < 2; round++) {
    assert.deepStrictEqual(await open(goes, 'listen', 'it', tcp()), address);
    await close(goes, 'it');
  }
  const end = ended(goes);
  goes.send(['disconnect']);
  await end;
  stays.disconnect();
};

/** By chance the port may be somebody else's in IPv4; that it always is would be no chance. */
const ipv6Alone = async (policy) => {
  const all = forked(3, policy);
  for (let attempt = 0; attempt < 10; attempt++) {
    const options = { host: '::', port: 0, ipv6Only: true };
    const ports = [];
    for (const worker of all) ports.push((await open(worker, 'listen', `it ${attempt}`, options))[1]);
    assert.strictEqual(new Set(ports).size, 1);
    const ipv4 = await stranger({ host: '0.0.0.0', port: ports[0] });
    if (!ipv4) continue;
    ipv4.close();
    assert(['1', '2', '3'].includes(await served({ host: '::1', port: ports[0] })));
    return end(...all);
  }
  assert.fail('IPv4 never has the port free');
};

/** Each opens twice and closes twice, whoever is quicker. */
const twoFlows = async (what, options) => {
  const [worker] = forked(1);
  await Promise.all(['a', 'b'].map(async (name) => {
    for (let round = 0; round < 2; round++) {
      await open(worker, what, name, options);
      await close(worker, name);
    }
  }));
  await end(worker);
};

/** Two workers at a port that has a number of its own, by which they share it too. */
const byNumber = async (one, other, what, place) => {
  for (;;) {
    const free = await stranger(tcp());
    const { port } = free.address();
    await new Promise((resolve) => free.close(resolve));
    const answer = await order(one, what, 'by number', place(port));
    if (answer[0] === 'listening') {
      return assert.deepStrictEqual(await order(other, what, 'by number', place(port)), answer);
    }
    // Somebody else was faster.
    assert.deepStrictEqual(answer, ['error', 'EADDRINUSE']);
  }
};

const sharedPorts = async (what, place) => {
  const [one, other] = forked(2);
  const shared = await open(one, what, 'shared', place());
  const alone = await open(one, what, 'alone', { ...place(), exclusive: true });
  assert.deepStrictEqual(await open(other, what, 'shared', place()), shared);
  await refused('EADDRINUSE', other, what, 'alone', { ...place(alone[1]), exclusive: true });
  await byNumber(one, other, what, place);
  await close(one, 'alone');
  await end(one, other);
};

/** A primary that is nobody, with two workers one after the other. */
const notForEverybody = async (policy) => {
  for (let round = 0; round < 2; round++) {
    const [worker] = forked(1, policy);
    // Nobody may not have our program.
    await new Promise((resolve) => worker.once('online', resolve));
    const isRoot = process.geteuid() === 0;
    if (isRoot) process.seteuid(65534);
    await refused('EACCES', worker, 'listen', 'it', tcp(42));
    if (isRoot) process.seteuid(0);
    await end(worker);
  }
};

const run = (row) => row().then(mustCall());
