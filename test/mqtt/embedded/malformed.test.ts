import { connect } from 'node:net'
import { once } from 'node:events'
import fc from 'fast-check'
import { generate, type Packet } from 'mqtt-packet'
import { expect, onTestFinished, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { startEmbeddedBroker } from '../../../src/mqtt/embedded/embedded-broker.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'

const bytes = (packet: Packet) => generate(packet, { protocolVersion: 5 })
const CONNECT = bytes({ cmd: 'connect', clientId: 'odd', protocolId: 'MQTT', protocolVersion: 5, clean: true })
const message = { cmd: 'publish', topic: 'a/b', payload: 'x', qos: 1, retain: true, dup: false, messageId: 1 } as const
const PACKETS = [
  bytes(message),
  bytes({
    ...message,
    properties: {
      contentType: 'text/plain',
      responseTopic: 'r/r',
      correlationData: Buffer.from('c'),
      messageExpiryInterval: 60,
      payloadFormatIndicator: true,
      userProperties: { a: ['1', '2'] },
    },
  }),
  bytes({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '$share/g/a/+', qos: 2 }] }),
  bytes({ cmd: 'unsubscribe', messageId: 1, unsubscriptions: ['a/+'] }),
  bytes({ cmd: 'pubrel', messageId: 1 }),
  bytes({ cmd: 'disconnect', reasonCode: 0, properties: { sessionExpiryInterval: 1 } }),
  bytes({
    cmd: 'connect',
    clientId: 'other',
    protocolId: 'MQTT',
    protocolVersion: 5,
    clean: false,
    will: { topic: 'w', payload: Buffer.from('w'), properties: { contentType: 'w', userProperties: { w: 'w' } } },
    properties: { receiveMaximum: 10, maximumPacketSize: 100 },
  }),
]

/** A packet of which some bytes are others, or that is cut off. */
const odd = fc
  .tuple(
    fc.constantFrom(...PACKETS),
    fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 4 }),
    fc.option(fc.nat(80), { nil: undefined }),
  )
  .map(([packet, changes, length]) => {
    const changed = Buffer.from(packet)
    for (const [at, byte] of changes) changed[at % changed.length] = byte
    return changed.subarray(0, length ?? changed.length)
  })

test.each([
  ['PUBLISH at QoS 1', [0x32, 0x03, 0x00, 0x01, 0x61]],
  ['PUBLISH at QoS 2', [0x34, 0x03, 0x00, 0x01, 0x61]],
  ['PUBLISH with 0', [0x32, 0x06, 0x00, 0x01, 0x61, 0x00, 0x00, 0x00]],
  ['PUBREL', [0x62, 0x00]],
  ['SUBSCRIBE', [0x82, 0x00]],
  ['UNSUBSCRIBE', [0xa2, 0x00]],
])('%s without a packet identifier ends its own connection alone', async (_name, packet) => {
  const memory = new MemoryAccount({ totalBytes: 64 * 1024 * 1024 })
  const broker = await startEmbeddedBroker({ port: 0, maxPacketBytes: 1024 * 1024, memory })
  onTestFinished(() => broker.close())
  const other = await mqttClient(broker.url, { protocolVersion: 5 })
  const socket = connect(Number(new URL(broker.url).port), '127.0.0.1')
  socket.on('error', () => {}).resume()
  socket.write(Buffer.concat([CONNECT, Uint8Array.from(packet)]))
  await once(socket, 'close')
  await other.publishAsync('a', 'x', { qos: 1 })
})

test('packets that are malformed in any way harm no other client of the embedded broker', async () => {
  const memory = new MemoryAccount({ totalBytes: 64 * 1024 * 1024 })
  const broker = await startEmbeddedBroker({ port: 0, maxPacketBytes: 1024 * 1024, memory })
  onTestFinished(() => broker.close())
  const reader = await collect(await mqttClient(broker.url, { protocolVersion: 5 }), '#')
  const publisher = await mqttClient(broker.url, { protocolVersion: 5 })
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(odd, { minLength: 1, maxLength: 5 }), async (connects, packets) => {
      const socket = connect(Number(new URL(broker.url).port), '127.0.0.1')
      socket.on('error', () => {})
      socket.resume()
      const closed = once(socket, 'close')
      socket.end(Buffer.concat([...(connects ? [CONNECT] : []), ...packets]))
      await closed
    }),
    { numRuns: 500 },
  )
  await publisher.publishAsync('end', 'end', { qos: 1 })
  await expect.poll(() => reader.packets.at(-1)?.topic).toBe('end')
})

test('a string that would be longer when it is passed on is malformed', async () => {
  const memory = new MemoryAccount({ totalBytes: 64 * 1024 * 1024 })
  const broker = await startEmbeddedBroker({ port: 0, maxPacketBytes: 1024 * 1024, memory })
  onTestFinished(() => broker.close())
  const reader = await collect(await mqttClient(broker.url, { protocolVersion: 5 }), '#')
  for (const properties of [undefined, { contentType: 'y'.repeat(60_000) }]) {
    const topic = properties === undefined ? 'x'.repeat(60_000) : 'a'
    const packet = Buffer.from(
      generate({ ...message, topic, ...(properties && { properties }) }, { protocolVersion: 5 }).map((byte) =>
        byte === (properties === undefined ? 0x78 : 0x79) ? 0xff : byte,
      ),
    )
    const socket = connect(Number(new URL(broker.url).port), '127.0.0.1')
    socket.on('error', () => {})
    const received: Buffer[] = []
    socket.on('data', (chunk) => received.push(chunk))
    const closed = once(socket, 'close')
    socket.write(Buffer.concat([CONNECT, packet]))
    await closed
    // DISCONNECT with 0x81.
    expect([...Buffer.concat(received).subarray(-4)]).toEqual([0xe0, 2, 0x81, 0])
  }
  const publisher = await mqttClient(broker.url, { protocolVersion: 5 })
  await publisher.publishAsync('end', 'end', { qos: 1 })
  await expect.poll(() => reader.packets.at(-1)?.topic).toBe('end')
})
