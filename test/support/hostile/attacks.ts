import { generate, type Packet } from 'mqtt-packet'
import type { Peer } from '../scripted-broker.ts'
import type { Random } from '../storm/random.ts'

const LONG = 'x'.repeat(60_000)
const PUBLISH = { cmd: 'publish', topic: 'a', payload: 'x', qos: 0, retain: false, dup: false } as const
const properties = {
  payloadFormatIndicator: true,
  messageExpiryInterval: 1,
  contentType: 'text/html\r\nX: y',
  responseTopic: 'a/#',
  correlationData: Buffer.from([0, 255]),
  userProperties: { __proto: 'x', a: ['b', '\0'] },
}

/** Well-formed packets. Some of them only a client may send, some come at the wrong time. */
const PACKETS: readonly Packet[] = [
  {
    cmd: 'connack',
    sessionPresent: true,
    reasonCode: 0,
    returnCode: 0,
    properties: {
      receiveMaximum: 1,
      maximumQoS: 0,
      retainAvailable: false,
      maximumPacketSize: 10,
      assignedClientIdentifier: 'x',
      topicAliasMaximum: 65_535,
      reasonString: LONG,
      wildcardSubscriptionAvailable: false,
      subscriptionIdentifiersAvailable: false,
      sharedSubscriptionAvailable: false,
      serverKeepAlive: 1,
      responseInformation: 'a',
      serverReference: 'b',
    },
  },
  { cmd: 'connack', sessionPresent: false, reasonCode: 0x88, returnCode: 3 },
  {
    cmd: 'connack',
    sessionPresent: false,
    reasonCode: 0x9d,
    returnCode: 2,
    properties: { serverReference: 'mqtt://127.0.0.1:1' },
  },
  PUBLISH,
  { ...PUBLISH, qos: 1, messageId: 1, properties },
  { ...PUBLISH, qos: 2, messageId: 65_535, dup: true, retain: true, properties: { subscriptionIdentifier: 1 } },
  { ...PUBLISH, properties: { topicAlias: 1 } },
  { ...PUBLISH, topic: '', properties: { topicAlias: 7 } },
  { ...PUBLISH, topic: 'a/\0/b' },
  { ...PUBLISH, payload: Buffer.alloc(300_000, 0xff), properties: { userProperties: { [LONG]: LONG } } },
  ...[1, 2, 65_535].flatMap((messageId): Packet[] => [
    { cmd: 'puback', messageId },
    { cmd: 'pubrec', messageId },
    { cmd: 'pubrel', messageId },
    { cmd: 'pubcomp', messageId },
    { cmd: 'puback', messageId, reasonCode: 0x97 },
    { cmd: 'pubrec', messageId, reasonCode: 0x91 },
  ]),
  ...[1, 2].flatMap((messageId): Packet[] => [
    { cmd: 'suback', messageId, granted: [0] },
    { cmd: 'suback', messageId, granted: [] },
    { cmd: 'suback', messageId, granted: [0x80, 1, 2] },
    { cmd: 'unsuback', messageId, granted: [0] },
  ]),
  { cmd: 'pingresp' },
  { cmd: 'pingreq' },
  { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 1 }] },
  { cmd: 'connect', clientId: 'x', protocolId: 'MQTT', protocolVersion: 5, clean: true, keepalive: 0 } as Packet,
  ...[0, 4, 0x80, 0x81, 0x82, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x93, 0x95, 0x97, 0x98, 0x9c, 0x9d, 0xa1].map(
    (reasonCode): Packet => ({ cmd: 'disconnect', reasonCode }),
  ),
  {
    cmd: 'auth',
    reasonCode: 0x18,
    properties: { authenticationMethod: 'x', authenticationData: Buffer.from('y') },
  } as Packet,
]

const RAW: readonly Uint8Array[] = [
  Uint8Array.of(0, 0),
  Uint8Array.of(0xf0, 0),
  Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0xff, 0x7f),
  Uint8Array.of(0x20, 0),
  Uint8Array.of(0x20, 2, 1, 0xff),
  Uint8Array.of(0xd0, 1, 0),
  Uint8Array.of(0x40, 0),
  Uint8Array.of(0x90, 2, 0, 1),
  // The length announces 256 MB, and nothing follows.
  Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 0x61),
  Uint8Array.of(0x20, 0xff, 0xff, 0xff, 0x7f),
  // A topic with wildcards, a topic that is not UTF-8, and a topic longer than its packet.
  Uint8Array.of(0x30, 6, 0, 3, 0x2b, 0x2f, 0x23, 0),
  Uint8Array.of(0x30, 6, 0, 3, 0xff, 0xfe, 0x80, 0),
  Uint8Array.of(0x30, 3, 0xff, 0xff, 0x61),
  // QoS 3; properties longer than the packet; an unknown property; a property that comes twice.
  Uint8Array.of(0x36, 5, 0, 1, 0x61, 0, 1),
  Uint8Array.of(0x30, 5, 0, 1, 0x61, 0x7f, 1),
  Uint8Array.of(0x30, 6, 0, 1, 0x61, 2, 0x7e, 1),
  Uint8Array.of(0x30, 8, 0, 1, 0x61, 4, 1, 1, 1, 0),
  Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
  Buffer.from('-ERR unknown\r\n'),
  Buffer.alloc(5000, 0x16),
]

/** Malformed bytes, a packet, or a packet with some bytes changed or cut off. */
function someBytes(random: Random, protocolVersion: number): Buffer {
  if (random.chance(0.3)) return Buffer.from(random.pick(RAW))
  let bytes: Buffer
  try {
    bytes = Buffer.from(generate(random.pick(PACKETS), { protocolVersion }))
  } catch {
    return Buffer.from(random.pick(RAW))
  }
  if (random.chance(0.4)) return bytes
  for (let times = random.integer(1, 3); times > 0 && bytes.length > 0; times -= 1) {
    bytes[random.integer(0, Math.min(bytes.length - 1, 40))] = random.integer(0, 255)
  }
  return random.chance(0.3) ? bytes.subarray(0, random.integer(0, bytes.length)) : bytes
}

/** Sends up to four of these, at once or byte by byte, and in 60 % of the cases closes the connection. */
export async function attack(random: Random, peer: Peer): Promise<void> {
  const bytes = Buffer.concat(
    Array.from({ length: random.integer(1, 4) }, () => someBytes(random, peer.connect?.protocolVersion ?? 4)),
  )
  if (random.chance(0.2)) {
    for (const byte of bytes.subarray(0, 200)) {
      peer.sendRaw(Uint8Array.of(byte))
      await new Promise(setImmediate)
    }
  } else peer.sendRaw(bytes)
  if (random.chance(0.6)) peer.close()
}
