import { once } from 'node:events'
import { connect } from 'node:net'
import type { Packet } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { type Bridge, startBridge } from '../../support/bridge.ts'
import { get, publish } from '../../support/http.ts'
import { isPublisher, type Peer, startScriptedBroker } from '../../support/scripted-broker.ts'

/** A bridge whose broker attacks it once on each connection, at the given packet, until `behave` is called. */
async function bridgeOn(
  when: 'instead of CONNACK' | 'after CONNACK' | 'instead of PUBACK',
  attack: (peer: Peer, packet: Packet) => void,
) {
  let hostile = true
  let attacks = 0
  const broker = await startScriptedBroker((packet, peer) => {
    const due = packet.cmd === (when === 'instead of PUBACK' ? 'publish' : 'connect')
    if (!hostile || !due || (!isPublisher(peer) && when === 'instead of PUBACK')) return false
    if (when === 'after CONNACK') peer.accept()
    attacks += 1
    attack(peer, packet)
    // Without this the bridge waits five seconds for CONNACK.
    if (when === 'instead of CONNACK') peer.close()
    return true
  })
  const bridge = await startBridge(
    { MQTT_URL: broker.url, PUBLISH_TIMEOUT_MS: 1000 },
    { waitForBroker: when === 'instead of PUBACK' },
  )
  return {
    bridge,
    attacks: () => attacks,
    behave() {
      hostile = false
    },
  }
}

async function recovers(bridge: Bridge): Promise<void> {
  expect((await get(bridge, '/livez')).status).toBe(200)
  await expect.poll(async () => (await publish(bridge, { topic: 'a', qos: 2 })).status, { timeout: 25_000 }).toBe(200)
}

const id = (packet: Packet) => (packet as { messageId: number }).messageId

describe.each(['instead of CONNACK', 'after CONNACK'] as const)('a broker that, %s, sends', (when) => {
  test.each<[string, (peer: Peer) => void]>([
    [
      'bytes that are no packet',
      (peer) => peer.sendRaw(Uint8Array.from({ length: 64 }, (_, index) => (index * 97) % 256)),
    ],
    ['a packet of the reserved type 0', (peer) => peer.sendRaw(Uint8Array.of(0, 0))],
    ['a length of five bytes', (peer) => peer.sendRaw(Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0xff, 0x7f))],
    ['an HTTP answer', (peer) => peer.sendRaw(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'))],
    [
      'packets only a client may send',
      (peer) =>
        peer.send({ cmd: 'pingreq' }, { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 1 }] }),
    ],
    [
      'a second CONNACK',
      (peer) => {
        peer.accept()
        peer.accept()
      },
    ],
    [
      'acknowledgements nobody waits for',
      (peer) =>
        peer.send(
          { cmd: 'puback', messageId: 7 },
          { cmd: 'pubrec', messageId: 8 },
          { cmd: 'pubcomp', messageId: 9 },
          { cmd: 'pubrel', messageId: 10 },
        ),
    ],
    [
      'a SUBACK and an UNSUBACK nobody waits for',
      (peer) =>
        peer.send({ cmd: 'suback', messageId: 7, granted: [1] }, { cmd: 'unsuback', messageId: 8, granted: [0] }),
    ],
    [
      'a message nobody subscribed to',
      (peer) =>
        peer.send({ cmd: 'publish', topic: 'a', payload: 'x', qos: 1, messageId: 5, retain: false, dup: false }),
    ],
    ['a message with an empty topic', (peer) => peer.sendRaw(Uint8Array.of(0x30, 3, 0, 0, 0))],
    [
      'DISCONNECT',
      (peer) => {
        peer.send({ cmd: 'disconnect', reasonCode: 0x8b })
        peer.close()
      },
    ],
    [
      'half a packet and the end',
      (peer) => {
        peer.sendRaw(Uint8Array.of(0x40))
        peer.close()
      },
    ],
  ])('%s does not end the bridge', async (_name, attack) => {
    const { bridge, attacks, behave } = await bridgeOn(when, attack)
    await publish(bridge, { topic: 'a' })
    expect(attacks()).toBeGreaterThan(0)
    behave()
    await recovers(bridge)
  })
})

describe('a broker that answers a publish with', () => {
  test.each<[string, (peer: Peer, packet: Packet) => void, qos: number]>([
    ['another packet’s identifier', (peer, packet) => peer.send({ cmd: 'puback', messageId: id(packet) + 1 }), 1],
    [
      'PUBREC and PUBCOMP for QoS 1',
      (peer, packet) => peer.send({ cmd: 'pubrec', messageId: id(packet) }, { cmd: 'pubcomp', messageId: id(packet) }),
      1,
    ],
    ['PUBCOMP before PUBREC', (peer, packet) => peer.send({ cmd: 'pubcomp', messageId: id(packet) }), 2],
  ])('%s has not acknowledged it', async (_name, attack, qos) => {
    const { bridge, behave } = await bridgeOn('instead of PUBACK', attack)
    expect(await publish(bridge, { topic: 'a', qos })).toMatchObject({ status: 504, body: { outcome: 'unknown' } })
    behave()
    await recovers(bridge)
  })

  test.each<[number, number, string]>([
    [0x97, 429, 'quota-exceeded'],
    [0x90, 400, 'topic-invalid'],
    [0x99, 422, 'payload-format-invalid'],
    [0x80, 502, 'broker-refused'],
    [0x83, 502, 'broker-refused'],
    [0x91, 502, 'broker-refused'],
  ])('reason %i has refused it', async (reasonCode, status, code) => {
    const { bridge } = await bridgeOn('instead of PUBACK', (peer, packet) =>
      peer.send({
        cmd: (packet as { qos: number }).qos === 2 ? 'pubrec' : 'puback',
        messageId: id(packet),
        reasonCode,
      }),
    )
    for (const qos of [1, 2]) {
      const answer = await publish(bridge, { topic: 'a', qos })
      expect(answer).toMatchObject({ status, body: { code, mqtt: { reasonCode, reason: expect.any(String) } } })
      expect(answer.headers.has('retry-after')).toBe(status === 429)
    }
  })
})

test('a client of the embedded broker that sends garbage harms nobody', async () => {
  const bridge = await startBridge()
  for (const bytes of [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.alloc(1000, 0xff),
    Buffer.from([0x10, 0x03, 0, 4, 0x4d]),
    Buffer.from([0x30, 0]),
  ]) {
    const socket = connect(Number(new URL(bridge.embeddedUrl!).port), '127.0.0.1')
    socket.on('error', () => {})
    socket.end(bytes)
    socket.resume()
    await once(socket, 'close')
  }
  await recovers(bridge)
})
