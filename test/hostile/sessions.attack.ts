import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { mqttClient } from '../support/mqtt-client.ts'
import { startProxy } from '../support/proxy.ts'
import { type ScriptedBroker, startScriptedBroker } from '../support/scripted-broker.ts'
import { createCrew, many } from './support/caller.ts'
import { flood } from './support/flood.ts'
import { MIB, sized } from './support/sizes.ts'
import { spawnHostile, startTarget, WIRES } from './support/target.ts'
import { underAttack } from './support/under-attack.ts'

/** A number that Mosquitto publishes below $SYS once a second. */
async function brokerCounts(url: string, topic: string): Promise<() => number> {
  const client = await mqttClient(url)
  let value = Number.NaN
  client.on('message', (_topic, payload) => (value = Number(payload.toString())))
  await client.subscribeAsync(topic)
  // The client that asks is one of them, and is counted the next time that the broker counts.
  await expect.poll(() => value).toBeGreaterThan(0)
  return () => value
}

// A session each, by another name: 1,000 in 6 s were all there are, and the broker kept each for an hour.
test.each(WIRES)('item 11: one caller opens 1,000 sessions, over %s', async (wire) => {
  const target = await startTarget({ wire })
  const clients = await brokerCounts(target.broker.url, '$SYS/broker/clients/total')
  await underAttack(
    target,
    async ({ open, ask, signal }) => {
      const before = clients()
      const statuses = new Map<number, number>()
      await many(sized(1050, 3000), 50, signal, async (index) => {
        const { status, body } = await open('GET', `/subscribe?topic=attack/${index}&session=s${index}`)
        body?.resume()
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      })
      expect.soft([...statuses.keys()].filter((status) => ![200, 429, 503].includes(status))).toEqual([])
      const other = await open('GET', '/subscribe?topic=other&session=mine', { headers: target.other.headers })
      expect.soft(other.status, 'another caller').toBe(200)
      const { text } = await ask('GET', '/sessions', { headers: target.other.headers })
      expect.soft(text).toContain('mine')
      expect.soft(before).toBeGreaterThan(0)
    },
    { comesBack: false },
  )
})

test('item 11: sessions that never had a message of a reader end at the broker, too', async () => {
  const target = await startTarget()
  const clients = await brokerCounts(target.broker.url, '$SYS/broker/clients/total')
  await underAttack(target, async ({ open, signal }) => {
    const before = clients()
    await many(sized(200, 1000), 10, signal, async (index) => {
      const { leave } = await open('GET', `/subscribe?topic=attack/${index}&session=s${index}`)
      leave()
    })
    // A caller may leave 100 that it never read from. Their MQTT clients stay at the broker until its session expiry.
    // The others end once readers that come back have had their time, and $SYS says so later.
    await expect
      .poll(() => clients() - before, { message: 'sessions at the broker', timeout: 20_000 })
      .toBeLessThan(120)
  })
})

// Opened, left, opened: the MQTT clients and windows of the earlier ones must not stay.
test('sibling of 11: one session opened and left, over and over', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ open, signal }) => {
    await many(sized(150, 3000), 1, signal, async () => {
      const { leave } = await open('GET', '/subscribe?topic=attack&session=s&ack=explicit')
      leave()
    })
  })
})

// Each has a window of 100 messages, which nobody acknowledges.
test('sibling of 7: sessions whose windows are full of large messages', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ open, heldBelow, polite, signal }) => {
    for (let index = 0; index < sized(20, 100) && !signal.aborted; index += 1) {
      await open('GET', `/subscribe?topic=attack&session=s${index}&ack=explicit`)
    }
    const payload = Buffer.alloc(200_000, 'p')
    await flood({ url: target.broker.url, topic: 'attack', payload, count: sized(100, 300), signal })
    await polite.rounds(4)
    await heldBelow(200 * MIB)
  })
})

test('sibling of 11: acknowledgements of nothing', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ ask, open, signal }) => {
    const { body } = await open('GET', '/subscribe?topic=attack&session=s&ack=explicit', {
      headers: { accept: 'application/x-ndjson' },
    })
    let text = ''
    body?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    await expect.poll(() => text).toContain('"session"')
    const { id } = JSON.parse(text.split('\n').find((line) => line.includes('"session"'))!).data as { id: string }
    await many(sized(2000, 50_000), 50, signal, async (index) => {
      const { status } = await ask('POST', `/sessions/${id}/ack`, {
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ id: `${'0'.repeat(1000)}-${index}` }),
      })
      expect.soft(status).toBeLessThan(500)
    })
  })
})

/** The client ids under which a bridge with these settings opens the session `billing`, and what it calls the session. */
async function sessionClientIds(
  broker: ScriptedBroker,
  settings: Record<string, string>,
): Promise<{ clientIds: string[]; shown: string }> {
  const from = broker.peers.length
  const bridge = spawnHostile({ MQTT_URL: broker.url, MQTT_PROTOCOL: '5', ...settings })
  const url = await bridge.url
  const crew = createCrew(
    { url, port: Number(new URL(url).port), wire: 'HTTP/1.1', ca: undefined, headers: {} },
    AbortSignal.timeout(20_000),
  )
  const { body } = await crew.open('GET', '/subscribe?topic=a&session=billing')
  let shown = ''
  body?.setEncoding('utf8').on('data', (chunk: string) => (shown += chunk))
  await expect.poll(() => shown).toContain('"name":"billing"')
  crew.leave()
  bridge.kill('SIGKILL')
  const clientIds = broker.peers
    .slice(from)
    .filter(({ connect }) => connect?.clean === false && connect.clientId.includes('session'))
    .map(({ connect }) => connect!.clientId)
  return { clientIds: [...new Set(clientIds)], shown }
}

// Owner, name and filters are no secrets; whoever hashes them has the client id, and drains the queue.
test('item 14: with a secret nobody else knows the client ids of sessions', async () => {
  const broker = await startScriptedBroker(() => {})
  const plain = await sessionClientIds(broker, {})
  const secret = { SESSION_SECRET: 'a secret of more than thirty-two characters' }
  const one = await sessionClientIds(broker, secret)
  const replica = await sessionClientIds(broker, secret)
  const another = await sessionClientIds(broker, { SESSION_SECRET: 'another secret of thirty-two characters!' })
  expect(one.clientIds).toHaveLength(1)
  expect(replica.clientIds).toEqual(one.clientIds)
  expect(one.clientIds).not.toEqual(plain.clientIds)
  expect(another.clientIds).not.toEqual(one.clientIds)
})

test('item 14: client ids of sessions begin with CAUSEWAY_MQTT_CLIENT_ID', async () => {
  const broker = await startScriptedBroker(() => {})
  const { clientIds } = await sessionClientIds(broker, { MQTT_CLIENT_ID: 'gateway-7' })
  const all = broker.peers.map(({ connect }) => connect?.clientId ?? '')
  expect(all.filter((clientId) => !clientId.startsWith('gateway-7'))).toEqual([])
  expect(clientIds).not.toEqual([])
})

// Deleted while the broker was away: the MQTT client that was to do it stayed, and took the session's messages.
test.each(WIRES)(
  'item 18: a session deleted while the broker is away leaves no client behind, over %s',
  async (wire) => {
    let proxy!: Awaited<ReturnType<typeof startProxy>>
    const target = await startTarget({
      wire,
      brokerUrl: async (own) => {
        proxy = await startProxy(own)
        return proxy.url
      },
    })
    const connected = await brokerCounts(target.broker.url, '$SYS/broker/clients/connected')
    await underAttack(
      target,
      async ({ open, ask, signal }) => {
        // $SYS is a second late.
        await delay(2000)
        const before = connected()
        const sessions = sized(5, 50)
        const ids: string[] = []
        const readers: (() => void)[] = []
        await many(sessions, 5, signal, async (index) => {
          const { body, leave } = await open('GET', `/subscribe?topic=attack&session=s${index}&ack=explicit`)
          readers.push(leave)
          let text = ''
          body?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
          await expect.poll(() => text).toContain('"id":"')
          ids.push(/"id":"([^"]+)","name"/.exec(text)![1]!)
        })
        // Nobody reads; the bridge has no client of theirs, and makes one for each DELETE.
        for (const leave of readers) leave()
        await expect.poll(async () => (await ask('GET', '/sessions')).text, { timeout: 8000 }).toBe('[]')
        await proxy.refuse()
        await Promise.all(
          ids.map(async (id) => {
            const { status } = await ask('DELETE', `/sessions/${id}`, { timeoutMs: 12_000 })
            expect.soft(status).toSatisfy((code: number) => code === 204 || code >= 500)
          }),
        )
        await proxy.accept()
        await expect.poll(async () => (await ask('GET', '/readyz')).status, { timeout: 10_000 }).toBe(200)
        // A client that was left behind comes back by itself, with a pause; $SYS is a second late.
        await delay(sized(5000, 15_000))
        expect.soft(connected()).toBeLessThanOrEqual(before)
      },
      { parts: ['livez'], attackMs: 40_000 },
    )
  },
)
