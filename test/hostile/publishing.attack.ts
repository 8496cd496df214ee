import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { mqttClient } from '../support/mqtt-client.ts'
import { startProxy } from '../support/proxy.ts'
import { startResponder } from '../support/responder.ts'
import { startScriptedBroker } from '../support/scripted-broker.ts'
import { many, stopAfter } from './support/caller.ts'
import { megabyteOfProperties } from './support/flood.ts'
import { MIB, sized } from './support/sizes.ts'
import { startTarget, WIRES } from './support/target.ts'
import { underAttack } from './support/under-attack.ts'

/** A broker 10 ms away each way: with 20 in flight a connection, 1,000 publishes a second. */
const distant = async (own: string) => {
  const proxy = await startProxy(own)
  proxy.delay(10)
  return proxy.url
}

// Lines without end, all accepted by the same lanes that single publishes need.
test.each(WIRES)('item 6: NDJSON batches of one caller, over %s', async (wire) => {
  const target = await startTarget({ wire, brokerUrl: distant })
  await underAttack(target, async ({ open, signal }) => {
    const lines = Buffer.from(
      Array.from({ length: 500 }, (_, index) => `{"topic":"attack/${index}","payload":"x"}\n`).join(''),
    )
    const stop = stopAfter(sized(3000, 20_000), signal)
    const batches = Array.from({ length: 8 }, async () => {
      const { body } = await open('POST', '/publish/batch', {
        headers: { 'content-type': 'application/x-ndjson' },
        write(stream) {
          const write = () => {
            while (!stop.aborted && !stream.destroyed && stream.write(lines)) void 0
          }
          stream.on('drain', write)
          write()
        },
      })
      body?.resume()
    })
    await Promise.race([Promise.all(batches), delay(1000)])
    await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }))
  })
})

test.each(WIRES)('sibling of 6: arrays of 1000 messages, 20 at a time, of one caller, over %s', async (wire) => {
  const target = await startTarget({ wire, brokerUrl: distant })
  const body = JSON.stringify(Array.from({ length: 1000 }, (_, index) => ({ topic: `attack/${index}`, qos: 1 })))
  await underAttack(target, async ({ ask, signal }) => {
    const stop = stopAfter(sized(3000, 20_000), signal)
    const sending = many(sized(30, 200), 20, stop, async () => {
      const { status } = await ask('POST', '/publish/batch', { headers: { 'content-type': 'application/json' }, body })
      expect.soft(status).toSatisfy((code: number) => code !== 500)
    })
    await Promise.race([sending, once(stop, 'abort')])
  })
})

test.each(WIRES)('sibling of 6: 3,000 single publishes at once, of one caller, over %s', async (wire) => {
  const target = await startTarget({ wire, brokerUrl: distant })
  await underAttack(target, async ({ ask, signal }) => {
    const statuses = new Map<number, number>()
    await many(sized(3000, 30_000), 3000, signal, async (index) => {
      const { status } = await ask('POST', `/publish?topic=attack/${index}`, { body: 'x' })
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    })
    expect.soft([...statuses.keys()].filter((status) => ![200, 429, 503].includes(status))).toEqual([])
  })
})

// A million bytes of user properties a message, and no acknowledgement: a limit of payloads never sees them.
test.each([
  [
    'user properties',
    '/publish',
    JSON.stringify({
      topic: 'attack',
      properties: { userProperties: { a: Array.from({ length: 15 }, () => 'p'.repeat(65_000)) } },
    }),
  ],
  ['payloads', '/publish', JSON.stringify({ topic: 'attack', payload: 'p'.repeat(1_000_000) })],
  ['long topics', '/publish', JSON.stringify({ topic: `attack/${'t'.repeat(65_000)}` })],
  ['QoS 0', '/publish', JSON.stringify({ topic: 'attack', qos: 0, payload: 'p'.repeat(1_000_000) })],
])('sibling of 7: publishes that the broker does not acknowledge, full of %s', async (name, path, body) => {
  const broker = await startScriptedBroker(
    (packet) => packet.cmd === 'publish' && packet.topic.startsWith('attack') && packet.qos > 0,
  )
  const target = await startTarget({ brokerUrl: () => broker.url, settings: { PUBLISH_TIMEOUT_MS: 4000 } })
  await underAttack(
    target,
    async ({ ask, heldBelow, signal }) => {
      const sending = many(name === 'long topics' ? 3000 : sized(300, 1500), 1500, signal, async () => {
        const { status } = await ask('POST', path, { headers: { 'content-type': 'application/json' }, body })
        expect.soft(status).not.toBe(500)
      })
      await delay(3000)
      await heldBelow(256 * MIB)
      await sending
    },
    { parts: ['publish', 'livez'] },
  )
})

// The key remembered its request for a day, topic and all: 145 KB each.
test.each(WIRES)('item 10: idempotency keys of publishes to topics of 65 KB, over %s', async (wire) => {
  const target = await startTarget({ wire })
  await underAttack(
    target,
    async ({ ask, heldBelow, signal }) => {
      await many(sized(500, 1000), 20, signal, async (index) => {
        const { status } = await ask('POST', '/publish', {
          headers: { 'content-type': 'application/json', 'idempotency-key': `"${index}"` },
          body: JSON.stringify({ topic: `${index}/${'t'.repeat(65_000)}` }),
        })
        expect.soft(status).toBe(200)
      })
      await heldBelow(8 * MIB)
    },
    { comesBack: false },
  )
})

test('item 10: the answer to a key is the same, whatever is kept of it', async () => {
  const target = await startTarget()
  await underAttack(
    target,
    async ({ ask }) => {
      const topic = `a/${'t'.repeat(60_000)}`
      const post = () =>
        ask('POST', '/publish', {
          headers: { 'content-type': 'application/json', 'idempotency-key': '"k"' },
          body: JSON.stringify({ topic, payload: 'x' }),
        })
      const first = await post()
      const second = await post()
      expect.soft(second.status).toBe(200)
      expect.soft(JSON.parse(second.text)).toEqual(JSON.parse(first.text))
      expect.soft(second.headers['idempotency-replayed']).toBe('true')
    },
    { comesBack: false },
  )
})

// Long keys, and answers of a megabyte each to requests with a key.
test('sibling of 10: idempotency keys of 10 KB', async () => {
  const target = await startTarget()
  await underAttack(
    target,
    async ({ ask, heldBelow, signal }) => {
      await many(sized(1000, 3000), 20, signal, (index) =>
        ask('POST', '/publish?topic=attack', {
          headers: { 'idempotency-key': `"${`${index}`.padEnd(10_000, 'k')}"` },
          body: 'x',
        }),
      )
      await heldBelow(12 * MIB)
    },
    { comesBack: false },
  )
})

test('sibling of 10: idempotency keys of requests whose replies have a megabyte', async () => {
  const target = await startTarget()
  await startResponder(target.broker.url, 'attack', (_payload, reply) => reply('r'.repeat(1_000_000)))
  await underAttack(
    target,
    async ({ ask, heldBelow, signal }) => {
      await many(sized(150, 1000), 5, signal, (index) =>
        ask('POST', '/request?topic=attack', { headers: { 'idempotency-key': `"${index}"` }, body: 'x' }),
      )
      await heldBelow(64 * MIB)
    },
    { comesBack: false },
  )
})

// A subscriber that never replies, and 1,000 requests that wait as long as they may.
test.each(WIRES)('item 11: one caller holds every slot of /request, over %s', async (wire) => {
  const target = await startTarget({ wire })
  const silent = await mqttClient(target.broker.url, { protocolVersion: 5 })
  await silent.subscribeAsync('attack/silent')
  await startResponder(target.broker.url, 'other/ask', (_payload, reply) => reply('here'))
  await underAttack(target, async ({ ask, open, signal }) => {
    void many(1100, 1100, signal, async () => open('POST', '/request?topic=attack/silent&timeout=20000', { body: 'x' }))
    await delay(2000)
    for (let times = 0; times < 5; times += 1) {
      const { status, text } = await ask('POST', '/request?topic=other/ask', {
        headers: target.other.headers,
        body: 'x',
        timeoutMs: 3000,
      })
      expect.soft([status, text.slice(0, 100)]).toEqual([200, 'here'])
    }
  })
})

// Whoever publishes to the reply topic of the bridge fills its memory with replies to nothing.
test('sibling of 11: replies to requests that nobody made', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ ask, heldBelow, signal }) => {
    let replyTopic = ''
    await startResponder(target.broker.url, 'attack/ask', (_payload, reply, { properties }) => {
      replyTopic = properties!.responseTopic!
      reply('here')
    })
    await ask('POST', '/request?topic=attack/ask', { body: 'x' })
    const { flood } = await import('./support/flood.ts')
    await flood({
      url: target.broker.url,
      topic: replyTopic,
      properties: { ...megabyteOfProperties(), correlationData: Buffer.alloc(60_000) },
      count: sized(100, 500),
      signal,
    })
    await heldBelow(32 * MIB)
  })
})
