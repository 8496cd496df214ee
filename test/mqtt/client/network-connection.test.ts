import { generate } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { type DurableOptions, NetworkConnection, SessionState } from '../../../src/mqtt/client/network-connection.ts'
import { type Script, startScriptedBroker } from '../../support/scripted-broker.ts'

const MESSAGE = { topic: 'a', payload: Buffer.from('x'), qos: 0 as const, retain: false }

interface OpenOptions {
  /** Called with the session before the connection is made. */
  begun?: (session: SessionState) => void
  onOpened?: (network: NetworkConnection) => void
  onAcknowledged?: (network: NetworkConnection) => void
  script?: Script
  durable?: DurableOptions | undefined
}

/** An accepted connection, and the events that it has reported since. */
async function openConnection({ begun, onOpened, onAcknowledged, script = () => {}, durable }: OpenOptions = {}) {
  const broker = await startScriptedBroker(script)
  const events: string[] = []
  const session = new SessionState()
  begun?.(session)
  let opened!: () => void
  let closed!: () => void
  const [isOpen, isClosed] = [
    new Promise<void>((resolve) => (opened = resolve)),
    new Promise<void>((resolve) => (closed = resolve)),
  ]
  const network: NetworkConnection = new NetworkConnection(
    {
      endpoint: { url: broker.url, keepaliveS: 30, connectTimeoutMs: 5000, maxPacketBytes: 1_000_000 },
      protocol: 5,
      clientId: 'one-connection',
      clean: true,
      session,
      durable,
    },
    {
      opened() {
        onOpened?.(network)
        opened()
      },
      closed: () => closed(),
      acknowledged({ cmd, messageId, reasonCode }) {
        events.push(`${cmd} ${messageId} ${reasonCode}`)
        onAcknowledged?.(network)
      },
      message({ payload }) {
        events.push(payload.toString())
        if (payload.toString() === 'hold') network.hold()
      },
      flushed: () => void events.push('flushed'),
      drained: () => {},
    },
  )
  await isOpen
  const publishes = () => broker.peers[0]!.received.filter(({ cmd }) => cmd === 'publish').length
  return { network, events, isClosed, publishes, session, peer: broker.peers[0]! }
}

test('publishes are flushed once, at the end of the turn of the event loop', async () => {
  const { network, events, isClosed, publishes } = await openConnection()
  network.publish(MESSAGE, 0, false)
  network.publish(MESSAGE, 0, false)
  expect(events).toEqual([])
  await new Promise(setImmediate)
  expect(events).toEqual(['flushed'])
  await expect.poll(publishes).toBe(2)
  network.destroy()
  await isClosed
})

test('publishes are not reported as flushed if the connection is destroyed in the same turn', async () => {
  const { network, events, isClosed, publishes } = await openConnection()
  network.publish(MESSAGE, 0, false)
  network.destroy()
  await isClosed
  await new Promise(setImmediate)
  expect(events).toEqual([])
  expect(publishes()).toBe(0)
})

test.each([
  ['destroyed hands over what had arrived before', 'destroy', ['at QoS 0', 'at QoS 1', 'at QoS 2'], false],
  ['discarded hands over nothing, and keeps the QoS 2 message for the next one', 'discard', [], true],
] as const)('a connection that is %s', async (_what, end, payloads, isKept) => {
  const message = (qos: 0 | 1 | 2) =>
    ({ cmd: 'publish', topic: 'a', payload: `at QoS ${qos}`, qos, messageId: qos, dup: false, retain: false }) as const
  const { events, isClosed, session } = await openConnection({
    begun: (begun) => begun.put(message(2), () => {}),
    onOpened: (network) => network[end](new Error('of the test')),
    script(packet, peer) {
      if (packet.cmd !== 'connect') return false
      // All of it arrives in one piece.
      peer.hold()
      peer.accept()
      peer.send(message(0), message(1), { cmd: 'pubrel', messageId: 2, reasonCode: 0 })
      peer.flow()
      return true
    },
  })
  await isClosed
  expect(events).toEqual(payloads)
  const error = await new Promise((resolve) => session.get(message(2), resolve))
  expect(error === null).toBe(isKept)
})

test('a connection that is held reads nothing, sends on, and goes on where it was', async () => {
  const { network, events, isClosed, peer } = await openConnection({ durable: { expiryS: 60 } })
  const message = (payload: string, messageId: number) =>
    ({ cmd: 'publish', topic: 'a', payload, qos: 1, messageId, dup: false, retain: false }) as const
  peer.send(message('hold', 1), message('2', 2), message('hold', 3), message('4', 4))
  const messages = () => events.filter((event) => event !== 'flushed')
  await expect.poll(messages).toEqual(['hold'])
  network.acknowledge(1)
  const answered = network.roundTrip()
  await expect.poll(() => peer.received.map(({ cmd }) => cmd)).toEqual(['connect', 'puback', 'pingreq'])
  const before = network.bytesRead
  peer.send({ cmd: 'puback', messageId: 9 })
  await expect.poll(() => network.bytesRead).toBeGreaterThan(before)
  expect(messages()).toEqual(['hold'])
  network.resume()
  await expect.poll(messages).toEqual(['hold', '2', 'hold'])
  network.resume()
  await answered
  expect(messages()).toEqual(['hold', '2', 'hold', '4', 'puback 9 0'])
  // It ends at once, although it is held again.
  peer.send(message('hold', 5), message('6', 6))
  await expect.poll(messages).toHaveLength(6)
  expect(await network.disconnect(false)).toBe(true)
  await isClosed
})

test.each([
  ['of a stream', undefined, 1],
  ['of a session, which acknowledges later', { expiryS: 60 }, 0],
] as const)('messages that come before CONNACK are handed over: %s', async (_what, durable, pubacks) => {
  const message = (qos: 0 | 1 | 2) =>
    ({ cmd: 'publish', topic: 'a', payload: `at QoS ${qos}`, qos, messageId: qos, dup: false, retain: false }) as const
  const { network, events, isClosed, peer } = await openConnection({
    durable,
    script(packet, from) {
      if (packet.cmd === 'connect') from.send(message(0), message(1), message(2))
      if (packet.cmd === 'pubrec') from.send({ cmd: 'pubrel', messageId: 2, reasonCode: 0 })
      return false
    },
  })
  await expect.poll(() => events.filter((event) => event !== 'flushed')).toEqual(['at QoS 0', 'at QoS 1', 'at QoS 2'])
  await expect.poll(() => peer.received.filter(({ cmd }) => cmd === 'pubcomp').length).toBe(1)
  expect(peer.received.filter(({ cmd }) => cmd === 'puback')).toHaveLength(pubacks)
  network.destroy()
  await isClosed
})

test('acknowledgements come in order, however the broker cuts its bytes', async () => {
  const { network, events, isClosed, peer } = await openConnection()
  const puback = (messageId: number): number[] => [0x40, 3, 0, messageId, 0x10]
  const pingresp = [0xd0, 0]
  // The reason string looks like a PUBACK.
  const reason = [0x40, 11, 0, 6, 0x87, 7, 0x1f, 0, 4, 0x40, 2, 1, 1]
  const packets = [puback(1), puback(2), pingresp, puback(3), [0x50, 2, 0, 4], [0x70, 2, 0, 5], reason, puback(7)]
  const expected = [
    'puback 1 16',
    'puback 2 16',
    'puback 3 16',
    'pubrec 4 0',
    'pubcomp 5 0',
    'puback 6 135',
    'puback 7 16',
  ]
  const bytes = packets.flat()
  const inReason = bytes.length - puback(7).length - 4
  const inPieces = (size: number) => Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) => index * size)
  for (const starts of [[0], [0, inReason, inReason + 4], ...[1, 2, 3, 5, 7, 11].map(inPieces)]) {
    events.length = 0
    for (const [index, start] of starts.entries()) {
      const before = network.bytesRead
      const piece = bytes.slice(start, starts[index + 1])
      peer.sendRaw(piece)
      await expect.poll(() => network.bytesRead, { interval: 1 }).toBe(before + piece.length)
    }
    await expect.poll(() => events.filter((event) => event.startsWith('pub'))).toEqual(expected)
  }
  network.destroy()
  await isClosed
})

test('what comes behind the acknowledgement over which a connection is discarded is not handed over', async () => {
  const { events, isClosed, peer } = await openConnection({
    onAcknowledged: (network) => network.discard(new Error('of the test')),
  })
  peer.sendRaw([0x40, 2, 0, 1, 0x40, 2, 0, 2])
  await isClosed
  expect(events).toEqual(['puback 1 0'])
})

test.each([undefined, { expiryS: 60 }])(
  'messages at QoS 0 and 1 are handed over in their order, durable: %o',
  async (durable) => {
    const { network, events, isClosed, peer } = await openConnection({ durable })
    const count = 400
    const bytes = Buffer.concat(
      Array.from({ length: count }, (_, number) => {
        // One of the other kind among many, many of both in turn, and the end of a chunk anywhere.
        const qos = number < 200 ? Number(number % 37 === 0) : number % 2
        const size = number % 50 === 0 ? 20_000 : 5
        const payload = `${number}`.padEnd(size, '.')
        const packet = { topic: 'a', payload, qos: qos as 0 | 1, retain: false, dup: false, messageId: number + 1 }
        return generate({ cmd: 'publish', ...packet }, { protocolVersion: 5 })
      }),
    )
    for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7) % 3001) {
      peer.sendRaw(bytes.subarray(at, at + size))
      await new Promise(setImmediate)
    }
    const numbers = () => events.flatMap((event) => (/^\d+\.*$/.test(event) ? Number.parseInt(event, 10) : []))
    await expect.poll(() => numbers().length).toBe(count)
    expect(numbers()).toEqual(Array.from({ length: count }, (_, number) => number))
    network.destroy()
    await isClosed
  },
)
