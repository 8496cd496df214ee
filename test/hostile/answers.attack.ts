import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { many } from './support/caller.ts'
import { flood, megabyteOfProperties } from './support/flood.ts'
import { END_HEADERS, END_STREAM, frame, getFields, hello, lastField, rememberedField } from './support/frames.ts'
import { MIB, sized } from './support/sizes.ts'
import { startTarget, WIRES } from './support/target.ts'
import { underAttack } from './support/under-attack.ts'

/** A client that does not read is cut off after so long. */
const STALL = { STREAM_STALL_MS: 2000 }

// 25 clients of a 12 MB answer, which none of them reads.
test.each(WIRES)('item 8: large answers of /retained that nobody reads, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await underAttack(target, async ({ open, heldBelow, polite, signal }) => {
    await flood({
      url: target.broker.url,
      topic: (index) => `attack/${index}`,
      payload: Buffer.alloc(1_000_000, 'r'),
      count: 12,
      retain: true,
    })
    await many(25, 5, signal, () => open('GET', '/retained?topic=attack/%23'))
    await polite.rounds(2)
    await heldBelow(128 * MIB)
  })
})

test.each(WIRES)('item 8: an answer nobody reads is cut off in time, over %s', async (wire) => {
  const target = await startTarget({ wire, settings: STALL })
  await underAttack(target, async ({ open }) => {
    await flood({
      url: target.broker.url,
      topic: (index) => `attack/${index}`,
      payload: Buffer.alloc(1_000_000, 'r'),
      count: 12,
      retain: true,
    })
    const stalled = await open('GET', '/retained?topic=attack/%23')
    expect.soft(stalled.status).toBe(200)
    await delay(4000)
    let bytes = 0
    stalled.body?.on('data', (chunk: Buffer) => (bytes += chunk.length))
    await Promise.race([new Promise((resolve) => stalled.body?.once('close', resolve)), delay(3000)])
    expect.soft(bytes).toBeLessThan(12_000_000)
  })
})

// Without credentials: the documentation, and refusals. A window of 0 means that no byte of a body may come.
test.each([
  ['/openapi.json', 200],
  ['/retained?topic=a', 401],
  ['/nowhere', 404],
  ['/docs/static/swagger-ui-bundle.js', 200],
])('item 8: answers to clients with a window of 0, over HTTP/2: %s', async (path) => {
  const target = await startTarget({ wire: 'HTTP/2', settings: STALL })
  await underAttack(target, async ({ session, heldBelow, signal }) => {
    const connections = sized(8, 80)
    let open = 0
    await many(connections, connections, signal, async () => {
      const one = await session({ settings: { initialWindowSize: 0 } })
      for (let each = 0; each < 256; each += 1) {
        const stream = one.request({ ':path': path })
        open += 1
        stream.on('error', () => {}).once('close', () => (open -= 1))
        stream.resume()
      }
    })
    await delay(1000)
    await heldBelow(128 * MIB)
    await expect.poll(() => open, { message: 'answers that are still held', timeout: 20_000 }).toBe(0)
    await heldBelow(16 * MIB)
  })
})

test('item 8: answers pipelined and not read, over HTTP/1.1', async () => {
  const target = await startTarget({ settings: STALL })
  await underAttack(target, async ({ socket, heldBelow, signal }) => {
    const heads = Buffer.from('GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(3000))
    await many(sized(20, 200), 20, signal, async () => {
      const one = await socket('127.0.0.2')
      one.pause()
      one.write(heads)
    })
    await delay(1500)
    await heldBelow(128 * MIB)
    await delay(4000)
    await heldBelow(16 * MIB)
  })
})

test.each(WIRES)('sibling of 8: /metrics and /docs that nobody reads, over %s', async (wire) => {
  const target = await startTarget({ wire, settings: STALL })
  await underAttack(target, async ({ open, heldBelow, signal }) => {
    const paths = ['/metrics', '/docs/static/swagger-ui-bundle.js', '/openapi.json']
    await many(sized(300, 3000), 50, signal, (index) => open('GET', paths[index % 3]!))
    await delay(1000)
    await heldBelow(128 * MIB)
  })
})

// One field of 3.9 KB in the dynamic table, and then a byte for each time it is meant: 60 KB of headers a request.
test('item 8: headers that a byte each makes large, over HTTP/2', async () => {
  const target = await startTarget({ wire: 'HTTP/2', settings: STALL })
  await underAttack(target, async ({ frames, heldBelow, signal }) => {
    await many(sized(20, 200), 20, signal, async () => {
      const one = await frames('127.0.0.2')
      one.resume()
      const zeroWindow = Buffer.from([0, 4, 0, 0, 0, 0])
      const parts = [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame('settings', 0, zeroWindow)]
      for (let index = 0; index < 200; index += 1) {
        const large =
          index === 0 ? [rememberedField('x', 'x'.repeat(3900))] : Array.from({ length: 14 }, () => lastField)
        const block = Buffer.concat([getFields('/nowhere'), ...large])
        parts.push(frame('headers', index * 2 + 1, block, END_HEADERS | END_STREAM))
      }
      one.write(Buffer.concat(parts))
    })
    await delay(1500)
    await heldBelow(128 * MIB)
  })
})

const times = (count: number, make: (index: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)))
const rapidReset = (count: number) =>
  times(count, (index) =>
    Buffer.concat([
      frame('headers', index * 2 + 1, getFields('/openapi.json'), END_HEADERS | END_STREAM),
      frame('reset', index * 2 + 1, Buffer.from([0, 0, 0, 8])),
    ]),
  )
// Frames that cost nothing to send, and make the other side answer, remember or look.
test.each<[string, () => Buffer]>([
  ['requests that are reset at once', () => rapidReset(20_000)],
  ['PING', () => times(300_000, () => frame('ping', 0, Buffer.alloc(8)))],
  ['SETTINGS', () => times(100_000, () => frame('settings', 0, Buffer.from([0, 3, 0, 0, 0, 1])))],
  ['PRIORITY', () => times(200_000, (index) => frame('priority', (index % 1_000_000) * 2 + 1, Buffer.alloc(5)))],
  ['WINDOW_UPDATE', () => times(300_000, () => frame('window', 0, Buffer.from([0, 0, 0, 1])))],
  [
    'empty DATA',
    () =>
      Buffer.concat([
        frame('headers', 1, getFields('/publish?topic=a', { ':method': 'POST' }), END_HEADERS),
        times(300_000, () => frame('data', 1)),
      ]),
  ],
  [
    'CONTINUATION',
    () =>
      Buffer.concat([
        frame('headers', 1, getFields('/nowhere')),
        times(3000, () =>
          frame(
            'continuation',
            1,
            Buffer.concat([Buffer.from([0, 1, 0x78, 127, 0x81, 0x7f]), Buffer.alloc(16_000, 'x')]),
          ),
        ),
      ]),
  ],
])('sibling of 8: a flood of %s, over HTTP/2', async (_name, make) => {
  const target = await startTarget({ wire: 'HTTP/2', settings: STALL })
  const bytes = make()
  await underAttack(target, async ({ frames, heldBelow, signal }) => {
    await many(sized(4, 20), 4, signal, async () => {
      const one = await frames('127.0.0.2')
      // What comes back is not read.
      one.pause()
      one.write(hello)
      one.write(bytes)
      await delay(sized(700, 3000))
    })
    await heldBelow(128 * MIB)
  })
})

// One caller's 100 overlapping filters over 9,000 messages: others waited 13 to 28 s, or were told 404.
test.each(WIRES)('item 9: retained reads of 100 overlapping filters, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await flood({ url: target.broker.url, topic: (i) => `attack/b/c/d/e/${i}`, count: 9000, retain: true })
  const levels = ['attack', 'b', 'c', 'd', 'e']
  const filters = Array.from({ length: 100 }, (_, bits) => {
    const path = levels.map((level, at) => ((bits >> at) & 1 ? '+' : level))
    return [...path.slice(0, 5 - Math.floor(bits / 32)), '#'].join('/')
  })
  const query = new URLSearchParams(filters.map((filter): [string, string] => ['topic', filter]))
  await underAttack(
    target,
    async ({ open, polite, signal }) => {
      await many(sized(4, 20), 4, signal, async () => {
        const { status, body } = await open('GET', `/subscribe?${query}`)
        expect.soft(status).not.toBe(500)
        body?.resume()
      })
      await polite.rounds(10)
    },
    { attackMs: sized(25_000, 180_000) },
  )
})

test.each(WIRES)('item 9: many reads of everything, of one caller, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await flood({ url: target.broker.url, topic: (i) => `attack/${i}`, count: 9000, retain: true })
  await underAttack(target, async ({ ask, signal }) => {
    const statuses = new Set<number>()
    await many(sized(60, 600), 60, signal, async (index) => {
      statuses.add((await ask('GET', `/retained?topic=attack/%23&x=${index}`.replace(/&x.*/, ''))).status)
    })
    expect.soft([...statuses].filter((status) => ![200, 429, 503, 504].includes(status))).toEqual([])
  })
})

test.each(WIRES)('sibling of 9: exact reads of 5,000 topics at once, of one caller, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await flood({ url: target.broker.url, topic: (i) => `attack/${i}`, count: 5000, retain: true })
  await underAttack(target, async ({ ask, signal }) => {
    const statuses = new Map<number, number>()
    await many(sized(2000, 5000), 2000, signal, async (index) => {
      const { status } = await ask('GET', `/retained?topic=attack/${index}`)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    })
    // The message is there: 404 would be a lie.
    expect.soft([...statuses.keys()].filter((status) => ![200, 429, 503, 504].includes(status))).toEqual([])
  })
})

// 300 small messages with a megabyte of properties each made an answer of 273 MB.
test.each(WIRES)('item 7: retained messages whose properties are large, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await flood({
    url: target.broker.url,
    topic: (i) => `attack/${i}`,
    properties: megabyteOfProperties(),
    count: sized(100, 300),
    retain: true,
  })
  await underAttack(target, async ({ ask, open, heldBelow, polite }) => {
    const { status, bytes } = await ask('GET', '/retained?topic=attack/%23')
    expect.soft(status).toBe(422)
    expect.soft(bytes).toBeLessThan(20 * MIB)
    const streams = await Promise.all([1, 2, 3].map(() => open('GET', '/subscribe?topic=attack/%23')))
    await polite.rounds(2)
    await heldBelow(64 * MIB)
    for (const { leave } of streams) leave()
  })
})
