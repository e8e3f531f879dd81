'use strict';
// Writes what Node puts on an `advanced` channel for the values below: one line each, `name<TAB>hex`,
// with the length prefix. A name with `~` is a value that ganger reads and writes in another, equal form.

const { spawn } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const vm = require('vm');

const bytes = Uint8Array.from({ length: 16 }, (_, i) => i * 17).buffer;
const shared = { s: 1 };
const cyclic = { name: 'c' };
cyclic.self = cyclic;
const cyclicArray = [1];
cyclicArray.push(cyclicArray);
const cyclicMap = new Map();
cyclicMap.set('me', cyclicMap);
const cyclicSet = new Set();
cyclicSet.add(cyclicSet);
const up = { x: {} };
up.a = up.x;
up.b = { c: up.x };
up.x.up = up;
const resizable = (length, max) => new ArrayBuffer(length, { maxByteLength: max });
const error = (made, stack) => Object.defineProperty(made, 'stack', { value: stack, writable: true });
const withExtra = [1, 2];
withExtra.extra = 'e';
const holeyWithExtra = [1, , 3];
holeyWithExtra.extra = 'e';
const filled = new Array(3);
for (let i = 0; i < 3; i++) filled[i] = 7;
const many = [];
for (let i = 0; i < 130; i++) many.push({});
many.push(shared, shared);
const script = new vm.Script('');
delete script.sourceURL;
const nested = (depth) => (depth === 0 ? 0 : [nested(depth - 1)]);

class Point {
  constructor() { this.x = 1; this.y = 2; }
  get sum() { return this.x + this.y; }
}

// [name, value], and the value is sent as `{ v: value }`.
const wrapped = [
  ['undefined', undefined], ['null', null], ['true', true], ['false', false],
  ['zero', 0], ['one', 1], ['minus one', -1], ['63', 63], ['64', 64], ['8192', 8192],
  ['int32 max', 2147483647], ['int32 min', -2147483648], ['int32 max + 1', 2147483648],
  ['int32 min - 1', -2147483649], ['uint32 max', 4294967295], ['safe max', Number.MAX_SAFE_INTEGER],
  ['minus zero', -0], ['1.5', 1.5], ['1e21', 1e21], ['5e-324', 5e-324], ['NaN', NaN],
  ['Infinity', Infinity], ['-Infinity', -Infinity],
  ['0n', 0n], ['10n', 10n], ['-10n', -10n], ['2n**64n', 2n ** 64n], ['-(2n**64n-1n)', -(2n ** 64n - 1n)],
  ['2n**200n', 2n ** 200n],
  ['empty string', ''], ['ascii', 'hello'], ['latin1', 'é'], ['latin1 long', 'ÿ'.repeat(130)],
  ['two-byte', '日本'], ['two-byte padded', 'ab日'], ['two-byte long', '日'.repeat(64)], ['emoji', '😀'],
  ['lone high', '\ud800'], ['lone low', 'a\udc00b'], ['swapped pair', '\udc00\ud800'], ['nul', '\0'],
  ['line separator', '\u2028'],
  ['empty object', {}], ['object', { a: 1, b: 'x' }], ['integer keys', { x: 3, 2: 'b', 1: 'a' }],
  ['large integer key', { 4294967294: 'i', 4294967295: 's', 2147483648: 'd' }],
  ['odd keys', { '-1': 1, '01': 2, '1.5': 3, '': 4, 'é': 5, '日': 6, '\ud800': 7 }],
  ['undefined member', { a: undefined, b: 1 }], ['instance', new Point()],
  ['no prototype', Object.assign(Object.create(null), { a: 1 })],
  ['empty array', []], ['array', [1, 2, 3]], ['doubles', [1, 1.5]], ['doubles minus zero', [0, -0]],
  ['mixed array', [1, 1.5, 'x']], ['nulls', [null, undefined, true, false]], ['arrays', [[], [[]]]],
  ['hole', [1, , 3]], ['doubles hole', [1, , 1.5]], ['only holes', new Array(3)], ['extra', withExtra],
  ['hole and extra', holeyWithExtra], ['far', Object.assign([], { 5: 'x' })], ['~filled', filled],
  ['sparse', Object.assign([], { 4000000000: 'x' })], ['deep', nested(40)],
  ['date', new Date(1700000000123)], ['date before 1970', new Date(-1)], ['invalid date', new Date(NaN)],
  ['boxed true', new Boolean(true)], ['boxed false', new Boolean(false)], ['boxed number', new Number(1)],
  ['boxed double', new Number(1.5)], ['boxed bigint', Object(-5n)], ['boxed string', new String('s')],
  ['boxed two-byte', new String('日')],
  ['regexp', /a+/], ['regexp flags', /é/gimsuy], ['regexp indices', /x/d], ['regexp two-byte', /日/u],
  ['map', new Map([['a', 1], [2, 'b'], [{ k: 1 }, null]])], ['empty map', new Map()],
  ['set', new Set([1, 'a', null])], ['empty set', new Set()],
  ['array buffer', bytes.slice(0, 4)], ['empty array buffer', new ArrayBuffer(0)],
  ['buffer', Buffer.from('hi')], ['empty buffer', Buffer.alloc(0)], ['buffer long', Buffer.alloc(200, 1)],
  ['int8', new Int8Array(bytes)], ['uint8', new Uint8Array([1, 2, 3])],
  ['uint8 clamped', new Uint8ClampedArray(bytes)], ['int16', new Int16Array(bytes)],
  ['uint16', new Uint16Array(bytes)], ['int32', new Int32Array(bytes)], ['uint32', new Uint32Array(bytes)],
  ['float32', new Float32Array([1, -0.5])], ['float64', new Float64Array([1, NaN])],
  ['data view', new DataView(bytes, 2, 5)], ['bigint64', new BigInt64Array(bytes)],
  ['biguint64', new BigUint64Array(bytes)], ['part', new Uint8Array(bytes, 3, 4)],
  ['two views of one buffer', [new Uint8Array(bytes, 0, 2), new Uint8Array(bytes, 0, 2)]],
  ['error', error(new Error('oops'), 'Error: oops\n    at x')], ['no message', error(new Error(), 'Error')],
  ['type error', error(new TypeError('t'), 's')], ['range error', error(new RangeError('r'), 's')],
  ['syntax error', error(new SyntaxError('y'), 's')], ['eval error', error(new EvalError('e'), 's')],
  ['reference error', error(new ReferenceError('f'), 's')], ['uri error', error(new URIError('u'), 's')],
  ['error two-byte', error(new Error('日'), '本')], ['no stack', error(new Error('n'), undefined)],
  ['shared', [shared, shared]], ['cycle', cyclic], ['array cycle', cyclicArray], ['map cycle', cyclicMap],
  ['set cycle', cyclicSet], ['cross', up], ['shared date', ((d) => [d, d])(new Date(0))],
  ['shared buffer', ((b) => [b, b])(Buffer.from('b'))], ['shared boxed', ((b) => [b, {}, b])(new Number(7))],
  ['many ids', many], ['~host object', [script, script]],
];

// Sent as they are.
const plain = [
  ['top string', 's'], ['top two-byte', '日'], ['top number', 7], ['top double', 0.5], ['top true', true],
  ['top null', null], ['top array', [1]], ['top buffer', Buffer.from('b')], ['top map', new Map([[1, 2]])],
  ['ack', { cmd: 'NODE_HANDLE_ACK' }], ['online', { cmd: 'NODE_CLUSTER', act: 'online', seq: 0 }],
  ['handle', { cmd: 'NODE_HANDLE', type: 'net.Socket', msg: { m: cyclic }, key: '4:127.0.0.1:0' }],
];

// What not every Node has.
const later = [
  ['regexp sets', () => new RegExp('x', 'v')],
  ['resizable', () => { if (!('resizable' in ArrayBuffer.prototype)) throw 0; return resizable(2, 8); }],
  ['float16', () => new Float16Array([1, -0.5])],
  // Node 18 and 20 write the cause before the stack.
  ['error cause', () => error(new Error('o', { cause: { code: 7 } }), 's')],
];
for (const [name, make] of later) {
  try { wrapped.push([name, make()]); } catch { /* This Node does not have it. */ }
}

const messages = [...wrapped.map(([name, v]) => [name, { v }]), ...plain];
const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'capture-')), 'frames');
// The peer is no Node: it copies the channel to a file.
const child = spawn('sh', ['-c', 'exec cat <&3 >"$0"', file], {
  stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced',
});
for (const [, message] of messages) child.send(message);
child.disconnect();
child.on('exit', () => {
  const stream = fs.readFileSync(file);
  let at = 0;
  for (const [name] of messages) {
    const end = at + 4 + stream.readUInt32BE(at);
    console.log(`${name}\t${stream.toString('hex', at, end)}`);
    at = end;
  }
  if (at !== stream.length) throw new Error('there are more frames than messages');
});
