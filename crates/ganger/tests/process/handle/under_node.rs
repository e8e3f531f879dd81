//! A Node parent, a Rust child.

pub(super) const SCRIPTS: [(&str, &str); 9] = [
    (
        "test-child-process-fork-dgram",
        "const dgram = require('dgram');
         const child = fork('take one datagram');
         const server = dgram.createSocket('udp4'), client = dgram.createSocket('udp4');
         let ours = 0, theirs = false;
         server.bind(0, '127.0.0.1', () => {
           const { port } = server.address();
           child.send('socket', server);
           const send = () => { if (!ours || !theirs) client.send('hello', port, '127.0.0.1', () => setImmediate(send)); };
           child.on('message', (message) => {
             if (message === 'ready') send();
             else { assert.strictEqual(message, 'got one'); theirs = true; }
           });
         });
         // Who has had one leaves the rest to the other: only a copy that is closed gets nothing.
         server.once('message', () => { ours++; server.close(); });
         child.on('exit', mustCall((code, signal) => {
           assert.deepStrictEqual([code, signal, ours], [0, null, 1]);
           client.close();
         }));",
    ),
    (
        "test-child-process-fork-net-server",
        "const net = require('net');
         const child = fork('serve and report');
         let connections = 0;
         const count = () => {
           if (++connections === 4) { server.close(mustCall(() => child.send('close'))); }
         };
         const server = net.createServer((socket) => { socket.end('parent'); count(); });
         server.listen(0, '127.0.0.1', () => child.send('server', server));
         child.on('message', (message) => {
           if (message !== 'ready') return count();
           for (let i = 0; i < 4; i++) net.connect(server.address().port, '127.0.0.1').resume().on('close', mustCall());
         });
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal, connections], [0, null, 4])));",
    ),
    (
        "test-child-process-fork-net-socket",
        "const net = require('net');
         const child = fork('say echo and end');
         const server = net.createServer(mustCall((socket) => child.send('socket', socket)));
         server.listen(0, '127.0.0.1', () => {
           let text = '';
           const client = net.connect(server.address().port, '127.0.0.1').setEncoding('utf8');
           client.on('data', (data) => { text += data; });
           client.on('close', mustCall(() => { assert.strictEqual(text, 'echo'); server.close(mustCall()); }));
         });
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));",
    ),
    (
        "test-child-process-send-keep-open",
        "const net = require('net');
         const child = fork('write and tell');
         let ours;
         const server = net.createServer(mustCall((socket) => {
           ours = socket;
           child.send('socket', socket, { keepOpen: true }, mustCall((error) => assert.strictEqual(error, null)));
         }));
         child.on('message', mustCall((message) => { assert.strictEqual(message, 'written'); ours.end('parent'); }));
         server.listen(0, '127.0.0.1', () => {
           let text = '';
           const client = net.connect(server.address().port, '127.0.0.1').setEncoding('utf8');
           client.on('data', (data) => { text += data; });
           client.on('end', mustCall(() => { assert.strictEqual(text, 'childparent'); server.close(); child.disconnect(); }));
         });
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));",
    ),
    (
        "test-cluster-net-send",
        "const child = fork('send a client');
         child.on('message', mustCall((message, socket) => {
           assert.strictEqual(message, 'handle');
           child.send('got');
           let text = '';
           socket.setEncoding('utf8').on('data', (data) => { text += data; });
           socket.on('end', mustCall(() => { assert.strictEqual(text, 'hello'); child.kill('SIGKILL'); }));
         }));
         child.on('exit', mustCall((code, signal) => assert.strictEqual(signal, 'SIGKILL')));",
    ),
    (
        "test-cluster-send-deadlock",
        "const child = fork('send back');
         const server = require('net').createServer(mustCall((socket) => child.send({ got: true }, socket), 2));
         server.listen(0, '127.0.0.1', () => child.send({ port: server.address().port }));
         child.on('message', mustCall((message, socket) => { assert.strictEqual(message, 'reply'); socket.end(); }, 2));
         child.on('exit', mustCall((code, signal) => { assert.deepStrictEqual([code, signal], [0, null]); server.close(); }));",
    ),
    (
        "test-cluster-send-socket-to-worker-http-server",
        "const child = fork('feed a server');
         // A Node reads on, for nobody, until the socket has arrived.
         const server = require('net').createServer({ pauseOnConnect: true }, mustCall((socket) => child.send('socket', socket)));
         server.listen(0, '127.0.0.1', () => {
           require('http').get({ port: server.address().port, host: '127.0.0.1', agent: false }, mustCall((response) => {
             let text = '';
             response.setEncoding('utf8').on('data', (data) => { text += data; });
             response.on('end', mustCall(() => { assert.strictEqual(text, 'hello from child'); server.close(); }));
           }));
         });
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));",
    ),
    (
        "test-net-listen-handle-in-cluster-1",
        "const net = require('net');
         const child = fork('listen on what comes without a message');
         const server = net.createServer().listen(0, '127.0.0.1', mustCall(() => {
           const { port } = server.address();
           child.send(null, server, mustCall(() => server.close(mustCall(() => {
             let text = '';
             const client = net.connect(port, '127.0.0.1').setEncoding('utf8');
             client.on('data', (data) => { text += data; });
             client.on('end', mustCall(() => assert.strictEqual(text, 'child')));
           }))));
         }));
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [0, null])));",
    ),
    (
        "test-net-child-process-connect-reset",
        "const net = require('net');
         const child = fork('listen and say where', [], { stdio: ['ipc', 'inherit', 'inherit'] });
         child.on('message', mustCall((message) => {
           if (message === 'accepted') return child.kill('SIGKILL');
           net.connect(message, '127.0.0.1').resume()
             .on('error', (error) => assert.strictEqual(error.code, 'ECONNRESET')).on('close', mustCall());
         }, 2));
         child.on('exit', mustCall((code, signal) => assert.deepStrictEqual([code, signal], [null, 'SIGKILL'])));",
    ),
];
