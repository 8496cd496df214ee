import type { IConnectPacket, IPublishPacket, Packet } from 'mqtt-packet'
import { describe, expect, onTestFinished, test } from 'vitest'
import { MemoryAccount } from '../../../src/memory/account.ts'
import { startEmbeddedBroker } from '../../../src/mqtt/embedded/embedded-broker.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { type RawMqtt, rawMqtt } from '../../support/raw-mqtt.ts'

/** A broker of its own, which ends with the test. */
async function start({ totalBytes = 64 * 1024 * 1024, maxPacketBytes = 1024 * 1024 } = {}) {
  const memory = new MemoryAccount({ totalBytes })
  const broker = await startEmbeddedBroker({ port: 0, maxPacketBytes, memory })
  let isClosed = false
  const close = async () => {
    if (isClosed) return
    isClosed = true
    await broker.close()
    expect(memory.heldBytes).toBe(0)
  }
  onTestFinished(close)
  return { url: broker.url, memory, close }
}

/** A client with a session that lives for an hour. */
const KEPT: Partial<IConnectPacket> = { clientId: 'kept', clean: false, properties: { sessionExpiryInterval: 3600 } }

/** Connects and subscribes. */
async function subscriber(url: string, filters: string[], options: Partial<IConnectPacket> = {}, qos: 0 | 1 | 2 = 1) {
  const client = await rawMqtt(url, options)
  await client.next('connack')
  for (const [index, topic] of filters.entries()) {
    const identifier = options.protocolVersion === 4 ? {} : { properties: { subscriptionIdentifier: index + 1 } }
    client.send({ cmd: 'subscribe', messageId: 100 + index, subscriptions: [{ topic, qos }], ...identifier })
    expect((await client.next('suback')).granted).toEqual([qos])
  }
  return client
}

const message = (topic: string, payload: string, rest: Partial<IPublishPacket> = {}): IPublishPacket => ({
  cmd: 'publish',
  topic,
  payload,
  qos: 1,
  retain: false,
  dup: false,
  messageId: 1,
  ...rest,
})

/** Publishes at QoS 1, one message behind the other. */
async function publishAll(url: string, topic: string, payloads: string[]): Promise<RawMqtt> {
  const publisher = await rawMqtt(url)
  for (const payload of payloads) {
    publisher.send(message(topic, payload))
    await publisher.next('puback')
  }
  return publisher
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `${from + index}`)

describe('the embedded broker acknowledges a publish', () => {
  test.each([
    [1, 'puback'],
    [2, 'pubrec'],
  ] as const)(
    'at QoS %i with 0x10 where nobody subscribes, and with 0x00 where somebody does',
    async (qos, command) => {
      const { url } = await start()
      const publisher = await rawMqtt(url)
      publisher.send(message('a', 'x', { qos }))
      expect((await publisher.next(command)).reasonCode).toBe(0x10)
      await subscriber(url, ['+'])
      publisher.send(message('a', 'x', { qos, messageId: 2 }))
      expect((await publisher.next(command)).reasonCode).toBe(0)
    },
  )

  test('at QoS 2 once, though PUBLISH comes again, and knows no PUBREL that it did not wait for', async () => {
    const { url } = await start()
    const reader = await subscriber(url, ['a'], {}, 2)
    const publisher = await rawMqtt(url, KEPT)
    publisher.send(message('a', 'x', { qos: 2 }))
    await publisher.next('pubrec')
    publisher.close()
    const back = await rawMqtt(url, KEPT)
    expect((await back.next('connack')).sessionPresent).toBe(true)
    back.send(message('a', 'x', { qos: 2, dup: true }), { cmd: 'pubrel', messageId: 1 })
    expect((await back.next('pubcomp')).reasonCode).toBe(0)
    back.send({ cmd: 'pubrel', messageId: 1 })
    expect((await back.next('pubcomp')).reasonCode).toBe(0x92)
    await reader.settled()
    expect(reader.payloads()).toEqual(['x'])
  })

  test('to $SYS with 0x87, and keeps the connection', async () => {
    const { url } = await start()
    const publisher = await rawMqtt(url)
    publisher.send(message('$SYS/x', 'x'))
    expect((await publisher.next('puback')).reasonCode).toBe(0x87)
    await publisher.settled()
  })
})

describe('the embedded broker delivers a message', () => {
  test('once where filters overlap, at the highest QoS, with the identifiers of all', async () => {
    const { url } = await start()
    const reader = await subscriber(url, ['a/#', 'a/+', 'b', 'a/b'])
    await publishAll(url, 'a/b', ['x'])
    await reader.settled()
    expect(reader.publishes()).toMatchObject([{ qos: 1, properties: { subscriptionIdentifier: [1, 2, 4] } }])
  })

  test('with its properties to MQTT 5 clients and without them to those of 3.1.1, which get one copy too', async () => {
    const { url } = await start()
    const properties = {
      contentType: 'text/plain',
      responseTopic: 'r',
      correlationData: Buffer.from('c'),
      payloadFormatIndicator: true,
      userProperties: { a: ['1', '2'], b: '3' },
    }
    const reader = await subscriber(url, ['a'])
    const old = await subscriber(url, ['a', '#'], { protocolVersion: 4 })
    const publisher = await rawMqtt(url)
    publisher.send(message('a', 'x', { properties: { ...properties, messageExpiryInterval: 60 } }))
    await publisher.next('puback')
    await Promise.all([reader.settled(), old.settled()])
    expect(reader.publishes()[0]!.properties).toEqual({
      ...properties,
      messageExpiryInterval: 60,
      subscriptionIdentifier: 1,
      userProperties: { ...properties.userProperties },
    })
    expect(old.publishes()).toHaveLength(1)
    expect(old.publishes()[0]!.properties).toBeUndefined()
  })

  test('not to the session that published it, where the subscription says No Local', async () => {
    const { url } = await start()
    const client = await rawMqtt(url)
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 1, nl: true }] })
    await client.next('suback')
    client.send(message('a', 'own'))
    expect((await client.next('puback')).reasonCode).toBe(0x10)
    await publishAll(url, 'a', ['other'])
    await client.settled()
    expect(client.payloads()).toEqual(['other'])
  })

  test('1,000 of them in order, to MQTT 5 and 3.1.1 clients of another library', async () => {
    const { url } = await start()
    const readers = await Promise.all(
      ([5, 4] as const).map(async (protocolVersion) => collect(await mqttClient(url, { protocolVersion }), 'a', 1)),
    )
    const publisher = await mqttClient(url, { protocolVersion: 5 })
    await Promise.all(numbers(0, 1000).map((payload) => publisher.publishAsync('a', payload, { qos: 1 })))
    for (const { packets } of readers) {
      await expect.poll(() => packets.length).toBe(1000)
      expect(packets.map(({ payload }) => String(payload))).toEqual(numbers(0, 1000))
    }
  })

  test('that is too large for a client to the others alone', async () => {
    const { url } = await start()
    const small = await subscriber(url, ['a'], { properties: { maximumPacketSize: 100 } })
    const large = await subscriber(url, ['a'])
    await publishAll(url, 'a', ['x'.repeat(200), 'y'])
    await Promise.all([small.settled(), large.settled()])
    expect(small.payloads()).toEqual(['y'])
    expect(large.payloads()).toEqual(['x'.repeat(200), 'y'])
  })
})

describe('a shared subscription of the embedded broker', () => {
  test('gives each message to one member, in turn, and a plain filter beside it gets all of them', async () => {
    const { url } = await start()
    const one = await subscriber(url, ['$share/g/a', 'a'])
    const other = await subscriber(url, ['$share/g/a'])
    await publishAll(url, 'a', numbers(0, 10))
    await Promise.all([one.settled(), other.settled()])
    const shared = (client: RawMqtt) =>
      client.publishes().filter(({ properties }) => properties?.subscriptionIdentifier === 1)
    expect([shared(one).length, shared(other).length]).toEqual([5, 5])
    expect(one.publishes().length).toBe(15)
  })

  test('hands on what a member did not acknowledge when its session ends, at QoS 2 only what was not sent', async () => {
    const { url } = await start()
    const leaving = await subscriber(url, ['$share/g/a'], { properties: { receiveMaximum: 2 } }, 2)
    await publishAll(url, 'a', numbers(0, 4))
    const publisher = await rawMqtt(url)
    publisher.send(message('a', 'exactly once', { qos: 2 }))
    await publisher.next('pubrec')
    await leaving.settled()
    expect(leaving.payloads()).toEqual(['0', '1'])
    const staying = await subscriber(url, ['$share/g/a'], {}, 2)
    leaving.close()
    for (const _ of numbers(0, 5)) await staying.next('publish')
    // What another may have had is marked.
    expect(staying.publishes().map(({ payload, dup }) => `${payload}${dup ? '!' : ''}`)).toEqual([
      '0!',
      '1!',
      '2',
      '3',
      'exactly once',
    ])
  })
})

describe('a session of the embedded broker', () => {
  test('keeps what comes while its client is away, and sends again with DUP what was not acknowledged', async () => {
    const { url } = await start()
    const first = await subscriber(url, ['a'], { ...KEPT, properties: { ...KEPT.properties, receiveMaximum: 5 } })
    await publishAll(url, 'a', numbers(0, 8))
    await first.settled()
    // Never more than the client's Receive Maximum.
    expect(first.payloads()).toEqual(numbers(0, 5))
    first.send({ cmd: 'puback', messageId: first.publishes()[0]!.messageId! })
    await first.settled()
    expect(first.payloads()).toEqual(numbers(0, 6))
    const ids = first.publishes().map(({ messageId }) => messageId)
    first.close()
    await first.closed
    await publishAll(url, 'a', ['8'])
    const second = await rawMqtt(url, KEPT)
    expect((await second.next('connack')).sessionPresent).toBe(true)
    await second.settled()
    expect(second.publishes().map(({ payload, dup }) => `${payload}${dup ? '!' : ''}`)).toEqual([
      ...numbers(1, 6).map((payload) => `${payload}!`),
      '6',
      '7',
      '8',
    ])
    expect(
      second
        .publishes()
        .slice(0, 5)
        .map(({ messageId }) => messageId),
    ).toEqual(ids.slice(1))
  })

  test('at QoS 2 goes on with PUBREL where PUBREC had come', async () => {
    const { url } = await start()
    const first = await subscriber(url, ['a'], KEPT, 2)
    const publisher = await rawMqtt(url)
    publisher.send(message('a', 'x', { qos: 2 }))
    const { messageId } = await first.next('publish')
    first.send({ cmd: 'pubrec', messageId: messageId! })
    await first.next('pubrel')
    first.close()
    const second = await rawMqtt(url, KEPT)
    expect((await second.next('pubrel')).messageId).toBe(messageId)
    second.send({ cmd: 'pubcomp', messageId: messageId! })
    second.close()
    const third = await rawMqtt(url, KEPT)
    await third.settled()
    expect(third.received.map(({ cmd }) => cmd)).toEqual(['connack', 'pingresp'])
  })

  test('of MQTT 3.1.1 is kept without Clean Session alone', async () => {
    const { url } = await start()
    for (const clean of [false, true]) {
      const options = { clientId: `${clean}`, clean, protocolVersion: 4 as const }
      const first = await subscriber(url, [`${clean}`], options)
      first.close()
      await first.closed
      await publishAll(url, `${clean}`, ['x'])
      const second = await rawMqtt(url, { ...options, clean: false })
      expect((await second.next('connack')).sessionPresent).toBe(!clean)
      await second.settled()
      expect(second.payloads()).toEqual(clean ? [] : ['x'])
    }
  })

  test('ends with its expiry, with Clean Start, and with an expiry of 0 in DISCONNECT', async () => {
    const { url } = await start()
    const isPresent = async (end: (client: RawMqtt) => void, clean = false, expiry = 3600) => {
      const options = { ...KEPT, properties: { sessionExpiryInterval: expiry } }
      const first = await subscriber(url, ['a'], { ...options, clean: true })
      end(first)
      await first.closed
      const second = await rawMqtt(url, { ...options, clean })
      return (await second.next('connack')).sessionPresent
    }
    const disconnect =
      (properties = {}) =>
      (client: RawMqtt) =>
        client.send({ cmd: 'disconnect', properties })
    expect(await isPresent(disconnect())).toBe(true)
    expect(await isPresent((client) => client.close(), true)).toBe(false)
    expect(await isPresent((client) => client.close(), false, 0)).toBe(false)
    expect(await isPresent(disconnect({ sessionExpiryInterval: 0 }))).toBe(false)
    const expired = await subscriber(url, ['expiring'], { ...KEPT, properties: { sessionExpiryInterval: 1 } })
    expired.close()
    const publisher = await rawMqtt(url)
    await expect
      .poll(
        async () => {
          publisher.send(message('expiring', 'x'))
          return (await publisher.next('puback')).reasonCode
        },
        { timeout: 10_000 },
      )
      .toBe(0x10)
  })

  test('is taken over by a second connection of its client id, and the first gets 0x8E', async () => {
    const { url } = await start()
    const first = await subscriber(url, ['a'], KEPT)
    await publishAll(url, 'a', ['x'])
    const second = await rawMqtt(url, KEPT)
    expect((await first.next('disconnect')).reasonCode).toBe(0x8e)
    await first.closed
    expect((await second.next('connack')).sessionPresent).toBe(true)
    expect(await second.next('publish')).toMatchObject({ dup: true })
  })
})

describe('a retained message of the embedded broker', () => {
  test('comes as Retain Handling says, and with the flag that Retain As Published says', async () => {
    const { url } = await start()
    const publisher = await rawMqtt(url)
    publisher.send(message('a', 'kept', { retain: true }))
    await publisher.next('puback')
    const client = await rawMqtt(url)
    const subscribe = async (rh: number, rap = false) => {
      const before = client.publishes().length
      client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '+', qos: 0, rh, rap }] })
      await client.next('suback')
      await client.settled()
      return client.publishes().slice(before)
    }
    expect(await subscribe(2)).toEqual([])
    expect(await subscribe(1)).toEqual([])
    expect(await subscribe(0, true)).toMatchObject([{ payload: Buffer.from('kept'), retain: true, qos: 0 }])
    const live = async () => {
      publisher.send(message('a', 'live', { retain: true }))
      return (await client.next('publish')).retain
    }
    await client.next('publish')
    expect(await live()).toBe(true)
    await subscribe(2)
    expect(await live()).toBe(false)
  })

  test('is cleared by an empty payload, and goes when it has expired', async () => {
    const { url } = await start()
    const publisher = await rawMqtt(url)
    publisher.send(
      message('a/1', 'x', { retain: true }),
      message('a/2', 'x', { retain: true }),
      message('a/3', 'x', { retain: true, properties: { messageExpiryInterval: 1 } }),
      message('a/1', '', { retain: true }),
    )
    for (const _ of numbers(0, 4)) await publisher.next('puback')
    await expect
      .poll(
        async () => {
          const client = await subscriber(url, ['a/+'])
          await client.settled()
          return client.publishes().map(({ topic }) => topic)
        },
        { timeout: 10_000 },
      )
      .toEqual(['a/2'])
  })
})

describe('the will of a client of the embedded broker', () => {
  const will = { topic: 'will', payload: Buffer.from('gone'), qos: 1 as const, retain: false }

  test('is published when the connection is lost, not after DISCONNECT, and with 0x04 all the same', async () => {
    const { url } = await start()
    const reader = await subscriber(url, ['will'])
    const leaving = await Promise.all(numbers(0, 3).map((clientId) => rawMqtt(url, { clientId, will })))
    for (const client of leaving) await client.next('connack')
    leaving[0]!.send({ cmd: 'disconnect', reasonCode: 0 })
    await leaving[0]!.closed
    await reader.settled()
    expect(reader.payloads()).toEqual([])
    leaving[1]!.send({ cmd: 'disconnect', reasonCode: 4 })
    await reader.next('publish')
    leaving[2]!.close()
    await reader.next('publish')
  })

  test('with a delay is not published if the client is back in time, and is when its session ends', async () => {
    const { url } = await start()
    const reader = await subscriber(url, ['will'])
    const options = { ...KEPT, will: { ...will, properties: { willDelayInterval: 3600 } } }
    const first = await rawMqtt(url, options)
    await first.next('connack')
    first.close()
    const second = await rawMqtt(url, options)
    await second.next('connack')
    await reader.settled()
    expect(reader.payloads()).toEqual([])
    second.close()
    await rawMqtt(url, { ...KEPT, clean: true })
    await reader.next('publish')
  })
})

describe('the embedded broker bounds what it keeps', () => {
  test('the session that holds most is ended where memory is short, which its client learns', async () => {
    const { url } = await start({ totalBytes: 2_000_000 })
    const small = await subscriber(url, ['a/#'], { ...KEPT, clientId: 'small' })
    const large = await subscriber(url, ['#'], { ...KEPT, clientId: 'large' })
    small.send({ cmd: 'disconnect' })
    large.send({ cmd: 'disconnect' })
    await Promise.all([small.closed, large.closed])
    await publishAll(url, 'a', ['wanted'])
    const publisher = await publishAll(
      url,
      'b',
      numbers(0, 20).map((payload) => payload.padEnd(100_000)),
    )
    publisher.send(message('b', 'x'))
    expect((await publisher.next('puback')).reasonCode).toBe(0x10)
    const back = await rawMqtt(url, { ...KEPT, clientId: 'large' })
    expect((await back.next('connack')).sessionPresent).toBe(false)
    const other = await rawMqtt(url, { ...KEPT, clientId: 'small' })
    expect(String((await other.next('publish')).payload)).toBe('wanted')
  })

  test('a reader that reads nothing is disconnected, and nobody else is', async () => {
    const { url, memory } = await start({ totalBytes: 8_000_000 })
    const stalled = await mqttClient(url, { protocolVersion: 5, clientId: 'stalled' })
    await stalled.subscribeAsync('a')
    stalled.stream.pause()
    const reader = await subscriber(url, ['a'], {}, 0)
    const publisher = await rawMqtt(url)
    const payload = 'x'.repeat(500_000)
    for (let sent = 1; ; sent += 1) {
      publisher.send(message('a', payload, { qos: 0 }))
      await publisher.settled()
      await expect.poll(() => reader.publishes().length).toBe(sent)
      expect(memory.heldBytes).toBeLessThanOrEqual(4_000_000)
      if (sent > 60) break
    }
    const back = await rawMqtt(url, { clientId: 'stalled', clean: false })
    expect((await back.next('connack')).sessionPresent).toBe(false)
  })

  test('retained messages that there is no room for get 0x97', async () => {
    const { url } = await start({ totalBytes: 1_000_000 })
    const publisher = await rawMqtt(url)
    const codes: number[] = []
    for (const topic of numbers(0, 10)) {
      publisher.send(message(topic, 'x'.repeat(100_000), { retain: true }))
      codes.push((await publisher.next('puback')).reasonCode!)
    }
    expect(new Set(codes)).toEqual(new Set([0x10, 0x97]))
    await publisher.settled()
  })

  test('a packet beyond the Maximum Packet Size of CONNACK ends the connection before it is read', async () => {
    const { url } = await start({ maxPacketBytes: 1000 })
    const client = await rawMqtt(url)
    expect((await client.next('connack')).properties?.maximumPacketSize).toBe(1000)
    client.send(message('a', 'x'.repeat(2000)))
    expect((await client.next('disconnect')).reasonCode).toBe(0x95)
    await client.closed
  })
})

describe('the embedded broker ends the connection of a client that', () => {
  test.each<[string, number, Packet]>([
    ['publishes to a wildcard', 0x90, message('a/#', 'x')],
    ['uses a topic alias', 0x94, message('', 'x', { properties: { topicAlias: 1 } })],
    ['sends a packet of servers', 0x82, { cmd: 'suback', messageId: 1, granted: [0] }],
    ['connects twice', 0x82, { cmd: 'connect', clientId: 'x', protocolVersion: 5, protocolId: 'MQTT' }],
  ])('%s', async (_what, reasonCode, packet) => {
    const { url } = await start()
    const client = await rawMqtt(url)
    await client.next('connack')
    client.send(packet)
    expect((await client.next('disconnect')).reasonCode).toBe(reasonCode)
    await client.closed
  })

  test('is silent for 1.5 times its keep-alive', async () => {
    const { url } = await start()
    const client = await rawMqtt(url, { keepalive: 1 })
    expect((await client.next('disconnect')).reasonCode).toBe(0x8d)
  })

  test('is connected while the broker stops', async () => {
    const { url, close } = await start()
    const client = await rawMqtt(url)
    await client.next('connack')
    await close()
    expect((await client.next('disconnect')).reasonCode).toBe(0x8b)
  })
})

test('the embedded broker refuses filters that are none, and knows which were there', async () => {
  const { url } = await start()
  const client = await rawMqtt(url)
  client.send({
    cmd: 'subscribe',
    messageId: 1,
    subscriptions: ['a/#/b', 'a', '$share/g', 'a+'].map((topic) => ({ topic, qos: 1 })),
  })
  expect((await client.next('suback')).granted).toEqual([0x8f, 1, 0x8f, 0x8f])
  client.send({ cmd: 'unsubscribe', messageId: 2, unsubscriptions: ['a', 'b'] })
  expect((await client.next('unsuback')).granted).toEqual([0, 0x11])
})
