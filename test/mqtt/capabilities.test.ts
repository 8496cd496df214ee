import { describe, expect, test } from 'vitest'
import { CausewayError } from '../../src/errors.ts'
import { type Capabilities, checkPublish, checkSubscribe } from '../../src/mqtt/capabilities.ts'
import type { Message } from '../../src/mqtt/message.ts'
import { packetSize } from '../../src/mqtt/client/packets.ts'

const all: Capabilities = {
  protocol: 5,
  receiveMaximum: 20,
  maximumPacketSize: undefined,
  maximumQoS: 2,
  retain: true,
  wildcards: true,
  sharedSubscriptions: true,
  subscriptionIdentifiers: true,
  sessionExpiryS: undefined,
}
const plain: Message = { topic: 'a', payload: Buffer.from('x'), qos: 1, retain: false }

function problemOf(check: () => void): [code: string, status: number] | undefined {
  try {
    check()
  } catch (error) {
    if (error instanceof CausewayError) return [error.kind.code, error.kind.status]
    throw error
  }
  return undefined
}

const publish = (message: Partial<Message>, restriction: Partial<Capabilities> = {}) =>
  problemOf(() =>
    checkPublish({ ...plain, ...message }, { ...all, ...restriction }, () => packetSize({ ...plain, ...message })),
  )
const subscribe = (filter: string, restriction: Partial<Capabilities> = {}) =>
  problemOf(() => checkSubscribe(filter, { ...all, ...restriction }))

describe('of publishes', () => {
  test.each<
    [string, Partial<Capabilities>, refused: Partial<Message>, taken: Partial<Message>, code: string, status: number]
  >([
    ['a maximum QoS of 1', { maximumQoS: 1 }, { qos: 2 }, { qos: 1 }, 'qos-not-supported', 422],
    ['a maximum QoS of 0', { maximumQoS: 0 }, { qos: 1 }, { qos: 0 }, 'qos-not-supported', 422],
    ['no retained messages', { retain: false }, { retain: true }, { retain: false }, 'retain-not-supported', 422],
    [
      'MQTT 3.1.1',
      { protocol: 4 },
      { properties: { contentType: 'text/plain' } },
      { retain: true, qos: 2 },
      'properties-not-supported',
      422,
    ],
    [
      'a maximum packet size',
      { maximumPacketSize: 50 },
      { payload: Buffer.alloc(50) },
      { payload: Buffer.alloc(10) },
      'payload-too-large',
      413,
    ],
  ])('%s rules out what it says and no more', (_name, restriction, refused, taken, code, status) => {
    expect(publish(refused, restriction)).toEqual([code, status])
    expect(publish(taken, restriction)).toBeUndefined()
    expect(publish(refused)).toBeUndefined()
  })

  test('the size limit is for the whole packet: topic, properties and payload', () => {
    const message = { payload: Buffer.alloc(200), properties: { userProperties: { k: 'v' } } }
    const size = packetSize({ ...plain, ...message })
    expect(publish(message, { maximumPacketSize: size })).toBeUndefined()
    expect(publish(message, { maximumPacketSize: size - 1 })).toEqual(['payload-too-large', 413])
  })

  test('without a size limit no packet is generated to measure it', () => {
    checkPublish(plain, all, () => {
      throw new Error('measured')
    })
  })

  test.each([[Buffer.from([0xff])], [Buffer.from([0xe2, 0x82])], [Buffer.from([0xed, 0xa0, 0x80])]])(
    'a payload of %j is not the text its indicator says',
    (payload) => {
      expect(publish({ payload, properties: { payloadFormatIndicator: true } })).toEqual([
        'payload-format-invalid',
        422,
      ])
      expect(publish({ payload, properties: { payloadFormatIndicator: false } })).toBeUndefined()
      expect(publish({ payload: Buffer.from('€'), properties: { payloadFormatIndicator: true } })).toBeUndefined()
    },
  )
})

describe('of subscriptions', () => {
  test.each(['a/+', '#', '$share/g/#'])('no wildcards rules out %s', (filter) => {
    expect(subscribe(filter, { wildcards: false })).toEqual(['wildcards-not-supported', 422])
    expect(subscribe(filter)).toBeUndefined()
  })

  test.each(['$share/g/a', '$share/g/a/#'])('no shared subscriptions rules out %s', (filter) => {
    expect(subscribe(filter, { sharedSubscriptions: false })).toEqual(['shared-subscriptions-not-supported', 422])
    expect(subscribe(filter)).toBeUndefined()
  })

  test('a plain filter needs neither', () => {
    expect(subscribe('a/b', { wildcards: false, sharedSubscriptions: false })).toBeUndefined()
    expect(subscribe('$share/g/a', { wildcards: false })).toBeUndefined()
  })
})
