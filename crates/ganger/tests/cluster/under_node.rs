//! Rows cluster-rr, cluster-shared and udp once more: Rust workers under Node's primary.

use libtest_mimic::Trial;

use crate::{refused, rows_under_node};

/// A script that finds what is in `under_node.cjs`.
macro_rules! script {
    ($row:literal) => {
        concat!(include_str!("under_node.cjs"), "run(async () => {", $row, "});")
    };
}

pub(crate) fn trials() -> Vec<Trial> {
    [
        rows_under_node("test-cluster-server-restart-rr", script!("await restart(cluster.SCHED_RR);")),
        rows_under_node("test-cluster-server-restart-none", script!("await restart(cluster.SCHED_NONE);")),
        rows_under_node("test-cluster-net-listen-backlog", BACKLOG),
        rows_under_node("test-cluster-net-listen-ipv6only-rr", script!("await ipv6Alone(cluster.SCHED_RR);")),
        rows_under_node(
            "test-cluster-net-listen-ipv6only-none",
            script!("await ipv6Alone(cluster.SCHED_NONE);"),
        ),
        rows_under_node("test-cluster-net-listen-ipv6only-false", DUAL_STACK),
        rows_under_node("test-cluster-http-pipe", PATH),
        rows_under_node("test-cluster-net-listen", LISTEN_ANYWHERE),
        rows_under_node("test-cluster-bind-twice", BIND_TWICE),
        rows_under_node("test-cluster-child-index-net", script!("await twoFlows('listen', tcp());")),
        rows_under_node("test-net-listen-shared-ports", script!("await sharedPorts('listen', tcp);")),
        rows_under_node("test-cluster-shared-handle-bind-error", SHARED_BIND_ERROR),
        rows_under_node("test-cluster-dgram-1", TEN_EACH),
        rows_under_node("test-cluster-dgram-2", FORTY_SENT),
        rows_under_node("test-cluster-dgram-ipv6only", DATAGRAMS_IPV6_ALONE),
        rows_under_node("test-cluster-child-index-dgram", script!("await twoFlows('bind', udp());")),
        rows_under_node("test-dgram-cluster-bind-error", DATAGRAMS_BIND_ERROR),
        rows_under_node("test-dgram-cluster-close-in-listening", CLOSE_IN_LISTENING),
        rows_under_node("test-dgram-bind-shared-ports", script!("await sharedPorts('bind', udp);")),
        rows_under_node("test-dgram-bind-shared-ports-after-port-0", AFTER_PORT_0),
    ]
    .into_iter()
    .flatten()
    .chain(refused::unless_anybody_may(privileged()))
    .collect()
}

fn privileged() -> Vec<Trial> {
    [
        rows_under_node(
            "test-cluster-bind-privileged-port",
            script!("await notForEverybody(cluster.SCHED_RR);"),
        ),
        rows_under_node(
            "test-cluster-shared-handle-bind-privileged-port",
            script!("await notForEverybody(cluster.SCHED_NONE);"),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// As many connections as the queue has room for (the kernel adds one) are completed while nobody accepts: the primary
/// only waits for the clients' process.
const BACKLOG: &str = script!(
    "
    const [worker] = forked(1);
    const [, port] = await open(worker, 'listen', 'it', { ...tcp(), backlog: 127 });
    const clients = `
      let completed = 0;
      const connect = () => require('net').connect(${port}, '127.0.0.1', () => {
        if (++completed === 128) setImmediate(() => process.exit(completed === 128 ? 0 : 1));
      });
      for (let count = 0; count < 2 * 127; count++) connect();`;
    const { status } = require('child_process').spawnSync(node, ['-e', clients], { stdio: 'inherit' });
    assert.strictEqual(status, 0);
    await end(worker);"
);

const DUAL_STACK: &str = script!(
    "
    const all = forked(3);
    const ports = [];
    for (const worker of all) ports.push((await open(worker, 'listen', 'it', { host: '::', port: 0 }))[1]);
    assert.strictEqual(new Set(ports).size, 1);
    assert(['1', '2', '3'].includes(await served(tcp(ports[0]))));
    await end(...all);"
);

const PATH: &str = script!(
    "
    const [worker] = forked(1);
    const path = require('path').join(__dirname, 'app.sock');
    assert.strictEqual(await open(worker, 'listen', 'it', { path }), path);
    assert.strictEqual(await served({ path }), '1');
    await end(worker);"
);

const LISTEN_ANYWHERE: &str = script!(
    "
    const [worker] = forked(1);
    const [, port] = await open(worker, 'listen', 'it', {});
    assert(port > 0);
    await end(worker);"
);

const BIND_TWICE: &str = script!(
    "
    const taken = await stranger(tcp());
    const [worker] = forked(1);
    await refused('EADDRINUSE', worker, 'listen', 'it', tcp(taken.address().port));
    taken.close();
    await end(worker);"
);

const SHARED_BIND_ERROR: &str = script!(
    "
    const taken = await stranger(tcp());
    const [worker] = forked(1, cluster.SCHED_NONE);
    await refused('EADDRINUSE', worker, 'listen', 'it', tcp(taken.address().port));
    taken.close();
    await end(worker);"
);

/// Whoever has ten closes, so the others get theirs.
const TEN_EACH: &str = script!(
    "
    workers('receive ten');
    const all = Array.from({ length: 4 }, () => cluster.fork());
    const told = (event) => Promise.all(all.map((worker) => new Promise((resolve) => worker.once(event, resolve))));
    const counts = told('message');
    const ports = (await told('listening')).map(({ port }) => port);
    assert.strictEqual(new Set(ports).size, 1);
    const client = dgram.createSocket('udp4');
    for (let sent = 0; sent < 40; sent++) client.send('hello', ports[0], '127.0.0.1');
    assert.deepStrictEqual(await counts, [10, 10, 10, 10]);
    client.close();
    await end(...all);"
);

const FORTY_SENT: &str = script!(
    "
    const receiver = dgram.createSocket('udp4');
    await new Promise((resolve) => receiver.bind(0, '127.0.0.1', resolve));
    workers('send always', receiver.address().port);
    const all = Array.from({ length: 4 }, () => cluster.fork());
    await new Promise((resolve) => {
      let count = 0;
      receiver.on('message', () => { if (++count === 40) resolve(); });
    });
    receiver.close();
    await end(...all);"
);

/// By chance the port may be somebody else's in IPv4; that it always is would be no chance.
const DATAGRAMS_IPV6_ALONE: &str = script!(
    "
    const [worker] = forked(1);
    for (let attempt = 0; attempt < 10; attempt++) {
      const ipv6 = { type: 'udp6', ipv6Only: true, address: '::', port: 0 };
      const [, port] = await open(worker, 'bind', `ipv6 ${attempt}`, ipv6);
      const ipv4 = { type: 'udp4', address: '0.0.0.0', port };
      const [result, address] = await order(worker, 'bind', `ipv4 ${attempt}`, ipv4);
      if (result === 'listening') {
        assert.deepStrictEqual(address, ['0.0.0.0', port]);
        return end(worker);
      }
      assert.strictEqual(address, 'EADDRINUSE');
    }
    assert.fail('IPv4 never has the port free');"
);

const DATAGRAMS_BIND_ERROR: &str = script!(
    "
    const [worker] = forked(1);
    await refused('EADDRNOTAVAIL', worker, 'bind', 'it', { type: 'udp4', address: '240.0.0.1', port: 0 });
    await open(worker, 'bind', 'it', udp());
    await close(worker, 'it');
    await end(worker);"
);

const CLOSE_IN_LISTENING: &str = script!(
    "
    for (const worker of forked(3)) {
      assert.deepStrictEqual(await order(worker, 'bind and close', 'it', udp()), ['closed']);
      await end(worker);
    }"
);

/// The port that came of 0 is another one than the same port by its number.
const AFTER_PORT_0: &str = script!(
    "
    const [one, other] = forked(2);
    const [, port] = await open(one, 'bind', 'it', udp());
    await refused('EADDRINUSE', other, 'bind', 'it', udp(port));
    await end(one, other);"
);
