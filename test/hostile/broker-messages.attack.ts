import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { generate } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { startProxy } from '../support/proxy.ts'
import { type Peer, startScriptedBroker } from '../support/scripted-broker.ts'
import { createCrew } from './support/caller.ts'
import { flood, megabyteOfProperties } from './support/flood.ts'
import { long, MIB, sized } from './support/sizes.ts'
import { spawnHostile, startTarget } from './support/target.ts'
import { startPolite, underAttack } from './support/under-attack.ts'

const PROTOCOLS = [
  ['5', 5],
  ['3.1.1', 4],
] as const

// 95 MB of 0x01: as JSON each byte is six characters, more than a string can have, and encoding throws.
test.each(PROTOCOLS)(
  'item 1: a message too large to be encoded, to a followed topic, MQTT %s',
  async (mqtt, protocolVersion) => {
    const target = await startTarget({ mqtt })
    await underAttack(
      target,
      async ({ open, polite }) => {
        const stream = await open('GET', '/subscribe?topic=attack&qos=1')
        stream.body?.resume()
        await flood({
          url: target.broker.url,
          topic: 'attack',
          payload: Buffer.alloc(95_000_000, 1),
          count: 1,
          protocolVersion,
        })
        await polite.rounds(5)
      },
      { mayGap: true },
    )
  },
)

// The same message in a durable session comes again at every restart, until somebody acknowledges it.
test('item 1: a message too large to be encoded, in a session, does not end every process after it', async () => {
  const target = await startTarget()
  await underAttack(
    target,
    async ({ open, polite }) => {
      const session = '/subscribe?topic=attack&session=s&ack=explicit'
      const first = await open('GET', session)
      first.body?.resume()
      await flood({ url: target.broker.url, topic: 'attack', payload: Buffer.alloc(95_000_000, 1), count: 1 })
      await polite.rounds(3)
      first.leave()
      const second = await open('GET', session)
      second.body?.resume()
      await polite.rounds(5)
    },
    { mayGap: true },
  )
})

test('item 1: a retained message too large to be encoded, for readers of /retained', async () => {
  const target = await startTarget()
  await underAttack(
    target,
    async ({ ask }) => {
      const payload = Buffer.alloc(95_000_000, 1)
      await flood({ url: target.broker.url, topic: 'attack/kept', payload, count: 1, retain: true })
      const paths = ['/retained?topic=attack/%23', '/retained?topic=attack/kept', '/subscribe?topic=attack/kept']
      for (const path of paths) {
        const { status } = await ask('GET', path, { timeoutMs: 3000 })
        expect.soft(status, path).not.toBe(500)
      }
    },
    { mayGap: true },
  )
})

test('item 1: a reply too large, for /request', async () => {
  const target = await startTarget()
  await underAttack(
    target,
    async ({ ask }) => {
      const { mqttClient } = await import('../support/mqtt-client.ts')
      const responder = await mqttClient(target.broker.url, { protocolVersion: 5 })
      responder.on('message', (_topic, _payload, { properties }) => {
        const { responseTopic, correlationData } = properties!
        responder.publish(responseTopic!, Buffer.alloc(95_000_000, 1), {
          properties: { correlationData: correlationData! },
        })
      })
      await responder.subscribeAsync('attack/ask')
      const { status } = await ask('POST', '/request?topic=attack/ask&timeout=3000', { body: 'x' })
      expect.soft(status).not.toBe(500)
    },
    { mayGap: true },
  )
})

test('item 1: CONNECT names a Maximum Packet Size', async () => {
  const broker = await startScriptedBroker(() => {})
  const bridge = spawnHostile({ MQTT_URL: broker.url, MQTT_PROTOCOL: '5' })
  await bridge.url
  await expect.poll(() => broker.peers.filter(({ connect }) => connect !== undefined).length).toBeGreaterThan(0)
  for (const { connect } of broker.peers) {
    const size = connect?.properties?.maximumPacketSize
    expect.soft(size, connect?.clientId).toBeGreaterThan(0)
    expect.soft(size, connect?.clientId).toBeLessThanOrEqual(64 * MIB)
  }
})

// A broker that keeps to no limit: it announces 256 MB and sends most of it. Over MQTT 5 and over 3.1.1.
test.each(PROTOCOLS)('item 1: a packet of 256 MB that is announced and never ends, MQTT %s', async (mqtt) => {
  const announced = new Set<Peer>()
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'subscribe' || announced.size > 8) return false
    announced.add(peer)
    peer.send({ cmd: 'suback', messageId: packet.messageId!, granted: packet.subscriptions.map(() => 1) })
    peer.sendRaw(Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 0x61))
    for (let megabytes = 0; megabytes < 200; megabytes += 1) peer.sendRaw(Buffer.alloc(MIB))
    return true
  })
  const target = await startTarget({
    mqtt,
    brokerUrl: () => broker.url,
    auth: 'none',
    settings: { STREAM_LINGER_MS: 0 },
  })
  await underAttack(
    target,
    async ({ open, heldBelow, polite }) => {
      const stream = await open('GET', '/subscribe?topic=a&retained=false')
      stream.body?.resume()
      await polite.rounds(8)
      await heldBelow(100 * MIB)
    },
    { parts: ['livez'], comesBack: true },
  )
})

// JSON nested without end makes parsers and encoders that recurse run out of stack.
test.each([
  ['arrays', Buffer.from('['.repeat(2_000_000) + ']'.repeat(2_000_000))],
  ['objects', Buffer.from('{"a":'.repeat(500_000) + '1' + '}'.repeat(500_000))],
])('sibling of 1: payloads of nested %s, embedded as JSON', async (_kind, payload) => {
  const target = await startTarget()
  await underAttack(target, async ({ open, polite }) => {
    const stream = await open('GET', '/subscribe?topic=attack&encoding=json')
    let bytes = 0
    stream.body?.on('data', (chunk: Buffer) => (bytes += chunk.length))
    await flood({ url: target.broker.url, topic: 'attack', payload, count: 3 })
    await polite.rounds(4)
    expect.soft(bytes, 'something is said of each message').toBeGreaterThan(3 * 20)
  })
})

// All that the bridge subscribes to comes over one connection: what the attacker publishes is in front of the polite
// client's message in the broker's queue, and no bridge can change that.
const FLOODED = { lateMs: 10_000 }

// 600 messages of 1 MB of user properties and one byte of payload: a log that counts payloads keeps all of them.
test.each([
  ['a reader', '/subscribe?topic=attack'],
  ['a reader that wants the newest', '/subscribe?topic=attack&slow=latest&encoding=json'],
  ['a member of a group', '/subscribe?topic=$share/g/attack'],
  ['a session that acknowledges nothing', '/subscribe?topic=attack&session=s&ack=explicit'],
  ['a session', '/subscribe?topic=attack&session=s'],
])('item 7: user properties to %s that reads nothing', async (_name, path) => {
  const target = await startTarget()
  await underAttack(
    target,
    async ({ open, heldBelow, polite, signal }) => {
      await open('GET', path)
      await flood({
        url: target.broker.url,
        topic: 'attack',
        properties: megabyteOfProperties(),
        count: sized(400, 600),
        signal,
      })
      await polite.rounds(3)
      // A log of 4 MiB, a socket's buffer, and what is on its way from the broker.
      await heldBelow(64 * MIB)
    },
    FLOODED,
  )
})

test('sibling of 7: topics of 60 KB with one byte of payload, to a reader that reads nothing', async () => {
  const target = await startTarget({ settings: { TOPIC_LEVELS_MAX: 100 } })
  await underAttack(target, async ({ open, heldBelow, polite, signal }) => {
    await open('GET', '/subscribe?topic=attack/%23')
    const long = 't'.repeat(60_000)
    await flood({
      url: target.broker.url,
      topic: (index) => `attack/${index}${long}`,
      count: sized(3000, 10_000),
      signal,
    })
    await polite.rounds(3)
    await heldBelow(64 * MIB)
  })
})

// What a slow reader loses has to be said: every message came, or a gap says how many did not.
test('sibling of 7: what a reader that stalls has lost is in a gap', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ open, polite, signal }) => {
    const stream = await open('GET', '/subscribe?topic=attack', { headers: { accept: 'application/x-ndjson' } })
    const count = sized(100, 600)
    await flood({ url: target.broker.url, topic: 'attack', payload: Buffer.alloc(MIB, 'p'), count, signal })
    await polite.rounds(2)
    let text = ''
    stream.body?.setEncoding('utf8').on('data', (chunk: string) => {
      text = (text + chunk).replaceAll(/p{100,}/g, 'p')
    })
    await flood({ url: target.broker.url, topic: 'attack', payload: 'last', count: 1 })
    await expect.poll(() => text).toContain('"last"')
    const events = text.split('\n').filter((line) => line.startsWith('{'))
    const lost = events
      .map((line) => JSON.parse(line) as { event?: string; data: { dropped?: number } })
      .reduce((sum, { event, data }) => sum + (event === 'gap' ? (data.dropped ?? Number.NaN) : 0), 0)
    const came = events.filter((line) => line.includes('"payload"')).length
    expect.soft(came - 1 + lost).toBe(count)
  })
})

// 200 channels whose logs hold 4 MiB each are 800 MB, though each of them keeps to its limit.
test('sibling of 5: many channels with a full log each', async () => {
  const target = await startTarget()
  await underAttack(target, async ({ open, heldBelow, polite, signal }) => {
    const channels = sized(150, 400)
    for (let index = 0; index < channels && !signal.aborted; index += 1) {
      await open('GET', `/subscribe?topic=attack&topic=attack/${index}&retained=false`)
    }
    await flood({ url: target.broker.url, topic: 'attack', payload: Buffer.alloc(700_000, 'p'), count: 8, signal })
    await polite.rounds(3)
    await heldBelow(300 * MIB)
  })
})

// What the caller sees of a message of its own topic, another's slow reader must not keep back.
test('sibling of 7: a joining reader, whose retained messages the broker withholds, remembers without end', async () => {
  // The broker grants and sends no retained messages; live ones come meanwhile.
  const target = await startTarget({
    brokerUrl: async (own) => {
      const proxy = await startProxy(own)
      proxy.delay(sized(300, 900))
      return proxy.url
    },
  })
  await underAttack(
    target,
    async ({ open, heldBelow, polite, signal }) => {
      const opening = Array.from({ length: 20 }, (_, index) => open('GET', `/subscribe?topic=attack&topic=b/${index}`))
      await flood({ url: target.broker.url, topic: 'attack', payload: Buffer.alloc(MIB, 'p'), count: 60, signal })
      await heldBelow(256 * MIB)
      await Promise.all(opening)
      await polite.rounds(2)
    },
    { parts: ['livez'] },
  )
})

// With the session the broker comes back without what the filter needs. Giving the filter back must not spin.
test.each([
  ['shared subscriptions', '$share/g/a', { sharedSubscriptionAvailable: false }],
  ['wildcards', 'a/#', { wildcardSubscriptionAvailable: false }],
])('item 17: a broker that comes back with the session and without %s', async (_what, filter, properties) => {
  let lost = false
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect') return false
    peer.connect = packet
    peer.send({
      cmd: 'connack',
      sessionPresent: lost && !packet.clean,
      reasonCode: 0,
      properties: { receiveMaximum: 20, ...(lost && properties) },
    })
    return true
  })
  const target = await startTarget({
    brokerUrl: () => broker.url,
    auth: 'none',
    settings: { STREAM_LINGER_MS: 0 },
  })
  await underAttack(
    target,
    async ({ open, polite }) => {
      const stream = await open('GET', `/subscribe?topic=${encodeURIComponent(filter)}&retained=false`)
      expect.soft(stream.status).toBe(200)
      stream.body?.resume()
      lost = true
      for (const peer of broker.peers) peer.close()
      await polite.rounds(6)
      stream.leave()
      await polite.rounds(6)
    },
    { parts: ['livez'] },
  )
})

// Each packet asks for an answer, or for memory, and costs the broker next to nothing.
const burst = (protocolVersion: number, packet: Parameters<typeof generate>[0], count: number) =>
  Buffer.concat(Array.from({ length: count }, () => generate(packet, { protocolVersion })))
test.each([
  [
    'QoS 2 messages that are never released',
    (peer: Peer) => {
      for (let messageId = 1; messageId <= sized(20_000, 65_535); messageId += 1) {
        const payload = Buffer.alloc(2000)
        peer.send({ cmd: 'publish', topic: 'a', payload, qos: 2, retain: false, dup: false, messageId })
      }
    },
  ],
  ['PUBREL of unknown messages', (peer: Peer) => peer.sendRaw(burst(5, { cmd: 'pubrel', messageId: 7 }, 50_000))],
  ['PINGRESP nobody asked for', (peer: Peer) => peer.sendRaw(burst(5, { cmd: 'pingresp' }, 100_000))],
  [
    'topic aliases',
    (peer: Peer) => {
      for (let topicAlias = 1; topicAlias <= sized(5000, 65_535); topicAlias += 1) {
        peer.send({
          cmd: 'publish',
          topic: `a/${topicAlias}`.padEnd(20_000, 'x'),
          payload: '',
          qos: 0,
          retain: false,
          dup: false,
          properties: { topicAlias },
        })
      }
    },
  ],
] as const)('sibling of 1: a broker that sends %s', async (_what, send) => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd === 'subscribe') setTimeout(() => send(peer), 50)
  })
  const target = await startTarget({ brokerUrl: () => broker.url, auth: 'none', settings: { STREAM_LINGER_MS: 0 } })
  await underAttack(
    target,
    async ({ open, heldBelow, polite }) => {
      const stream = await open('GET', '/subscribe?topic=a&topic=a/%23&retained=false')
      stream.body?.resume()
      await polite.rounds(8)
      await heldBelow(100 * MIB)
    },
    { parts: ['livez'] },
  )
})

// A broker that lets everybody in and then closes: reconnecting must not be a loop without a pause.
test('sibling of 17: a broker that closes at once, again and again', async () => {
  const broker = await startScriptedBroker((packet, peer) => {
    if (packet.cmd !== 'connect') return false
    peer.connect = packet
    peer.accept()
    peer.close()
    return true
  })
  const bridge = spawnHostile({ MQTT_URL: broker.url })
  const url = await bridge.url
  const polite = startPolite({ url, ca: undefined, pid: bridge.pid }, { parts: ['livez'] })
  const crew = createCrew(
    { url, port: Number(new URL(url).port), wire: 'HTTP/1.1', ca: undefined, headers: {} },
    AbortSignal.timeout(30_000),
  )
  for (let index = 0; index < 20; index += 1) void crew.open('GET', `/subscribe?topic=a/${index}`)
  await delay(sized(3000, 20_000))
  crew.leave()
  const connections = broker.peers.length
  expect.soft(connections, `connections in ${long ? 20 : 3} s`).toBeLessThan(300)
  const { failures } = await polite.stop()
  expect(failures).toEqual([])
  bridge.kill('SIGTERM')
  await Promise.race([bridge.exited, once(AbortSignal.timeout(15_000), 'abort')])
})
