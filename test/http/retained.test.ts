import { describe, expect, test } from 'vitest'
import { BROKERS, brokerUrl, startBridge } from '../support/bridge.ts'
import { get, publish, publishRaw } from '../support/http.ts'
import { mqttClient } from '../support/mqtt-client.ts'

const JSON_ONLY = { accept: 'application/json' }

describe.each(BROKERS)('GET /retained on $name', ({ start, protocol }) => {
  test('of one topic is the payload, byte for byte', async () => {
    const bridge = await startBridge(await start())
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
    await publishRaw(bridge, 'topic=a/bytes&retain=true', bytes)
    const response = await fetch(`${bridge.url}/retained?topic=a/bytes`)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/octet-stream')
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes)
  })

  test('of one topic is what was retained last, and 404 where nothing is', async () => {
    const bridge = await startBridge(await start())
    for (const payload of ['1', '2']) await publishRaw(bridge, 'topic=a/b&retain=true', payload)
    await publishRaw(bridge, 'topic=a/b', 'not retained')
    expect((await get(bridge, '/retained?topic=a/b')).body).toBe('2')
    const { status, body } = await get(bridge, '/retained?topic=a')
    expect(status).toBe(404)
    expect(body).toMatchObject({ code: 'not-found', status: 404 })
  })

  test('of wildcards, or as JSON, is an array of messages that can be posted back', async () => {
    const bridge = await startBridge(await start())
    const topics = ['a/1', 'a/2', 'a/1/x', 'b']
    for (const topic of topics) await publish(bridge, { topic, payload: topic, retain: true, qos: 1 })
    const all = await get(bridge, '/retained?topic=%23')
    expect(all.headers.get('content-type')).toBe('application/json; charset=utf-8')
    expect(all.body.map(({ topic }: { topic: string }) => topic).sort()).toEqual([...topics].sort())
    const [one] = (await get(bridge, '/retained?topic=b', JSON_ONLY)).body
    expect(one).toMatchObject({ topic: 'b', payload: 'b', encoding: 'utf8', retain: true })
    expect((await publish(bridge, one)).body.topic).toBe('b')
    const some = await get(bridge, '/retained?topic=a/+')
    expect(some.body.map(({ topic }: { topic: string }) => topic).sort()).toEqual(['a/1', 'a/2'])
    for (const path of ['/retained?topic=none/%23', '/retained?topic=none']) {
      expect(await get(bridge, path, JSON_ONLY)).toMatchObject({ status: 200, body: [] })
    }
    expect((await get(bridge, '/retained?topic=b', { accept: 'application/json;q=0, */*' })).body).toBe('b')
  })

  test('embeds JSON payloads where asked to', async () => {
    const bridge = await startBridge(await start())
    await publishRaw(bridge, 'topic=a/1&retain=true', '{"on":true}')
    await publishRaw(bridge, 'topic=a/2&retain=true', 'no JSON')
    const { body } = await get(bridge, '/retained?topic=a/%23&encoding=json')
    const byTopic = Object.fromEntries(body.map((message: { topic: string }) => [message.topic, message]))
    expect(byTopic['a/1']).toMatchObject({ payload: { on: true }, encoding: 'json' })
    expect(byTopic['a/2']).toMatchObject({ payload: 'no JSON', encoding: 'utf8' })
  })

  test('after DELETE finds nothing, and neither does anybody else', async () => {
    const settings = await start()
    const bridge = await startBridge(settings)
    for (const topic of ['a/1', 'a/2']) await publish(bridge, { topic, payload: 'x', retain: true })
    const cleared = await fetch(`${bridge.url}/retained?topic=a/1`, { method: 'DELETE' })
    expect(cleared.status).toBe(200)
    expect(await cleared.json()).toMatchObject({ topic: 'a/1', qos: 1 })
    expect((await get(bridge, '/retained?topic=a/1')).status).toBe(404)
    expect((await get(bridge, '/retained?topic=a/%23')).body).toHaveLength(1)
    const outside = await mqttClient(brokerUrl(bridge, settings))
    const first = new Promise((resolve) => outside.once('message', resolve))
    await outside.subscribeAsync('a/+', { qos: 1 })
    expect(await first).toBe('a/2')
    // It need not be there.
    expect((await fetch(`${bridge.url}/retained?topic=a/1`, { method: 'DELETE' })).status).toBe(200)
  })

  test('refuses shared and malformed filters, and DELETE takes no wildcards', async () => {
    const bridge = await startBridge(await start())
    for (const query of ['topic=$share/g/a', 'topic=a%23', 'topic=a+', 'topic=', 'topic=$SYS/%23', '', 'topic=a&topic=b', 'topic=a&x=1']) {
      expect(await get(bridge, `/retained?${query}`)).toMatchObject({ status: 400, body: { code: 'invalid-request', errors: [{ in: 'query' }] } })
    }
    for (const query of ['topic=a/%23', 'topic=+', '', 'topic=$SYS/x']) {
      const response = await fetch(`${bridge.url}/retained?${query}`, { method: 'DELETE' })
      expect(response.status).toBe(400)
    }
  })

  test.runIf(protocol === 5)('says in headers what came with the message', async () => {
    const bridge = await startBridge(await start())
    const properties = {
      contentType: 'text/plain; charset=utf-8',
      responseTopic: 'réponse/100%',
      correlationData: 'AAH/',
      messageExpiryInterval: 60,
      payloadFormatIndicator: true,
      userProperties: { 'a b': ['1', '2'], 'ü': '\u2028' },
    }
    await publish(bridge, { topic: 'a', payload: 'x', retain: true, properties })
    const { headers, body } = await get(bridge, '/retained?topic=a')
    expect(body).toBe('x')
    expect(headers.get('content-type')).toBe('text/plain; charset=utf-8')
    expect(headers.get('mqtt-qos')).toBe('1')
    expect(decodeURIComponent(headers.get('mqtt-response-topic')!)).toBe(properties.responseTopic)
    expect(headers.get('mqtt-correlation-data')).toBe('AAH/')
    expect(Number(headers.get('mqtt-message-expiry-interval'))).toBeLessThanOrEqual(60)
    expect(headers.get('mqtt-payload-format-indicator')).toBe('1')
    expect(JSON.parse(decodeURIComponent(headers.get('mqtt-user-properties')!))).toEqual(properties.userProperties)
    expect((await get(bridge, '/retained?topic=a', JSON_ONLY)).body[0].properties).toMatchObject({ ...properties, messageExpiryInterval: expect.any(Number) })
  })
})
