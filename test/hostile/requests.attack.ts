import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { frame, postHeaders } from '../support/raw-http2.ts'
import { many } from './support/caller.ts'
import { MIB, sized } from './support/sizes.ts'
import { metricsOf, startTarget, type Target, WIRES } from './support/target.ts'
import { underAttack } from './support/under-attack.ts'

const LATE_MS = 2000

/** Writes as fast as the bridge reads, and no faster: what it does not take stays out of this process, too. */
function pour(socket: Socket, bytes: Buffer, ms = 5000): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) return resolve()
    socket.write(bytes, () => resolve())
    socket.once('close', () => resolve())
    setTimeout(resolve, ms).unref()
  })
}

function head(target: Target, method: string, path: string, headers: Record<string, string> = {}): Buffer {
  const all = { host: `127.0.0.1:${target.port}`, ...headers }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
}

// `a&a&a...`: many parameters of one name. 15 KB fit the head over HTTP/1.1, 60 KB come over HTTP/2 before its 431.
const PIECES = ['a&', 'topic=a&', '&', '%41=%41&', 'a[]=&', 'a=+&', '=&', '__proto__=a&']
test.each(WIRES)('item 2: a query that is nothing but parameters, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await underAttack(target, async ({ ask }) => {
    for (const piece of PIECES) {
      const query = piece.repeat((wire === 'HTTP/2' ? 60_000 : 15_000) / piece.length)
      for (const path of ['/livez', '/publish', '/subscribe', '/retained', '/nowhere', '/docs']) {
        const { status, ms } = await ask(path === '/publish' ? 'POST' : 'GET', `${path}?${query}`)
        expect.soft(status, `${path}?${piece}`).not.toBe(500)
        expect.soft(ms, `${path}?${piece}`).toBeLessThan(1000)
      }
      const results = await Promise.all([1, 2, 3].map(() => ask('GET', `/subscribe?${query}`)))
      for (const { ms } of results) expect.soft(ms, `three of ${piece}`).toBeLessThan(LATE_MS)
    }
  })
})

const repeated = (piece: string, bytes: number) => piece.repeat(Math.floor(bytes / piece.length))
const HEADERS: [string, Record<string, string>][] = [
  ['Cookie', { cookie: repeated('a=b;', 14_000) }],
  ['Cookie without names', { cookie: repeated(';', 14_000) }],
  ['Accept', { accept: repeated('a/b;q=0.1,', 14_000) }],
  ['Accept of spaces', { accept: `a/b${' '.repeat(14_000)};` }],
  ['X-Forwarded-For', { 'x-forwarded-for': repeated('1.1.1.1,', 14_000) }],
  ['Last-Event-ID', { 'last-event-id': repeated('9', 14_000) }],
  ['Idempotency-Key', { 'idempotency-key': `"${repeated('\\"', 14_000)}"` }],
  ['Content-Type', { 'content-type': `application/json${repeated(';a=b', 14_000)}` }],
  ['Authorization of Basic', { authorization: `Basic ${repeated('Og', 14_000)}` }],
  ['Authorization of dots', { authorization: `Bearer ${repeated('.', 14_000)}` }],
  ['Origin', { origin: `http://${repeated('a.', 14_000)}` }],
  ['traceparent', { traceparent: repeated('00-', 14_000) }],
  ['Host of dots', { host: repeated('a.', 14_000) }],
]

test('sibling of 2: headers of 14 KB that are costly to take apart', async () => {
  const target = await startTarget({
    settings: { AUTH_COOKIE: true, TRUST_PROXY: '127.0.0.0/8', CORS_ORIGINS: 'https://app.example' },
  })
  await underAttack(target, async ({ ask }) => {
    for (const [name, headers] of HEADERS) {
      for (const path of ['/publish?topic=attack', '/subscribe?topic=attack']) {
        const method = path.startsWith('/publish') ? 'POST' : 'GET'
        const begin = performance.now()
        const answers = await Promise.all(
          [1, 2, 3, 4].map(() =>
            ask(method, path, { headers, ...(method === 'POST' && { body: '1' }), timeoutMs: 500 }),
          ),
        )
        // A stream has no end: 500 ms of it are enough.
        for (const { status } of answers) expect.soft(status, `${name} ${path}`).not.toBe(500)
        expect.soft(performance.now() - begin, `${name} ${path}`).toBeLessThan(LATE_MS)
      }
    }
  })
})

const json = (value: unknown) => JSON.stringify(value)
const BODIES: [string, string, string][] = [
  ['many members', '/publish', `{${Array.from({ length: 70_000 }, (_, i) => `"a${i}":1`).join(',')}}`],
  ['one member again and again', '/publish', `{${repeated('"topic":"attack",', 1_000_000)}"topic":"attack"}`],
  ['nested arrays', '/publish', `{"topic":"attack","payload":${'['.repeat(500_000)}${']'.repeat(500_000)}}`],
  ['arrays that do not end', '/publish', '['.repeat(1_000_000)],
  ['nested objects', '/publish', `{"topic":"attack","payload":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`],
  ['a payload of escapes', '/publish', `{"topic":"attack","payload":"${'\\u0001'.repeat(160_000)}"}`],
  ['a payload of spaces', '/publish', `{"topic":"attack","payload":{"a":${' '.repeat(1_000_000)}1}}`],
  ['a number of many digits', '/publish', `{"topic":"attack","payload":${'9'.repeat(1_000_000)}}`],
  [
    'many user properties',
    '/publish',
    json({
      topic: 'attack',
      properties: { userProperties: Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`a${i}`, 'x'])) },
    }),
  ],
  [
    'many wrong user properties',
    '/publish',
    json({
      topic: 'attack',
      properties: { userProperties: Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`a${i}`, 1])) },
    }),
  ],
  [
    'one property with many values',
    '/publish',
    json({ topic: 'attack', properties: { userProperties: { a: Array.from({ length: 200_000 }, () => '') } } }),
  ],
  [
    'base64 with faults',
    '/publish',
    json({ topic: 'attack', encoding: 'base64', payload: `${'A'.repeat(999_000)}=A` }),
  ],
  [
    'many faults',
    '/publish/batch',
    json(Array.from({ length: 1000 }, () => ({ topic: '#', qos: 7, retain: 1, encoding: 'x', a: 1, b: 2 }))),
  ],
  ['many more messages than fit', '/publish/batch', `[${'{},'.repeat(300_000)}{}]`],
  ['a topic of slashes', '/publish', json({ topic: '/'.repeat(65_000) })],
  ['a topic of lone surrogates', '/publish', `{"topic":"${'\\ud800'.repeat(160_000)}"}`],
]

test('sibling of 2: bodies of 1 MB that are costly to take apart', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ ask }) => {
    for (const [name, path, body] of BODIES) {
      const headers = { 'content-type': 'application/json' }
      const answers = await Promise.all([1, 2, 3].map(() => ask('POST', path, { headers, body })))
      for (const { status, bytes, ms } of answers) {
        expect.soft(status, name).toSatisfy((code: number) => code < 500 && code !== 0)
        expect.soft(ms, name).toBeLessThan(LATE_MS)
        // One fault, or a thousand, are enough to know what is wrong.
        expect.soft(bytes, name).toBeLessThan(2 * MIB)
      }
    }
  })
})

test('sibling of 2: NDJSON lines that are costly to take apart', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ ask }) => {
    const lines: [string, string][] = [
      ['empty lines', '\n'.repeat(2_000_000)],
      ['short lines', '{\n'.repeat(300_000)],
      ['lines of CR', '\r\n'.repeat(1_000_000)],
      ...BODIES.filter(([, path]) => path === '/publish').map(
        ([name, , body]) => [name, `${body}\n`] as [string, string],
      ),
    ]
    for (const [name, body] of lines) {
      const { status } = await ask('POST', '/publish/batch', {
        headers: { 'content-type': 'application/x-ndjson' },
        body,
      })
      expect.soft(status, name).not.toBe(500)
    }
  })
})

test('sibling of 2: filters that are costly to compare', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ open, signal }) => {
    // A tree of filters that a topic of many levels descends in every way there is: 2 to the power of the levels.
    const levels = 12
    const filters = Array.from({ length: sized(1200, 4096) }, (_, bits) =>
      Array.from({ length: levels }, (_, level) => ((bits >> level) & 1 ? '+' : 'a')).join('/'),
    )
    for (let at = 0; at < filters.length && !signal.aborted; at += 100) {
      const query = new URLSearchParams(
        filters.slice(at, at + 100).map((filter): [string, string] => ['topic', filter]),
      )
      const { body } = await open('GET', `/subscribe?${query}&retained=false`)
      body?.resume()
    }
    const { flood } = await import('./support/flood.ts')
    await flood({ url: target.broker.url, topic: 'a/'.repeat(levels - 1) + 'a', count: sized(20, 200), signal })
  })
})

// The head says already what the answer is; a body is not waited for.
const ANSWERED_BY_THE_HEAD: [string, number, string, string, Record<string, string>][] = [
  ['no credentials', 401, 'POST', '/publish?topic=attack', { authorization: 'Bearer nobody' }],
  ['no such address', 404, 'POST', '/nowhere', {}],
  ['no such address, no credentials', 404, 'POST', '/nowhere', { authorization: 'Bearer nobody' }],
  ['no such method', 405, 'PUT', '/publish?topic=attack', {}],
  ['too long', 413, 'POST', '/publish?topic=attack', { 'content-length': `${2 ** 31}` }],
  ['no such type', 415, 'POST', '/publish/batch', { 'content-type': 'text/xml' }],
  ['encoded', 415, 'POST', '/publish?topic=attack', { 'content-encoding': 'gzip' }],
  ['too long, no credentials', 401, 'POST', '/publish', { 'content-length': `${2 ** 31}`, authorization: 'Bearer x' }],
  [
    'NDJSON, no credentials',
    401,
    'POST',
    '/publish/batch',
    { 'content-type': 'application/x-ndjson', authorization: 'Bearer x' },
  ],
]
test.each(WIRES)('item 3: what the head decides is answered before the body comes, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await underAttack(target, async ({ ask }) => {
    await Promise.all(
      ANSWERED_BY_THE_HEAD.map(async ([name, expected, method, path, headers]) => {
        const { status } = await ask(method, path, { headers, write: () => {}, timeoutMs: 4000 })
        expect.soft(status, name).toBe(expected)
      }),
    )
  })
})

// 6 MB on the wire, in chunks of one byte; each was an object of its own. The body never ends.
const ONE_BYTE_CHUNKS = Buffer.from('1\r\na\r\n'.repeat(100_000))
test.each([
  ['without credentials', '/publish?topic=attack', false],
  ['with credentials', '/publish?topic=attack', true],
  ['to an address that does not exist', '/nowhere', true],
  ['as a line of NDJSON', '/publish/batch', true],
])('item 3: bodies in chunks of one byte, %s, over HTTP/1.1', async (_name, path, known) => {
  const target = await startTarget()
  await underAttack(target, async ({ socket, heldBelow, signal }) => {
    const connections = sized(6, 60)
    await many(connections, connections, signal, async () => {
      const one = await socket('127.0.0.2')
      one.resume()
      const type = path === '/publish/batch' ? 'application/x-ndjson' : 'text/plain'
      const headers = { 'transfer-encoding': 'chunked', 'content-type': type, ...(known && target.headers) }
      one.write(head(target, 'POST', path, headers))
      for (let part = 0; part < 10 && !one.destroyed && !signal.aborted; part += 1) await pour(one, ONE_BYTE_CHUNKS)
    })
    await heldBelow(40 * MIB)
  })
})

test.each([
  ['without credentials', false],
  ['with credentials', true],
])('item 3: bodies in frames of one byte, %s, over HTTP/2', async (_name, known) => {
  const target = await startTarget({ wire: 'HTTP/2' })
  // Each part fits the windows of the stream and of the connection.
  const frames = Buffer.concat(Array.from({ length: 30_000 }, () => frame('data', 'a')))
  await underAttack(target, async ({ frames: connect, heldBelow, signal }) => {
    const connections = sized(8, 60)
    await many(connections, connections, signal, async () => {
      const one = await connect('127.0.0.2')
      one.resume()
      one.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame('settings', '')]))
      const type = { 'content-type': 'text/plain' }
      one.write(postHeaders('/publish?topic=attack', { ...type, ...(known && target.headers) }))
      for (let part = 0; part < 10 && !one.destroyed && !signal.aborted; part += 1) {
        await pour(one, frames)
        await delay(50)
      }
    })
    await heldBelow(60 * MIB)
  })
})

// Each body keeps to the limit of one; nobody has to send its last byte.
test.each(
  WIRES.flatMap((wire) =>
    [
      ['bodies', '/publish?topic=attack', 'text/plain'],
      ['lines of NDJSON', '/publish/batch', 'application/x-ndjson'],
    ].map((row) => [wire, ...row] as [typeof wire, string, string, string]),
  ),
)('item 3: very many unfinished bodies of 1 MB each, over %s: %s', async (wire, _kind, path, type) => {
  const target = await startTarget({ wire })
  await underAttack(target, async ({ open, heldBelow, signal }) => {
    const count = sized(500, 2000)
    const megabyte = Buffer.alloc(1_000_000, 'a')
    for (let index = 0; index < count && !signal.aborted; index += 1) {
      void open('POST', path, {
        headers: { 'content-type': type },
        from: `127.0.0.${2 + (index % 4)}`,
        write: (body) => void body.write(megabyte),
      })
      if (index % 10 === 9) await delay(20)
    }
    await delay(1500)
    await heldBelow(256 * MIB)
  })
})

test('sibling of 3: bodies of 1 MB announced, and one byte sent', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ socket, heldBelow, signal }) => {
    await many(sized(1000, 5000), 50, signal, async () => {
      const one = await socket('127.0.0.2')
      one.resume()
      one.write(head(target, 'POST', '/publish?topic=attack', { 'content-length': '1000000', ...target.headers }))
      one.write('a')
    })
    await heldBelow(100 * MIB)
  })
})

test('sibling of 3: heads that never end', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ socket, heldBelow, signal }) => {
    await many(sized(1000, 10_000), 50, signal, async () => {
      const one = await socket('127.0.0.2')
      one.resume()
      one.write(`GET /livez HTTP/1.1\r\nHost: a\r\n${'x: y\r\n'.repeat(2000)}`)
    })
    await heldBelow(128 * MIB)
  })
})

test('sibling of 3: TLS handshakes that never end', async () => {
  const target = await startTarget({ wire: 'HTTP/2' })
  const { connect } = await import('node:net')
  await underAttack(target, async ({ signal }) => {
    const sockets = Array.from({ length: sized(500, 5000) }, () => connect(target.port, '127.0.0.1'))
    // A record of 16 KB is announced, and most of it does not come.
    for (const one of sockets) {
      one.on('error', () => {}).write(Buffer.from([0x16, 3, 1, 0x3f, 0xff, ...Buffer.alloc(8000)]))
    }
    await delay(1500, undefined, { signal }).catch(() => {})
    for (const one of sockets) one.destroy()
  })
})

// What comes behind an open stream waits for its end, which never comes: 100 heads of 16 KB, 1.7 MB a connection.
const LARGE_HEAD = `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(15_900)}\r\n\r\n`
test.each([
  ['a stream', '/subscribe?topic=attack'],
  ['a stream of NDJSON', '/subscribe?topic=attack&slow=latest'],
  ['a session', '/subscribe?topic=attack&session=s'],
])('item 16: requests pipelined behind %s', async (_name, path) => {
  const target = await startTarget()
  await underAttack(target, async ({ socket, heldBelow, polite, signal }) => {
    const connections = sized(15, 100)
    const heads = Buffer.from(LARGE_HEAD.repeat(99))
    let open = 0
    await many(path.includes('session') ? 1 : connections, connections, signal, async () => {
      const one = await socket()
      one.resume()
      one.write(head(target, 'GET', path, target.headers))
      await delay(300)
      open += 1
      one.once('close', () => (open -= 1))
      await pour(one, heads, 1000)
    })
    await polite.rounds(3)
    expect.soft(open, 'connections that go on').toBe(0)
    await heldBelow(15 * MIB)
  })
})

test('sibling of 16: requests pipelined behind one that waits for a reply', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ socket, heldBelow, polite, signal }) => {
    const { mqttClient } = await import('../support/mqtt-client.ts')
    const silent = await mqttClient(target.broker.url, { protocolVersion: 5 })
    await silent.subscribeAsync('attack/silent')
    const heads = Buffer.from(LARGE_HEAD.repeat(99))
    await many(sized(15, 100), 15, signal, async () => {
      const one = await socket()
      one.resume()
      const post = head(target, 'POST', '/request?topic=attack/silent&timeout=60000', {
        'content-length': '1',
        ...target.headers,
      })
      one.write(Buffer.concat([post, Buffer.from('x')]))
      await pour(one, heads, 1000)
    })
    await polite.rounds(3)
    await heldBelow(64 * MIB)
  })
})

// Metrics, logs and tables must not have an entry for whatever somebody thinks of.
test.each(WIRES)(
  'sibling: names that callers think of make no metric, log line or entry each, over %s',
  async (wire) => {
    const target = await startTarget({ wire, settings: { TRUST_PROXY: '127.0.0.0/8', RATE_ADDRESS: 1000 } })
    const before = (await metricsOf(target)).size
    await underAttack(target, async ({ ask, signal }) => {
      await many(sized(3000, 60_000), 50, signal, (index) =>
        ask('GET', `/nowhere/${index}`, {
          headers: {
            'x-forwarded-for': `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
            authorization: `Bearer ${index}`,
            'user-agent': `${index}`.padEnd(1000, 'u'),
          },
        }),
      )
    })
    expect((await metricsOf(target)).size - before).toBeLessThan(200)
  },
)
