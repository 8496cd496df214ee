import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, startBridge } from '../../support/bridge.ts'
import { hasMosquitto, startMosquitto } from '../../support/broker.ts'
import { publish } from '../../support/http.ts'
import { collect, mqttClient } from '../../support/mqtt-client.ts'
import { openStream } from '../../support/stream.ts'

describe.each(BROKERS.filter(({ protocol }) => protocol === 5))('the properties of a message on $name', ({ start }) => {
  const properties = {
    contentType: 'text/plain; charset="ü"',
    responseTopic: 'reply/here',
    correlationData: Buffer.from([0, 255, 10, 13]).toString('base64'),
    messageExpiryInterval: 600,
    payloadFormatIndicator: true,
    userProperties: { one: 'a\u2028b', 'two "words"': ['x', 'y', 'x'] },
  }

  test('are shown as their publisher sent them', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings), { protocolVersion: 5 })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await client.publishAsync('a', 'x', {
      qos: 1,
      properties: { ...properties, correlationData: Buffer.from(properties.correlationData, 'base64') },
    })
    expect((await stream.next()).data).toEqual({
      topic: 'a',
      payload: 'x',
      encoding: 'utf8',
      qos: 1,
      retain: false,
      properties,
    })
  })

  test('are left out where there are none, and each where it is not there', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const client = await mqttClient(brokerUrl(bridge, settings), { protocolVersion: 5 })
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    await client.publishAsync('a', 'x', { qos: 1 })
    expect((await stream.next()).data).not.toHaveProperty('properties')
    await client.publishAsync('a', 'x', { qos: 1, properties: { payloadFormatIndicator: false, contentType: '' } })
    expect((await stream.next()).data.properties).toEqual({ payloadFormatIndicator: false, contentType: '' })
  })

  test('survive posting the event back unchanged', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    const seen = await collect(await mqttClient(brokerUrl(bridge, settings), { protocolVersion: 5 }), 'a')
    const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
    expect((await publish(bridge, { topic: 'a', payload: 'x', properties })).status).toBe(200)
    const { data } = await stream.next()
    expect((await publish(bridge, data)).status).toBe(200)
    const [first, second] = [await seen.next(), await seen.next()]
    expect(second.properties).toEqual(first.properties)
    expect((await stream.next()).data).toEqual(data)
  })
})

test.runIf(hasMosquitto)('a publisher on MQTT 5 reaches a bridge on 3.1.1 without its properties', async () => {
  const { url } = await startMosquitto()
  const bridge = await startBridge({ MQTT_URL: url, MQTT_PROTOCOL: '3.1.1' })
  const client = await mqttClient(url, { protocolVersion: 5 })
  const stream = await openStream(`${bridge.url}/subscribe?topic=a`)
  await client.publishAsync('a', 'x', { qos: 1, properties: { contentType: 'text/plain' } })
  expect((await stream.next()).data).toEqual({ topic: 'a', payload: 'x', encoding: 'utf8', qos: 1, retain: false })
})
