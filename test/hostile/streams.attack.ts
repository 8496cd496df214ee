import { expect, test } from 'vitest'
import { startScriptedBroker } from '../support/scripted-broker.ts'
import { type Crew, many } from './support/caller.ts'
import { flood } from './support/flood.ts'
import { MIB, sized } from './support/sizes.ts'
import { startTarget, WIRES } from './support/target.ts'
import { underAttack } from './support/under-attack.ts'

/** The default. */
const LINGER = { STREAM_LINGER_MS: 60_000 }

/** A stream of so many filters that begins and is left at once; its channel lingers. */
async function openAndLeave({ open }: Crew, filters: string[]): Promise<number> {
  const query = new URLSearchParams(filters.map((filter): [string, string] => ['topic', filter]))
  const { status, leave } = await open('GET', `/subscribe?${query}&retained=false`)
  leave()
  return status
}

/** 100 filters that fit the longest head, of 70 levels. */
const deepFilters = (round: number) => Array.from({ length: 100 }, (_, index) => `${round}/${index}${'/'.repeat(70)}`)

// One stream at a time is allowed, so a limit of open streams never sees what the earlier ones left.
test.each(WIRES)(
  'item 5: a caller with one stream leaves lingering channels of 100 deep filters, over %s',
  async (wire) => {
    const target = await startTarget({ wire, streams: 1, settings: { HEADERS_LIMIT_BYTES: 32_768, ...LINGER } })
    await underAttack(
      target,
      async (crew) => {
        for (let round = 0; round < sized(100, 300) && !crew.signal.aborted; round += 1) {
          await openAndLeave(crew, deepFilters(round))
        }
        await crew.heldBelow(64 * MIB)
      },
      // They linger for a minute.
      { comesBack: false },
    )
  },
)

test('item 5: lingering channels are gone once they have lingered', async () => {
  const target = await startTarget({ streams: 1, settings: { HEADERS_LIMIT_BYTES: 32_768, STREAM_LINGER_MS: 500 } })
  await underAttack(target, async (crew) => {
    for (let round = 0; round < sized(30, 300) && !crew.signal.aborted; round += 1) {
      await openAndLeave(crew, deepFilters(round))
    }
  })
})

test('item 5: messages that match thousands of lingering channels', async () => {
  const target = await startTarget({ settings: LINGER })
  await underAttack(
    target,
    async (crew) => {
      const channels = sized(2000, 10_000)
      await many(channels, 10, crew.signal, (index) => openAndLeave(crew, ['attack', `attack/${index}`]))
      const payload = Buffer.alloc(2000, 'p')
      await flood({ url: target.broker.url, topic: 'attack', payload, count: sized(400, 2000), signal: crew.signal })
      await crew.polite.rounds(3)
      await crew.heldBelow(200 * MIB)
    },
    { comesBack: false },
  )
})

// The same filters in another order, another QoS or format are channels of their own, and cost the attacker a word.
test('sibling of 5: channels that differ in a trifle', async () => {
  const target = await startTarget({ settings: LINGER })
  await underAttack(
    target,
    async (crew) => {
      await many(sized(600, 4000), 10, crew.signal, async (index) => {
        const order = index.toString(2).padStart(10, '0').split('')
        const filters = order.map((bit, at) => (bit === '1' ? `attack/${at}` : 'attack'))
        const query = new URLSearchParams(filters.map((filter): [string, string] => ['topic', filter]))
        const slow = ['gap', 'latest', 'close'][index % 3]!
        const path = `/subscribe?${query}&retained=false&qos=${index % 3}&slow=${slow}`
        const { leave } = await crew.open('GET', path, {
          headers: { accept: index % 2 === 0 ? 'text/event-stream' : 'application/x-ndjson' },
        })
        leave()
      })
      await flood({ url: target.broker.url, topic: 'attack', payload: Buffer.alloc(100_000, 'p'), count: 30 })
      await crew.polite.rounds(2)
      await crew.heldBelow(200 * MIB)
    },
    { comesBack: false },
  )
})

// Whoever opens all the streams there are leaves none for the others.
test.each(WIRES)('sibling of 5: one caller does not take every stream of the process, over %s', async (wire) => {
  const target = await startTarget({ wire, streams: 0, settings: { STREAM_MAX: 200 } })
  await underAttack(target, async ({ open, ask, signal }) => {
    const refused = new Set<number>()
    await many(250, 20, signal, async (index) => {
      const { status } = await open('GET', `/subscribe?topic=attack/${index}&retained=false`)
      if (status !== 200) refused.add(status)
    })
    expect.soft([...refused].filter((status) => status !== 429 && status !== 503)).toEqual([])
    const { status } = await ask('GET', '/subscribe?topic=other&retained=false', {
      headers: target.other.headers,
      timeoutMs: 1500,
    })
    expect.soft(status, 'another caller').toBe(200)
  })
})

// Opened and cut off before the answer, over and over: nothing of it may be left.
test.each(WIRES)('sibling of 5: streams that are given up while they are opened, over %s', async (wire) => {
  const target = await startTarget({ wire, settings: { STREAM_LINGER_MS: 0 } })
  await underAttack(target, async ({ socket, session, signal }) => {
    await many(sized(600, 10_000), 20, signal, async (index) => {
      const path = `/subscribe?topic=attack/${index}/%23&topic=attack/+/${index}`
      if (wire === 'HTTP/1.1') {
        const one = await socket()
        one.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: ${target.headers['authorization']}\r\n\r\n`)
        const gone = new Promise((resolve) => one.once('close', resolve))
        setTimeout(() => one.resetAndDestroy(), index % 20)
        await gone
      } else if (index % 20 === 0) {
        const one = await session()
        for (let each = 0; each < 20; each += 1) {
          const stream = one.request({ ':path': `${path}/${each}`, ...target.headers })
          stream.on('error', () => {})
          setTimeout(() => stream.close(8), each)
        }
        const gone = new Promise((resolve) => one.once('close', resolve))
        setTimeout(() => one.destroy(), 500)
        await gone
      }
    })
  })
})

// Each new filter was compared with all others, to find those that overlap.
test('item 15: opening a stream of 100 filters beside 8,000 others, MQTT 3.1.1', async () => {
  const target = await startTarget({ mqtt: '3.1.1', settings: { STREAM_LINGER_MS: 2000, HEADERS_LIMIT_BYTES: 32_768 } })
  const filters = (round: number) => Array.from({ length: 100 }, (_, index) => `attack/${round}/${index}/+/x`)
  await underAttack(
    target,
    async ({ open, signal }) => {
      const follow = async (round: number) => {
        const query = new URLSearchParams(filters(round).map((filter): [string, string] => ['topic', filter]))
        const { status, body } = await open('GET', `/subscribe?${query}&retained=false`)
        body?.resume()
        return status
      }
      await many(80, 4, signal, follow)
      const begin = performance.now()
      await many(sized(10, 40), sized(10, 40), signal, (index) => follow(1000 + index))
      expect.soft((performance.now() - begin) / sized(10, 40), 'ms a stream').toBeLessThan(200)
    },
    { attackMs: 40_000 },
  )
})

// The broker never answers SUBSCRIBE: the waiting are bounded, and nobody else waits for them.
test('sibling of 5: subscriptions that the broker never answers', async () => {
  const broker = await startScriptedBroker((packet) => packet.cmd === 'subscribe')
  const target = await startTarget({ brokerUrl: () => broker.url, settings: { PUBLISH_TIMEOUT_MS: 2000 } })
  await underAttack(
    target,
    async ({ ask, heldBelow, signal }) => {
      const statuses = new Set<number>()
      await many(sized(1000, 10_000), 500, signal, async (index) => {
        statuses.add((await ask('GET', `/subscribe?topic=attack/${index}&retained=false`)).status)
      })
      expect.soft([...statuses].filter((status) => ![429, 502, 503, 504].includes(status))).toEqual([])
      await heldBelow(100 * MIB)
    },
    { parts: ['publish', 'livez'] },
  )
})
