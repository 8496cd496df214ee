import fc from 'fast-check'
import { generate, type IConnackPacket, type IPublishPacket, type Packet } from 'mqtt-packet'
import { describe, expect, test } from 'vitest'
import { type Message, type MessageProperties, toJsonText } from '../../../src/mqtt/message.ts'
import {
  capabilitiesOf,
  messageFromPacket,
  packetSize,
  publishPacket,
  subscriptionIdentifiersOf,
} from '../../../src/mqtt/client/packets.ts'
import { parsePackets } from '../../support/parse-packets.ts'

const message: Message = { topic: 't', payload: Buffer.from('x'), qos: 1, retain: false }

function parsed(bytes: Buffer, protocolVersion: 5 | 4 = 5): Packet {
  const packets = parsePackets(bytes, protocolVersion)
  expect(packets).toHaveLength(1)
  return packets[0]!
}

const overTheWire = (sent: Message, protocolVersion: 5 | 4 = 5) =>
  messageFromPacket(
    parsed(generate(publishPacket(sent, 7, false), { protocolVersion }), protocolVersion) as IPublishPacket,
  )

/** With every user property as an array, since one value may be written with or without one. */
function normalised(properties: MessageProperties | undefined): MessageProperties | undefined {
  const { userProperties, ...others } = properties ?? {}
  const names = Object.entries(userProperties ?? {}).map(([name, value]): [string, string[]] => [name, [value].flat()])
  const all = { ...others, ...(userProperties && { userProperties: Object.fromEntries(names) }) }
  return Object.keys(all).length > 0 ? all : undefined
}

const text = fc.string({ unit: 'binary', maxLength: 20 })
// mqtt-packet drops an empty value if another one of the same name follows, so arrays contain no empty values here.
const values = fc.oneof(
  text,
  fc.array(fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 3 }),
)
const names = fc.oneof(text, fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty', '0', 'length'))
const properties = fc.record<MessageProperties, never>(
  {
    contentType: text,
    responseTopic: fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }),
    correlationData: fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('base64')),
    messageExpiryInterval: fc.nat({ max: 4_294_967_295 }),
    payloadFormatIndicator: fc.boolean(),
    userProperties: fc.dictionary(names, values, { minKeys: 1, maxKeys: 5 }),
  },
  { requiredKeys: [] },
)
const messages = fc.record({
  topic: fc.string({ unit: 'binary', minLength: 1, maxLength: 30 }),
  payload: fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
  retain: fc.boolean(),
  properties: fc.option(properties, { nil: undefined }),
})

test('any message is the same after encoding and decoding, with all its properties', () => {
  fc.assert(
    fc.property(messages, (sent) => {
      const got = overTheWire(sent)
      expect({ ...got, properties: normalised(got.properties) }).toEqual({
        ...sent,
        properties: normalised(sent.properties),
      })
      expect(packetSize(sent)).toBe(generate(publishPacket(sent, 65_535, true), { protocolVersion: 5 }).length)
    }),
  )
})

test('the same over MQTT 3.1.1, without properties', () => {
  fc.assert(
    fc.property(messages, (sent) => {
      expect(overTheWire({ ...sent, properties: undefined }, 4)).toEqual({ ...sent, properties: undefined })
    }),
  )
})

test.each<[string, MessageProperties, number[]]>([
  [
    'correlation data as the bytes it stands for',
    { correlationData: 'AP8=' },
    [0x3a, 12, 0, 1, 0x61, 1, 2, 5, 0x09, 0, 2, 0, 0xff, 0x78],
  ],
  [
    'a user property for each of its values',
    { userProperties: { k: ['1', '2'] } },
    [0x3a, 21, 0, 1, 0x61, 1, 2, 14, 0x26, 0, 1, 0x6b, 0, 1, 0x31, 0x26, 0, 1, 0x6b, 0, 1, 0x32, 0x78],
  ],
])('a publish holds %s', (_name, properties, bytes) => {
  expect([
    ...generate(publishPacket({ ...message, topic: 'a', properties }, 0x0102, true), { protocolVersion: 5 }),
  ]).toEqual(bytes)
})

test('user properties named like members of Object.prototype are transported as data', () => {
  const hostile = '{"__proto__":"a","constructor":"b","prototype":["c","d"],"toString":"e"}'
  const got = overTheWire({ ...message, properties: { userProperties: JSON.parse(hostile) } })
  expect(toJsonText(got, false)).toContain(`"userProperties":${hostile}`)
  expect(Object.keys(Object.prototype)).toEqual([])
})

test('properties that belong to the connection are not part of the message', () => {
  const packet: IPublishPacket = {
    cmd: 'publish',
    topic: 't',
    payload: Buffer.alloc(0),
    qos: 0,
    dup: false,
    retain: false,
    properties: { subscriptionIdentifier: 3, topicAlias: 1 },
  }
  const arrived = parsed(generate(packet, { protocolVersion: 5 })) as IPublishPacket
  expect(messageFromPacket(arrived)).toEqual({
    topic: 't',
    payload: Buffer.alloc(0),
    qos: 0,
    retain: false,
    properties: undefined,
  })
  expect(subscriptionIdentifiersOf(arrived)).toEqual([3])
})

test.each([
  [undefined, []],
  [268_435_455, [268_435_455]],
  [
    [1, 2],
    [1, 2],
  ],
])('subscription identifiers %j are %j', (subscriptionIdentifier, identifiers) => {
  const properties =
    subscriptionIdentifier === undefined ? {} : { subscriptionIdentifier: subscriptionIdentifier as number }
  const packet: IPublishPacket = {
    cmd: 'publish',
    topic: 't',
    payload: 'x',
    qos: 0,
    dup: false,
    retain: false,
    properties,
  }
  expect(subscriptionIdentifiersOf(parsed(generate(packet, { protocolVersion: 5 })) as IPublishPacket)).toEqual(
    identifiers,
  )
})

describe('what CONNACK says', () => {
  const connack = (properties: NonNullable<IConnackPacket['properties']>) =>
    capabilitiesOf(
      parsed(
        generate(
          { cmd: 'connack', reasonCode: 0, returnCode: 0, sessionPresent: false, properties },
          { protocolVersion: 5 },
        ),
      ) as IConnackPacket,
      5,
    )

  test('without any property means the defaults of MQTT 5', () => {
    expect(connack({})).toEqual({
      protocol: 5,
      receiveMaximum: 65_535,
      maximumPacketSize: undefined,
      maximumQoS: 2,
      retain: true,
      wildcards: true,
      sharedSubscriptions: true,
      subscriptionIdentifiers: true,
    })
  })

  test.each([
    ['receiveMaximum', { receiveMaximum: 20 }, 20],
    ['maximumPacketSize', { maximumPacketSize: 100 }, 100],
    ['maximumQoS', { maximumQoS: 0 }, 0],
    ['retain', { retainAvailable: false }, false],
    ['wildcards', { wildcardSubscriptionAvailable: false }, false],
    ['sharedSubscriptions', { sharedSubscriptionAvailable: false }, false],
    ['subscriptionIdentifiers', { subscriptionIdentifiersAvailable: false }, false],
  ] as const)('of %s is believed', (name, properties, expected) => {
    expect(connack(properties)[name]).toBe(expected)
  })

  test('does not exist over MQTT 3.1.1, and no shared subscriptions or identifiers are assumed', () => {
    const packet = parsed(
      generate({ cmd: 'connack', returnCode: 0, sessionPresent: false }, { protocolVersion: 4 }),
      4,
    ) as IConnackPacket
    expect(capabilitiesOf(packet, 4)).toEqual({
      protocol: 4,
      receiveMaximum: undefined,
      maximumPacketSize: undefined,
      maximumQoS: 2,
      retain: true,
      wildcards: true,
      sharedSubscriptions: false,
      subscriptionIdentifiers: false,
    })
  })
})
